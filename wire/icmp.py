"""ICMP for mobility: home agent discovery, mobile prefixes, and errors that answer a packet.

Pure. RFC 6275 sections 6.5 to 6.8, RFC 3963 section 5, RFC 4443, RFC 792, RFC 1191, RFC 1812 section 4.3.2.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, IPv6Network
from typing import assert_never

from wire.checksum import internet_checksum, pseudo_header6, word_sum
from wire.ip import (
    IPV4_HEADER,
    IPV6_HEADER,
    PROTOCOL_ICMP,
    PROTOCOL_ICMPV6,
    IPv4Header,
    IPv6Header,
)
from wire.reader import DecodeError, Reader

ICMPV6_DESTINATION_UNREACHABLE = 1
ICMPV6_PACKET_TOO_BIG = 2
ICMPV6_PARAMETER_PROBLEM = 4
HOME_AGENT_DISCOVERY_REQUEST = 144
HOME_AGENT_DISCOVERY_REPLY = 145
MOBILE_PREFIX_SOLICITATION = 146
MOBILE_PREFIX_ADVERTISEMENT = 147

MAX_ITEMS = 64
"""Addresses or options that one message may hold: bounds the work that one packet can cause."""

_ICMP = struct.Struct("!BBH")
_WORD = struct.Struct("!I")
_HALVES = struct.Struct("!HH")
_PREFIX_INFORMATION = struct.Struct("!BBBBIIxxxx16s")
_ROUTER = 0x8000
_MANAGED = 0x8000
_OTHER = 0x4000
_ON_LINK = 0x80
_AUTONOMOUS = 0x40
_ROUTER_ADDRESS = 0x20
_PREFIX_OPTION = 3
_REDIRECT6 = 137
_ERRORS4 = (3, 4, 5, 11, 12)  # unreachable, quench, redirect, time exceeded, parameter problem
_FRAGMENTATION_NEEDED = (3, 4)
_MAX_ANSWER4 = 576
_MAX_ANSWER6 = 1280
_INTERNETWORK_CONTROL = 0xC0  # the precedence of ICMP errors, RFC 1812 section 4.3.2.5
_HOME_AGENTS = 0xFDFF_FFFF_FFFF_FFFE


@dataclass(frozen=True, slots=True)
class HomeAgentDiscoveryRequest:
    """`mobile_router` asks for home agents that serve mobile routers (RFC 3963)."""

    identifier: int
    mobile_router: bool = False


@dataclass(frozen=True, slots=True)
class HomeAgentDiscoveryReply:
    identifier: int
    home_agents: tuple[IPv6Address, ...]
    mobile_router: bool = False


@dataclass(frozen=True, slots=True)
class MobilePrefixSolicitation:
    identifier: int


@dataclass(frozen=True, slots=True)
class PrefixInformation:
    """A prefix of the home link; lifetimes in seconds, 0xFFFFFFFF is for ever.

    With `router_address` the prefix is the home agent's whole address.
    """

    prefix: IPv6Address
    prefix_length: int
    on_link: bool
    autonomous: bool
    router_address: bool
    valid_lifetime: int
    preferred_lifetime: int


@dataclass(frozen=True, slots=True)
class MobilePrefixAdvertisement:
    """`managed` and `other` are the M and O flags; unknown options are ignored."""

    identifier: int
    managed: bool
    other: bool
    prefixes: tuple[PrefixInformation, ...]


@dataclass(frozen=True, slots=True)
class DestinationUnreachable:
    """`packet` is the start of the offending packet, as in all the errors."""

    code: int
    packet: bytes


@dataclass(frozen=True, slots=True)
class PacketTooBig:
    mtu: int
    packet: bytes


@dataclass(frozen=True, slots=True)
class ParameterProblem:
    """`pointer` is an offset in the offending packet; code 0 bad field, 1 next header, 2 option."""

    code: int
    pointer: int
    packet: bytes


@dataclass(frozen=True, slots=True)
class UnknownIcmp:
    """A message of a type without a class here; `data` is all that follows the checksum."""

    type: int
    code: int
    data: bytes


IcmpMessage = (
    HomeAgentDiscoveryRequest
    | HomeAgentDiscoveryReply
    | MobilePrefixSolicitation
    | MobilePrefixAdvertisement
    | DestinationUnreachable
    | PacketTooBig
    | ParameterProblem
    | UnknownIcmp
)


def home_agents_anycast(prefix: IPv6Network) -> IPv6Address:
    """The anycast address of the home agents of a /64 prefix (RFC 2526)."""
    return IPv6Address(int(prefix.network_address) >> 64 << 64 | _HOME_AGENTS)


def encode_icmp6(message: IcmpMessage, source: IPv6Address, destination: IPv6Address) -> bytes:
    """The ICMPv6 message with its checksum; ValueError for a value that the wire cannot express."""
    try:
        kind, code, body = _encode_body(message)
        length = _ICMP.size + len(body)
        pseudo = pseudo_header6(source, destination, length, PROTOCOL_ICMPV6)
        checksum = internet_checksum(body, word_sum(pseudo) + word_sum(_ICMP.pack(kind, code, 0)))
        return _ICMP.pack(kind, code, checksum) + body
    except struct.error as error:
        raise ValueError(f"{type(message).__name__}: {error}") from error


def _encode_body(message: IcmpMessage) -> tuple[int, int, bytes]:
    match message:
        case HomeAgentDiscoveryRequest():
            flags = _ROUTER * message.mobile_router
            return HOME_AGENT_DISCOVERY_REQUEST, 0, _HALVES.pack(message.identifier, flags)
        case HomeAgentDiscoveryReply():
            fixed = _HALVES.pack(message.identifier, _ROUTER * message.mobile_router)
            addresses = b"".join(address.packed for address in message.home_agents)
            return HOME_AGENT_DISCOVERY_REPLY, 0, fixed + addresses
        case MobilePrefixSolicitation():
            return MOBILE_PREFIX_SOLICITATION, 0, _HALVES.pack(message.identifier, 0)
        case MobilePrefixAdvertisement():
            flags = _MANAGED * message.managed | _OTHER * message.other
            prefixes = b"".join(_encode_prefix(prefix) for prefix in message.prefixes)
            return MOBILE_PREFIX_ADVERTISEMENT, 0, _HALVES.pack(message.identifier, flags) + prefixes
        case DestinationUnreachable():
            return ICMPV6_DESTINATION_UNREACHABLE, message.code, bytes(4) + message.packet
        case PacketTooBig():
            return ICMPV6_PACKET_TOO_BIG, 0, _WORD.pack(message.mtu) + message.packet
        case ParameterProblem():
            return ICMPV6_PARAMETER_PROBLEM, message.code, _WORD.pack(message.pointer) + message.packet
        case UnknownIcmp():
            return message.type, message.code, message.data
        case _:
            assert_never(message)


def _encode_prefix(prefix: PrefixInformation) -> bytes:
    flags = (
        _ON_LINK * prefix.on_link | _AUTONOMOUS * prefix.autonomous | _ROUTER_ADDRESS * prefix.router_address
    )
    return _PREFIX_INFORMATION.pack(
        _PREFIX_OPTION,
        _PREFIX_INFORMATION.size // 8,
        prefix.prefix_length,
        flags,
        prefix.valid_lifetime,
        prefix.preferred_lifetime,
        prefix.prefix.packed,
    )


def decode_icmp6(data: bytes, source: IPv6Address, destination: IPv6Address) -> IcmpMessage:
    """The ICMPv6 message that fills `data`, its checksum verified."""
    initial = word_sum(pseudo_header6(source, destination, len(data), PROTOCOL_ICMPV6))
    if internet_checksum(data, initial):
        raise DecodeError("ICMPv6 checksum is wrong")
    reader = Reader(data)
    kind, code = reader.u8(), reader.u8()
    reader.skip(2)
    if kind in (ICMPV6_DESTINATION_UNREACHABLE, ICMPV6_PACKET_TOO_BIG, ICMPV6_PARAMETER_PROBLEM):
        return _decode_error(kind, code, reader)
    if HOME_AGENT_DISCOVERY_REQUEST <= kind <= MOBILE_PREFIX_ADVERTISEMENT:
        if code:
            raise DecodeError(f"ICMPv6 type {kind} with code {code}")
        return _decode_mobility(kind, reader)
    return UnknownIcmp(kind, code, reader.rest())


def _decode_error(kind: int, code: int, reader: Reader) -> IcmpMessage:
    word = reader.u32()
    if kind == ICMPV6_DESTINATION_UNREACHABLE:
        return DestinationUnreachable(code, reader.rest())
    if kind == ICMPV6_PACKET_TOO_BIG:
        return PacketTooBig(word, reader.rest())
    return ParameterProblem(code, word, reader.rest())


def _decode_mobility(kind: int, reader: Reader) -> IcmpMessage:
    identifier, flags = reader.u16(), reader.u16()
    if kind == HOME_AGENT_DISCOVERY_REQUEST:
        return HomeAgentDiscoveryRequest(identifier, bool(flags & _ROUTER))
    if kind == HOME_AGENT_DISCOVERY_REPLY:
        if reader.remaining > 16 * MAX_ITEMS:
            raise DecodeError("too many home agents")
        addresses = []
        while reader.remaining:
            addresses.append(reader.ipv6())
        return HomeAgentDiscoveryReply(identifier, tuple(addresses), bool(flags & _ROUTER))
    if kind == MOBILE_PREFIX_SOLICITATION:
        return MobilePrefixSolicitation(identifier)
    prefixes = _decode_prefixes(reader)
    return MobilePrefixAdvertisement(identifier, bool(flags & _MANAGED), bool(flags & _OTHER), prefixes)


def _decode_prefixes(reader: Reader) -> tuple[PrefixInformation, ...]:
    prefixes: list[PrefixInformation] = []
    for _ in range(MAX_ITEMS):
        if not reader.remaining:
            return tuple(prefixes)
        kind, length = reader.u8(), reader.u8() * 8
        if length == 0:
            raise DecodeError("neighbour discovery option of length zero")
        body = reader.take(length - 2)
        if kind == _PREFIX_OPTION:
            prefixes.append(_decode_prefix(body))
    raise DecodeError("too many options")


def _decode_prefix(body: bytes) -> PrefixInformation:
    if len(body) != _PREFIX_INFORMATION.size - 2:
        raise DecodeError("prefix information of a wrong length")
    _, _, prefix_length, flags, valid, preferred, prefix = _PREFIX_INFORMATION.unpack(b"\0\0" + body)
    if prefix_length > 128:
        raise DecodeError("prefix longer than 128 bits")
    return PrefixInformation(
        IPv6Address(prefix),
        prefix_length,
        bool(flags & _ON_LINK),
        bool(flags & _AUTONOMOUS),
        bool(flags & _ROUTER_ADDRESS),
        valid,
        preferred,
    )


def packet_too_big(offending: bytes, mtu: int, source: IPv4Address | IPv6Address) -> bytes:
    """The whole IP packet from `source` that tells the sender of `offending` the MTU of the way ahead.

    ICMPv6 Packet Too Big, or ICMPv4 "fragmentation needed"; `source` is of the family of `offending`.
    Ask `deserves_error` first. DecodeError if `offending` is no IP packet.
    """
    if isinstance(source, IPv6Address):
        quote = offending[: _MAX_ANSWER6 - IPV6_HEADER - 8]
        return _answer6(PacketTooBig(mtu, quote), source, IPv6Header.decode(offending).source)
    header = IPv4Header.decode(offending)
    quote = offending[: _MAX_ANSWER4 - IPV4_HEADER - 8]
    body = _HALVES.pack(0, min(mtu, 0xFFFF)) + quote
    checksum = internet_checksum(_ICMP.pack(*_FRAGMENTATION_NEEDED, 0) + body)
    message = _ICMP.pack(*_FRAGMENTATION_NEEDED, checksum) + body
    total_length = IPV4_HEADER + len(message)
    outer = IPv4Header(source, header.source, PROTOCOL_ICMP, total_length, tos=_INTERNETWORK_CONTROL)
    return outer.encode() + message


def parameter_problem(offending: bytes, pointer: int, code: int, source: IPv6Address) -> bytes:
    """The whole IPv6 packet that tells the sender of `offending` which octet of it is wrong, and how."""
    quote = offending[: _MAX_ANSWER6 - IPV6_HEADER - 8]
    return _answer6(ParameterProblem(code, pointer, quote), source, IPv6Header.decode(offending).source)


def _answer6(message: IcmpMessage, source: IPv6Address, destination: IPv6Address) -> bytes:
    octets = encode_icmp6(message, source, destination)
    return IPv6Header(source, destination, PROTOCOL_ICMPV6, len(octets)).encode() + octets


def deserves_error(packet: bytes) -> bool:
    """Whether an ICMP error may answer `packet`: a whole, unicast packet that is itself no ICMP error.

    RFC 4443 section 2.4 (e), RFC 1812 section 4.3.2.7.
    """
    try:
        if packet[:1] and packet[0] >> 4 == 4:
            return _deserves_error4(IPv4Header.decode(packet), packet)
        return _deserves_error6(IPv6Header.decode(packet), packet)
    except DecodeError:
        return False


def _deserves_error4(header: IPv4Header, packet: bytes) -> bool:
    if header.fragment_offset or header.destination.is_multicast or int(header.destination) == 0xFFFF_FFFF:
        return False
    if header.source.is_multicast or header.source.is_unspecified or header.source.is_reserved:
        return False
    if header.protocol != PROTOCOL_ICMP:
        return True
    return header.total_length > header.header_length and packet[header.header_length] not in _ERRORS4


def _deserves_error6(header: IPv6Header, packet: bytes) -> bool:
    if header.destination.is_multicast or header.source.is_multicast or header.source.is_unspecified:
        return False
    if header.next_header != PROTOCOL_ICMPV6:
        return True
    kind = packet[IPV6_HEADER] if header.payload_length else 0
    return kind >= 128 and kind != _REDIRECT6
