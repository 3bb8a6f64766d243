"""Timestamps of 64 bits: the right instant, and an order that survives the year 2036."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wire import ntp

ROLLOVER = datetime(2036, 2, 7, 6, 28, 16, tzinfo=UTC).timestamp()


def test_the_epochs_are_those_of_the_rfc() -> None:
    assert ntp.timestamp(0.0) == 2208988800 << 32
    assert ntp.timestamp(datetime(1999, 12, 31, tzinfo=UTC).timestamp()) == 3155587200 << 32
    assert ntp.timestamp(0.5) == (2208988800 << 32) + (1 << 31)


def test_seconds_begin_anew_in_2036_and_keep_their_order() -> None:
    assert ntp.timestamp(ROLLOVER) == 0
    before, after = ntp.timestamp(ROLLOVER - 2.0), ntp.timestamp(ROLLOVER + 1.0)
    assert ntp.distance(after, before) == 3 * ntp.SECOND
    assert ntp.distance(before, after) == -3 * ntp.SECOND


@given(st.integers(0, (1 << 64) - 1), st.integers(-(1 << 63), (1 << 63) - 1))
def test_the_distance_undoes_the_step(at: int, by: int) -> None:
    assert ntp.distance(ntp.later(at, by), at) == by


@pytest.mark.parametrize("seconds", [0.25, 1.0, 3600.0, 86400.0 * 365])
def test_a_later_wall_clock_gives_a_later_timestamp(seconds: float) -> None:
    assert ntp.distance(ntp.timestamp(1.8e9 + seconds), ntp.timestamp(1.8e9)) == int(seconds * ntp.SECOND)
