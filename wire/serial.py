"""Sequence numbers that wrap at 2**16: which of two is newer, and which comes next.

Pure. RFC 6275 section 9.5.1.
"""

from __future__ import annotations


def is_newer16(candidate: int, last: int) -> bool:
    """Whether `candidate` is greater than `last` modulo 2**16.

    The last value and the 32768 values before it are old; with last = 15: 0..15 and 32783..65535.
    """
    return (last - candidate) & 0xFFFF > 0x8000


def next16(last: int) -> int:
    """The sequence number after `last`."""
    return (last + 1) & 0xFFFF
