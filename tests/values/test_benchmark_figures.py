"""What the benchmarks make of their measurements."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.figures import percentile


def test_a_percentile_is_a_value_that_was_measured() -> None:
    assert percentile([1.0, 2.0, 3.0, 10.0], 50) == 2.0
    assert percentile([1.0, 2.0, 3.0, 10.0], 75) == 3.0
    assert percentile([1.0, 2.0, 3.0, 10.0], 76) == 10.0
    assert percentile([7.0], 1) == percentile([7.0], 99) == 7.0


def test_the_95th_of_twenty_leaves_one_out_and_the_99th_none() -> None:
    twenty = [float(n) for n in range(1, 21)]
    assert (percentile(twenty, 95), percentile(twenty, 99)) == (19.0, 20.0)


def test_nothing_has_no_percentile() -> None:
    with pytest.raises(ValueError, match="nothing"):
        percentile([], 50)


@given(st.lists(st.floats(0, 1e9), min_size=1), st.integers(1, 100))
def test_at_least_so_many_are_not_above_it(values: list[float], at: int) -> None:
    ordered = sorted(values)
    found = percentile(ordered, at)
    assert sum(value <= found for value in ordered) * 100 >= at * len(ordered)
    assert sum(value < found for value in ordered) * 100 < at * len(ordered)
