"""A bounded way from the data plane's thread into the event loop.

Performs I/O (wakes the loop).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Generic, TypeVar

ItemT = TypeVar("ItemT")

CAPACITY = 256


class Mailbox(Generic[ItemT]):
    """Items posted by another thread are delivered in the loop's thread, in order.

    Whatever exceeds `capacity` is dropped and counted in `dropped`: a flood of control packets costs a
    bounded amount of memory.
    """

    def __init__(self, deliver: Callable[[ItemT], None], capacity: int = CAPACITY) -> None:
        self._loop = asyncio.get_running_loop()
        self._deliver = deliver
        self._capacity = capacity
        self._waiting = 0
        self.dropped = 0

    def post(self, item: ItemT) -> None:
        """Any thread. Never blocks; after the loop has ended it does nothing."""
        # The count is changed by both threads without a lock: one lost update moves the bound by one.
        if self._waiting >= self._capacity:
            self.dropped += 1
            return
        self._waiting += 1
        try:
            self._loop.call_soon_threadsafe(self._take, item)
        except RuntimeError:  # the loop is closed: the daemon is ending
            self._waiting -= 1

    def _take(self, item: ItemT) -> None:
        self._waiting -= 1
        self._deliver(item)
