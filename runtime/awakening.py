"""The kernel's word that the host has slept, or that its wall clock was set; nothing is polled for it.

Performs I/O. A timer on CLOCK_REALTIME that is never due, armed with TFD_TIMER_CANCEL_ON_SET
(timerfd_create(2)): the kernel cancels it when that clock jumps, and a sleep makes it jump too on resuming.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import struct
import time
from collections.abc import Callable

_NONBLOCK_CLOEXEC = os.O_NONBLOCK | os.O_CLOEXEC
_ABSOLUTE_CANCEL_ON_SET = 1 | 2
_ITIMERSPEC = struct.Struct("@llll")
_NEVER = 1 << 40
"""Seconds since 1970: in thirty thousand years."""


class Awakening:
    """Calls `noticed` in the event loop. CLOCK_BOOTTIME against CLOCK_MONOTONIC tells whether it was a sleep.

    Where the kernel has no such timer nothing is ever called: a sleep is noticed at the next event then.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, noticed: Callable[[], None], due_at: int = _NEVER
    ) -> None:
        self._loop = loop
        self._noticed = noticed
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._fd = -1
        if hasattr(self._libc, "timerfd_create"):
            self._fd = self._libc.timerfd_create(time.CLOCK_REALTIME, _NONBLOCK_CLOEXEC)
        if self._fd >= 0:
            loop.add_reader(self._fd, self._readable)
            self._arm(due_at)

    def close(self) -> None:
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1

    def _arm(self, at: int) -> None:
        setting = _ITIMERSPEC.pack(0, 0, at, 0)
        if self._libc.timerfd_settime(self._fd, _ABSOLUTE_CANCEL_ON_SET, setting, None) < 0:
            self.close()

    def _readable(self) -> None:
        # ECANCELED is the news itself; that it can be told again, the timer is armed anew.
        with contextlib.suppress(OSError):
            os.read(self._fd, 8)
        self._arm(_NEVER)
        self._noticed()
