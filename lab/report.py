"""The report of a run as one JSON object, schema mn-lab/report/1.

Pure. Keys are only ever added.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lab.judge import Handover
from lab.verdict import Session, Verdict

SCHEMA = "mn-lab/report/1"


def report(
    scenario: str, handovers: Sequence[Handover], sessions: Sequence[Session], verdict: Verdict
) -> dict[str, Any]:
    """The object that is written to report.json."""
    return {
        "schema": SCHEMA,
        "scenario": scenario,
        "handovers": [_handover(handover) for handover in handovers],
        "sessions": [
            {"name": one.name, "survived": one.survived, "bytes": one.octets, "sha256_ok": one.whole}
            for one in sessions
        ],
        "verdict": "pass" if verdict.passed else "fail",
        "reasons": list(verdict.reasons),
    }


def _handover(handover: Handover) -> dict[str, Any]:
    return {
        "index": handover.window.index,
        "from": handover.origin,
        "to": handover.target,
        "family_from": handover.family_from,
        "family_to": handover.family_to,
        "nat": handover.nat,
        "encapsulation": handover.encapsulation,
        "interface": handover.interface,
        "phases_ms": {
            "detect": between_ms(handover.usable_ns, handover.update_ns),
            "register": between_ms(handover.update_ns, handover.ack_ns),
            "resume": between_ms(handover.ack_ns, handover.first_packet_ns),
        },
        "events_ms": {
            "link": since_start_ms(handover, handover.link_ns),
            "address": since_start_ms(handover, handover.usable_ns),
            "update": since_start_ms(handover, handover.update_ns),
            "ack": since_start_ms(handover, handover.ack_ns),
            "first_packet": since_start_ms(handover, handover.first_packet_ns),
        },
        "updates": handover.updates,
        "round_trip_ms": None if handover.round_trip_ns is None else _ms(handover.round_trip_ns),
        "two_links": handover.two_links,
        "beyond_round_trip_ms": beyond_round_trip_ms(handover),
        "outage_ms": {name: _ms(silence.outage_ns) for name, silence in handover.silences.items()},
        "gap_ms": {name: _ms(silence.gap_ns) for name, silence in handover.silences.items()},
        "lost_packets": dict(handover.lost),
    }


def beyond_round_trip_ms(handover: Handover) -> float | None:
    """The worst outage less one round trip to the home agent, at least 0; None if that was not seen."""
    if handover.round_trip_ns is None:
        return None
    return max(0.0, _ms(handover.worst[1] - handover.round_trip_ns))


def between_ms(begin_ns: int | None, end_ns: int | None) -> float | None:
    """Milliseconds from one instant to another; None when one of them was not seen."""
    return None if begin_ns is None or end_ns is None else _ms(end_ns - begin_ns)


def since_start_ms(handover: Handover, at_ns: int | None) -> float | None:
    """Milliseconds since the cable was touched."""
    return between_ms(handover.window.started_ns, at_ns)


def _ms(duration_ns: int) -> float:
    return round(duration_ns / 1e6, 2)
