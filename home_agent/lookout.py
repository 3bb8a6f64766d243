"""The lookout: when to see whether the kernel still is as it should be.

Performs I/O (waits in the event loop). Soon after word of an alteration, but with a pause between two looks,
since each costs milliseconds and others may change their rules every second; and seldom without any reason,
for what the kernel tells nobody.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable

from tunnel.alterations import Alterations

SETTLED = 1.0
"""Seconds after word: whoever changes one thing changes more."""
PAUSE = 30.0
SELDOM = 600.0


class Lookout:
    """Calls `look` in the running event loop until it is closed."""

    def __init__(self, alterations: Alterations, look: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._alterations = alterations
        self._look = look
        self._looked_at = -math.inf
        self._next = self._loop.call_later(SELDOM, self._look_now)
        for descriptor in alterations.descriptors:
            self._loop.add_reader(descriptor, self._hear)

    def close(self) -> None:
        self._next.cancel()
        for descriptor in self._alterations.descriptors:
            self._loop.remove_reader(descriptor)

    def _hear(self) -> None:
        if self._alterations.heard():
            at = max(self._loop.time() + SETTLED, self._looked_at + PAUSE)
            if at < self._next.when():
                self._next.cancel()
                self._next = self._loop.call_at(at, self._look_now)

    def _look_now(self) -> None:
        self._looked_at = self._loop.time()
        self._next = self._loop.call_later(SELDOM, self._look_now)
        self._look()
