"""Notices that packets leave and nothing comes back: a lost mapping, a forgotten binding, a one-way path.

Pure. Not in the RFCs; the answer to silence is a Binding Update, which repairs each of them. Traffic itself
asks the question, so that an idle host is never woken up for it.
"""

from __future__ import annotations

PATIENCE = 1.2
"""Seconds of one-way traffic before the first alarm: with a test of the path after it, less than three."""
MOST_PATIENCE = 80.0
"""Traffic that is one-way by nature alarms ever more rarely, down to this."""
PAUSE = 120.0
"""Seconds without a packet after which the next one is a new question: a lid was closed, perhaps."""


class Silence:
    """`received_at` and `now` are seconds of CLOCK_BOOTTIME."""

    __slots__ = ("_alarm_at", "_patience", "_sent_at", "_since")

    def __init__(self) -> None:
        self._since = -1.0
        self._sent_at = 0.0
        self._alarm_at = 0.0
        self._patience = PATIENCE

    def sent(self, now: float, received_at: float) -> bool:
        """Something left at `now`; is it time to worry?"""
        paused, self._sent_at = now - self._sent_at > PAUSE, now
        if paused or received_at >= self._since:
            self._since = now
            self._patience = PATIENCE
            self._alarm_at = now + PATIENCE
            return False
        if now < self._alarm_at:
            return False
        self._patience = min(2 * self._patience, MOST_PATIENCE)
        self._alarm_at = now + self._patience
        return True
