"""When to ask who is on a link: at once, twice again, and not so soon after the last time.

Pure. RFC 4436 section 2.1 and RFC 6059 section 5.8: at most two repetitions, at most once a second.
"""

from __future__ import annotations

ASKED_AT = (0.0, 0.1, 0.3)
"""Seconds after the beginning. A router answers within a millisecond; the rest is for what gets lost."""
OVER_AT = 0.7
HOLD_DOWN = 1.0
"""Seconds from one beginning to the next: a carrier that flaps does not make us flood the link."""


class Rounds:
    """The times of one test after another. A test that begins again replaces the one under way."""

    __slots__ = ("_began", "_due")

    def __init__(self) -> None:
        self._began: float | None = None
        self._due: list[float] = []

    @property
    def running(self) -> bool:
        return bool(self._due)

    def begin(self, now: float) -> None:
        """A test begins now, or when the last beginning is long enough ago."""
        held = now if self._began is None else max(now, self._began + HOLD_DOWN)
        self._due = [*(held + after for after in ASKED_AT), held + OVER_AT]

    def due(self, now: float) -> int | None:
        """The number, from 0, of the question that is due now; None if none is, or when the test is over."""
        asked = None
        while self._due and self._due[0] <= now:
            asked = len(ASKED_AT) + 1 - len(self._due)
            if asked == 0:
                self._began = self._due[0]
            self._due.pop(0)
        return asked if self._due else None

    def end(self) -> None:
        """No more questions."""
        self._due = []

    def deadline(self) -> float | None:
        """When `due` has to be asked next, in seconds of CLOCK_BOOTTIME."""
        return self._due[0] if self._due else None
