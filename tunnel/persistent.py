"""A map that never changes: one with a few other entries shares nearly all of it, so that it is made at once.

Pure. What thousands of bindings amount to is a value, and each Binding Update makes another such value: it
must cost neither time nor memory that grow with the number of bindings.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping
from typing import Any, Generic, TypeVar

KeyT = TypeVar("KeyT", bound=Hashable)
ValueT = TypeVar("ValueT")

SHARDS = 256
"""A change copies the list of shards, and the shards that it touches: little up to some 100,000 entries."""
MASK = SHARDS - 1

_NOTHING: dict[Any, Any] = {}
"""All empty shards; no shard is ever written to once it is in a map."""


class PersistentMap(Generic[KeyT, ValueT]):
    """`shards` may be read directly where a call is too dear: a key is in `shards[hash(key) & MASK]`."""

    __slots__ = ("_size", "shards")

    def __init__(self, items: Iterable[tuple[KeyT, ValueT]] = ()) -> None:
        self.shards: list[dict[KeyT, ValueT]] = [_NOTHING] * SHARDS
        self._size = 0
        self._change((), dict(items))

    def get(self, key: KeyT) -> ValueT | None:
        return self.shards[hash(key) & MASK].get(key)

    def changed(
        self, without: Iterable[KeyT] = (), also: Mapping[KeyT, ValueT] = _NOTHING
    ) -> PersistentMap[KeyT, ValueT]:
        """This map without some keys, then with `also` in it, each replacing what has the same key."""
        other: PersistentMap[KeyT, ValueT] = PersistentMap.__new__(PersistentMap)
        other.shards = self.shards.copy()
        other._size = self._size
        other._change(without, also)
        return other

    def differences(
        self, older: PersistentMap[KeyT, ValueT]
    ) -> Iterator[tuple[KeyT, ValueT | None, ValueT | None]]:
        """(key, value in `older`, value here) wherever the two differ. What they share is not looked at."""
        for before, after in zip(older.shards, self.shards, strict=True):
            if before is after:
                continue
            for key in {**before, **after}:
                old, new = before.get(key), after.get(key)
                if old is not new and old != new:
                    yield key, old, new

    def items(self) -> Iterator[tuple[KeyT, ValueT]]:
        for shard in self.shards:
            yield from shard.items()

    def values(self) -> Iterator[ValueT]:
        for shard in self.shards:
            yield from shard.values()

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[KeyT]:
        for shard in self.shards:
            yield from shard

    def __contains__(self, key: object) -> bool:
        return key in self.shards[hash(key) & MASK]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PersistentMap) and (self is other or self.shards == other.shards)

    def __hash__(self) -> int:
        return hash(self._size)  # true of equal maps, and found without a look at every entry

    def _change(self, without: Iterable[KeyT], also: Mapping[KeyT, ValueT]) -> None:
        own: set[int] = set()

        def shard_of(key: KeyT) -> dict[KeyT, ValueT]:
            at = hash(key) & MASK
            if at not in own:
                own.add(at)
                self.shards[at] = self.shards[at].copy()
            return self.shards[at]

        for key in without:
            if key in self:
                del shard_of(key)[key]
                self._size -= 1
        for key, value in also.items():
            shard = shard_of(key)
            self._size += key not in shard
            shard[key] = value
