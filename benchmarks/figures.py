"""What is made of many measurements: percentiles, and nothing that a reader could not do by hand.

Pure.
"""

from __future__ import annotations

from collections.abc import Sequence


def percentile(ordered: Sequence[float], at: float) -> float:
    """The smallest of the `ordered` values that at least `at` per cent do not exceed (nearest rank).

    It is a value that was measured, never one between two. ValueError if there is none.
    """
    if not ordered:
        raise ValueError("no percentile of nothing")
    rank = -(-len(ordered) * at // 100)
    return ordered[max(int(rank), 1) - 1]
