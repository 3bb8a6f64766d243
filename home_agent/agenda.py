"""An agenda: an instant for each home address, the first of them at hand, any of them moved at little cost.

Pure.
"""

from __future__ import annotations

import heapq
from ipaddress import IPv6Address

_SPARE = 64


class Agenda:
    """At most one instant (seconds of CLOCK_BOOTTIME) for each home address.

    An entry that moves to a later instant, as with every refresh, stays where it is in the heap until it
    surfaces, and goes on from there. So a mobile node that refreshes for years costs neither memory nor time.
    """

    def __init__(self) -> None:
        self._at: dict[IPv6Address, float] = {}
        self._heap: list[tuple[float, IPv6Address]] = []

    def set(self, home_address: IPv6Address, at: float) -> None:
        """`home_address` is due at `at`, and no longer at any other instant."""
        before = self._at.get(home_address)
        self._at[home_address] = at
        if before is None or at < before:
            heapq.heappush(self._heap, (at, home_address))
            if len(self._heap) > len(self._at) + len(self._at) // 4 + _SPARE:
                self._heap = [(at, home) for home, at in self._at.items()]
                heapq.heapify(self._heap)

    def cancel(self, home_address: IPv6Address) -> None:
        self._at.pop(home_address, None)

    def first(self) -> tuple[float, IPv6Address] | None:
        """The earliest entry."""
        while self._heap:
            at, home = self._heap[0]
            due = self._at.get(home)
            if due == at:
                return at, home
            if due is None or due < at:
                heapq.heappop(self._heap)  # cancelled, or due before and in the heap for that
            else:
                heapq.heapreplace(self._heap, (due, home))
        return None

    def pop_due(self, now: float) -> IPv6Address | None:
        """Take out the earliest entry if it is due at `now`."""
        entry = self.first()
        if entry is None or entry[0] > now:
            return None
        heapq.heappop(self._heap)
        del self._at[entry[1]]
        return entry[1]
