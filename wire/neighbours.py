"""Frames by which a home agent or a mobile node at home asks and tells its neighbours who has an address.

Pure. RFC 826, RFC 5227 (ARP probe and announcement), RFC 4861 section 4.3 and 4.4, RFC 4862 section 5.4,
RFC 6275 section 10.4.1. Frames begin at the Ethernet header.
"""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv6Address

from wire.checksum import internet_checksum, pseudo_header6
from wire.ip import PROTOCOL_ICMPV6, IPv6Header
from wire.reader import DecodeError

Address = IPv4Address | IPv6Address

ETHERTYPE_ARP = 0x0806
ETHERTYPE_IPV6 = 0x86DD
NEIGHBOUR_SOLICITATION = 135
NEIGHBOUR_ADVERTISEMENT = 136

_ETHERNET = struct.Struct("!6s6sH")
_ARP = struct.Struct("!HHBBH6s4s6s4s")
_ARP_ETHERNET_IPV4 = (1, 0x0800, 6, 4)
_ARP_REQUEST = 1
_BROADCAST = b"\xff" * 6
_ALL_NODES = IPv6Address("ff02::1")
_ROUTER = 0x80000000
_OVERRIDE = 0x20000000
_TARGET_LINK_LAYER_ADDRESS = b"\x02\x01"
_UNSPECIFIED = IPv6Address(0)


def probe(address: Address, hardware: bytes) -> bytes:
    """Ask whether anybody has `address`, without claiming it: ARP probe, or duplicate address detection."""
    if isinstance(address, IPv4Address):
        return _arp(hardware, bytes(4), address)
    body = struct.pack("!BBHI16s", NEIGHBOUR_SOLICITATION, 0, 0, 0, address.packed)
    return discovery_frame(hardware, _UNSPECIFIED, solicited_node(address), body)


def announcement(address: Address, hardware: bytes, source: IPv6Address, router: bool) -> bytes:
    """Tell everybody that `address` is at `hardware` now: gratuitous ARP, or an unsolicited advertisement.

    The advertisement overrides what neighbours remember; `router` is set for a mobile router's address
    only. `source` is an own address of whoever tells (RFC 6275 sections 10.4.1 and 11.5.5).
    """
    if isinstance(address, IPv4Address):
        return _arp(hardware, address.packed, address)
    flags = _OVERRIDE | (_ROUTER if router else 0)
    option = _TARGET_LINK_LAYER_ADDRESS + hardware
    body = struct.pack("!BBHI16s8s", NEIGHBOUR_ADVERTISEMENT, 0, 0, flags, address.packed, option)
    return discovery_frame(hardware, source, _ALL_NODES, body)


def claimed_in(frame: bytes, own_hardware: bytes) -> Address | None:
    """The address that somebody else has, or is about to take, as a received frame shows."""
    if len(frame) < _ETHERNET.size:
        return None
    _, source, kind = _ETHERNET.unpack_from(frame)
    if source == own_hardware:
        return None
    payload = frame[_ETHERNET.size :]
    if kind == ETHERTYPE_ARP:
        return _claimed_in_arp(payload)
    return _claimed_in_icmp6(payload) if kind == ETHERTYPE_IPV6 else None


def solicited_node(address: IPv6Address) -> IPv6Address:
    """The multicast group in which the owner of `address` listens."""
    return IPv6Address(int(IPv6Address("ff02::1:ff00:0")) | (int(address) & 0xFFFFFF))


def _claimed_in_arp(payload: bytes) -> IPv4Address | None:
    if len(payload) < _ARP.size:
        return None
    *kind, _operation, _, sender, _, target = _ARP.unpack_from(payload)
    if tuple(kind) != _ARP_ETHERNET_IPV4:
        return None
    return IPv4Address(sender if sender != bytes(4) else target)


def _claimed_in_icmp6(payload: bytes) -> IPv6Address | None:
    message = discovery_message(payload)
    if message is None:
        return None
    header, body = message
    probing = body[0] == NEIGHBOUR_SOLICITATION and header.source == _UNSPECIFIED
    if len(body) < 24 or not (probing or body[0] == NEIGHBOUR_ADVERTISEMENT):
        return None
    return IPv6Address(body[8:24])


def discovery_message(packet: bytes) -> tuple[IPv6Header, bytes] | None:
    """Header and ICMPv6 message of a neighbour discovery packet, None if it is not a valid one.

    It comes from a neighbour: no router passes a hop limit of 255 on (RFC 4861 section 6.1).
    """
    try:
        header = IPv6Header.decode(packet)
    except DecodeError:
        return None
    body = packet[40 : 40 + header.payload_length]
    if header.next_header != PROTOCOL_ICMPV6 or header.hop_limit != 255 or len(body) < 8 or body[1]:
        return None
    summed = pseudo_header6(header.source, header.destination, len(body), PROTOCOL_ICMPV6) + body
    return None if internet_checksum(summed) else (header, body)


def _arp(hardware: bytes, sender: bytes, target: IPv4Address) -> bytes:
    body = _ARP.pack(*_ARP_ETHERNET_IPV4, _ARP_REQUEST, hardware, sender, bytes(6), target.packed)
    return _ETHERNET.pack(_BROADCAST, hardware, ETHERTYPE_ARP) + body


def discovery_frame(
    hardware: bytes, source: IPv6Address, destination: IPv6Address, body: bytes, to: bytes | None = None
) -> bytes:
    """The frame of an ICMPv6 message whose checksum is still zero; to the group's hardware, or `to`."""
    summed = internet_checksum(pseudo_header6(source, destination, len(body), PROTOCOL_ICMPV6) + body)
    complete = body[:2] + summed.to_bytes(2, "big") + body[4:]
    header = IPv6Header(source, destination, PROTOCOL_ICMPV6, len(body), hop_limit=255)
    receiver = b"\x33\x33" + destination.packed[12:] if to is None else to
    return _ETHERNET.pack(receiver, hardware, ETHERTYPE_IPV6) + header.encode() + complete
