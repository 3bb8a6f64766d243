"""tshark, written by other people, reads every message that we write, field by field."""

from __future__ import annotations

import shutil
import struct
import subprocess
from ipaddress import IPv4Address, IPv6Address, IPv6Network
from pathlib import Path

import pytest

from wire.esp import EspHeader, append_trailer
from wire.extension import home_address_option, routing_header
from wire.icmp import (
    HomeAgentDiscoveryReply,
    HomeAgentDiscoveryRequest,
    MobilePrefixAdvertisement,
    MobilePrefixSolicitation,
    PrefixInformation,
    encode_icmp6,
    packet_too_big,
    parameter_problem,
)
from wire.ip import (
    PROTOCOL_DESTINATION_OPTIONS,
    PROTOCOL_ESP,
    PROTOCOL_ICMPV6,
    PROTOCOL_MOBILITY,
    PROTOCOL_ROUTING,
    PROTOCOL_UDP,
    IPv4Header,
    IPv6Header,
)
from wire.mobility import (
    BindingAck,
    BindingError,
    BindingRefreshRequest,
    BindingUpdate,
    CareOfTest,
    CareOfTestInit,
    HomeTest,
    HomeTestInit,
    Message,
    UnknownMessage,
    UpdateFlag,
    encode_message,
)
from wire.options import (
    NO_KEEPALIVE,
    AlternateCareOfAddress,
    Authentication,
    BindingAuthorization,
    BindingIdentifier,
    BindingRefreshAdvice,
    Ipv4AddressAck,
    Ipv4CareOfAddress,
    Ipv4HomeAddress,
    MessageIdentification,
    MobileNetworkPrefix,
    MobileNodeIdentifier,
    MobileNodeLinkLayerAddress,
    NatDetection,
    NonceIndices,
    Option,
)
from wire.profile import RFC5555, RFC5555_TLV, AckFlag, Profile
from wire.udp import encode_udp

pytestmark = pytest.mark.skipif(shutil.which("tshark") is None, reason="tshark is not installed")

HOME, HOME_AGENT = IPv6Address("2001:db8:99::77"), IPv6Address("2001:db8:99::2")
CARE_OF = IPv6Address("2001:db8:1::5")
CARE_OF4, HOME_AGENT4, HOME4 = (
    IPv4Address("10.0.0.5"),
    IPv4Address("203.0.113.2"),
    IPv4Address("203.0.113.77"),
)
AH = UpdateFlag.ACKNOWLEDGE | UpdateFlag.HOME
IN_UDP = "ip:udp:ip:ipv6:mipv6"
"""tshark hands the payload of port 4191 to its "ip", which looks at the version and hands it on."""
RAW_IP = 101
"""The pcap link type of packets without a link header."""

Fields = dict[str, str]


def dissect(directory: Path, packet: bytes, names: tuple[str, ...]) -> Fields:
    """What tshark reads in these fields of one packet, several values of one field joined by commas."""
    capture = directory / "packet.pcap"
    header = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, RAW_IP)
    capture.write_bytes(header + struct.pack("<IIII", 0, 0, len(packet), len(packet)) + packet)
    command = [
        "tshark",
        "-n",
        "-r",
        str(capture),
        "-d",
        "udp.port==4191,ip",
        "-T",
        "fields",
        "-E",
        "separator=;",
    ]
    command += ["-o", "ip.check_checksum:TRUE", "-o", "udp.check_checksum:TRUE"]
    for name in ("frame.protocols", "_ws.expert.severity", "_ws.malformed", *names):
        command += ["-e", name]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout.rstrip("\n")
    protocols, severities, malformed, *values = output.split(";")
    assert not malformed
    assert str(EXPERT_ERROR) not in severities.split(","), "tshark calls this an error"
    return {"frame.protocols": protocols, **dict(zip(names, values, strict=True))}


EXPERT_ERROR = 0x800000


def over_ipv4(message: Message, from_home_agent: bool, profile: Profile = RFC5555) -> bytes:
    """A message as an IPv4-only link carries it: IPv4, UDP 4191, IPv6 between home address and home agent."""
    inner = over_home(message, from_home_agent, profile)
    ends = (HOME_AGENT4, CARE_OF4) if from_home_agent else (CARE_OF4, HOME_AGENT4)
    ports = (4191, 40000) if from_home_agent else (40000, 4191)
    datagram = encode_udp(*ends, *ports, inner)
    return IPv4Header(*ends, PROTOCOL_UDP, 20 + len(datagram)).encode() + datagram


def over_home(message: Message, from_home_agent: bool, profile: Profile = RFC5555) -> bytes:
    ends = (HOME_AGENT, HOME) if from_home_agent else (HOME, HOME_AGENT)
    octets = encode_message(message, *ends, profile)
    return IPv6Header(*ends, PROTOCOL_MOBILITY, len(octets)).encode() + octets


