"""One sleep, told by two witnesses, is acted upon once.

Pure. The clock tells that the host was asleep, and for how long; the login manager tells before and after,
where there is one (`login_manager`). The clock needs no preface. The login manager's "awake" counts only for
a sleep that it has announced and that the clock has not told: not every sleep shows in the clock.
"""

from __future__ import annotations

from collections.abc import Callable


class SleepWitnesses:
    """Calls `remember` before a sleep, and `awake` with the seconds of it after."""

    def __init__(
        self,
        clock: Callable[[], float],
        look_at_clock: Callable[[], None],
        remember: Callable[[], None],
        awake: Callable[[float], None],
    ) -> None:
        """`look_at_clock` leads to `told_by_clock`, within the call, if the clock has anything to tell."""
        self._clock = clock
        self._look_at_clock = look_at_clock
        self._remember = remember
        self._awake = awake
        self._announced_at: float | None = None

    def told_by_clock(self, seconds: float) -> None:
        """Always news; the login manager's word about the same sleep is none any more."""
        self._announced_at = None
        self._awake(seconds)

    def told_by_login_manager(self, about_to_sleep: bool) -> None:
        """The host is about to sleep, or awake."""
        if about_to_sleep:
            self._announced_at = self._clock()
            self._remember()
            return
        self._look_at_clock()
        since, self._announced_at = self._announced_at, None
        if since is not None:
            self._awake(self._clock() - since)
