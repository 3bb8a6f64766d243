"""Token buckets by key, bounded in number: how much work anybody can ask for.

Pure. threats.md C.1 rows 10 to 12.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, TypeVar

KeyT = TypeVar("KeyT", bound=Hashable)


class TokenBuckets(Generic[KeyT]):
    """Each key may spend `burst` tokens at once and `rate` tokens a second for ever.

    A bucket that must be full again is forgotten, since a new one is full. At most `capacity` are remembered;
    beyond that the one that was idle longest is forgotten, which can only be generous to it, never to a key
    that is busy.
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
        while self._buckets and self._may_forget(next(iter(self._buckets.values())), now):
            del self._buckets[next(iter(self._buckets))]
        granted = tokens >= 1
        self._buckets[key] = (tokens - 1 if granted else tokens, now)
        return granted

    def _may_forget(self, idlest: tuple[float, float], now: float) -> bool:
        return now - idlest[1] >= self._burst / self._rate or len(self._buckets) >= self._capacity
