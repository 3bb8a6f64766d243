"""The handover benchmark's plan and its rows: which moves, which streams, and what is made of the outages.

Pure. An outage is how late the next packet was at the receiver: later than it was due, and later than the new
address could be used, so that neither the pulled cable nor DHCP counts.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from benchmarks.figures import percentile

SCHEMA = "mn-bench/handover/1"
NETWORKS: Mapping[str, tuple[str, str]] = {
    "ipv6": ("office", "library"),
    "ipv4": ("mobile", "airport"),
    "nat": ("cafe", "hotel"),
}
"""Two networks of each kind in benchmarks/roaming.toml."""
START = "office"
LAP = ("ipv4", "ipv4", "nat", "nat", "ipv6", "nat", "ipv4", "ipv6", "ipv6")
"""A walk over the kinds, from an IPv6 network on, in which each ordered pair of them occurs once."""


class Talk(Enum):
    """Who sends while the mobile node moves, a datagram every two milliseconds."""

    BIDIRECTIONAL = "bidirectional"
    CLIENT_ONLY = "client-only"
    SERVER_ONLY = "server-only"

    @property
    def client_speaks(self) -> bool:
        return self is not Talk.SERVER_ONLY

    @property
    def server_speaks(self) -> bool:
        return self is not Talk.CLIENT_ONLY

    @property
    def streams(self) -> Mapping[str, str]:
        """Direction -> the name that a row carries."""
        if self is Talk.BIDIRECTIONAL:
            return {"up": "bidirectional, up", "down": "bidirectional, down"}
        return {"up": self.value} if self.client_speaks else {"down": self.value}


class Break(Enum):
    """How the old link goes."""

    HARD = "hard break"
    """The cable is pulled, and plugged in elsewhere 60 ms later."""
    MAKE_FIRST = "make before break"
    """The new link is up before the node is told to use it; the old one goes afterwards."""


@dataclass(frozen=True, slots=True)
class Outage:
    """What one move did to one stream. `resumed` is False if nothing came until the end of its window."""

    kind: Break
    origin: str
    target: str
    stream: str
    peer: str
    outage_ms: float
    lost: int
    resumed: bool


@dataclass(frozen=True, slots=True)
class Signalling:
    """What one move of mn-agent took, as captured: until the update left, and until it was answered."""

    kind: Break
    origin: str
    target: str
    update_ms: float
    answer_ms: float


def lap_from(network: str) -> Iterator[str]:
    """Where the cable is plugged in during a lap that begins in `network`, never twice in a row the same."""
    for kind in LAP:
        first, second = NETWORKS[kind]
        network = second if network == first else first
        yield network


def kind_of(network: str) -> str:
    """The kind of a network; KeyError if it is none of ours."""
    return {name: kind for kind, names in NETWORKS.items() for name in names}[network]


def rows(outages: Iterable[Outage]) -> list[dict[str, object]]:
    """One row for each kind of move, stream and peer, in the order in which they first occurred.

    `lost` counts packets of all n moves together; a stream that did not resume counts with its whole window.
    """
    groups: dict[tuple[Break, str, str, str, str], list[Outage]] = defaultdict(list)
    for one in outages:
        groups[one.kind, one.origin, one.target, one.stream, one.peer].append(one)
    return [_row(key, group) for key, group in groups.items()]


def _row(key: tuple[Break, str, str, str, str], group: Sequence[Outage]) -> dict[str, object]:
    kind, origin, target, stream, peer = key
    ordered = sorted(one.outage_ms for one in group)
    row: dict[str, object] = {
        "kind": kind.value,
        "from": origin,
        "to": target,
        "stream": stream,
        "n": len(group),
        "median_ms": round(statistics.median(ordered), 2),
        "p95_ms": round(percentile(ordered, 95), 2),
        "lost": sum(one.lost for one in group),
        "not_resumed": sum(not one.resumed for one in group),
    }
    return {**row, "peer": peer} if peer else row


def signalling_rows(moves: Iterable[Signalling]) -> list[dict[str, object]]:
    """Per kind of move: from a usable link to the update, and from the update to its answer."""
    groups: dict[tuple[Break, str, str], list[Signalling]] = defaultdict(list)
    for one in moves:
        groups[one.kind, one.origin, one.target].append(one)
    return [
        {
            "kind": kind.value,
            "from": origin,
            "to": target,
            "n": len(group),
            "usable_to_update_median_ms": round(statistics.median(one.update_ms for one in group), 2),
            "usable_to_update_p95_ms": round(percentile(sorted(one.update_ms for one in group), 95), 2),
            "update_to_answer_median_ms": round(statistics.median(one.answer_ms for one in group), 2),
        }
        for (kind, origin, target), group in groups.items()
    ]
