"""The only clock of the simulated Internet: what happens when, in order, without waiting.

Pure.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable

Work = Callable[[], None]


class Timeline:
    """Work by instant. What is due at the same instant happens in the order in which it was planned."""

    def __init__(self, start: float = 1000.0) -> None:
        self.now = start
        self.steps = 0
        """How many things have happened."""
        self._planned: list[tuple[float, int, Work]] = []
        self._order = itertools.count()

    def at(self, when: float, work: Work) -> None:
        heapq.heappush(self._planned, (max(when, self.now), next(self._order), work))

    def after(self, delay: float, work: Work) -> None:
        self.at(self.now + delay, work)

    def next_at(self) -> float | None:
        """When something happens next."""
        return self._planned[0][0] if self._planned else None

    def step(self) -> None:
        """Let the next thing happen."""
        self.now, _, work = heapq.heappop(self._planned)
        self.steps += 1
        work()

    def __len__(self) -> int:
        return len(self._planned)


class VirtualTimer:
    """A `runtime.clock.Timer` on a timeline. While its host sleeps it does not ring; then it rings late."""

    def __init__(self, timeline: Timeline, wake: Callable[[], None]) -> None:
        self._timeline = timeline
        self._wake = wake
        self._armed: float | None = None
        self.asleep = False
        self.rang = 0

    def arm(self, at: float | None) -> None:
        self._armed = at
        if at is not None:
            self._timeline.at(at, lambda: self._ring(at))

    def close(self) -> None:
        self._armed = None

    def resume(self) -> None:
        """The host is awake again: whatever was missed is due now."""
        self.asleep = False
        if self._armed is not None:
            self.arm(self._armed)

    def _ring(self, at: float) -> None:
        if self.asleep or self._armed != at:
            return
        self._armed = None
        self.rang += 1
        self._wake()
