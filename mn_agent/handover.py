"""The record of handovers: what moved, why, how long each phase took.

Pure. Seen from the agent; the outage that applications saw is measured at the receivers (see lab/).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from mn_agent.binding_update_list import Binding, Target
from mn_agent.registration_states import AtHome, Idle, Refusing, Registered, Registering, State

KEPT = 100


def label(target: Target, nat: bool | None = None) -> str:
    """How a target is named to people: `wlan0/v4-nat`, `eth0/home`."""
    if target.at_home:
        return f"{target.attachment.interface}/home"
    family = f"v{target.care_of.version}"
    return f"{target.attachment.interface}/{family}{'-nat' if nat else ''}"


def origin_of(state: State) -> str | None:
    """Where a movement from this state starts; None before the first registration."""
    match state:
        case (
            Registered(binding=binding)
            | Registering(previous=Binding() as binding)
            | Refusing(previous=Binding() as binding)
            | Idle(binding=Binding() as binding)
        ):
            return label(binding.target, nat=binding.nat)
        case AtHome(target=target) | Idle(left=Target() as target):
            return label(target)
        case _:
            return None


@dataclass(frozen=True, slots=True)
class Handover:
    """One movement. Instants are seconds of CLOCK_BOOTTIME; None where it has not happened."""

    number: int
    reason: str
    origin: str
    destination: str
    target: Target
    started_at: float
    lost_at: float | None
    """When the old path was known to carry nothing any more; None while it still does."""
    heard_at: float = 0.0
    """When payload had last come in by then."""
    update_sent_at: float | None = None
    ended_at: float | None = None
    result: Literal["under way", "ok", "failed"] = "under way"
    message: str | None = None

    @property
    def make_before_break(self) -> bool:
        return self.lost_at is None

    @property
    def outage(self) -> float | None:
        """Seconds without any path, as the agent saw it."""
        if self.result != "ok" or self.ended_at is None:
            return None
        return 0.0 if self.lost_at is None else self.ended_at - self.lost_at

    def phases(self) -> dict[str, float | None]:
        """Milliseconds from the event to the Binding Update, and from there to the answer."""
        sent, ended = self.update_sent_at, self.ended_at
        return {
            "detect": None if sent is None else _ms(sent - self.started_at),
            "register": None if sent is None or ended is None else _ms(ended - sent),
        }

    def describe(self) -> dict[str, object]:
        """For `mnctl status` and events."""
        total = None if self.ended_at is None else _ms(self.ended_at - self.started_at)
        return {
            "id": self.number,
            "reason": self.reason,
            "from": self.origin,
            "to": self.destination,
            "mode": "make-before-break" if self.make_before_break else "break-before-make",
            "phases_ms": self.phases(),
            "total_ms": total,
            "outage_ms": None if self.outage is None else _ms(self.outage),
            "lost_packets": None,
            "result": self.result,
            "message": self.message,
        }


class Journal:
    """The handover under way, and those of the past."""

    def __init__(self) -> None:
        self.current: Handover | None = None
        self.past: deque[Handover] = deque(maxlen=KEPT)
        self.count = 0
        self.failed = 0
        self.worst_outage: float | None = None
        self.heard_at = 0.0
        """When payload last came in, as far as has been told."""

    @property
    def last(self) -> Handover | None:
        return self.past[-1] if self.past else None

    def open(self, target: Target, state: State, gone: bool, asked: bool, now: float) -> None:
        """Begin a record of the way from `state` to `target`, unless that is the first registration of all.

        Nor is it a move to say again where the binding still is, after another place did not answer.
        `gone`: the place that is left is not there any more. `asked`: the user wants to move.
        """
        origin = origin_of(state)
        if origin is None or (self.current is None and _still_bound_to(target, state)):
            return
        lost_at = state.since if isinstance(state, Idle) else None
        reason = "asked by user" if asked else "link lost" if gone or lost_at is not None else "better link"
        self.begin(target, origin, reason, lost_at, now)

    def begin(self, target: Target, origin: str, reason: str, lost_at: float | None, now: float) -> None:
        """A registration through another attachment starts; one under way changes its aim."""
        if self.current is not None:
            self.current = replace(
                self.current, target=target, destination=label(target), update_sent_at=None
            )
            return
        self.count += 1
        self.current = Handover(
            self.count, reason, origin, label(target), target, now, lost_at, self.heard_at
        )

    def lost(self, now: float) -> None:
        """The old path carries nothing from now on."""
        if self.current is not None and self.current.lost_at is None:
            self.current = replace(self.current, lost_at=now, heard_at=self.heard_at)

    def update_sent(self, target: Target, now: float) -> None:
        """The first Binding Update of the handover left."""
        if self.current is not None and self.current.target == target and self.current.update_sent_at is None:
            self.current = replace(self.current, update_sent_at=now)

    def end(
        self, result: Literal["ok", "failed"], destination: str, message: str | None, now: float
    ) -> Mapping[str, object] | None:
        """The handover under way is over; returns its description, or None when none was under way."""
        if self.current is None:
            return None
        done = replace(self.current, result=result, destination=destination, message=message, ended_at=now)
        self.current = None
        self.past.append(done)
        if result == "failed":
            self.failed += 1
        if done.outage is not None:
            self.worst_outage = max(self.worst_outage or 0.0, done.outage)
        return done.describe()


def _still_bound_to(target: Target, state: State) -> bool:
    match state:
        case Registering(previous=Binding() as binding) | Refusing(previous=Binding() as binding):
            return binding.target.same_as(target)
        case _:
            return False


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 1)