def over_ipv6(message: Message, from_home_agent: bool, profile: Profile = RFC5555) -> bytes:
    """A message as an IPv6 link carries it: with a home address option or a type 2 routing header."""
    if from_home_agent:
        payload = routing_header(PROTOCOL_MOBILITY, HOME)
        payload += encode_message(message, HOME_AGENT, HOME, profile)
        return IPv6Header(HOME_AGENT, CARE_OF, PROTOCOL_ROUTING, len(payload)).encode() + payload
    payload = home_address_option(PROTOCOL_MOBILITY, HOME) + encode_message(
        message, HOME, HOME_AGENT, profile
    )
    return IPv6Header(CARE_OF, HOME_AGENT, PROTOCOL_DESTINATION_OPTIONS, len(payload)).encode() + payload


UPDATE_FLAGS = {
    UpdateFlag.ACKNOWLEDGE: "mip6.bu.a_flag",
    UpdateFlag.HOME: "mip6.bu.h_flag",
    UpdateFlag.LINK_LOCAL: "mip6.bu.l_flag",
    UpdateFlag.KEY_MANAGEMENT: "mip6.bu.k_flag",
    UpdateFlag.MAP: "mip6.bu.m_flag",
    UpdateFlag.ROUTER: "mip6.nemo.bu.r_flag",
    UpdateFlag.PROXY: "mip6.bu.p_flag",
    UpdateFlag.FORCE_UDP: "mip6.bu.f_flag",
    UpdateFlag.TLV: "mip6.bu.t_flag",
}
ACK_FLAGS = {
    AckFlag.KEY_MANAGEMENT: "mip6.ba.k_flag",
    AckFlag.ROUTER: "mip6.nemo.ba.r_flag",
    AckFlag.PROXY: "mip6.ba.p_flag",
    AckFlag.TLV: "mip6.ba.t_flag",
}


def expect(directory: Path, packet: bytes, protocols: str, expected: Fields) -> None:
    read = dissect(directory, packet, tuple(expected))

    assert read.pop("frame.protocols") == f"raw:{protocols}"
    assert read == expected


@pytest.mark.requirement("R059", "R060", "R067")
def test_an_update_of_an_ipv4_link(tmp_path: Path) -> None:
    update = BindingUpdate(2, 420, AH, (Ipv4HomeAddress(HOME4), Ipv4CareOfAddress(CARE_OF4)))

    expect(
        tmp_path,
        over_ipv4(update, from_home_agent=False),
        IN_UDP,
        {
            "ip.src": str(CARE_OF4),
            "ip.dst": str(HOME_AGENT4),
            "ip.checksum.status": "1",
            "udp.srcport": "40000",
            "udp.dstport": "4191",
            "udp.checksum.status": "1",
            "ipv6.src": str(HOME),
            "ipv6.dst": str(HOME_AGENT),
            "mip6.proto": "59",
            "mip6.mhtype": "5",
            "mip6.bu.seqnr": "2",
            "mip6.bu.lifetime": "105",
            "mip6.ipv4ha.preflen": "32",
            "mip6.ipv4ha.p_flag": "0",
            "mip6.ipv4ha.ha": str(HOME4),
            "mip6.ipv4coa.addr": str(CARE_OF4),
        },
    )


@pytest.mark.requirement("R071", "R077")
def test_an_acknowledgement_of_an_ipv4_link(tmp_path: Path) -> None:
    ack = BindingAck(0, 2, 420, options=(Ipv4AddressAck(0, HOME4), NatDetection(True, 110)))

    expect(
        tmp_path,
        over_ipv4(ack, from_home_agent=True),
        IN_UDP,
        {
            "udp.srcport": "4191",
            "ipv6.src": str(HOME_AGENT),
            "ipv6.dst": str(HOME),
            "mip6.mhtype": "6",
            "mip6.ba.status": "0",
            "mip6.ba.seqnr": "2",
            "mip6.ba.lifetime": "105",
            "mip6.ipv4aa.sts": "0",
            "mip6.ipv4ha.ha": str(HOME4),
            "mip6.natd.f_flag": "1",
            "mip6.natd.refresh_t": "110",
        },
    )


def test_an_update_of_an_ipv6_link(tmp_path: Path) -> None:
    update = BindingUpdate(65535, 420, AH, (AlternateCareOfAddress(CARE_OF), Ipv4HomeAddress(HOME4)))

    expect(
        tmp_path,
        over_ipv6(update, from_home_agent=False),
        "ipv6:ipv6.dstopts:mipv6",
        {
            "ipv6.opt.mipv6.home_address": str(HOME),
            "mip6.bu.seqnr": "65535",
            "mip6.bu.a_flag": "1",
            "mip6.bu.h_flag": "1",
            "mip6.acoa.acoa": str(CARE_OF),
            "mip6.ipv4ha.ha": str(HOME4),
        },
    )


