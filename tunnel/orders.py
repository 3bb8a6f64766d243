"""Orders: what other threads want of the data plane's thread, done between two of its drains.

Performs I/O (an eventfd).
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections import deque
from collections.abc import Callable

HANDSHAKE = 5.0
"""Seconds for the thread to finish what it is doing."""


class Orders:
    """`descriptor` becomes readable when something was ordered; the thread then calls `obey`."""

    def __init__(self) -> None:
        self.descriptor = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._waiting: deque[Callable[[], None]] = deque()

    def give(self, order: Callable[[], None], thread: threading.Thread | None) -> None:
        """Run `order` in `thread` and wait for it, so that no drain runs meanwhile; here if it does not run.

        Raises what `order` raises as an OSError, and TimeoutError if the thread does not answer.
        """
        if thread is None or not thread.is_alive() or thread is threading.current_thread():
            order()
            return
        done = threading.Event()
        failures: list[OSError] = []

        def run() -> None:
            try:
                order()
            except OSError as error:
                failures.append(error)
            finally:
                done.set()

        self._waiting.append(run)
        os.eventfd_write(self.descriptor, 1)
        if not done.wait(HANDSHAKE):
            raise TimeoutError("the data plane does not answer")
        if failures:
            raise failures[0]

    def post(self, order: Callable[[], None], thread: threading.Thread | None) -> None:
        """The same without waiting. What `order` raises ends in `thread`."""
        if thread is None or not thread.is_alive() or thread is threading.current_thread():
            order()
            return
        self._waiting.append(order)
        os.eventfd_write(self.descriptor, 1)

    def obey(self) -> None:
        """In the data plane's thread: run everything that was ordered."""
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self.descriptor)
        while self._waiting:
            self._waiting.popleft()()

    def close(self) -> None:
        """Closing twice does nothing."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1
