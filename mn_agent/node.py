"""The mobile node: movement, discovery and registration together; host and tunnel follow from them.

Pure. draft-ietf-mext-nemo-v4traversal-00 section 4.4, RFC 5555 section 4.4, RFC 6275 section 11.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from random import Random
from typing import assert_never

from mn_agent.actions import (
    Action,
    AskDns,
    AskPathUse,
    Finished,
    Remember,
    Report,
    SendControl,
)
from mn_agent.associations import associations_for
from mn_agent.authentication import ClockCorrected
from mn_agent.binding_update_list import Binding, Target
from mn_agent.bridge import Bridge
from mn_agent.choice import ANY, SET_ASIDE, Choice, Wanted, policy_of
from mn_agent.config import Configuration
from mn_agent.desired import Surroundings, desired, home_addresses, in_order
from mn_agent.dialect import Dialect
from mn_agent.discovery import discovery_for
from mn_agent.enquiries import Enquiries, is_icmp
from mn_agent.events import (
    ControlReceived,
    Event,
    HomeAgentsFound,
    HomeAgentsUnknown,
    LinkUnusable,
    NetworkChanged,
    PathLastUsed,
    PathSilent,
    Refresh,
    Roam,
    Stop,
)
from mn_agent.handover import Journal, label
from mn_agent.home_link import apart_from, with_home
from mn_agent.memory import Memory
from mn_agent.messages import Reaction, Wish, candidate_paths
from mn_agent.mobile_router import MobileRouter
from mn_agent.old_paths import OldPaths
from mn_agent.protection import PayloadProtection
from mn_agent.registration import HomeRegistration
from mn_agent.registration_states import (
    AskLastSent,
    AtHome,
    Bound,
    CameHome,
    Deregistered,
    Deregistering,
    Effect,
    Expired,
    Refused,
    Refusing,
    Registered,
    Registering,
    SendUpdate,
    Unanswered,
)
from mn_agent.summary import summarise
from movement.detector import Detector
from movement.policy import Attachment
from movement.snapshot import Snapshot
from runtime.node import Deadline, earliest
from tunnel.authentication import Keys
from tunnel.envelope import ControlPacket
from tunnel.path import Drop
from tunnel.protection import PayloadKey
from wire.icmp import MobilePrefixAdvertisement
from wire.mobility import BindingAck, BindingError, BindingRefreshRequest, status_text

PATIENCE = 3
"""Unanswered Binding Updates after which another target is tried (RFC 5555 section 4.4.1)."""
UNEXPECTED = Drop("control-unexpected")
UNKNOWN_BINDING, UNKNOWN_TYPE = 1, 2
"""Statuses of a Binding Error: no binding for the home address; a message of ours is not known there."""


class MobileNode:
    """Events in, actions out. Never blocks; no packet, network or user makes it raise."""

    def __init__(
        self,
        configuration: Configuration,
        keys: Keys,
        memory: Memory,
        rng: Random,
        now: float,
        wall_offset: float = 0.0,
        payload_key: PayloadKey | None = None,
    ) -> None:
        """`wall_offset` is the wall clock less CLOCK_BOOTTIME, in seconds.

        `payload_key` is needed if the configuration wants payload protected, and unused if not.
        """
        self.configuration = configuration
        self.memory = memory
        self.started_at = now
        self.drops: Counter[str] = Counter()
        self.journal = Journal()
        self.choice = Choice(configuration.home.ipv6)
        self.attachments: tuple[Attachment, ...] = ()
        self.discovery = discovery_for(configuration, memory.home_agents)
        self.enquiries = Enquiries(configuration, self.discovery, rng)
        self.registration = HomeRegistration(
            Wish.of(configuration),
            memory.next_sequence,
            rng,
            now,
            reachable=configuration.binding.reachable,
            retry_unacknowledged_ipv4=configuration.binding.retry_unacknowledged_ipv4,
            first_timeout=configuration.binding.first_registration_timeout,
            router=MobileRouter(configuration.router),
        )
        self.dialect = Dialect(configuration.profile, configuration.tunnel.tlv)
        self.payload = PayloadProtection(
            payload_key if configuration.tunnel.protect_payload else None,
            configuration.home.ipv6,
            rng.randbytes,
            reachable=configuration.binding.reachable,
        )
        self._detector = Detector(policy_of(configuration))
        self._snapshot = Snapshot(())
        self._cause_at = now
        self._bridge = Bridge()
        self._associations = associations_for(
            keys, configuration.profile, configuration.home.ipv6, memory, wall_offset, rng
        )
        self._old_paths = OldPaths()
        self._stopping = False
        self._derived: tuple[Action, ...] = ()

    # ---- the shape of everything that thinks -----------------------------------------------
    def handle(self, event: Event, now: float) -> list[Action]:
        """Apply one event."""
        self._cause_at = event.hinted_at if isinstance(event, NetworkChanged) else now
        before = self.summary()
        actions = self._actions(self._timers(now), now) + self._apply(event, now)
        actions += self._settle(now)
        return self._finish(actions, before, now)

    def tick(self, now: float) -> list[Action]:
        """Run what is due."""
        self._cause_at = now
        before = self.summary()
        actions = self._actions(self._timers(now), now)
        actions += [AskDns(query) for query in self.discovery.tick(now)]
        self.choice.expire(now)
        actions += self.payload.tick(self.registration.binding, now)
        actions += self._settle(now)
        return self._finish(actions, before, now)

    def deadline(self) -> Deadline | None:
        """The next timer, and what it is for."""
        thinkers = (self.registration, self.discovery, self.enquiries, self.choice, self._old_paths)
        payload = self.payload.deadline(self.registration.binding)
        return earliest((payload, *(thinker.deadline() for thinker in thinkers)))

    # ---- what others may ask ---------------------------------------------------------------
    @property
    def target(self) -> Target | None:
        """Where the binding is, or is being made."""
        return self.registration.target

    def surroundings(self) -> Surroundings:
        """What the desired state of host and tunnel is derived from."""
        return Surroundings(
            self.configuration,
            self._snapshot,
            self.attachments,
            self.discovery.home_agents,
            self.target,
            self.registration.binding,
            self._old_paths.paths,
            isinstance(self.registration.state, AtHome),
            self.registration.allocated,
            self.registration.router.behind,
            self.payload.state,
            self.enquiries.asking_from,
            self.registration.held,
        )

    @property
    def key_problem(self) -> str | None:
        """Why the keys of both ends seem to differ, if they do."""
        return self._associations.problem

    def sealed_size(self, packet: ControlPacket) -> int:
        """Octets of `packet` on an IPv6 link, or inside UDP; nothing is consumed."""
        return self._associations.size(self.payload.offering(packet))

    def summary(self) -> tuple[str, str | None]:
        """(state, why): one of the states of `mnctl status`, and one sentence where it is not obvious."""
        return summarise(self.registration, self.discovery, bool(self.attachments), self._stopping)

    # ---- events ----------------------------------------------------------------------------
    def _apply(self, event: Event, now: float) -> list[Action]:
        match event:
            case NetworkChanged(snapshot=snapshot):
                return self._network_changed(snapshot, now)
            case ControlReceived(packet=packet):
                return self._control_received(packet, now)
            case HomeAgentsFound(home_agents=home_agents):
                self.discovery.answered(home_agents, now)
                return []
            case HomeAgentsUnknown(problem=problem):
                self.discovery.failed(problem, now)
                return []
            case PathLastUsed(sent_at=sent_at, received_at=received_at):
                return self._actions(self.registration.path_used(sent_at, received_at, now), now)
            case PathSilent():
                return self._actions(self.registration.silent(now), now)
            case LinkUnusable(care_of=care_of):
                target = self.target
                if target is not None and target.care_of == care_of:
                    self.choice.set_aside(target, PATIENCE, now)
                return []
            case Roam(to=to, family=family):
                self.choice.wanted = Wanted(to, family)
                return []
            case Refresh():
                return self._actions(self.registration.refresh(now), now)
            case Stop():
                self._stopping = True
                return self._actions(self.registration.deregister(now), now)
            case _:
                assert_never(event)

    def _network_changed(self, snapshot: Snapshot, now: float) -> list[Action]:
        self._snapshot = apart_from(snapshot, home_addresses(self.surroundings()))
        self._detector.handle(self._snapshot, now)
        self.enquiries.network_changed(self._detector.attachments, now)
        attachments = with_home(
            self._snapshot,
            self._detector.attachments,
            self._detector.policy,
            self.configuration,
            self.enquiries.home_prefix,
        )
        if attachments == self.attachments:
            return []
        self.attachments = attachments
        self.choice.forget_absent(attachments)
        return [AskDns(query) for query in self.discovery.network_changed(bool(attachments), now)]

    def _control_received(self, packet: bytes, now: float) -> list[Action]:
        if is_icmp(packet):
            return self._counted(self.enquiries.heard(packet, self.target, now))
        message = self._associations.open(packet, self.target, now)
        match message:
            case Drop():
                return self._refuse(message)
            case ClockCorrected(seconds=seconds):
                corrected = Report("clock", {"corrected_s": seconds})
                return [*self._actions(self.registration.say_again(now), now), corrected]
            case BindingAck() as ack:
                return self._acknowledged(ack, now)
            case BindingRefreshRequest():
                return self._actions(self.registration.refresh(now), now)
            case BindingError(status=status) if status == UNKNOWN_BINDING:
                return self._actions(self.registration.refresh(now), now)
            case BindingError(status=status) if status == UNKNOWN_TYPE:
                return self.enquiries.extensions_refused(now)
            case MobilePrefixAdvertisement():
                actions = self._counted(self.enquiries.advertised(message, now))
                self.registration.home_valid_until = self.enquiries.home_valid_until
                return actions
            case _:
                return self._refuse(UNEXPECTED)

    def _acknowledged(self, ack: BindingAck, now: float) -> list[Action]:
        report = Report("ba", {"seq": ack.sequence, "status": int(ack.status), "lifetime_s": ack.lifetime})
        effects = self.registration.acknowledge(ack, now)
        actions = self._actions(effects, now)
        bound = [effect.binding.path for effect in effects if isinstance(effect, Bound)]
        self.dialect.heard(ack, now)
        return [*actions, *self.payload.accepted(bound, ack.options, now), report]

    def _counted(self, outcome: list[Action] | Drop) -> list[Action]:
        return self._refuse(outcome) if isinstance(outcome, Drop) else outcome

    def _refuse(self, drop: Drop) -> list[Action]:
        self.drops[drop.reason] += 1
        return []

    # ---- effects of the registration machine -----------------------------------------------
    def _timers(self, now: float) -> list[Effect]:
        self._old_paths.expire(now)
        effects = self.registration.tick(now)
        return effects + self.registration.refresh(now) if self.payload.wants_renewal(now) else effects

    def _actions(self, effects: Iterable[Effect], now: float) -> list[Action]:
        return [action for effect in effects for action in self._effect(effect, now)]

    def _effect(self, effect: Effect, now: float) -> list[Action]:
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
                    return self._actions(self.registration.path_used(0.0, 0.0, now), now)
                return [AskPathUse(binding.path)]
            case Deregistered(confirmed=confirmed):
                return [Report("deregistered", {"confirmed": confirmed}), Finished()]
            case _:
                assert_never(effect)

    def _send_update(self, target: Target, packet: ControlPacket, now: float) -> list[Action]:
        self.journal.update_sent(target, now)
        if self.enquiries.may_extend:
            packet = self._bridge.told(packet, self.journal.current, now)
        sealed = self._associations.seal(self.payload.offering(packet), now)
        if isinstance(sealed, Drop):
            return self._refuse(sealed)
        send = SendControl(target.care_of, target.outer_destination, target.home_agent.port, sealed)
        sequence = self.registration.next_sequence - 1 & 0xFFFF
        report = Report("bu", {"seq": sequence, "to": label(target), "bytes": len(sealed)})
        # First, so that the home agent knows the port behind a NAT when it accepts and sends at once.
        paths = () if target.at_home else candidate_paths(target, self.configuration)
        return [*self.payload.announcement(paths), send, report]

    def _bound(self, bound: Bound, now: float) -> list[Action]:
        binding, previous = bound.binding, bound.previous
        if previous is not None and previous.path != binding.path:
            self._old_paths.leave(previous.path, now)
        self.enquiries.bound(binding, now)
        again = self._bridge.accepted(bound, self.journal.current)
        done = self.journal.end("ok", label(binding.target, nat=binding.nat), None, now)
        return [*again] if done is None else [*again, Report("handover", done)]

    def _came_home(self, target: Target, previous: Binding | None, now: float) -> list[Action]:
        if previous is not None:
            self._old_paths.leave(previous.path, now)
        done = self.journal.end("ok", label(target), None, now)
        return [] if done is None else [Report("handover", done)]

    def _unanswered(self, target: Target, count: int, now: float) -> list[Action]:
        if count < PATIENCE:
            return []
        self.registration.router.silent(target.home_agent, now + SET_ASIDE)
        questions: list[Action] = [AskDns(query) for query in self.discovery.doubt(now)]
        self.enquiries.doubt(now)
        return questions + self._abandon(target, SET_ASIDE, f"no answer to {count} binding updates", now)

    def _refused(self, target: Target, status: int, reaction: Reaction, now: float) -> list[Action]:
        if reaction is Reaction.GIVE_UP:
            return []
        if reaction is Reaction.UNPROTECTED:
            return self._abandon(target, SET_ASIDE, "it does not protect payload", now)
        if reaction is Reaction.NOT_AS_ROUTER:
            fields = {"home_agent": target.home_agent.name, "status": status, "text": status_text(status)}
            return [Report("not-as-router", fields)]
        why = f"refused: {status_text(status)} ({status})"
        return self._abandon(target, SET_ASIDE, why, now)

    def _abandon(self, target: Target, seconds: float, why: str, now: float) -> list[Action]:
        """Leave `target` for another one, if there is another one."""
        self.choice.set_aside(target, seconds, now)
        if self.choice.wanted.matches(target.attachment):
            self.choice.wanted = ANY
        binding = self.registration.binding
        if binding is None or self.journal.current is None:
            return []
        destination = label(binding.target, nat=binding.nat)
        done = self.journal.end("failed", destination, f"{label(target)}: {why}", now)
        return [Report("handover", done)] if done is not None else []

    # ---- settling: from what is known to what shall be --------------------------------------
    def _settle(self, now: float) -> list[Action]:
        """Aim the registration at the best target."""
        if isinstance(self.registration.state, Deregistering) or self._stopping:
            return []
        self._notice_lost_path()
        present = self.target
        known = present or self.registration.last_target
        home_agents = self.registration.router.preferred(self.discovery.home_agents, now)
        aim = self.choice.best(self.attachments, home_agents, known, now)
        if aim is None:
            return self._without_aim(present, now)
        if present is not None and aim.same_as(present):
            return []
        gone = present is not None and not present.is_in(self.attachments)
        self.journal.open(aim, self.registration.state, gone, self.choice.wanted != ANY, self._cause_at)
        return self._actions(self.registration.register(aim, now), now)

    def _without_aim(self, present: Target | None, now: float) -> list[Action]:
        if present is not None and present.is_in(self.attachments):
            return []
        actions: list[Action] = []
        if self.attachments and not self.discovery.home_agents:
            return actions
        if self.attachments:
            # Perhaps a record was added meanwhile: IPv4 links need the home agent's A record.
            actions += [AskDns(query) for query in self.discovery.doubt(now)]
        return actions + self._actions(self.registration.detach(self._cause_at), now)

    def _notice_lost_path(self) -> None:
        state = self.registration.state
        if isinstance(state, AtHome) and not state.target.is_in(self.attachments):
            self.registration.detach(self._cause_at)
        binding = self.registration.binding
        if binding is None or binding.target.is_in(self.attachments):
            return
        if isinstance(self.registration.state, Registering | Refusing):
            self.journal.lost(self._cause_at)
            self.registration.drop_previous()
        elif isinstance(self.registration.state, Registered):
            self.registration.detach(self._cause_at)

    def _finish(self, actions: list[Action], before: tuple[str, str | None], now: float) -> list[Action]:
        """Surround what is to be sent with the state of host and tunnel that it needs."""
        actions += self.enquiries.due(self.registration.binding, self._associations, now)
        reserved = self.memory.renew(
            self.registration.next_sequence,
            self._associations.next_sequence,
            self._associations.seen,
            self.discovery,
        )
        if reserved is not None:
            self.memory = reserved
            actions.append(Remember(reserved.as_json()))
        if (after := self.summary()) != before:
            actions.append(Report("state", {"state": after[0], "reason": after[1]}))
        around = self.surroundings()
        derived = desired(around)
        changed = [action for action in derived if action not in self._derived]
        self._derived = derived
        return in_order(changed, actions, around)
