"""The shape of a thinker: a part of the mobile node that watches and asks on its own, and holds opinions.

Pure.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from mn_agent.actions import Action
from mn_agent.desired import Surroundings
from mn_agent.events import Event
from movement.opinion import Opinion
from runtime.node import Deadline


class Thinker(Protocol):
    """It never decides where the node is bound. It says what it thinks of a place, and the node chooses."""

    def handle(self, event: Event, around: Surroundings, now: float) -> list[Action]:
        """`event` has happened, and this is what the node knows, before it chooses a target."""
        ...

    def tick(self, around: Surroundings, now: float) -> list[Action]:
        """Run what is due at `now`, and look around: the node's timers have run."""
        ...

    def deadline(self) -> Deadline | None:
        """When `tick` must be called next; None while nothing is pending."""
        ...

    def opinions(self) -> Iterable[Opinion]:
        """What it thinks of places now. It forgets those that are gone by itself."""
        ...
