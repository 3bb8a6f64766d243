"""Token buckets by key, bounded in number: how much work anybody can ask for.

Pure. threats.md C.1 rows 10 to 12.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, TypeVar

KeyT = TypeVar("KeyT", bound=Hashable)


class TokenBuckets(Generic[KeyT]):
    """Each key may spend `burst` tokens at once and `rate` tokens a second for ever.

    At most `capacity` keys are remembered; the one that was idle longest is forgotten first, which can only
    be generous to it, never to a key that is busy.
    """

    def __init__(self, rate: float, burst: float, capacity: int) -> None:
        self._rate = rate
        self._burst = burst
        self._capacity = capacity
        self._buckets: dict[KeyT, tuple[float, float]] = {}

    def spend(self, key: KeyT, now: float) -> bool:
        """Take one token of `key`; False when there is none."""
        tokens, since = self._buckets.pop(key, (self._burst, now))
        tokens = min(self._burst, tokens + (now - since) * self._rate)
        if len(self._buckets) >= self._capacity:
            del self._buckets[next(iter(self._buckets))]
        granted = tokens >= 1
        self._buckets[key] = (tokens - 1 if granted else tokens, now)
        return granted
