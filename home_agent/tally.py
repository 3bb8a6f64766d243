"""What the home agent has counted, for each mobile node and altogether.

Pure.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from ipaddress import IPv6Address

from tunnel.path import Arrival


@dataclass(frozen=True, slots=True)
class LastUpdate:
    """The last Binding Update of a mobile node that was answered, and how."""

    at: float
    status: int
    arrival: Arrival


@dataclass(slots=True)
class Account:
    """One mobile node's share. `ignored` updates were authentic but got no answer."""

    accepted: int = 0
    refused: Counter[int] = field(default_factory=Counter)
    ignored: Counter[str] = field(default_factory=Counter)
    last: LastUpdate | None = None
    mismatches: int = 0
    """Updates that spoke for another wire profile."""
    dialect: str = ""
    """What the last update spoke for, since `dialect_since`; "" if that was our own profile."""
    dialect_since: float = 0.0

    def note_answer(self, answer: LastUpdate) -> None:
        """An authentic update was answered."""
        self.last = answer
        if answer.status < 128:
            self.accepted += 1
        else:
            self.refused[answer.status] += 1

    def note_dialect(self, dialect: str, now: float) -> None:
        """An authentic update speaks for another wire profile, or ("") does not."""
        self.mismatches += bool(dialect)
        if dialect and not self.dialect:
            self.dialect_since = now
        self.dialect = dialect


@dataclass(slots=True)
class Tally:
    """All accounts; `strangers` counts by reason what came from nobody known."""

    accounts: dict[IPv6Address, Account]
    strangers: Counter[str] = field(default_factory=Counter)

    @property
    def accepted(self) -> int:
        return sum(account.accepted for account in self.accounts.values())

    @property
    def mismatches(self) -> int:
        return sum(account.mismatches for account in self.accounts.values())

    @property
    def refused(self) -> Counter[int]:
        return sum((account.refused for account in self.accounts.values()), Counter())

    @property
    def ignored(self) -> Counter[str]:
        return sum((account.ignored for account in self.accounts.values()), self.strangers.copy())