def test_an_acknowledgement_of_an_ipv6_link(tmp_path: Path) -> None:
    ack = BindingAck(135, 7, 0, AckFlag.KEY_MANAGEMENT, (Ipv4AddressAck(132, HOME4),))

    expect(
        tmp_path,
        over_ipv6(ack, from_home_agent=True),
        "ipv6:ipv6.routing:mipv6",
        {
            "ipv6.routing.type": "2",
            "ipv6.routing.segleft": "1",
            "ipv6.routing.mipv6.home_address": str(HOME),
            "mip6.ba.status": "135",
            "mip6.ba.seqnr": "7",
            "mip6.ipv4aa.sts": "132",
        },
    )


@pytest.mark.parametrize("flag", UPDATE_FLAGS, ids=lambda flag: flag.name)
def test_each_update_flag_is_read_as_itself_and_no_other(tmp_path: Path, flag: UpdateFlag) -> None:
    expected = {name: str(int(flag is other)) for other, name in UPDATE_FLAGS.items()}

    packet = over_ipv4(BindingUpdate(1, 4, flag), False, RFC5555_TLV)
    expect(tmp_path, packet, IN_UDP, expected)


@pytest.mark.parametrize("flag", ACK_FLAGS, ids=lambda flag: flag.name)
def test_each_acknowledgement_flag_is_read_as_itself_and_no_other(tmp_path: Path, flag: AckFlag) -> None:
    expected = {name: str(int(flag is other)) for other, name in ACK_FLAGS.items()}

    packet = over_ipv4(BindingAck(0, 1, 4, flag), True, RFC5555_TLV)
    expect(tmp_path, packet, IN_UDP, expected)


