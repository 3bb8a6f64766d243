"""Mobility messages in their envelopes: the order of headers, who the checksum is for, and who may open."""

from __future__ import annotations

import shutil
import struct
import subprocess
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunnel.envelope import (
    MALFORMED,
    NOT_MOBILITY,
    ControlPacket,
    OpenedControl,
    open_control,
    seal_control,
)
from tunnel.path import Drop
from tunnel.replay import ReplayWindow
from tunnel.security import (
    BAD_ICV,
    REPLAYED,
    UNKNOWN_SPI,
    Encryption,
    Integrity,
    Opener,
    Sealer,
    SecurityAssociation,
)
from wire.ip import IPv4Header, IPv6Header
from wire.mobility import BindingAck, BindingUpdate
from wire.options import (
    AlternateCareOfAddress,
    Ipv4AddressAck,
    Ipv4CareOfAddress,
    Ipv4HomeAddress,
    NatDetection,
)
from wire.profile import RFC5555, UpdateFlag
from wire.udp import encode_udp

HOME, AGENT = IPv6Address("2001:db8:99::77"), IPv6Address("2001:db8:99::2")
CARE_OF = IPv6Address("2001:db8:1::2")
HOME4, CARE_OF4, AGENT4 = IPv4Address("203.0.113.77"), IPv4Address("192.0.2.5"), IPv4Address("203.0.113.2")

UPDATE = BindingUpdate(
    7,
    420,
    UpdateFlag.HOME | UpdateFlag.ACKNOWLEDGE,
    (AlternateCareOfAddress(CARE_OF), Ipv4HomeAddress(HOME4)),
)
UPDATE4 = BindingUpdate(
    8,
    420,
    UpdateFlag.HOME | UpdateFlag.ACKNOWLEDGE,
    (Ipv4HomeAddress(HOME4), Ipv4CareOfAddress(CARE_OF4)),
)
ACK = BindingAck(0, 7, 420, options=(Ipv4AddressAck(0, HOME4), NatDetection(False, 110)))

UPDATE_ON_IPV6 = ControlPacket(CARE_OF, AGENT, UPDATE, home_address_option=HOME)
ACK_ON_IPV6 = ControlPacket(AGENT, CARE_OF, ACK, routing_home_address=HOME)
UPDATE_IN_UDP = ControlPacket(HOME, AGENT, UPDATE4)
ACK_IN_UDP = ControlPacket(AGENT, HOME, ACK)
ALL = [UPDATE_ON_IPV6, ACK_ON_IPV6, UPDATE_IN_UDP, ACK_IN_UDP]

SPI = 0x1001


def association(encryption: Encryption = Encryption.AES_CBC) -> SecurityAssociation:
    key = bytes(range(16)) if encryption is Encryption.AES_CBC else b""
    integrity = Integrity.HMAC_SHA256_128 if key else Integrity.HMAC_SHA1_96
    return SecurityAssociation(SPI, integrity, bytes(range(integrity.key_size)), encryption, key)


def openers(encryption: Encryption = Encryption.AES_CBC) -> dict[int, Opener]:
    return {SPI: Opener(association(encryption), ReplayWindow())}


@pytest.mark.parametrize("packet", ALL)
@pytest.mark.parametrize("encryption", list(Encryption))
@pytest.mark.requirement("R134")
def test_opening_undoes_sealing(packet: ControlPacket, encryption: Encryption) -> None:
    data = seal_control(packet, Sealer(association(encryption)), RFC5555)
    assert open_control(data, openers(encryption), RFC5555) == OpenedControl(packet, SPI)


@pytest.mark.parametrize("packet", ALL)
def test_an_unprotected_packet_says_so(packet: ControlPacket) -> None:
    data = seal_control(packet, None, RFC5555)
    assert open_control(data, {}, RFC5555) == OpenedControl(packet, None)


