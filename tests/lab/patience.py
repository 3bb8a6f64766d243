"""How tests of this storey wait: for exactly what they assert, and longer than a busy machine takes.

Performs I/O (it sleeps).
"""

from __future__ import annotations

import time
from collections.abc import Callable

PATIENCE = 30.0
"""Seconds. A generous bound costs nothing where the thing happens, and one that never happens still fails."""


def wait_until(condition: Callable[[], bool], what: str, within: float = PATIENCE) -> None:
    """Return when the condition holds."""
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not within {within:g} s"
        time.sleep(0.005)
