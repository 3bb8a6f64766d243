"""An opinion: what somebody who watches a network thinks of being bound through it.

Pure. Opinions are hints: they order what can be chosen, and never make anything trusted.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from ipaddress import IPv4Address, IPv6Address

from movement.policy import Attachment


class Verdict(IntEnum):
    """From good to bad; the worst of several counts."""

    GOOD = 0
    """It answers."""
    POOR = 1
    """Chosen only while there is nothing better."""
    HELD = 2
    """Not to be used at all for now: nothing is sent to a home agent from there."""


@dataclass(frozen=True, slots=True)
class Opinion:
    """About one care-of address on one interface. `why` is half a sentence that a person reads."""

    interface: str
    care_of: IPv4Address | IPv6Address
    verdict: Verdict
    by: str
    why: str

    def concerns(self, attachment: Attachment) -> bool:
        return self.interface == attachment.interface and self.care_of == attachment.care_of
