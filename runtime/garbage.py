"""Keeps what a daemon has once made out of the garbage collector's way.

Performs I/O (none but on this process, whose collector it sets).
"""

from __future__ import annotations

import gc


def spare_what_is_there() -> None:
    """Collect once, then never again look at what is left of it: modules, configuration, the daemon itself.

    It lives as long as the process. A full collection would else walk all of it, 35 ms at any moment, and the
    moment in which most objects are made is a handover.
    """
    gc.collect()
    gc.freeze()
