"""Packets cut into fragments: those too large for the tunnel as a router would, outer ones as their source.

Pure. RFC 791 section 3.2, RFC 8200 section 4.5, RFC 4459 section 3.3 (fragment inside the tunnel, not the
tunnel packet). An IPv6 packet of the least MTU leaves a bad choice: RFC 2473 section 7.1 wants outer
fragments, which IP in IP gets. Where UDP was needed there is a NAT or a filter, which they
seldom survive.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import replace

from wire.ip import (
    IPV4_HEADER,
    IPV6_HEADER,
    PROTOCOL_DESTINATION_OPTIONS,
    PROTOCOL_FRAGMENT,
    PROTOCOL_HOP_BY_HOP,
    PROTOCOL_ROUTING,
    IPv4Header,
    IPv6Header,
)
from wire.reader import DecodeError

MIN_MTU = 68  # every IPv4 link carries this much, RFC 791

_END, _NO_OPERATION = 0, 1
_COPIED = 0x80
_EXTENSION_HEADERS = (
    PROTOCOL_HOP_BY_HOP,
    PROTOCOL_ROUTING,
    PROTOCOL_FRAGMENT,
    PROTOCOL_DESTINATION_OPTIONS,
)
_FRAGMENT_HEADER = struct.Struct("!BxHI")  # next header, offset (units of 8) and "more", identification


def fragment_ipv4(packet: bytes, mtu: int) -> tuple[bytes, ...]:
    """`packet` as fragments of at most `mtu` octets; empty if it is malformed or must not be fragmented.

    A packet that is itself a fragment is cut further: its offset and its last "more" flag are kept.
    """
    try:
        header = IPv4Header.decode(packet)
    except DecodeError:
        return ()
    if header.dont_fragment or mtu < MIN_MTU:
        return ()
    later_options = _copied_options(header.options)
    fragments: list[bytes] = []
    position = header.header_length
    while position < header.total_length:
        options = later_options if fragments else header.options
        room = (mtu - IPV4_HEADER - len(options)) & ~7
        payload = packet[position : min(position + room, header.total_length)]
        last = position + len(payload) >= header.total_length
        fragment = replace(
            header,
            total_length=IPV4_HEADER + len(options) + len(payload),
            more_fragments=header.more_fragments or not last,
            fragment_offset=header.fragment_offset + (position - header.header_length) // 8,
            options=options,
        )
        fragments.append(fragment.encode() + payload)
        position += len(payload)
    return tuple(fragments)


def fragment_ipv6(header: IPv6Header, payload: bytes, mtu: int, identification: int) -> tuple[bytes, ...]:
    """The packet of `header` and `payload` as its source cuts it: whole if it fits `mtu` octets.

    `header` is of the whole packet.
    """
    if IPV6_HEADER + len(payload) <= mtu:
        return (header.encode() + payload,)
    room = (mtu - IPV6_HEADER - _FRAGMENT_HEADER.size) & ~7
    fragments: list[bytes] = []
    for offset in range(0, len(payload), room):
        piece = payload[offset : offset + room]
        more = offset + room < len(payload)
        middle = _FRAGMENT_HEADER.pack(header.next_header, offset | more, identification)
        fixed = replace(
            header, next_header=PROTOCOL_FRAGMENT, payload_length=_FRAGMENT_HEADER.size + len(piece)
        )
        fragments.append(fixed.encode() + middle + piece)
    return tuple(fragments)


def fragment_inside(packet: bytes, mtu: int) -> tuple[bytes, ...]:
    """An IPv6 packet as its source would have cut it; empty if it has extension headers.

    Its own octets make the identification: random enough, and the same at any time.
    """
    header = IPv6Header.decode(packet)
    if header.next_header in _EXTENSION_HEADERS:
        return ()
    return fragment_ipv6(header, packet[IPV6_HEADER:], mtu, zlib.crc32(packet))


def _copied_options(options: bytes) -> bytes:
    """The options that every fragment carries: those with the copied bit, padded to whole words."""
    kept = bytearray()
    position = 0
    while position < len(options) and options[position] != _END:
        if options[position] == _NO_OPERATION:
            position += 1
            continue
        length = options[position + 1] if position + 1 < len(options) else 0
        if length < 2 or position + length > len(options):
            break
        if options[position] & _COPIED:
            kept += options[position : position + length]
        position += length
    return bytes(kept) + bytes(-len(kept) % 4)
