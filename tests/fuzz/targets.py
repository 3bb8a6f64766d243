"""The parsers under fuzzing and the seeds of each. Another parser is one more entry of TARGETS."""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_network

from movement.captive import from_api, from_probe
from tests.fuzz.daemon_targets import DAEMON_TARGETS
from tests.fuzz.runner import Target
from tunnel.authentication import (
    AuthenticationAssociation,
    claimed_care_of,
    evidence_in,
    names_its_sender,
    sign,
    timestamp_in,
)
from tunnel.endpoint import Endpoint, EndpointConfig, Role
from tunnel.envelope import ControlPacket, OpenedControl, open_control
from tunnel.forwarding import ForwardingTable, Route
from tunnel.keyring import Keyring, PayloadPair
from tunnel.path import Drop, Encapsulation, TunnelPath
from tunnel.payload_esp import PayloadAssociation, PayloadOpener, PayloadSealer
from wire.advertisement import decode_way_out
from wire.checksum import internet_checksum, pseudo_header6, word_sum
from wire.dhcp import decode_portal
from wire.echo import decode_reply
from wire.esp import EspHeader, append_trailer, classify_port_4500, split_trailer
from wire.extension import home_address_option, parse_extensions, routing_header
from wire.http import decode_answer
from wire.icmp import (
    HomeAgentDiscoveryReply,
    HomeAgentDiscoveryRequest,
    MobilePrefixAdvertisement,
    MobilePrefixSolicitation,
    PacketTooBig,
    ParameterProblem,
    PrefixInformation,
    decode_icmp6,
    deserves_error,
    encode_icmp6,
    packet_too_big,
)
from wire.ip import PROTOCOL_ICMPV6, PROTOCOL_MOBILITY, PROTOCOL_UDP, IPv4Header, IPv6Header
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
    decode_message,
    encode_message,
)
from wire.options import (
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
    UnknownOption,
)
from wire.profile import DRAFT_00, RFC5555, RFC5555_TLV, AckFlag, UpdateFlag
from wire.reader import DecodeError
from wire.udp import UdpHeader, encode_udp, verify_udp

HOME = IPv6Address("2001:db8:99::77")
HOME_AGENT = IPv6Address("2001:db8:99::2")
HOME4 = IPv4Address("203.0.113.77")
CARE_OF4 = IPv4Address("10.0.0.5")
PREFIX = IPv6Network("2001:db8:aa::/56")

MESSAGES: tuple[Message, ...] = (
    BindingRefreshRequest(),
    HomeTestInit(b"homeinit"),
    CareOfTestInit(b"careinit"),
    HomeTest(7, b"homeinit", b"keygen01"),
    CareOfTest(9, b"careinit", b"keygen02", (UnknownOption(200, b"later"),)),
    BindingUpdate(
        2,
        420,
        UpdateFlag.ACKNOWLEDGE | UpdateFlag.HOME,
        (Ipv4HomeAddress(HOME4), Ipv4CareOfAddress(CARE_OF4)),
    ),
    BindingUpdate(
        65535,
        420,
        UpdateFlag.ACKNOWLEDGE | UpdateFlag.HOME | UpdateFlag.ROUTER,
        (
            AlternateCareOfAddress(IPv6Address("2001:db8:1::5")),
            MobileNetworkPrefix(PREFIX),
            Ipv4HomeAddress(IPv4Address(0), 24, prefix_request=True),
            MobileNodeLinkLayerAddress(b"\x02\x02\0\0\0\0\x01"),
            BindingIdentifier(1, 0, False, CARE_OF4),
        ),
    ),
    BindingUpdate(9, 60, UpdateFlag.ACKNOWLEDGE, (NonceIndices(1, 2), BindingAuthorization(b"authenticate"))),
    BindingAck(
        0, 2, 420, options=(Ipv4AddressAck(0, HOME4), NatDetection(False, 110), BindingRefreshAdvice(300))
    ),
    BindingAck(
        135,
        9,
        0,
        AckFlag.KEY_MANAGEMENT,
        (
            MobileNodeIdentifier(1, b"mn@example.net"),
            MessageIdentification(0xE4000000_00000000),
            Authentication(1, 256, bytes(12)),
        ),
    ),
    BindingError(2, HOME),
    UnknownMessage(16, bytes(18)),
)

