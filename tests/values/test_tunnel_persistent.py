"""A map that never changes, beside a dictionary that does."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tunnel.persistent import FAN, PersistentMap

keys = st.integers(0, 2000)
steps = st.lists(
    st.tuples(st.lists(keys, max_size=5), st.dictionaries(keys, st.integers(), max_size=5)), max_size=8
)


@given(st.dictionaries(keys, st.integers(), max_size=50), steps)
def test_it_holds_what_a_dictionary_would(
    start: dict[int, int], changes: list[tuple[list[int], dict[int, int]]]
) -> None:
    model, there = dict(start), PersistentMap(start.items())
    for without, also in changes:
        before, held = there, dict(model)
        for key in without:
            model.pop(key, None)
        model.update(also)
        there = there.changed(without, also)
        assert dict(there.items()) == model
        assert dict(before.items()) == held, "a map does not change"
        assert (len(there), set(there), sorted(there.values())) == (
            len(model),
            set(model),
            sorted(model.values()),
        )
        assert there == PersistentMap(model.items())
        assert all(
            there.get(key) == model.get(key) and (key in there) == (key in model)
            for key in range(0, 2000, 97)
        )
        told = {key: (old, new) for key, old, new in there.differences(before)}
        assert told == {
            key: (held.get(key), model.get(key)) for key in {*held, *model} if held.get(key) != model.get(key)
        }


def test_a_change_copies_only_the_leaves_that_it_touches() -> None:
    many = PersistentMap((number, number) for number in range(100_000))
    other = many.changed([5], {7: 0, 200_000: 1})
    branches = [at for at in range(FAN) if other.root[at] is not many.root[at]]
    assert branches == sorted({key % FAN for key in (5, 7, 200_000)})
    leaves = [
        other.root[at][below]
        for at in branches
        for below in range(FAN)
        if other.root[at][below] is not many.root[at][below]
    ]
    assert len(leaves) == len({key % (FAN * FAN) for key in (5, 7, 200_000)})
    assert max(map(len, leaves)) < 2 * len(many) / (FAN * FAN)
