"""What a daemon has made and still uses is not looked at again and again; old circles go in the end."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import pytest

from runtime.garbage import THOROUGH, spare_what_is_there


class Link:
    """Can be in a circle, and be missed."""

    other: Link


@pytest.fixture
def now() -> Iterator[list[float]]:
    """The clock of the collector under test, which is set back to what it was."""
    callbacks, clock = list(gc.callbacks), [0.0]
    spare_what_is_there(lambda: clock[0])
    yield clock
    gc.callbacks[:] = callbacks
    gc.unfreeze()


def test_what_has_outlived_a_full_collection_is_not_looked_at_by_the_next(now: list[float]) -> None:
    made = [Link() for _ in range(100)]
    assert any(one is made for one in gc.get_objects())
    gc.collect()
    assert not any(one is made for one in gc.get_objects()), "frozen: nobody walks over it"
    del made[50:]
    assert len(made) == 50


def test_young_circles_go_at_once_and_old_ones_within_the_time_of_a_thorough_collection(
    now: list[float],
) -> None:
    old, young = Link(), Link()
    old.other, young.other = old, young
    gone_old, gone_young = weakref.ref(old), weakref.ref(young)
    del young
    gc.collect()
    assert gone_young() is None
    del old
    gc.collect()
    assert gone_old() is not None
    now[0] += THOROUGH
    gc.collect()
    assert gone_old() is None
    assert gc.get_freeze_count() > 0, "and what is in use is spared again"