_HEAVY_OPTIONS = tuple(
    struct.pack("!BBBBHHHH", 59, 255, 5, 0, 0, 1, 0xC000, 100) + (item * 2036)[:2036]
    for item in (b"\0", b"\x01\0", b"\xf0\0", b"\x1d\x06\x80\0\x01\x02\x03\x04", b"\0\xf0\0")
)
_MOBILITY_SEEDS = (
    *(encode_message(message, HOME, HOME_AGENT, RFC5555) for message in MESSAGES),
    *_HEAVY_OPTIONS,
)


def with_checksum(data: bytes, protocol: int, at: int, length: int) -> bytes:
    """`data` with the right checksum at an offset: most mutations would die of it before they are parsed."""
    if len(data) < at + 2 or length > len(data):
        return data
    blank = data[:at] + b"\0\0" + data[at + 2 :]
    initial = word_sum(pseudo_header6(HOME, HOME_AGENT, length, protocol))
    checksum = internet_checksum(blank[:length], initial)
    return data[:at] + checksum.to_bytes(2, "big") + data[at + 2 :]


def with_mobility_checksum(data: bytes) -> bytes:
    """The mobility header at the start of `data` with its right checksum from HOME to HOME_AGENT."""
    return with_checksum(data, PROTOCOL_MOBILITY, 4, (data[1] + 1) * 8 if len(data) > 1 else 0)


def _parse_mobility(data: bytes) -> object:
    return decode_message(data, HOME, HOME_AGENT, RFC5555)


def _parse_summed_mobility(data: bytes) -> object:
    """Right checksum; the message, encoded again where it can be, is the same message."""
    data = with_mobility_checksum(data)
    profile = (RFC5555, RFC5555_TLV, DRAFT_00)[len(data) % 3]
    message = decode_message(data, HOME, HOME_AGENT, profile)
    try:
        octets = encode_message(message, HOME, HOME_AGENT, profile)
    except ValueError:
        return message
    if decode_message(octets, HOME, HOME_AGENT, profile) != message:
        raise AssertionError("encode is not the inverse of decode")
    return message


def _parse_icmp6(data: bytes) -> object:
    return decode_icmp6(with_checksum(data, PROTOCOL_ICMPV6, 2, len(data)), HOME, HOME_AGENT)


def _parse_extensions(data: bytes) -> object:
    return parse_extensions(data[0], data[1:]) if data else None


def _parse_ipv4(data: bytes) -> object:
    if len(data) >= 20:
        header = data[: (data[0] & 0x0F) * 4]
        checksum = internet_checksum(header[:10] + b"\0\0" + header[12:])
        data = data[:10] + checksum.to_bytes(2, "big") + data[12:]
    return IPv4Header.decode(data)


def _parse_udp(data: bytes) -> object:
    header = UdpHeader.decode(data)
    return header, verify_udp(HOME4, CARE_OF4, data[: header.length])


def _parse_esp(data: bytes) -> object:
    classify_port_4500(data)
    return EspHeader.decode(data), split_trailer(data[8:])


_TO_HOME_AGENT = PayloadAssociation(0xAAAA_0001, bytes(range(32)), b"salt")
_TO_MOBILE_NODE = PayloadAssociation(0xBBBB_0001, bytes(range(32, 64)), b"salt")
_PROTECTED_PATH = TunnelPath(CARE_OF4, HOME4, Encapsulation.ESP_UDP, 0, 4500, spi=_TO_HOME_AGENT.spi)