@pytest.mark.parametrize(
    ("message", "from_home_agent", "expected"),
    [
        (BindingRefreshRequest(), True, {"mip6.mhtype": "0", "mip6.hlen": "0"}),
        (HomeTestInit(b"homeinit"), False, {"mip6.mhtype": "1", "mip6.hoti.cookie": "0x686f6d65696e6974"}),
        (CareOfTestInit(b"careinit"), False, {"mip6.mhtype": "2", "mip6.coti.cookie": "0x63617265696e6974"}),
        (
            HomeTest(7, b"homeinit", b"keygen01"),
            True,
            {
                "mip6.hot.nindex": "7",
                "mip6.hot.cookie": "0x686f6d65696e6974",
                "mip6.hot.token": "0x6b657967656e3031",
            },
        ),
        (
            CareOfTest(9, b"careinit", b"keygen02"),
            True,
            {
                "mip6.cot.nindex": "9",
                "mip6.cot.cookie": "0x63617265696e6974",
                "mip6.hot.token": "0x6b657967656e3032",
            },
        ),
        (BindingError(2, HOME), True, {"mip6.be.status": "2", "mip6.be.haddr": str(HOME)}),
        (UnknownMessage(200, b"unknowndat"), True, {"mip6.mhtype": "200", "mip6.hlen": "1"}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_every_other_message(
    tmp_path: Path, message: Message, from_home_agent: bool, expected: Fields
) -> None:
    expect(tmp_path, over_home(message, from_home_agent), "ipv6:mipv6", expected)


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        (BindingRefreshAdvice(400), {"mip6.bra.interval": "100"}),
        (AlternateCareOfAddress(CARE_OF), {"mip6.acoa.acoa": str(CARE_OF)}),
        (NonceIndices(1, 2), {"mip6.ni.hni": "1", "mip6.ni.cni": "2"}),
        (BindingAuthorization(b"authenticate"), {"mip6.bad.auth": b"authenticate".hex()}),
        (
            MobileNetworkPrefix(IPv6Network("2001:db8:aa::/56")),
            {"mip6.nemo.mnp.pfl": "56", "mip6.nemo.mnp.mnp": "2001:db8:aa::"},
        ),
        (
            MobileNodeLinkLayerAddress(b"\x02\x02\0\0\0\0\x01"),
            {"mip6.lla.optcode": "2", "mip6.lla": "02:00:00:00:00:01"},
        ),
        (
            MobileNodeIdentifier(1, b"mn@example.net"),
            {"mip6.mnid.subtype": "1", "mip6.mnid.identifier": "mn@example.net"},
        ),
        (
            # tshark 4.0 leaves the last two octets of the data out, so they are no oracle; scapy reads all
            Authentication(1, 256, b"abcdefghijkl"),
            {"mip6.auth.subtype": "1", "mip6.auth.mobility_spi": "256", "mip6.mobility_opt.len": "17"},
        ),
        # tshark takes the NTP time for a Unix time, so its date is no oracle; the lengths are, paddings too
        (MessageIdentification(3_900_000_000 << 32), {"mip6.mobility_opt.len": "4,8,2"}),
        (
            Ipv4HomeAddress(IPv4Address(0), 24, prefix_request=True),
            {"mip6.ipv4ha.preflen": "24", "mip6.ipv4ha.p_flag": "1", "mip6.ipv4ha.ha": "0.0.0.0"},
        ),
        (NatDetection(False, NO_KEEPALIVE), {"mip6.natd.f_flag": "0", "mip6.natd.refresh_t": "4294967295"}),
        (
            BindingIdentifier(7, 4, True, None),
            {"mip6.bi.bid": "7", "mip6.bi.status": "4", "mip6.bi.h_flag": "1"},
        ),
        (BindingIdentifier(7, 0, False, CARE_OF4), {"mip6.bi.bid": "7", "mip6.bi.coa_ipv4": str(CARE_OF4)}),
        (BindingIdentifier(7, 0, False, CARE_OF), {"mip6.bi.bid": "7", "mip6.bi.coa_ipv6": str(CARE_OF)}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_every_option(tmp_path: Path, option: Option, expected: Fields) -> None:
    packet = over_ipv6(BindingUpdate(1, 4, AH, (option,)), from_home_agent=False)

    expect(tmp_path, packet, "ipv6:ipv6.dstopts:mipv6", expected)


def icmp_packet(octets: bytes) -> bytes:
    return IPv6Header(HOME, HOME_AGENT, PROTOCOL_ICMPV6, len(octets)).encode() + octets


@pytest.mark.parametrize(
    ("packet", "expected"),
    [
        (
            icmp_packet(encode_icmp6(HomeAgentDiscoveryRequest(42), HOME, HOME_AGENT)),
            {"icmpv6.type": "144", "icmpv6.mip6.identifier": "42"},
        ),
        (
            icmp_packet(encode_icmp6(HomeAgentDiscoveryReply(42, (HOME_AGENT,)), HOME, HOME_AGENT)),
            {"icmpv6.type": "145", "icmpv6.mip6.home_agent_address": str(HOME_AGENT)},
        ),
        (
            icmp_packet(encode_icmp6(MobilePrefixSolicitation(42), HOME, HOME_AGENT)),
            {"icmpv6.type": "146", "icmpv6.mip6.identifier": "42"},
        ),
        (
            icmp_packet(
                encode_icmp6(
                    MobilePrefixAdvertisement(
                        42, True, False, (PrefixInformation(HOME_AGENT, 64, True, False, True, 9, 8),)
                    ),
                    HOME,
                    HOME_AGENT,
                )
            ),
            {
                "icmpv6.type": "147",
                "icmpv6.opt.prefix.length": "64",
                "icmpv6.opt.prefix.flag.l": "1",
                "icmpv6.opt.prefix.flag.a": "0",
                "icmpv6.opt.prefix.flag.r": "1",
                "icmpv6.opt.prefix.valid_lifetime": "9",
                "icmpv6.opt.prefix.preferred_lifetime": "8",
            },
        ),
        (
            packet_too_big(over_home(BindingRefreshRequest(), True), 1452, HOME),
            {"icmpv6.type": "2", "icmpv6.mtu": "1452"},
        ),
        (
            parameter_problem(over_home(BindingRefreshRequest(), True), 46, 2, HOME),
            {"icmpv6.type": "4", "icmpv6.code": "2", "icmpv6.pointer": "46"},
        ),
    ],
)
def test_icmpv6_messages(tmp_path: Path, packet: bytes, expected: Fields) -> None:
    read = dissect(tmp_path, packet, ("icmpv6.checksum.status", *expected))

    assert read.pop("icmpv6.checksum.status").startswith("1")
    read.pop("frame.protocols")
    assert read == expected


def test_an_icmpv4_answer_to_a_packet_that_is_too_big(tmp_path: Path) -> None:
    answer = packet_too_big(over_ipv4(BindingRefreshRequest(), False), 1472, HOME_AGENT4)
    read = dissect(tmp_path, answer, ("icmp.type", "icmp.code", "icmp.mtu", "icmp.checksum.status"))

    assert (read["icmp.type"], read["icmp.code"], read["icmp.mtu"]) == ("3", "4", "1472")
    assert read["icmp.checksum.status"] == "1"


def test_esp_framing_with_null_encryption(tmp_path: Path) -> None:
    octets = encode_message(BindingUpdate(1, 420, AH), HOME, HOME_AGENT, RFC5555)
    payload = EspHeader(0x1001, 7).encode() + append_trailer(octets, PROTOCOL_MOBILITY)
    packet = IPv6Header(HOME, HOME_AGENT, PROTOCOL_ESP, len(payload)).encode() + payload

    expect(tmp_path, packet, "ipv6:esp", {"esp.spi": "0x00001001", "esp.sequence": "7"})
