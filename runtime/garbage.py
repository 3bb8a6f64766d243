"""Keeps what a daemon has made, and goes on to use, out of the garbage collector's way.

Performs I/O (none but on this process, whose collector it sets).
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping

THOROUGH = 3600.0
"""Seconds between collections that look at everything again."""


def spare_what_is_there(clock: Callable[[], float] = time.monotonic) -> None:
    """Collect once, then do not look again at what is left: modules, configuration, the daemon itself.

    It lives as long as the process. A full collection would else walk all of it, 35 ms at any moment, and the
    moment in which most objects are made is a handover. What comes later is spared in its turn once it has
    outlived a full collection: ten thousand bindings would be 60 ms, again and again, for nothing, since they
    hold no circles. A circle that is let go when it is old waits for the next thorough collection.
    """
    gc.collect()
    gc.freeze()
    gc.callbacks.append(_Sparing(clock).note)


class _Sparing:
    """What is done after each full collection."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._thorough_at = clock() + THOROUGH

    def note(self, phase: str, info: Mapping[str, int]) -> None:
        if info["generation"] < 2:
            return
        if phase == "stop":
            gc.freeze()
        elif self._clock() >= self._thorough_at:
            self._thorough_at = self._clock() + THOROUGH
            gc.unfreeze()
