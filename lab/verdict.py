"""The verdict: what a scenario expects, and what of it did not come true.

Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from lab.judge import Handover, Silence
from lab.scenario import Expectation


@dataclass(frozen=True, slots=True)
class Session:
    """How one session ended."""

    name: str
    survived: bool
    octets: int
    whole: bool | None
    """Whether the checksums agree; None where there is nothing to sum."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Pass only without reasons against it."""

    reasons: Sequence[str] = field(default_factory=tuple)

    @property
    def passed(self) -> bool:
        return not self.reasons


def verdict(
    handovers: Sequence[Handover], sessions: Sequence[Session], updates_a_second: int, expected: Expectation
) -> Verdict:
    """Whether everything that the scenario expects came true, and what did not."""
    reasons = []
    if expected.handovers is not None and len(handovers) != expected.handovers:
        reasons.append(f"{len(handovers)} handovers instead of {expected.handovers}")
    for handover in handovers:
        label = f"move {handover.window.index} ({handover.origin} to {handover.target})"
        reasons += [f"{label}: {reason}" for reason in _against(handover, expected)]
    if expected.updates_a_second is not None and updates_a_second > expected.updates_a_second:
        reasons.append(
            f"{updates_a_second} Binding Updates within a second (allowed {expected.updates_a_second})"
        )
    if expected.sessions:
        reasons += [f"session {s.name} did not survive" for s in sessions if not s.survived]
        reasons += [f"session {s.name}: the checksums differ" for s in sessions if s.whole is False]
    return Verdict(tuple(reasons))


def _against(handover: Handover, expected: Expectation) -> Iterator[str]:
    if not handover.registered:
        yield "no Binding Acknowledgement was seen"
    yield from _too_late("the Binding Update left", handover, handover.update_ns, expected.update_ms)
    yield from _too_late("the acknowledgement came", handover, handover.ack_ns, expected.bound_ms)
    limits = [expected.outage_ms, _beyond_round_trip(handover, expected)]
    if allowed := [limit for limit in limits if limit is not None]:
        for name, silence in handover.silences.items():
            yield from _too_silent(name, silence, min(allowed))
    losses = [expected.lost_packets, expected.lost_with_two_links if handover.two_links else None]
    if few := [limit for limit in losses if limit is not None]:
        for name, lost in handover.lost.items():
            if lost > min(few):
                yield f"{name} lost {lost} packets (allowed {min(few)})"


def _beyond_round_trip(handover: Handover, expected: Expectation) -> float | None:
    if expected.outage_beyond_round_trip_ms is None or handover.round_trip_ns is None:
        return None
    return handover.round_trip_ns / 1e6 + expected.outage_beyond_round_trip_ms


def _too_silent(name: str, silence: Silence, allowed_ms: float) -> Iterator[str]:
    if silence.outage_ns > allowed_ms * 1e6:
        yield f"{name} was silent for {silence.outage_ns / 1e6:.0f} ms (allowed {allowed_ms:.0f})"


def _too_late(what: str, handover: Handover, at_ns: int | None, allowed_ms: float | None) -> Iterator[str]:
    if allowed_ms is None or at_ns is None or handover.usable_ns is None:
        return
    late_ms = (at_ns - handover.usable_ns) / 1e6
    if late_ms > allowed_ms:
        yield f"{what} {late_ms:.0f} ms after the address could be used (allowed {allowed_ms:.0f})"
