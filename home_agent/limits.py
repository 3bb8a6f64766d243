"""Token buckets by key, bounded in number: how much work anybody can ask for.

Pure. docs/security.md: forged-message, reflection, flood.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, TypeVar

KeyT = TypeVar("KeyT", bound=Hashable)

_ROUNDING = 1e-6
"""Tokens: instants are sums of fractions that binary numbers do not hold exactly."""


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
        self._full_at: dict[KeyT, float] = {}
        """When each bucket will be full again: that says all of it. In the order of their last use."""

    def spend(self, key: KeyT, now: float) -> bool:
        """Take one token of `key`; False when there is none."""
        full_at = max(self._full_at.pop(key, now), now)
        while self._full_at and self._may_forget(next(iter(self._full_at.values())), now):
            del self._full_at[next(iter(self._full_at))]
        granted = (full_at - now) * self._rate <= self._burst - 1 + _ROUNDING
        self._full_at[key] = full_at + 1 / self._rate if granted else full_at
        return granted

    def _may_forget(self, idlest: float, now: float) -> bool:
        return idlest <= now or len(self._full_at) >= self._capacity
