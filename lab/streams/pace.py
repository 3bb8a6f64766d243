"""When to send next: a steady beat that neither drifts nor catches up in bursts; and the wish to end.

Performs I/O.
"""

from __future__ import annotations

import signal
from types import FrameType

from lab.streams.journal import now_ns

_TOO_LATE = 5


class Beat:
    """Beats every `interval_ms`, on absolute instants."""

    def __init__(self, interval_ms: float) -> None:
        self._interval = int(interval_ms * 1e6)
        self._next = now_ns() + self._interval

    def due(self) -> bool:
        """Whether a beat is due; each one is told once."""
        now = now_ns()
        if now < self._next:
            return False
        self._next += self._interval
        if now - self._next > _TOO_LATE * self._interval:
            self._next = now + self._interval
        return True

    def wait_s(self) -> float:
        """Seconds until the next beat."""
        return max(0.0, (self._next - now_ns()) / 1e9)


class Finish:
    """True once SIGTERM has asked this program to come to its end."""

    def __init__(self) -> None:
        self._asked = False
        signal.signal(signal.SIGTERM, self._ask)
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    def __bool__(self) -> bool:
        return self._asked

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self._asked = True
