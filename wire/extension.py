"""The IPv6 extension headers of control packets: home address option and type 2 routing header.

Pure. RFC 8200 section 4, RFC 6275 sections 6.3 and 6.4.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv6Address

from wire.ip import (
    PROTOCOL_DESTINATION_OPTIONS,
    PROTOCOL_FRAGMENT,
    PROTOCOL_HOP_BY_HOP,
    PROTOCOL_ROUTING,
)
from wire.reader import DecodeError

HOME_ADDRESS_OPTION = 0xC9
MAX_HEADERS = 4
"""Extension headers in front of one payload: destination options, routing, destination options, one spare."""
MAX_ITEMS = 32
"""Destination options and paddings in one header."""

_PAD1 = 0
_TYPE_2 = 2


@dataclass(frozen=True, slots=True)
class Extensions:
    """What the extension headers said, and what follows them."""

    home_address: IPv6Address | None
    """From the home address option: stands for the source."""
    routing_home_address: IPv6Address | None
    """From a type 2 routing header with one segment left: stands for the destination."""
    next_header: int
    payload: bytes


def home_address_option(next_header: int, home_address: IPv6Address) -> bytes:
    """A destination options header, 24 octets, that carries the home address."""
    return bytes((next_header, 2, 1, 2, 0, 0, HOME_ADDRESS_OPTION, 16)) + home_address.packed


def routing_header(next_header: int, home_address: IPv6Address) -> bytes:
    """A type 2 routing header, 24 octets, with the home address as its one segment left."""
    return bytes((next_header, 2, _TYPE_2, 1, 0, 0, 0, 0)) + home_address.packed


def parse_extensions(next_header: int, data: bytes) -> Extensions:
    """Read the extension headers at the start of `data`, which is the payload of an IPv6 header.

    Stops at the first header that is neither destination options nor routing. Control packets carry no
    hop-by-hop options and are never fragmented, so those are a DecodeError.
    """
    home_address: IPv6Address | None = None
    routing_home_address: IPv6Address | None = None
    position = 0
    for _ in range(MAX_HEADERS + 1):
        if next_header == PROTOCOL_DESTINATION_OPTIONS:
            end = _header_end(data, position)
            option = _read_destination_options(data, position + 2, end)
            if option is not None and home_address is not None:
                raise DecodeError("two home address options")
            home_address = option or home_address
        elif next_header == PROTOCOL_ROUTING:
            end = _header_end(data, position)
            segment = _read_routing(data, position)
            if segment is not None and routing_home_address is not None:
                raise DecodeError("two type 2 routing headers")
            routing_home_address = segment or routing_home_address
        elif next_header in (PROTOCOL_HOP_BY_HOP, PROTOCOL_FRAGMENT):
            raise DecodeError(f"extension header {next_header} in a control packet")
        else:
            return Extensions(home_address, routing_home_address, next_header, data[position:])
        next_header, position = data[position], end
    raise DecodeError("too many extension headers")


def _header_end(data: bytes, position: int) -> int:
    if position + 8 > len(data):
        raise DecodeError("no room for an extension header")
    end = position + (data[position + 1] + 1) * 8
    if end > len(data):
        raise DecodeError("extension header exceeds the packet")
    return end


def _read_destination_options(data: bytes, position: int, end: int) -> IPv6Address | None:
    """The home address in the options of one header, if there is one."""
    home_address: IPv6Address | None = None
    for _ in range(MAX_ITEMS):
        if position < end and data[position] == _PAD1:
            position = end - len(data[position:end].lstrip(b"\0"))
        if position == end:
            return home_address
        if position + 2 > end:
            raise DecodeError("destination option without a length")
        start, kind, body = position, data[position], position + 2
        position = body + data[position + 1]
        if position > end:
            raise DecodeError("destination option overruns its header")
        if kind != HOME_ADDRESS_OPTION:
            _judge_unknown_option(kind, start)
        elif home_address is not None:
            raise DecodeError("two home address options")
        else:
            home_address = _read_home_address(data[body:position])
    raise DecodeError("too many destination options")


def _judge_unknown_option(kind: int, pointer: int) -> None:
    """The two high bits say what a node does that does not know the option (RFC 8200 section 4.2)."""
    action = kind >> 6
    if action == 1:
        raise DecodeError(f"destination option {kind:#x} asks to be discarded")
    if action > 1:
        raise DecodeError(f"unknown destination option {kind:#x}", pointer, code=2)


def _read_routing(data: bytes, position: int) -> IPv6Address | None:
    """The home address of a type 2 routing header; None for a header whose segments are all done."""
    kind, segments_left = data[position + 2], data[position + 3]
    if segments_left == 0:
        return None
    if kind != _TYPE_2:
        raise DecodeError(f"routing header of type {kind}", position + 2)
    if data[position + 1] != 2:
        raise DecodeError("type 2 routing header of a wrong length", position + 1)
    if segments_left != 1:
        raise DecodeError("type 2 routing header with more than one segment", position + 3)
    return _read_home_address(data[position + 8 : position + 24])


def _read_home_address(octets: bytes) -> IPv6Address:
    """16 octets that are a routable unicast address, else a silent discard (RFC 6275 section 9.3.1)."""
    if len(octets) != 16:
        raise DecodeError("home address option of a wrong length")
    multicast = octets[0] == 0xFF
    link_local = octets[0] == 0xFE and octets[1] & 0xC0 == 0x80
    reserved = octets[:15] == bytes(15) and octets[15] <= 1  # unspecified and loopback
    if multicast or link_local or reserved:
        raise DecodeError("home address is not a routable unicast address")
    return IPv6Address(octets)
