"""NTP timestamps: 64 bits, seconds since 1900 above fractions of a second.

Pure. RFC 5905 section 6; the message identification option carries one (RFC 4285 section 6).
Seconds begin anew at 0 in 2036, therefore two timestamps are only ever compared by their distance.
"""

from __future__ import annotations

EPOCH = 2_208_988_800
"""1900 before 1970, in seconds."""
SECOND = 1 << 32
"""Units of a timestamp in a second."""

_MASK = (1 << 64) - 1
_HALF = 1 << 63


def timestamp(wall: float) -> int:
    """The timestamp at `wall`, in seconds since 1970."""
    return int((wall + EPOCH) * SECOND) & _MASK


def later(of: int, by: int) -> int:
    """The timestamp that lies `by` units after `of`, before it if that is negative."""
    return (of + by) & _MASK


def distance(of: int, since: int) -> int:
    """Units from `since` to `of`; negative if `of` is the earlier one. Right within 68 years."""
    return (of - since + _HALF & _MASK) - _HALF
