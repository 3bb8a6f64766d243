"""A question to DHCP servers by a host that has its address already, and what the answer says of a portal.

Pure. RFC 2131 section 4.4.3 (DHCPINFORM), RFC 2132 section 9, RFC 3396 (long options), RFC 8910 section 2.1.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from ipaddress import IPv4Address

from wire.advertisement import portal_of
from wire.reader import DecodeError

SERVER_PORT, CLIENT_PORT = 67, 68
CAPTIVE_PORTAL = 114
LONGEST = 1500
_LEAST = 300
"""Octets: some servers, and relays, want what BOOTP had."""
_REQUEST, _REPLY, _ETHERNET = 1, 2, 1
_INFORM, _ACK = 8, 5
_PAD, _MESSAGE_TYPE, _WANTED, _END = 0, 53, 55, 255
_MAGIC = bytes((99, 130, 83, 99))
_HEADER = struct.Struct("!BBBBIHH4s4s4s4s16s64s128s4s")
_MOST_OPTIONS = 256


def encode_inform(address: IPv4Address, hardware: bytes, number: int) -> bytes:
    """Ask for the captive portal only. `number` (32 bits) is repeated in the answer."""
    nobody = bytes(4)
    header = _HEADER.pack(
        _REQUEST, _ETHERNET, len(hardware), 0, number, 0, 0,
        address.packed, nobody, nobody, nobody, hardware, b"", b"", _MAGIC,
    )  # fmt: skip
    options = bytes((_MESSAGE_TYPE, 1, _INFORM, _WANTED, 1, CAPTIVE_PORTAL, _END))
    return (header + options).ljust(_LEAST, b"\0")


def decode_portal(message: bytes, address: IPv4Address, number: int) -> str | None:
    """The URL of the portal's API, "" where there is none, None where nothing is said.

    DecodeError unless it is the answer to that question.
    """
    if len(message) < _HEADER.size:
        raise DecodeError("shorter than a DHCP message")
    kind, *_, magic = fields = _HEADER.unpack_from(message)
    if kind != _REPLY or magic != _MAGIC or fields[4] != number or fields[7] != address.packed:
        raise DecodeError("no answer to a question of ours")
    said: dict[int, bytes] = {}
    for code, content in _options(message[_HEADER.size :]):
        said[code] = said.get(code, b"") + content
    if said.get(_MESSAGE_TYPE) != bytes((_ACK,)):
        raise DecodeError("no acknowledgement")
    return portal_of(said[CAPTIVE_PORTAL]) if CAPTIVE_PORTAL in said else None


def _options(rest: bytes) -> Iterator[tuple[int, bytes]]:
    for _ in range(_MOST_OPTIONS):
        if not rest or rest[0] == _END:
            return
        if rest[0] == _PAD:
            rest = rest.lstrip(b"\0")
            continue
        if len(rest) < 2 or len(rest) < 2 + rest[1]:
            raise DecodeError("an option of DHCP is cut short")
        yield rest[0], rest[2 : 2 + rest[1]]
        rest = rest[2 + rest[1] :]
