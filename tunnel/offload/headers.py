"""Headers of many segments at once, as rows of 32-bit words that count up from one to the next.

Pure. RFC 1071: a checksum may be summed in any order and width, and in the octet order of the host.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

Octets = np.ndarray[Any, np.dtype[np.uint8]]
Words = np.ndarray[Any, np.dtype[np.uint32]]

MODULUS = 0xFFFF
"""Sums of 16-bit words are congruent modulo this, whatever was carried where."""
BIG32, LITTLE16 = np.dtype(">u4"), np.dtype("<u2")
_ROWS = 64
_IPV4_STEPS = ((1, 1 << 16), (2, -1))
_MULTIPLE = MODULUS << 12  # larger than the sum of any packet


def counting(rows: int, words: int, steps: tuple[tuple[int, int], ...]) -> Words:
    """A table of zeros but for the columns of `steps`, which grow by their number from row to row."""
    return _counting(-(-rows // _ROWS) * _ROWS, words, steps)[:rows]


@lru_cache(64)
def _counting(rows: int, words: int, steps: tuple[tuple[int, int], ...]) -> Words:
    table = np.zeros((rows, words), np.uint32)
    for column, step in steps:
        table[:, column] = np.arange(rows, dtype=np.uint32) * np.uint32(step & 0xFFFFFFFF)
    table.flags.writeable = False
    return table


def ipv4_steps(header: bytes | bytearray, rows: int) -> tuple[tuple[int, int], ...] | None:
    """How identification and checksum change from row to row: one up, one down. None if either wraps."""
    number, checksum = header[4] << 8 | header[5], header[10] << 8 | header[11]
    if number + rows > 0xFFFF or checksum < rows:
        return None
    return _IPV4_STEPS


def row_sums(rows: Octets, size: int) -> Words:
    """Per row a number congruent to the sum of the little-endian words of its first `size` octets."""
    even = size & ~1
    sums: Words = np.add.reduce(rows[:, :even].view(LITTLE16), 1, np.uint32)
    if size & 1:
        sums += rows[:, even]
    return sums


def complements(sums: Words, more: int) -> Words:
    """The checksums for sums that are each larger by `more`; made in the same place."""
    np.subtract(_MULTIPLE - more % MODULUS, sums, out=sums)
    sums %= MODULUS
    return sums


def octets_sum(octets: bytes | bytearray | memoryview) -> int:
    """The same of one string of octets, from 0 to MODULUS less one."""
    return int.from_bytes(octets, "little") % MODULUS


def swapped(word: int) -> int:
    """A little-endian sum as a big-endian one, or the reverse."""
    return word * 256 % MODULUS