def _protected_end() -> Endpoint:
    """A home agent that has the keys of one mobile node."""
    keyring = Keyring([PayloadPair(_TO_MOBILE_NODE, _TO_HOME_AGENT)])
    config = EndpointConfig(frozenset({HOME_AGENT}), home_agent=frozenset({HOME_AGENT}), keyring=keyring)
    routes = (Route(ip_network(home), _PROTECTED_PATH) for home in (HOME, HOME4))
    return Endpoint(Role.HOME_AGENT, config, ForwardingTable(routes))


_END, _OTHER_END = _protected_end(), _protected_end()
_SEALER, _OPENER = PayloadSealer(_TO_HOME_AGENT), PayloadOpener(_TO_HOME_AGENT)


def _open_datagram(data: bytes) -> object:
    """On UDP port 4500, from anybody: nothing that was not sealed with the key is ever delivered."""
    verdict = _END.inbound_4500(("192.0.2.1", 4500), data)
    if not isinstance(verdict, Drop) and data != _SEALED:
        raise AssertionError("a forgery was delivered")
    return verdict


def _open_sealed(data: bytes) -> object:
    """What a mobile node with the right key may send: whatever it is, it gets a verdict."""
    sealed = _SEALER.seal(data)
    opened = _OPENER.open(sealed)
    if isinstance(opened, Drop) or opened[1] != data:
        raise AssertionError("open is not the inverse of seal")
    return _OTHER_END.inbound_4500(("192.0.2.1", 4500), sealed)


def _answer_packet(data: bytes) -> object:
    """What the data plane does with a packet that is too big."""
    if not deserves_error(data):
        return None
    return packet_too_big(data, 1472, HOME4 if data[0] >> 4 == 4 else HOME_AGENT)


_PAYLOAD = encode_message(MESSAGES[5], HOME, HOME_AGENT, RFC5555)
_DATAGRAM4 = encode_udp(HOME4, CARE_OF4, 4191, 40000, b"payload")
_PACKET6 = IPv6Header(HOME, HOME_AGENT, PROTOCOL_MOBILITY, len(_PAYLOAD)).encode() + _PAYLOAD
_PACKET4 = IPv4Header(HOME4, CARE_OF4, PROTOCOL_UDP, 20 + len(_DATAGRAM4)).encode() + _DATAGRAM4
_SEALED = PayloadSealer(_TO_HOME_AGENT, lambda size: b"once"[:size]).seal(_PACKET6)
_ICMP_SEEDS = tuple(
    encode_icmp6(message, HOME, HOME_AGENT)
    for message in (
        HomeAgentDiscoveryRequest(7),
        HomeAgentDiscoveryReply(7, (HOME_AGENT, HOME) * 32, True),
        MobilePrefixSolicitation(8),
        MobilePrefixAdvertisement(8, True, False, (PrefixInformation(HOME, 64, True, True, True, 9, 9),) * 9),
        PacketTooBig(1280, _PACKET6),
        ParameterProblem(2, 46, _PACKET6),
    )
)
_ECHO_SEEDS = (
    b"\0\0\xff\xfd\0\x01\0\x01",
    b"\0\0\xf6\xf3" + b"\1\2\3\4\5\6" + bytes(2),
    b"\x81\0\0\0\0\x07\0\x01" + bytes(16),
)
_WAY_OUT_SEEDS = (
    bytes.fromhex("8600000040000708") + bytes(8) + bytes.fromhex("26020708") + bytes(12),
    bytes.fromhex("8600000040000708") + bytes(8) + b"\x25\x03http://192.0.2.1/api\0\0",
)
_DHCP_SEEDS = (
    b"\2\1\6\0" + bytes(232) + bytes.fromhex("6382536335010572") + b"\x14http://192.0.2.1/api\xff",
)
_WEB_SEEDS = (
    b'HTTP/1.1 200 OK\r\nContent-Type: x\r\n\r\n{"captive": true, "user-portal-url": "https://p.example/"}',
    b"HTTP/1.0 302 Found\r\nLocation: http://p.example/\r\n\r\n",
    b"HTTP/1.0 200 OK\r\n\r\nhello",
)
_EXTENSION_SEEDS = (
    b"\x3c" + home_address_option(PROTOCOL_MOBILITY, HOME) + _PAYLOAD,
    b"\x2b" + routing_header(PROTOCOL_MOBILITY, HOME) + _PAYLOAD,
    b"\x2b" + routing_header(60, HOME) + home_address_option(50, HOME) + _PAYLOAD,
    b"\x3c" + b"\x3c\xff" + bytes(2046) + b"\x3c\0\x01\x04\0\0\0\0" * 8,
    b"\x3c" + b"\x87\xff" + b"\x01\0" * 1023,
)

