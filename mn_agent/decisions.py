"""The journal of decisions: each time the aim changed, what there was to choose from and how it was weighed.

Pure.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from mn_agent.choice import Ranked

KEPT = 20


@dataclass(frozen=True, slots=True)
class Decision:
    """At the instant `at` the first of `ranking` was chosen. `origin` is None for the first registration.

    `handover` is its number in the journal of handovers, None where none began.
    """

    at: float
    cause: str
    origin: str | None
    ranking: tuple[Ranked, ...]
    handover: int | None


class Decisions:
    """The last few, oldest first."""

    def __init__(self) -> None:
        self.past: deque[Decision] = deque(maxlen=KEPT)

    def taken(self, decision: Decision) -> None:
        self.past.append(decision)

    def about(self, handover: object) -> Decision | None:
        """The last one of the handover with this number."""
        return next((one for one in reversed(self.past) if one.handover == handover), None)
