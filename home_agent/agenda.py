"""An agenda: many instants by key, the first of them at hand, any of them moved in O(log n).

Pure.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Hashable
from typing import Generic, TypeVar

KeyT = TypeVar("KeyT", bound=Hashable)

_SPARE = 64


class Agenda(Generic[KeyT]):
    """At most one instant (seconds of CLOCK_BOOTTIME) for each key.

    A moved entry stays in the heap until it surfaces; the heap is rebuilt when such leftovers outnumber
    the living, so that a mobile node that refreshes for years costs no memory.
    """

    def __init__(self) -> None:
        self._at: dict[KeyT, tuple[float, int]] = {}
        self._heap: list[tuple[float, int, KeyT]] = []
        self._order = itertools.count()

    def set(self, key: KeyT, at: float) -> None:
        """`key` is due at `at`, and no longer at any other instant."""
        order = next(self._order)
        self._at[key] = (at, order)
        heapq.heappush(self._heap, (at, order, key))
        if len(self._heap) > 2 * len(self._at) + _SPARE:
            self._heap = [(at, order, key) for key, (at, order) in self._at.items()]
            heapq.heapify(self._heap)

    def cancel(self, key: KeyT) -> None:
        self._at.pop(key, None)

    def first(self) -> tuple[float, KeyT] | None:
        """The earliest entry."""
        while self._heap:
            at, order, key = self._heap[0]
            if self._at.get(key) == (at, order):
                return at, key
            heapq.heappop(self._heap)
        return None

    def pop_due(self, now: float) -> KeyT | None:
        """Take out the earliest entry if it is due at `now`."""
        entry = self.first()
        if entry is None or entry[0] > now:
            return None
        del self._at[entry[1]]
        return entry[1]
