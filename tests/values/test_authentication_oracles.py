"""What other people's programs make of a message with an authentication option, and we of theirs."""

from __future__ import annotations

import hashlib
import hmac
import shutil
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Any

import pytest

from tests.values.test_wire_tshark import dissect
from tunnel.authentication import AuthenticationAssociation, as_care_of, evidence_in, sign, timestamp_in
from tunnel.envelope import ControlPacket, OpenedControl, open_control
from wire.ip import PROTOCOL_UDP, IPv4Header
from wire.mobility import BindingAck, BindingUpdate, UpdateFlag
from wire.options import AlternateCareOfAddress, Ipv4CareOfAddress, Ipv4HomeAddress
from wire.profile import RFC5555
from wire.udp import encode_udp

HOME, AGENT = IPv6Address("2001:db8:99::77"), IPv6Address("2001:db8:99::2")
CARE_OF6 = IPv6Address("2001:db8:a::10")
CARE_OF4, AGENT4, HOME4 = IPv4Address("192.168.7.10"), IPv4Address("203.0.113.2"), IPv4Address("203.0.113.77")
KEY = bytes(range(16))
ASSOCIATION = AuthenticationAssociation(0x1003, KEY, "mn@example.net")
TIME = 0xEEF45080_12345678
AH = UpdateFlag.ACKNOWLEDGE | UpdateFlag.HOME


def in_udp(packet: bytes) -> bytes:
    datagram = encode_udp(CARE_OF4, AGENT4, 40000, 4191, packet)
    return IPv4Header(CARE_OF4, AGENT4, PROTOCOL_UDP, 20 + len(datagram)).encode() + datagram


UPDATE4 = ControlPacket(
    HOME, AGENT, BindingUpdate(2, 400, AH, (Ipv4HomeAddress(HOME4), Ipv4CareOfAddress(CARE_OF4)))
)
UPDATE6 = ControlPacket(
    CARE_OF6, AGENT, BindingUpdate(2, 400, AH, (AlternateCareOfAddress(CARE_OF6),)), home_address_option=HOME
)
ACK6 = ControlPacket(AGENT, CARE_OF6, BindingAck(146, 2, 0), routing_home_address=HOME)


@pytest.mark.skipif(shutil.which("tshark") is None, reason="tshark is not installed")
@pytest.mark.requirement("R096i")
@pytest.mark.parametrize(
    ("packet", "care_of", "protocols"),
    [
        (UPDATE4, as_care_of(CARE_OF4), "ip:udp:ip:ipv6:mipv6"),
        (UPDATE6, CARE_OF6, "ipv6:ipv6.dstopts:mipv6"),
        (ACK6, CARE_OF6, "ipv6:ipv6.routing:mipv6"),
    ],
    ids=["update over IPv4", "update over IPv6", "acknowledgement"],
)
def test_tshark_reads_identifier_and_authentication_option(
    tmp_path: Path, packet: ControlPacket, care_of: IPv6Address, protocols: str
) -> None:
    signed = sign(packet, ASSOCIATION, care_of, TIME, RFC5555)
    names = (
        "mip6.mnid.subtype",
        "mip6.mnid.identifier",
        "mip6.auth.subtype",
        "mip6.auth.mobility_spi",
        "mip6.auth.auth_data",
    )
    fields = dissect(tmp_path, in_udp(signed) if packet is UPDATE4 else signed, names)
    assert fields["frame.protocols"].endswith(protocols)
    authenticator = fields.pop("mip6.auth.auth_data").replace(":", "")
    assert list(fields.values())[1:] == ["1", "mn@example.net", "1", str(0x1003)]
    assert len(authenticator) >= 20, "tshark 4.0 leaves the last two octets out"
    assert signed[-12:].hex().startswith(authenticator)


def test_scapy_reads_every_option_of_a_signed_update() -> None:
    inet6 = pytest.importorskip("scapy.layers.inet6")
    signed = sign(UPDATE4, ASSOCIATION, as_care_of(CARE_OF4), TIME, RFC5555)
    options = {type(option).__name__: option for option in inet6.IPv6(signed).payload.options}
    assert options["MIP6OptMNID"].id == b"mn@example.net"
    assert options["MIP6OptReplayProtection"].timestamp == TIME
    last = options["MIP6OptMsgAuth"]
    assert (last.subtype, last.mspi, last.authdata) == (1, 0x1003, signed[-12:])
    assert list(options)[-1] == "MIP6OptMsgAuth"


def test_what_scapy_builds_and_hmac_signs_is_believed() -> None:
    inet6 = pytest.importorskip("scapy.layers.inet6")

    def built(authenticator: bytes) -> bytes:
        options: list[Any] = [
            inet6.MIP6OptAltCoA(acoa=str(CARE_OF6)),
            inet6.MIP6OptMNID(subtype=1, id=b"mn@example.net"),
            inet6.MIP6OptReplayProtection(timestamp=TIME),
            inet6.MIP6OptMsgAuth(subtype=1, mspi=0x1003, authdata=authenticator),
        ]
        update = inet6.MIP6MH_BU(seq=7, mhtime=100, flags="AH", options=options)
        return bytes(inet6.IPv6(src=str(HOME), dst=str(AGENT)) / update)

    header = built(bytes(12))[40:]
    spi_end = header.index(bytes.fromhex("0911") + b"\x01\0\0\x10\x03") + 7
    covered = header[:4] + b"\0\0" + header[6:spi_end]
    authenticator = hmac.new(KEY, CARE_OF6.packed + HOME.packed + covered, hashlib.sha1).digest()[:12]

    opened = open_control(built(authenticator), {}, RFC5555)
    assert isinstance(opened, OpenedControl)
    evidence = evidence_in(opened, RFC5555)
    assert evidence is not None
    assert (evidence.spi, timestamp_in(opened.packet.message)) == (0x1003, TIME)
    assert evidence.proves(ASSOCIATION, CARE_OF6, HOME)
