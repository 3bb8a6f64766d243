"""TokenBucket: how often something may happen.

Pure.
"""

from __future__ import annotations


class TokenBucket:
    """`rate` tokens a second flow into it, at most `burst` stay. It starts full."""

    __slots__ = ("_at", "_burst", "_rate", "_tokens")

    def __init__(self, rate: float, burst: float) -> None:
        self._rate = rate
        self._burst = burst
        self._tokens = burst
        self._at = 0.0

    def take(self, now: float) -> bool:
        """Take a token at `now` (seconds of CLOCK_BOOTTIME) if there is one."""
        self._tokens = min(self._burst, self._tokens + max(0.0, now - self._at) * self._rate)
        self._at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True
