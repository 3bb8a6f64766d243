"""An opinion: what somebody who watches a network thinks of being bound through it.

Pure. Opinions are hints: they order what can be chosen, and never make anything trusted.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from ipaddress import IPv4Address, IPv6Address

from movement.policy import Attachment


class Verdict(Enum):
    """What follows for the choice."""

    GOOD = "good"
    """It answers."""
    UNSTEADY = "unsteady"
    """Not worth leaving a path that works."""
    POOR = "poor"
    """Chosen only while there is nothing better."""
    HELD = "held"
    """Not to be used at all for now: nothing is sent to a home agent from there."""


@dataclass(frozen=True, slots=True)
class Opinion:
    """About one care-of address on one interface. `why` is half a sentence that a person reads.

    `round_trip` to the home agent in seconds, where it was measured.
    """

    interface: str
    care_of: IPv4Address | IPv6Address
    verdict: Verdict
    by: str
    why: str
    round_trip: float | None = None

    def concerns(self, attachment: Attachment) -> bool:
        return self.interface == attachment.interface and self.care_of == attachment.care_of
