"""scapy, written by other people, reads what we write and writes what we read."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz import strategies
from tests.fuzz.targets import HOME, HOME_AGENT
from wire.esp import EspHeader
from wire.extension import home_address_option, parse_extensions, routing_header
from wire.icmp import (
    HomeAgentDiscoveryReply,
    HomeAgentDiscoveryRequest,
    MobilePrefixAdvertisement,
    PrefixInformation,
    decode_icmp6,
    encode_icmp6,
    packet_too_big,
)
from wire.ip import PROTOCOL_ICMPV6, PROTOCOL_MOBILITY, IPv4Header, IPv6Header
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
    UpdateFlag,
    decode_message,
    encode_message,
)
from wire.options import (
    AlternateCareOfAddress,
    Authentication,
    BindingAuthorization,
    BindingRefreshAdvice,
    MessageIdentification,
    MobileNetworkPrefix,
    MobileNodeIdentifier,
    NonceIndices,
    Option,
    UnknownOption,
)
from wire.profile import RFC5555, AckFlag
from wire.udp import encode_udp

scapy_config = pytest.importorskip("scapy.config")
scapy_config.conf.route_autoload = False
scapy_config.conf.route6_autoload = False
inet = pytest.importorskip("scapy.layers.inet")
inet6 = pytest.importorskip("scapy.layers.inet6")
ipsec = pytest.importorskip("scapy.layers.ipsec")

CARE_OF = IPv6Address("2001:db8:1::5")
AHK = UpdateFlag.ACKNOWLEDGE | UpdateFlag.HOME | UpdateFlag.KEY_MANAGEMENT
COMPARED = settings(max_examples=100, deadline=None, derandomize=True)


def read_by_scapy(message: Message) -> Any:
    octets = encode_message(message, HOME, HOME_AGENT, RFC5555)
    header = IPv6Header(HOME, HOME_AGENT, PROTOCOL_MOBILITY, len(octets))
    return inet6.IPv6(header.encode() + octets).payload


def written_by_scapy(message: Any) -> bytes:
    packet = inet6.IPv6(src=str(HOME), dst=str(HOME_AGENT)) / message
    return bytes(packet)[40:]


def scapy_option(option: Option) -> Any:
    """The same option as scapy's class; lengths that scapy gets wrong by default are given."""
    match option:
        case BindingRefreshAdvice():
            return inet6.MIP6OptBRAdvice(rinter=option.interval // 4)
        case AlternateCareOfAddress():
            return inet6.MIP6OptAltCoA(acoa=str(option.address))
        case NonceIndices():
            return inet6.MIP6OptNonceIndices(olen=4, hni=option.home, coni=option.care_of)
        case BindingAuthorization():
            authenticator = int.from_bytes(option.authenticator, "big")
            return inet6.MIP6OptBindingAuthData(olen=12, authenticator=authenticator)
        case MobileNetworkPrefix():
            prefix = option.prefix
            return inet6.MIP6OptMobNetPrefix(plen=prefix.prefixlen, prefix=str(prefix.network_address))
        case MobileNodeIdentifier():
            return inet6.MIP6OptMNID(subtype=option.subtype, id=option.identifier)
        case Authentication():
            return inet6.MIP6OptMsgAuth(subtype=option.subtype, mspi=option.spi, authdata=option.data)
        case MessageIdentification():
            return inet6.MIP6OptReplayProtection(timestamp=option.timestamp)
        case UnknownOption():
            return inet6.MIP6OptUnknown(otype=option.type, odata=option.data)
        case _:
            raise AssertionError(f"scapy has no class for {option}")


known_to_scapy = st.one_of(
    st.builds(BindingRefreshAdvice, strategies.lifetimes),
    st.builds(AlternateCareOfAddress, strategies.addresses6),
    st.builds(NonceIndices, strategies.u16, strategies.u16),
    st.builds(MobileNetworkPrefix, strategies.prefixes6),
    st.builds(MobileNodeIdentifier, strategies.octet, st.binary(max_size=30)),
    st.builds(MessageIdentification, strategies.u64),
    st.builds(UnknownOption, st.integers(36, 255), st.binary(max_size=30)),
)
option_lists = st.builds(
    lambda body, last: (*body, *last),
    st.lists(known_to_scapy, max_size=6),
    st.lists(strategies.authorizations, max_size=1),
)


@given(sequence=strategies.u16, lifetime=strategies.lifetimes, options=option_lists)
@COMPARED
def test_scapy_writes_the_same_update_octet_for_octet(
    sequence: int, lifetime: int, options: tuple[Option, ...]
) -> None:
    theirs = inet6.MIP6MH_BU(
        seq=sequence, mhtime=lifetime // 4, flags="AHK", options=[scapy_option(option) for option in options]
    )
    ours = BindingUpdate(sequence, lifetime, AHK, options)

    assert encode_message(ours, HOME, HOME_AGENT, RFC5555) == written_by_scapy(theirs)
    assert decode_message(written_by_scapy(theirs), HOME, HOME_AGENT, RFC5555) == ours


@given(status=strategies.octet, sequence=strategies.u16, lifetime=strategies.lifetimes, options=option_lists)
@COMPARED
def test_scapy_writes_the_same_acknowledgement_octet_for_octet(
    status: int, sequence: int, lifetime: int, options: tuple[Option, ...]
) -> None:
    theirs = inet6.MIP6MH_BA(
        status=status,
        seq=sequence,
        mhtime=lifetime // 4,
        flags="KR",
        options=[scapy_option(option) for option in options],
    )
    ours = BindingAck(status, sequence, lifetime, AckFlag.KEY_MANAGEMENT | AckFlag.ROUTER, options)

    assert encode_message(ours, HOME, HOME_AGENT, RFC5555) == written_by_scapy(theirs)
    assert decode_message(written_by_scapy(theirs), HOME, HOME_AGENT, RFC5555) == ours


@pytest.mark.parametrize(
    ("message", "theirs"),
    [
        (BindingRefreshRequest(), inet6.MIP6MH_BRR()),
        (HomeTestInit(b"homeinit"), inet6.MIP6MH_HoTI(cookie=b"homeinit")),
        (CareOfTestInit(b"careinit"), inet6.MIP6MH_CoTI(cookie=b"careinit")),
        (
            HomeTest(7, b"homeinit", b"keygen01"),
            inet6.MIP6MH_HoT(index=7, cookie=b"homeinit", token=b"keygen01"),
        ),
        (
            CareOfTest(9, b"careinit", b"keygen02"),
            inet6.MIP6MH_CoT(index=9, cookie=b"careinit", token=b"keygen02"),
        ),
        (BindingError(1, HOME), inet6.MIP6MH_BE(status=1, ha=str(HOME))),
    ],
)
def test_scapy_writes_the_same_other_messages(message: Message, theirs: Any) -> None:
    assert encode_message(message, HOME, HOME_AGENT, RFC5555) == written_by_scapy(theirs)
    assert decode_message(written_by_scapy(theirs), HOME, HOME_AGENT, RFC5555) == message


def test_an_authentication_option_alone_stands_where_scapy_puts_it() -> None:
    option = Authentication(1, 256, b"abcdefghijkl")
    theirs = inet6.MIP6MH_BU(seq=1, mhtime=100, flags="AHK", options=[scapy_option(option)])

    assert encode_message(BindingUpdate(1, 400, AHK, (option,)), HOME, HOME_AGENT, RFC5555) == (
        written_by_scapy(theirs)
    )


@given(message=strategies.updates(RFC5555))
@COMPARED
def test_scapy_reads_every_update(message: BindingUpdate) -> None:
    read = read_by_scapy(message)

    assert (read.mhtype, read.seq, read.mhtime * 4) == (5, message.sequence, message.lifetime)
    letters = {
        UpdateFlag.ACKNOWLEDGE: "A",
        UpdateFlag.HOME: "H",
        UpdateFlag.LINK_LOCAL: "L",
        UpdateFlag.KEY_MANAGEMENT: "K",
        UpdateFlag.MAP: "M",
        UpdateFlag.ROUTER: "R",
        UpdateFlag.PROXY: "P",
    }
    assert set(str(read.flags)) == {letter for flag, letter in letters.items() if flag in message.flags}
    assert bool(read.reserved & 0x0100) == (UpdateFlag.FORCE_UDP in message.flags)


def test_scapy_puts_the_same_headers_around_an_update() -> None:
    update = BindingUpdate(1, 400, AHK, (AlternateCareOfAddress(CARE_OF),))
    theirs = bytes(
        inet6.IPv6(src=str(CARE_OF), dst=str(HOME_AGENT))
        / inet6.IPv6ExtHdrDestOpt(options=[inet6.HAO(hoa=str(HOME))])
        / inet6.MIP6MH_BU(seq=1, mhtime=100, flags="AHK", options=[inet6.MIP6OptAltCoA(acoa=str(CARE_OF))])
    )
    ours = home_address_option(135, HOME) + encode_message(update, HOME, HOME_AGENT, RFC5555)

    assert IPv6Header(CARE_OF, HOME_AGENT, 60, len(ours)).encode() + ours == theirs
    assert parse_extensions(60, theirs[40:]).home_address == HOME


def test_scapy_puts_the_same_headers_around_an_acknowledgement() -> None:
    ack = BindingAck(0, 1, 400)
    theirs = bytes(
        inet6.IPv6(src=str(HOME_AGENT), dst=str(CARE_OF))
        / inet6.IPv6ExtHdrRouting(type=2, addresses=[str(HOME)])
        / inet6.MIP6MH_BA(status=0, seq=1, mhtime=100, flags=0)
    )
    ours = routing_header(135, HOME) + encode_message(ack, HOME_AGENT, HOME, RFC5555)

    assert IPv6Header(HOME_AGENT, CARE_OF, 43, len(ours)).encode() + ours == theirs
    assert parse_extensions(43, theirs[40:]).routing_home_address == HOME


def test_scapy_reads_discovery_and_prefix_messages() -> None:
    request = encode_icmp6(HomeAgentDiscoveryRequest(42, True), HOME, HOME_AGENT)
    reply = encode_icmp6(HomeAgentDiscoveryReply(42, (HOME_AGENT, CARE_OF)), HOME_AGENT, HOME)

    read = inet6.ICMPv6HAADRequest(request)
    assert (read.type, read.id, read.R) == (144, 42, 1)
    read = inet6.ICMPv6HAADReply(reply)
    assert (read.type, read.id, read.R, read.addresses) == (145, 42, 0, [str(HOME_AGENT), str(CARE_OF)])


def test_scapy_writes_the_same_prefix_advertisement() -> None:
    prefix = PrefixInformation(HOME_AGENT, 64, True, True, True, 86400, 14400)
    theirs = bytes(
        inet6.IPv6(src=str(HOME_AGENT), dst=str(HOME))
        / inet6.ICMPv6MPAdv(id=42, flags=2)
        / inet6.ICMPv6NDOptPrefixInfo(
            prefix=str(HOME_AGENT), prefixlen=64, L=1, A=1, R=1, validlifetime=86400, preferredlifetime=14400
        )
    )
    ours = MobilePrefixAdvertisement(42, True, False, (prefix,))

    assert encode_icmp6(ours, HOME_AGENT, HOME) == theirs[40:]
    assert decode_icmp6(theirs[40:], HOME_AGENT, HOME) == ours


@given(payload=st.binary(max_size=60), ports=st.tuples(strategies.u16, strategies.u16), hops=strategies.octet)
@COMPARED
def test_scapy_writes_the_same_datagrams_in_both_families(
    payload: bytes, ports: tuple[int, int], hops: int
) -> None:
    udp = inet.UDP(sport=ports[0], dport=ports[1]) / payload
    theirs6 = bytes(inet6.IPv6(src=str(HOME), dst=str(HOME_AGENT), hlim=hops) / udp)
    ours6 = encode_udp(HOME, HOME_AGENT, *ports, payload)
    assert IPv6Header(HOME, HOME_AGENT, 17, len(ours6), hop_limit=hops).encode() + ours6 == theirs6

    theirs4 = bytes(inet.IP(src="10.0.0.5", dst="203.0.113.2", ttl=hops, flags="DF", id=0) / udp)
    header = IPv4Header.decode(theirs4)
    assert header.encode() + encode_udp(header.source, header.destination, *ports, payload) == theirs4


def test_scapy_reads_an_answer_to_a_packet_that_is_too_big() -> None:
    offending6 = bytes(inet6.IPv6(src=str(HOME), dst=str(CARE_OF)) / inet.UDP() / bytes(1500))
    answer6 = inet6.IPv6(packet_too_big(offending6, 1452, HOME_AGENT))
    assert answer6.nh == PROTOCOL_ICMPV6
    assert answer6[inet6.ICMPv6PacketTooBig].mtu == 1452
    assert answer6[inet6.IPerror6].dst == str(CARE_OF)
    assert inet6.in6_chksum(PROTOCOL_ICMPV6, answer6, bytes(answer6.payload)) == 0

    offending4 = bytes(inet.IP(src="10.0.0.5", dst="192.0.2.9", flags="DF") / inet.UDP() / bytes(1500))
    answer4 = inet.IP(packet_too_big(offending4, 1472, IPv4Address("203.0.113.2")))
    assert (answer4[inet.ICMP].type, answer4[inet.ICMP].code) == (3, 4)
    assert answer4[inet.ICMP].nexthopmtu == 1472
    assert answer4[inet.IPerror].dst == "192.0.2.9"


def test_scapy_reads_an_esp_header() -> None:
    read = ipsec.ESP(EspHeader(0x1001, 7).encode() + b"sealed")

    assert (read.spi, read.seq, read.data) == (0x1001, 7, b"sealed")
