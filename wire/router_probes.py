"""Frames by which a host that comes to a link asks whether the routers it knows are there, and their answers.

Pure. RFC 826, RFC 4436 section 2.1.1, RFC 4861 sections 4.1 to 4.4, RFC 6059 section 5, RFC 6275 section 7.3
(advertisement interval). Frames begin at the Ethernet header; link-layer addresses have six octets.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, IPv6Network

from wire.neighbours import (
    ETHERTYPE_ARP,
    ETHERTYPE_IPV6,
    NEIGHBOUR_ADVERTISEMENT,
    NEIGHBOUR_SOLICITATION,
    discovery_frame,
    discovery_message,
)

ROUTER_SOLICITATION = 133
ROUTER_ADVERTISEMENT = 134
MAX_PREFIXES = 16
"""Prefixes of one advertisement that are looked at."""
HARDWARE_SIZE = 6

_ETHERNET = struct.Struct("!6s6sH")
_ARP = struct.Struct("!HHBBH6s4s6s4s")
_ETHERNET_IPV4 = (1, 0x0800, 6, 4)
_REQUEST, _REPLY = 1, 2
_ALL_ROUTERS = IPv6Address("ff02::2")
_SOURCE_HARDWARE, _TARGET_HARDWARE, _PREFIX, _INTERVAL = 1, 2, 3, 7
_PREFIX_OPTION = struct.Struct("!BBBBII4x16s")
_ROUTER_FLAG, _SOLICITED_FLAG = 0x80, 0x40


@dataclass(frozen=True, slots=True)
class ArpReply:
    """Somebody has the IPv4 address `sender`, and this hardware."""

    sender: IPv4Address
    hardware: bytes


@dataclass(frozen=True, slots=True)
class NeighbourAdvertisement:
    """Somebody has the IPv6 address `target`, and this hardware. `solicited`: it answers a question."""

    target: IPv6Address
    hardware: bytes
    router: bool
    solicited: bool


@dataclass(frozen=True, slots=True)
class RouterAdvertisement:
    """A router says what is on this link. Lifetimes in seconds, `interval` of its advertisements as well."""

    source: IPv6Address
    hardware: bytes
    lifetime: int
    prefixes: tuple[IPv6Network, ...] = ()
    """Those from which addresses may be formed, and that are valid."""
    interval: float | None = None


NeighbourAnswer = ArpReply | NeighbourAdvertisement | RouterAdvertisement


def arp_request(gateway: IPv4Address, at: bytes, address: IPv4Address, own: bytes) -> bytes:
    """Ask the gateway, and nobody else, whether it is there, as whoever has `address`."""
    body = _ARP.pack(*_ETHERNET_IPV4, _REQUEST, own, address.packed, bytes(HARDWARE_SIZE), gateway.packed)
    return _ETHERNET.pack(at, own, ETHERTYPE_ARP) + body


def neighbour_solicitation(router: IPv6Address, at: bytes, source: IPv6Address, own: bytes) -> bytes:
    """Ask the router, and nobody else, whether it is there."""
    fixed = struct.pack("!BBHI16s", NEIGHBOUR_SOLICITATION, 0, 0, 0, router.packed)
    body = fixed + bytes((_SOURCE_HARDWARE, 1)) + own
    return discovery_frame(own, source, router, body, to=at)


def router_solicitation(source: IPv6Address, own: bytes) -> bytes:
    """Ask all routers who they are; without our hardware, so that none of them believes it (RFC 6059)."""
    return discovery_frame(own, source, _ALL_ROUTERS, struct.pack("!BBHI", ROUTER_SOLICITATION, 0, 0, 0))


def answer_in(frame: bytes) -> NeighbourAnswer | None:
    """What a received frame answers; None if it is anything else."""
    if len(frame) < _ETHERNET.size:
        return None
    _, sender, kind = _ETHERNET.unpack_from(frame)
    payload = frame[_ETHERNET.size :]
    if kind == ETHERTYPE_ARP:
        return _arp_reply(payload)
    message = discovery_message(payload) if kind == ETHERTYPE_IPV6 else None
    if message is None:
        return None
    header, body = message
    if body[0] == NEIGHBOUR_ADVERTISEMENT:
        return _neighbour_advertisement(body, sender)
    if body[0] == ROUTER_ADVERTISEMENT and header.source.is_link_local:
        return _router_advertisement(header.source, body, sender)
    return None


def _arp_reply(payload: bytes) -> ArpReply | None:
    if len(payload) < _ARP.size:
        return None
    *kind, operation, hardware, sender, _, _ = _ARP.unpack_from(payload)
    if tuple(kind) != _ETHERNET_IPV4 or operation != _REPLY:
        return None
    return ArpReply(IPv4Address(sender), hardware)


def _neighbour_advertisement(body: bytes, sender: bytes) -> NeighbourAdvertisement | None:
    """Without the option the frame's sender is whoever it is (RFC 4861 section 4.4)."""
    if len(body) < 24:
        return None
    options = _options(body[24:])
    if options is None:
        return None
    hardware = next((value for kind, value in options if kind == _TARGET_HARDWARE), b"\0\0" + sender)[2:]
    router, solicited = bool(body[4] & _ROUTER_FLAG), bool(body[4] & _SOLICITED_FLAG)
    return NeighbourAdvertisement(IPv6Address(body[8:24]), hardware[:HARDWARE_SIZE], router, solicited)


def _router_advertisement(source: IPv6Address, body: bytes, sender: bytes) -> RouterAdvertisement | None:
    if len(body) < 16:
        return None
    options = _options(body[16:])
    if options is None:
        return None
    hardware, interval = sender, None
    prefixes: list[IPv6Network] = []
    for kind, value in options:
        if kind == _SOURCE_HARDWARE:
            hardware = value[2 : 2 + HARDWARE_SIZE]
        elif kind == _INTERVAL and len(value) == 8:
            interval = int.from_bytes(value[4:], "big") / 1000
        elif kind == _PREFIX and len(value) == _PREFIX_OPTION.size and len(prefixes) < MAX_PREFIXES:
            _, _, length, flags, valid, _, packed = _PREFIX_OPTION.unpack(value)
            if length <= 128 and flags & 0x40 and valid:
                prefixes.append(IPv6Network((packed, length), strict=False))
    lifetime = int.from_bytes(body[6:8], "big")
    return RouterAdvertisement(source, hardware, lifetime, tuple(prefixes), interval)


def _options(data: bytes) -> list[tuple[int, bytes]] | None:
    """Kind and all octets of each option; None if one is cut short or empty (RFC 4861 section 6.1.2)."""
    found: list[tuple[int, bytes]] = []
    while data:
        size = 8 * data[1] if len(data) >= 2 else 0
        if not 0 < size <= len(data):
            return None
        found.append((data[0], data[:size]))
        data = data[size:]
    return found