def test_the_headers_of_an_update_on_an_ipv6_link() -> None:
    data = seal_control(UPDATE_ON_IPV6, Sealer(association()), RFC5555)
    header = IPv6Header.decode(data)
    assert (header.source, header.destination, header.next_header) == (CARE_OF, AGENT, 60)
    assert data[40:64] == bytes((50, 2, 1, 2, 0, 0, 0xC9, 16)) + HOME.packed
    assert data[64:68] == SPI.to_bytes(4, "big")
    plain = seal_control(UPDATE_ON_IPV6, None, RFC5555)
    assert plain[40] == 135
    assert plain[64:67] == bytes((59, len(plain[64:]) // 8 - 1, 5))


def test_the_headers_of_an_acknowledgement_on_an_ipv6_link() -> None:
    data = seal_control(ACK_ON_IPV6, Sealer(association()), RFC5555)
    header = IPv6Header.decode(data)
    assert (header.source, header.destination, header.next_header) == (AGENT, CARE_OF, 43)
    assert data[40:64] == bytes((50, 2, 2, 1, 0, 0, 0, 0)) + HOME.packed


def test_in_udp_there_are_no_extension_headers_but_esp() -> None:
    for packet in (UPDATE_IN_UDP, ACK_IN_UDP):
        data = seal_control(packet, Sealer(association()), RFC5555)
        assert IPv6Header.decode(data).next_header == 50
        assert data[40:44] == SPI.to_bytes(4, "big")
        assert IPv6Header.decode(seal_control(packet, None, RFC5555)).next_header == 135


def test_the_checksum_is_made_for_the_home_address() -> None:
    on_ipv6 = seal_control(UPDATE_ON_IPV6, None, RFC5555)
    at_home = seal_control(ControlPacket(HOME, AGENT, UPDATE), None, RFC5555)
    assert on_ipv6[64:] == at_home[40:]
    swapped = on_ipv6[:48] + IPv6Address("2001:db8:99::78").packed + on_ipv6[64:]
    assert open_control(swapped, {}, RFC5555) is MALFORMED


def test_the_ends_of_a_packet_are_those_of_the_home_address() -> None:
    assert (UPDATE_ON_IPV6.home_side_source, UPDATE_ON_IPV6.final_destination) == (HOME, AGENT)
    assert (ACK_ON_IPV6.home_side_source, ACK_ON_IPV6.final_destination) == (AGENT, HOME)
    assert (UPDATE_IN_UDP.home_side_source, UPDATE_IN_UDP.final_destination) == (HOME, AGENT)


@pytest.mark.requirement("R134")
@given(
    position=st.integers(40, 10**4),
    change=st.integers(1, 255),
    packet=st.sampled_from(ALL),
)
def test_no_octet_behind_the_ipv6_header_can_be_changed(
    position: int, change: int, packet: ControlPacket
) -> None:
    data = bytearray(seal_control(packet, Sealer(association()), RFC5555))
    data[40 + position % (len(data) - 40)] ^= change
    verdict = open_control(bytes(data), openers(), RFC5555)
    # An extension header is outside ESP; what it says has to agree with the checksum inside.
    assert isinstance(verdict, Drop) or verdict == OpenedControl(packet, SPI)


@given(st.binary(max_size=200), st.sampled_from([43, 44, 50, 60, 135, 0]))
def test_any_octets_are_opened_or_dropped(octets: bytes, next_header: int) -> None:
    header = IPv6Header(CARE_OF, AGENT, next_header, len(octets)).encode()
    assert isinstance(open_control(header + octets, openers(), RFC5555), Drop)
    assert isinstance(open_control(octets, openers(), RFC5555), Drop)


def test_each_refusal_has_its_reason() -> None:
    known = openers()
    data = seal_control(UPDATE_ON_IPV6, Sealer(association()), RFC5555)
    assert open_control(data, {}, RFC5555) is UNKNOWN_SPI
    assert open_control(data, lambda spi: None, RFC5555) is UNKNOWN_SPI
    assert open_control(data[:-1] + bytes((data[-1] ^ 1,)), known, RFC5555) is BAD_ICV
    assert isinstance(open_control(data, known.get, RFC5555), OpenedControl)
    assert open_control(data, known, RFC5555) is REPLAYED
    udp = Sealer(association(), 2).seal(17, bytes(16))
    inside = IPv6Header(HOME, AGENT, 50, len(udp)).encode() + udp
    assert open_control(inside, known, RFC5555) is NOT_MOBILITY


@pytest.mark.skipif(shutil.which("tshark") is None, reason="tshark is not installed")
@pytest.mark.parametrize("encryption", list(Encryption))
@pytest.mark.requirement("R090f", "R134")
def test_tshark_reads_and_verifies_what_we_seal(tmp_path: Path, encryption: Encryption) -> None:
    capture = tmp_path / "sealed.pcap"
    sealer = Sealer(association(encryption))
    packets = [seal_control(packet, sealer, RFC5555) for packet in ALL]
    for index, (source, destination) in ((2, (CARE_OF4, AGENT4)), (3, (AGENT4, CARE_OF4))):
        udp = encode_udp(source, destination, 4191, 4191, packets[index])
        packets[index] = IPv4Header(source, destination, 17, 20 + len(udp)).encode() + udp
    records = b"".join(struct.pack("<IIII", 0, 0, len(p), len(p)) + p for p in packets)
    capture.write_bytes(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 101) + records)
    of = association(encryption)
    cipher, digest = (
        ("AES-CBC [RFC3602]", "HMAC-SHA-256-128 [RFC4868]")
        if encryption is Encryption.AES_CBC
        else ("NULL", "HMAC-SHA-1-96 [RFC2404]")
    )
    secret = f"0x{of.encryption_key.hex()}" if of.encryption_key else ""
    row = ("IPv6", "*", "*", f"0x{SPI:08x}", cipher, secret, digest, f"0x{of.integrity_key.hex()}")
    association_line = "uat:esp_sa:" + ",".join(f'"{column}"' for column in row)
    options = ["-d", "udp.port==4191,ip", "-o", "esp.enable_encryption_decode:TRUE"]
    options += ["-o", "esp.enable_authentication_check:TRUE", "-o", association_line]
    fields = ["-T", "fields", "-E", "separator=;"]
    for field in ("frame.protocols", "esp.icv_good", "mip6.mhtype", "mip6.bu.seqnr", "mip6.ba.seqnr"):
        fields += ["-e", field]
    done = subprocess.run(
        ["tshark", "-r", str(capture), *options, *fields],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout.splitlines() == [
        "raw:ipv6:ipv6.dstopts:esp:mipv6;1;5;7;",
        "raw:ipv6:ipv6.routing:esp:mipv6;1;6;;7",
        "raw:ip:udp:ip:ipv6:esp:mipv6;1;5;8;",
        "raw:ip:udp:ip:ipv6:esp:mipv6;1;6;;7",
    ]
