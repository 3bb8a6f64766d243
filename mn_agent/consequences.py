"""Consequences: what each effect of the registration machine means for the rest of the mobile node.

Pure. RFC 6275 section 11.7, RFC 5555 section 4.4.1 (another target after three unanswered updates).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import assert_never

from mn_agent.actions import Action, AskDns, AskPathUse, Finished, Report, SendControl
from mn_agent.binding_update_list import Binding, Target
from mn_agent.choice import ANY, SET_ASIDE
from mn_agent.desired import homes_of
from mn_agent.handover import label
from mn_agent.messages import Reaction, candidate_paths
from mn_agent.parts import Parts
from mn_agent.registration_states import (
    AskLastSent,
    Bound,
    CameHome,
    Deregistered,
    Effect,
    Expired,
    Refused,
    SendUpdate,
    Unanswered,
)
from tunnel.envelope import ControlPacket
from tunnel.path import Drop
from tunnel.prefixes import as_network
from wire.mobility import status_text

PATIENCE = 3
"""Unanswered Binding Updates after which another target is tried (RFC 5555 section 4.4.1)."""


class Consequences:
    """Effects in, actions out; on the way the other parts learn what they have to know."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def of(self, effects: Iterable[Effect], now: float) -> list[Action]:
        """What follows from `effects`, in their order."""
        return [action for effect in effects for action in self._effect(effect, now)]

    def _effect(self, effect: Effect, now: float) -> list[Action]:
        parts = self._parts
        match effect:
            case SendUpdate(target=target, packet=packet):
                return self._send_update(target, packet, now)
            case Bound():
                return self._bound(effect, now)
            case CameHome(target=target, previous=previous):
                return self._came_home(target, previous, now)
            case Unanswered(target=target, count=count):
                return self._unanswered(target, count, now)
            case Refused(target=target, status=status, reaction=reaction):
                return self._refused(target, status, reaction, now)
            case Expired():
                return [Report("expired", {})]
            case AskLastSent(binding=binding):
                if binding.path.encapsulation.protected:
                    # Payload uses another port, and keeps no mapping of signalling alive.
                    return self.of(parts.registration.path_used(0.0, 0.0, now), now)
                here = parts.limits.present(binding.target.attachment)
                return [AskPathUse(parts.limits.limited(binding.path, here, now))]
            case Deregistered(confirmed=confirmed):
                return [Report("deregistered", {"confirmed": confirmed}), Finished()]
            case _:
                assert_never(effect)

    def _send_update(self, target: Target, packet: ControlPacket, now: float) -> list[Action]:
        parts = self._parts
        parts.journal.update_sent(target, now)
        if parts.enquiries.may_extend:
            packet = parts.bridge.told(packet, parts.journal.current, now)
            packet = parts.limits.telling(packet, target, now)
        sealed = parts.associations.seal(parts.payload.offering(packet), now)
        if isinstance(sealed, Drop):
            parts.refuse(sealed)
            return []
        send = SendControl(target.care_of, target.outer_destination, target.home_agent.port, sealed)
        sequence = parts.registration.next_sequence - 1 & 0xFFFF
        report = Report("bu", {"seq": sequence, "to": label(target), "bytes": len(sealed)})
        # First, so that the home agent knows the port behind a NAT when it accepts and sends at once.
        paths = () if target.at_home else candidate_paths(target, parts.configuration)
        return [*parts.payload.announcement(paths), send, report]

    def _bound(self, bound: Bound, now: float) -> list[Action]:
        parts, binding, previous = self._parts, bound.binding, bound.previous
        if previous is not None and previous.path != binding.path:
            parts.old_paths.leave(previous.path, now)
        parts.enquiries.bound(binding, now)
        again = parts.bridge.accepted(bound, parts.journal.current)
        done = parts.journal.end("ok", label(binding.target, nat=binding.nat), None, now)
        return [*again] if done is None else [*again, Report("handover", done)]

    def _came_home(self, target: Target, previous: Binding | None, now: float) -> list[Action]:
        if previous is not None:
            self._parts.old_paths.leave(previous.path, now)
        parts = self._parts
        homes = homes_of(parts.configuration, parts.registration.demands.allocated)
        interface = target.attachment.interface
        again = parts.bridge.home(tuple(map(as_network, homes)), interface, parts.journal.current)
        done = parts.journal.end("ok", label(target), None, now)
        return [*again] if done is None else [*again, Report("handover", done)]

    def _unanswered(self, target: Target, count: int, now: float) -> list[Action]:
        if count < PATIENCE:
            return []
        parts = self._parts
        parts.registration.router.silent(target.home_agent, now + SET_ASIDE)
        questions: list[Action] = [AskDns(query) for query in parts.discovery.doubt(now)]
        parts.enquiries.doubt(now)
        return questions + self._abandon(target, f"no answer to {count} binding updates", now)

    def _refused(self, target: Target, status: int, reaction: Reaction, now: float) -> list[Action]:
        if reaction is Reaction.GIVE_UP:
            return []
        if reaction is Reaction.UNPROTECTED:
            return self._abandon(target, "it does not protect payload", now)
        if reaction is Reaction.NOT_AS_ROUTER:
            fields = {"home_agent": target.home_agent.name, "status": status, "text": status_text(status)}
            return [Report("not-as-router", fields)]
        return self._abandon(target, f"refused: {status_text(status)} ({status})", now)

    def _abandon(self, target: Target, why: str, now: float) -> list[Action]:
        """Leave `target` for another one, if there is another one."""
        parts = self._parts
        parts.choice.set_aside(target, SET_ASIDE, now)
        if parts.choice.wanted.matches(target.attachment):
            parts.choice.wanted = ANY
        binding = parts.registration.binding
        if binding is None or parts.journal.current is None:
            return []
        destination = label(binding.target, nat=binding.nat)
        done = parts.journal.end("failed", destination, f"{label(target)}: {why}", now)
        return [Report("handover", done)] if done is not None else []
