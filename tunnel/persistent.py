"""A map that never changes: one with a few other entries shares nearly all of it, so that it is made at once.

Pure. What thousands of bindings amount to is a value, and each Binding Update makes another such value: it
must cost neither time nor memory that grow with the number of bindings.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping
from typing import Any, Generic, TypeVar

KeyT = TypeVar("KeyT", bound=Hashable)
ValueT = TypeVar("ValueT")

BITS = 5
FAN = 1 << BITS
MASK = FAN - 1
"""A change copies the root, and for each key its branch and its leaf: little up to some 100,000 entries."""

_NOTHING: dict[Any, Any] = {}
_BARE = [_NOTHING] * FAN
"""All empty leaves, all empty branches. None is ever written to once it is in a map."""


class PersistentMap(Generic[KeyT, ValueT]):
    """`root` may be read directly where a call is too dear: a key is in `leaf_of(root, hash(key))`."""

    __slots__ = ("_size", "root")

    def __init__(self, items: Iterable[tuple[KeyT, ValueT]] = ()) -> None:
        self.root: list[list[dict[KeyT, ValueT]]] = [_BARE] * FAN
        self._size = 0
        self._change((), dict(items))

    def get(self, key: KeyT) -> ValueT | None:
        at = hash(key)
        return self.root[at & MASK][at >> BITS & MASK].get(key)

    def changed(
        self, without: Iterable[KeyT] = (), also: Mapping[KeyT, ValueT] = _NOTHING
    ) -> PersistentMap[KeyT, ValueT]:
        """This map without some keys, then with `also` in it, each replacing what has the same key."""
        other: PersistentMap[KeyT, ValueT] = PersistentMap.__new__(PersistentMap)
        other.root = self.root.copy()
        other._size = self._size
        other._change(without, also)
        return other

    def differences(
        self, older: PersistentMap[KeyT, ValueT]
    ) -> Iterator[tuple[KeyT, ValueT | None, ValueT | None]]:
        """(key, value in `older`, value here) wherever the two differ. What they share is not looked at."""
        for before, after in self._leaves_apart(older):
            for key in {**before, **after}:
                old, new = before.get(key), after.get(key)
                if old is not new and old != new:
                    yield key, old, new

    def items(self) -> Iterator[tuple[KeyT, ValueT]]:
        for leaf in self._leaves():
            yield from leaf.items()

    def values(self) -> Iterator[ValueT]:
        for leaf in self._leaves():
            yield from leaf.values()

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[KeyT]:
        for leaf in self._leaves():
            yield from leaf

    def __contains__(self, key: object) -> bool:
        return key in leaf_of(self.root, hash(key))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PersistentMap) and (self is other or self.root == other.root)

    def __hash__(self) -> int:
        return hash(self._size)  # true of equal maps, and found without a look at every entry

    def _leaves(self) -> Iterator[dict[KeyT, ValueT]]:
        return (leaf for branch in self.root if branch is not _BARE for leaf in branch)

    def _leaves_apart(
        self, older: PersistentMap[KeyT, ValueT]
    ) -> Iterator[tuple[dict[KeyT, ValueT], dict[KeyT, ValueT]]]:
        for was, branch in zip(older.root, self.root, strict=True):
            if was is not branch:
                for before, after in zip(was, branch, strict=True):
                    if before is not after:
                        yield before, after

    def _change(self, without: Iterable[KeyT], also: Mapping[KeyT, ValueT]) -> None:
        branches, leaves = set[int](), set[int]()

        def own_leaf(key: KeyT) -> dict[KeyT, ValueT]:
            """A leaf that no other map has."""
            at = hash(key) & (FAN * FAN - 1)
            if at not in leaves:
                leaves.add(at)
                if at & MASK not in branches:
                    branches.add(at & MASK)
                    self.root[at & MASK] = self.root[at & MASK].copy()
                self.root[at & MASK][at >> BITS] = self.root[at & MASK][at >> BITS].copy()
            return self.root[at & MASK][at >> BITS]

        for key in without:
            if key in self:
                del own_leaf(key)[key]
                self._size -= 1
        for key, value in also.items():
            leaf = own_leaf(key)
            self._size += key not in leaf
            leaf[key] = value


def leaf_of(root: list[list[dict[KeyT, ValueT]]], at: int) -> dict[KeyT, ValueT]:
    """Where a key of the hash `at` is, if it is anywhere."""
    return root[at & MASK][at >> BITS & MASK]
