"""The thinker that knows which links come and go.

Pure. See movement.steadiness.
"""

from __future__ import annotations

from collections.abc import Iterable

from mn_agent.actions import Action
from mn_agent.desired import Surroundings
from mn_agent.events import Event
from movement.opinion import Opinion
from movement.steadiness import Steadiness
from runtime.node import Deadline


class SteadyLinks:
    """Looks at the attachments after every event."""

    def __init__(self, hysteresis: float) -> None:
        self._steadiness = Steadiness(hysteresis)
        self._now = 0.0

    def handle(self, event: Event, around: Surroundings, now: float) -> list[Action]:
        return self.tick(around, now)

    def tick(self, around: Surroundings, now: float) -> list[Action]:
        self._now = now
        self._steadiness.seen(around.attachments, now)
        return []

    def deadline(self) -> Deadline | None:
        at = self._steadiness.steady_at(self._now)
        return None if at is None else Deadline(at, "a link has been steady for long enough")

    def opinions(self) -> Iterable[Opinion]:
        return self._steadiness.opinions(self._now)
