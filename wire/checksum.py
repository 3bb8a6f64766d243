"""The internet checksum and the pseudo-headers it runs over.

Pure. RFC 1071, RFC 8200 section 8.1, RFC 768.
"""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv6Address

Octets = bytes | bytearray | memoryview

_PSEUDO6 = struct.Struct("!16s16sI3xB")
_PSEUDO4 = struct.Struct("!4s4sxBH")


def internet_checksum(data: Octets, initial: int = 0) -> int:
    """The one's complement of the one's complement sum; zero over data that includes a right checksum.

    `initial` is the `word_sum` of what precedes, so that a pseudo-header needs no concatenation.
    """
    total = initial + word_sum(data)
    folded = total % 0xFFFF
    if folded == 0 and total:
        return 0
    return 0xFFFF - folded


def word_sum(data: Octets) -> int:
    """A number congruent to the sum of the 16-bit words of `data`, an odd last octet padded with zero.

    Since 2**16 is 1 modulo 0xFFFF, the octets read as one big number are congruent to their word sum.
    """
    number = int.from_bytes(data, "big")
    return number << 8 if len(data) & 1 else number


def pseudo_header6(source: IPv6Address, destination: IPv6Address, length: int, next_header: int) -> bytes:
    """40 octets; `length` counts the upper-layer header and its data."""
    return _PSEUDO6.pack(source.packed, destination.packed, length, next_header)


def pseudo_header4(source: IPv4Address, destination: IPv4Address, length: int, protocol: int) -> bytes:
    """12 octets; `length` counts the upper-layer header and its data."""
    return _PSEUDO4.pack(source.packed, destination.packed, protocol, length)
