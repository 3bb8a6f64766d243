"""A bounded way from the data plane's thread into the event loop.

Performs I/O (wakes the loop).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

ItemT = TypeVar("ItemT")

CAPACITY = 256


class Mailbox(Generic[ItemT]):
    """Items posted by another thread are delivered in the loop's thread, in order, all that wait at once.

    Whatever exceeds `capacity` is dropped and counted in `dropped`: a flood of control packets costs a
    bounded amount of memory.
    """

    def __init__(self, deliver: Callable[[list[ItemT]], None], capacity: int = CAPACITY) -> None:
        self._loop = asyncio.get_running_loop()
        self._deliver = deliver
        self._capacity = capacity
        self._waiting: deque[ItemT] = deque()
        self._called = False
        """Whether the loop has been told already of what waits."""
        self.dropped = 0

    def post(self, item: ItemT) -> None:
        """Any thread. Never blocks; after the loop has ended it does nothing."""
        if len(self._waiting) >= self._capacity:
            self.dropped += 1
            return
        self._waiting.append(item)
        if self._called:
            return
        self._called = True
        try:
            self._loop.call_soon_threadsafe(self._take)
        except RuntimeError:  # the loop is closed: the daemon is ending
            self._waiting.clear()

    def _take(self) -> None:
        # First the flag: whoever posts from now on is either seen below or calls again.
        self._called = False
        items = [self._waiting.popleft() for _ in range(len(self._waiting))]
        if items:
            self._deliver(items)