ASSOCIATION = AuthenticationAssociation(256, bytes(range(16)), "mn@example.net")
_SIGNED_SEEDS = tuple(
    sign(ControlPacket(HOME, HOME_AGENT, message), ASSOCIATION, HOME_AGENT, 0xE4000000_00000000, profile)
    for message in MESSAGES
    if isinstance(message, BindingUpdate | BindingAck | BindingRefreshRequest | BindingError)
    if not any(isinstance(option, BindingAuthorization) for option in message.options)
    for profile in (RFC5555, DRAFT_00)
)


def _open_authenticated(data: bytes) -> object:
    """What either end does with a message that came without ESP, as far as the key has a say."""
    data = data[:40] + with_mobility_checksum(data[40:])
    profile = (RFC5555, DRAFT_00)[sum(data[-1:]) % 2]
    opened = open_control(data, {}, profile)
    if not isinstance(opened, OpenedControl):
        return opened
    evidence = evidence_in(opened, profile)
    if evidence is None:
        return None
    message = opened.packet.message
    care_of = claimed_care_of(opened.packet) if isinstance(message, BindingUpdate) else HOME
    names_its_sender(message, ASSOCIATION)
    timestamp_in(message)
    return evidence.proves(ASSOCIATION, care_of, opened.packet.home_side_source)


def _judge_web(data: bytes) -> object:
    answer = decode_answer(data)
    return from_api(answer), from_probe(answer, "204"), from_probe(answer, "hello")


def _parse_echo(data: bytes) -> object:
    version = 6 if data[:1] == b"\x81" else 4
    return decode_reply(data, version)


def _decode_dhcp(data: bytes) -> object:
    return decode_portal(data, IPv4Address(0), 0)


TARGETS: tuple[Target, ...] = (
    Target("authentication option", _SIGNED_SEEDS, _open_authenticated, ()),
    Target("mobility", _MOBILITY_SEEDS, _parse_mobility, (DecodeError,)),
    Target("mobility, summed", _MOBILITY_SEEDS, _parse_summed_mobility, (DecodeError,)),
    Target("extension headers", _EXTENSION_SEEDS, _parse_extensions, (DecodeError,)),
    Target("icmpv6", _ICMP_SEEDS, _parse_icmp6, (DecodeError,)),
    Target("echo replies", _ECHO_SEEDS, _parse_echo, (DecodeError,)),
    Target("dhcp", _DHCP_SEEDS, _decode_dhcp, (DecodeError,)),
    Target("way out", _WAY_OUT_SEEDS, decode_way_out, (DecodeError,)),
    Target("web answers", _WEB_SEEDS, _judge_web, (DecodeError,)),
    Target("ipv6", (_PACKET6,), IPv6Header.decode, (DecodeError,)),
    Target("ipv4", (_PACKET4, _PACKET4[:20]), _parse_ipv4, (DecodeError,)),
    Target("udp", (_DATAGRAM4,), _parse_udp, (DecodeError,)),
    Target("esp", (bytes(3) + b"\x07" * 5 + append_trailer(_PAYLOAD, 135, 16),), _parse_esp, (DecodeError,)),
    Target("port 4500", (_SEALED, b"\xff", bytes(40), _SEALED[:8] + bytes(28)), _open_datagram, ()),
    Target("payload, sealed", (_PACKET4, _PACKET6, b"", b"\x60"), _open_sealed, ()),
    Target("packet too big", (_PACKET4, _PACKET6), _answer_packet, (DecodeError,)),
    *DAEMON_TARGETS,
)
