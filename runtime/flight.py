"""The flight recorder: what a node was told lately, when, and what it decided; for people, and for replay.

Pure.
"""

from __future__ import annotations

import dataclasses
import enum
import ipaddress
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from runtime.node import Node

EventT = TypeVar("EventT")
ActionT = TypeVar("ActionT")

KEPT = 256
"""How many records a recorder keeps."""

_DEEPEST = 8
"""Levels shown of an event or action: with those around it, within what a control message may nest."""


@dataclass(frozen=True, slots=True)
class Tick:
    """Nothing happened except time: the deadline given for `reason` came."""

    reason: str


@dataclass(frozen=True, slots=True)
class Record(Generic[EventT, ActionT]):
    """At `now` (seconds of CLOCK_BOOTTIME) `event` led to `actions`; `fault` when the node failed instead."""

    now: float
    event: EventT | Tick
    actions: tuple[ActionT, ...]
    fault: str | None = None


class FlightRecorder(Generic[EventT, ActionT]):
    """The last `kept` records, oldest first."""

    def __init__(self, kept: int = KEPT) -> None:
        self._records: deque[Record[EventT, ActionT]] = deque(maxlen=kept)
        self.total = 0
        """How many there have been, those forgotten included."""

    def add(self, record: Record[EventT, ActionT]) -> None:
        self._records.append(record)
        self.total += 1

    @property
    def records(self) -> tuple[Record[EventT, ActionT], ...]:
        return tuple(self._records)

    def as_json(self, now: float) -> dict[str, object]:
        """`control/flight/1`, as docs/control.md describes it."""
        records = [
            {
                "now": round(record.now, 6),
                "event": plain(record.event),
                "actions": [plain(action) for action in record.actions],
                **({"fault": record.fault} if record.fault else {}),
            }
            for record in self._records
        ]
        head = {"schema": "control/flight/1", "clock": "boottime", "now": round(now, 6)}
        return {**head, "total": self.total, "records": records}


def replay(
    node: Node[EventT, ActionT], records: Iterable[Record[EventT, ActionT]]
) -> list[tuple[Record[EventT, ActionT], tuple[ActionT, ...]]]:
    """Feed `records` to a fresh `node` made with the same seed; where it differs: (record, decided now)."""
    differences = []
    for record in records:
        if isinstance(record.event, Tick):
            decided = tuple(node.tick(record.now))
        else:
            decided = tuple(node.handle(record.event, record.now))
        if decided != record.actions:
            differences.append((record, decided))
    return differences


def plain(value: object, depth: int = 0) -> object:
    """`value` as JSON-ready data. What a class hides from its repr (keys) stays hidden here."""
    if depth > _DEEPEST:
        return "..."
    match value:
        case None | bool() | str() | float():
            return value
        case enum.Enum():
            return value.name
        case int():
            return int(value)
        case bytes() | bytearray() | memoryview():
            return bytes(value).hex()
        case list() | tuple() | set() | frozenset():
            return [plain(item, depth + 1) for item in value]
        case Mapping():
            return {str(key): plain(item, depth + 1) for key, item in value.items()}
        case _ if isinstance(value, _ADDRESSES):
            return str(value)
        case _ if dataclasses.is_dataclass(value) and _shows_all(type(value)):
            names = [f.name for f in dataclasses.fields(value) if f.repr]
            shown = {name: plain(getattr(value, name), depth + 1) for name in names}
            return {"is": type(value).__name__, **shown}
        case _:
            return repr(value)


_ADDRESSES = (
    ipaddress.IPv4Address,
    ipaddress.IPv6Address,
    ipaddress.IPv4Network,
    ipaddress.IPv6Network,
)


def _shows_all(cls: type) -> bool:
    """Whether the repr is the one that `dataclass` writes: a hand-written one may hide something."""
    made: Callable[..., str] = cls.__repr__
    return hasattr(made, "__wrapped__")
