"""Time as this project counts it, and a timer that keeps it: seconds of CLOCK_BOOTTIME.

Performs I/O. CLOCK_BOOTTIME counts the time spent asleep, which asyncio's own clock (CLOCK_MONOTONIC) does
not: a lifetime of 420 s that ran out while the lid was closed has run out.
"""

from __future__ import annotations

import asyncio
import ctypes
import errno
import math
import os
import struct
import time
from collections.abc import Callable
from typing import Protocol

_TFD_NONBLOCK_CLOEXEC = os.O_NONBLOCK | os.O_CLOEXEC
_TFD_TIMER_ABSTIME = 1
_ITIMERSPEC = struct.Struct("@llll")
_AT_ONCE = 1e-6
"""An instant of zero would disarm the timer."""


def boottime() -> float:
    """Now, in seconds of CLOCK_BOOTTIME."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def asleep() -> float:
    """Seconds that this machine has slept since it booted; a difference tells of a suspend in between."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) - time.clock_gettime(time.CLOCK_MONOTONIC)


class Timer(Protocol):
    """Calls back once, at the instant it was last armed for."""

    def arm(self, at: float | None) -> None:
        """Wake at `at` (seconds of CLOCK_BOOTTIME) instead of any earlier arrangement; None: never."""
        ...

    def close(self) -> None: ...


def boot_timer(loop: asyncio.AbstractEventLoop, wake: Callable[[], None]) -> Timer:
    """The best timer that this machine allows."""
    try:
        return KernelTimer(loop, wake)
    except OSError:
        return LoopTimer(loop, wake)


class KernelTimer:
    """A timerfd on CLOCK_BOOTTIME: due as soon as the machine wakes up from a sleep that was too long."""

    def __init__(self, loop: asyncio.AbstractEventLoop, wake: Callable[[], None]) -> None:
        self._loop = loop
        self._wake = wake
        self._libc = ctypes.CDLL(None, use_errno=True)
        if not hasattr(self._libc, "timerfd_create"):
            raise OSError(errno.ENOSYS, "this C library has no timerfd_create")
        self._fd = self._libc.timerfd_create(time.CLOCK_BOOTTIME, _TFD_NONBLOCK_CLOEXEC)
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")
        loop.add_reader(self._fd, self._due)

    def arm(self, at: float | None) -> None:
        nanoseconds = 0 if at is None else math.ceil(max(at, _AT_ONCE) * 1e9)
        setting = _ITIMERSPEC.pack(0, 0, *divmod(nanoseconds, 1_000_000_000))
        if self._libc.timerfd_settime(self._fd, _TFD_TIMER_ABSTIME, setting, None) < 0:
            raise OSError(ctypes.get_errno(), "timerfd_settime")

    def close(self) -> None:
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1

    def _due(self) -> None:
        try:
            os.read(self._fd, 8)
        except BlockingIOError:
            return  # armed anew between the wake-up and this read
        self._wake()


class LoopTimer:
    """asyncio's timer: late by the length of a sleep, which `Driver` makes good at its next wake-up."""

    def __init__(self, loop: asyncio.AbstractEventLoop, wake: Callable[[], None]) -> None:
        self._loop = loop
        self._wake = wake
        self._handle: asyncio.TimerHandle | None = None

    def arm(self, at: float | None) -> None:
        self.close()
        if at is not None:
            self._handle = self._loop.call_later(max(0.0, at - boottime()), self._wake)

    def close(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
