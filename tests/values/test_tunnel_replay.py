"""The replay window against the plainest possible model of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunnel.replay import MAX_SEQUENCE, ReplayWindow

sequences = st.lists(
    st.one_of(st.integers(0, 200), st.integers(0, MAX_SEQUENCE), st.sampled_from([MAX_SEQUENCE, 1 << 31])),
    max_size=80,
)


@given(sequences, st.sampled_from([32, 64, 1024]))
def test_the_window_is_the_last_numbers_not_yet_seen(numbers: list[int], size: int) -> None:
    window = ReplayWindow(size=size)
    seen: set[int] = set()
    for number in numbers:
        new = 0 < number <= MAX_SEQUENCE and number not in seen and number > max(seen, default=0) - size
        assert window.check(number) is new
        if new:
            window.accept(number)
            seen.add(number)


@given(sequences)
def test_no_number_is_accepted_twice_not_even_across_a_restart(numbers: list[int]) -> None:
    window, accepted = ReplayWindow(), []
    for number in numbers:
        window = ReplayWindow(window.highest, window.bitmap)
        if window.check(number):
            window.accept(number)
            accepted.append(number)
    assert len(accepted) == len(set(accepted))


def test_checking_changes_nothing() -> None:
    window = ReplayWindow()
    window.accept(10)
    before = (window.highest, window.bitmap)
    assert window.check(11)
    assert not window.check(10)
    assert (window.highest, window.bitmap) == before


def test_a_window_below_the_least_size_is_refused() -> None:
    with pytest.raises(ValueError, match="32"):
        ReplayWindow(size=31)


@given(sequences, st.integers(1, 100), st.integers(1, 2000))
def test_a_run_is_accepted_like_its_numbers(numbers: list[int], ahead: int, count: int) -> None:
    window = ReplayWindow()
    for number in numbers:
        if window.check(number):
            window.accept(number)
    at_once = ReplayWindow(window.highest, window.bitmap)
    first = window.highest + ahead
    for number in range(first, first + count):
        window.accept(number)
    at_once.accept_run(first, first + count - 1)
    assert (at_once.highest, at_once.bitmap) == (window.highest, window.bitmap)
