"""The one shape of everything that thinks: events in, actions out, one deadline.

Pure.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol, TypeVar

EventT = TypeVar("EventT", contravariant=True)
ActionT = TypeVar("ActionT")


@dataclass(frozen=True, slots=True)
class Deadline:
    """The next instant (seconds of CLOCK_BOOTTIME) at which a node wants to be called, and why."""

    at: float
    reason: str


class Node(Protocol[EventT, ActionT]):
    """A role that can be driven: the mobile node or the home agent."""

    def handle(self, event: EventT, now: float) -> list[ActionT]:
        """Apply `event` at `now` (seconds of CLOCK_BOOTTIME) and return what to do.

        Never blocks and never raises because of a peer, a network or a user.
        """
        ...

    def tick(self, now: float) -> list[ActionT]:
        """Run whatever is due at `now`."""
        ...

    def deadline(self) -> Deadline | None:
        """When `tick` must be called next; None while nothing is pending."""
        ...


def earliest(deadlines: Iterable[Deadline | None]) -> Deadline | None:
    """The first of several deadlines: composition of nodes is `min`."""
    return min((d for d in deadlines if d is not None), key=lambda d: d.at, default=None)
