"""Packets that are like the one before them, as far as a verdict of the endpoint depends on a packet.

Pure. Of two packets of one length whose headers differ in nothing but identification, fragment flags, hop
limit and header checksum the endpoint thinks the same: it looks at version, TOS, length, protocol, addresses
and the first four octets behind the header (the ports of what could be a nested tunnel). To compare them is a
fifth of the work of judging, and packets of one flow follow each other.
"""

from __future__ import annotations

from typing import NamedTuple

from wire.ip import IPV4_HEADER, IPV6_HEADER

_PORTS = 4
_MASK4 = bytes.fromhex("ffffffff" "00000000" "00ff0000" "ffffffffffffffff" "ffffffff")
_MASK6 = bytes.fromhex("ffffffff" "ffffff00") + b"\xff" * (IPV6_HEADER - 8 + _PORTS)
_IPV4_WITHOUT_OPTIONS = 0x45


class Likeness(NamedTuple):
    """`int.from_bytes(packet[:span], "big") & mask == key` and an equal length: a packet like the first."""

    span: int
    mask: int
    key: int


UNLIKE = Likeness(0, 0, -1)
"""No packet is like this."""


def likeness(packet: bytes, before: int = 0) -> Likeness:
    """What makes a packet like `packet`, whose IP header comes after `before` octets that count as well."""
    if len(packet) < before + IPV4_HEADER + _PORTS:
        return UNLIKE
    first = packet[before]
    if first == _IPV4_WITHOUT_OPTIONS:
        octets = b"\xff" * before + _MASK4
    elif first >> 4 == 6 and len(packet) >= before + IPV6_HEADER + _PORTS:
        octets = b"\xff" * before + _MASK6
    else:
        return UNLIKE
    mask = int.from_bytes(octets, "big")
    return Likeness(len(octets), mask, int.from_bytes(packet[: len(octets)], "big") & mask)
