"""The mobile node: movement, discovery and registration together; host and tunnel follow from them.

Pure. draft-ietf-mext-nemo-v4traversal-00 section 4.4, RFC 5555 section 4.4, RFC 6275 section 11.
"""

from __future__ import annotations

from random import Random
from typing import assert_never

from mn_agent.actions import (
    Action,
    AskDns,
    Remember,
    Report,
)
from mn_agent.authentication import ClockCorrected
from mn_agent.binding_update_list import Target, places
from mn_agent.choice import ANY, Ranked, Wanted, chosen, policy_of
from mn_agent.config import Configuration
from mn_agent.consequences import PATIENCE, Consequences
from mn_agent.decisions import Decision
from mn_agent.desired import Surroundings, desired, home_addresses, in_order
from mn_agent.enquiries import is_icmp
from mn_agent.events import (
    Check,
    ControlReceived,
    DhcpSaid,
    EchoHeard,
    Event,
    HomeAgentsFound,
    HomeAgentsUnknown,
    LinkUnusable,
    Nat64Found,
    NeighbourAnswered,
    NetworkChanged,
    PathLastUsed,
    PathSilent,
    ProbeAnswered,
    Refresh,
    Resumed,
    Roam,
    RouterSaid,
    Stop,
    WebAnswered,
)
from mn_agent.handover import origin_of
from mn_agent.home_link import apart_from, with_home
from mn_agent.memory import Memory
from mn_agent.parts import assemble
from mn_agent.registration_states import (
    AtHome,
    Bound,
    Deregistering,
    Effect,
    Refusing,
    Registered,
    Registering,
    Unanswered,
    unanswered,
)
from mn_agent.summary import summarise
from mn_agent.thinker import Thinker
from movement.detector import Detector
from movement.known_networks import NO_NETWORKS, KnownNetworks
from movement.policy import Attachment
from movement.snapshot import Snapshot
from runtime.node import Deadline, earliest
from tunnel.authentication import Keys
from tunnel.envelope import ControlPacket
from tunnel.path import Drop, Encapsulation
from tunnel.protection import PayloadKey
from wire.icmp import MobilePrefixAdvertisement
from wire.mobility import BindingAck, BindingError, BindingRefreshRequest

RETRY_UNUSABLE = 3.0
"""Seconds for which a target that the kernel sends nothing to is not chosen. Ours."""
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
        networks: KnownNetworks = NO_NETWORKS,
    ) -> None:
        """`wall_offset` is the wall clock less CLOCK_BOOTTIME, in seconds.

        `payload_key` is needed if the configuration wants payload protected, and unused if not.
        """
        parts = assemble(configuration, keys, memory, rng, now, wall_offset, payload_key, networks)
        self.configuration = configuration
        self.memory = memory
        self.started_at = now
        self.attachments: tuple[Attachment, ...] = ()
        self._offered: tuple[Attachment, ...] = ()
        self.choice = parts.choice
        self.dialect = parts.dialect
        self.decisions = parts.decisions
        self.discovery = parts.discovery
        self.drops = parts.drops
        self.enquiries = parts.enquiries
        self.journal = parts.journal
        self.limits = parts.limits
        self.nat64 = parts.nat64
        self.networks = parts.networks
        self.paths = parts.paths
        self.payload = parts.payload
        self.portals = parts.portals
        self.recognition = parts.recognition
        self.registration = parts.registration
        self.ways = parts.ways
        self._associations = parts.associations
        self._old_paths = parts.old_paths
        self._follow = Consequences(parts).of
        self._parts = parts
        self.thinkers: tuple[Thinker, ...] = parts.thinkers
        self._detector = Detector(policy_of(configuration))
        self._snapshot = Snapshot(())
        self._cause_at = now
        self._stopping = False
        self._around: Surroundings | None = None
        self._derived: tuple[Action, ...] = ()

    # ---- the shape of everything that thinks -----------------------------------------------
    def handle(self, event: Event, now: float) -> list[Action]:
        """Apply one event."""
        self._cause_at = event.hinted_at if isinstance(event, NetworkChanged) else now
        before = self.summary()
        actions = self._follow(self._timers(now), now) + self._apply(event, now)
        around = self.surroundings()
        asked = [action for thinker in self.thinkers for action in thinker.handle(event, around, now)]
        actions += [*self._settle(now), *asked]  # nothing goes before a Binding Update
        return self._finish(actions, before, now)

    def tick(self, now: float) -> list[Action]:
        """Run what is due."""
        self._cause_at = now
        before = self.summary()
        actions = self._follow(self._timers(now), now)
        actions += [AskDns(query) for query in self.discovery.tick(now)]
        self.choice.expire(now)
        actions += self.payload.tick(self.registration.binding, now)
        around = self.surroundings()
        asked = [action for thinker in self.thinkers for action in thinker.tick(around, now)]
        actions += [*self._settle(now), *asked]
        return self._finish(actions, before, now)

    def deadline(self) -> Deadline | None:
        """The next timer, and what it is for."""
        machines = (self.registration, self.discovery, self.enquiries, self.choice, self._old_paths)
        payload = self.payload.deadline(self.registration.binding)
        ways = self.ways.deadline()
        thinkers = (thinker.deadline() for thinker in self.thinkers)
        return earliest((payload, ways, *(machine.deadline() for machine in machines), *thinkers))

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
            self.registration.demands.allocated,
            self.registration.router.behind,
            self.payload.state,
            self.enquiries.asking_from + self.ways.asking_from,
            self.registration.held,
            unanswered(self.registration.state),
            self.recognition.leases,
            self.limits.in_force,
        )

    def permits(self, interface: str) -> bool:
        """Whether links of this name may be used at all."""
        return self._detector.policy.permits(interface)

    def question_goes_by(self, attachment: Attachment) -> Encapsulation | None:
        """What carries a Binding Update from there; None if it is what no payload goes by."""
        if attachment.care_of.version == 4:
            return Encapsulation.UDP
        return None if self._associations.next_sequence is None else Encapsulation.ESP

    @property
    def key_problem(self) -> str | None:
        """Why the keys of both ends seem to differ, if they do."""
        return self._associations.problem

    def sealed_size(self, packet: ControlPacket) -> int:
        """Octets of `packet` on an IPv6 link, or inside UDP; nothing is consumed."""
        return self._associations.size(self.payload.offering(packet))

    def ranking(self, now: float, wanted: Wanted | None = None) -> tuple[Ranked, ...]:
        """Every target with its score, best first, as the node would choose now, or by another wish."""
        known = self.target or self.registration.last_target
        home_agents = self.registration.router.preferred(self.discovery.home_agents, now)
        self.choice.opinions = [opinion for thinker in self.thinkers for opinion in thinker.opinions()]
        return self.choice.ranking(self.attachments, home_agents, known, now, wanted)

    def summary(self) -> tuple[str, str | None]:
        """(state, why): one of the states of `mnctl status`, and one sentence where it is not obvious."""
        attached, held = bool(self.attachments), self.choice.held
        return summarise(self.registration, self.discovery, attached, self._stopping, held)

    # ---- events ----------------------------------------------------------------------------
    def _apply(self, event: Event, now: float) -> list[Action]:
        match event:
            case NetworkChanged(snapshot=snapshot, heard_at=heard_at):
                self.journal.heard_at = heard_at
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
                return self._follow(self.registration.path_used(sent_at, received_at, now), now)
            case PathSilent():
                return self._follow(self.registration.silent(now), now)
            case LinkUnusable(care_of=care_of):
                target = self.target
                if target is not None and target.care_of == care_of:
                    self.choice.set_aside(target, RETRY_UNUSABLE, now)
                return []
            case Roam(to=to, family=family):
                self.choice.wish(Wanted.named(to, family))
                return []
            case Refresh():
                return self._follow(self.registration.refresh(now), now)
            case Resumed():
                return self._follow(self.registration.resumed(now), now)
            case Stop():
                self._stopping = True
                return self._follow(self.registration.deregister(now), now)
            case RouterSaid(interface=interface, way_out=way_out):
                self.nat64.learnt(interface, way_out.nat64)
                return self._attach(now)
            case Nat64Found(interface=interface, prefixes=prefixes):
                self.nat64.learnt(interface, prefixes)
                return self._attach(now)
            case Check():
                self._check_ways(now)
                return []  # what else it asks for is for the thinkers, as is all of this:
            case DhcpSaid() | EchoHeard() | NeighbourAnswered() | WebAnswered() | ProbeAnswered():
                return []  # it is for the thinkers
            case _:
                assert_never(event)

    def _check_ways(self, now: float) -> None:
        """Nothing is asked while no binding is settled, nor through a link where everything has to wait.

        Over the present way only to learn about its NAT.
        """
        state = self.registration.state
        if not isinstance(state, Registered):
            return
        present, agent = state.binding.target, state.binding.target.home_agent
        ways = [Target(a, agent) for a in self.attachments if a.care_of != self.configuration.home.ipv6]
        asked = [t for t in ways if not t.same_as(present) and not self.choice.holds(t)]
        if state.binding.nat:
            asked.insert(0, present)
        self.ways.start([target.attachment for target in asked], agent, now)

    def _network_changed(self, snapshot: Snapshot, now: float) -> list[Action]:
        self._snapshot = apart_from(snapshot, home_addresses(self.surroundings()))
        self._detector.handle(self._snapshot)
        self.networks.seen(self._snapshot, now)
        self.enquiries.network_changed(self._detector.attachments, now)
        self._offered = with_home(
            self._snapshot,
            self._detector.attachments,
            self._detector.policy,
            self.configuration,
            self.enquiries.home_prefix,
        )
        return self._attach(now)

    def _attach(self, now: float) -> list[Action]:
        """What links offer, and what a NAT64 makes of it."""
        attachments = self.nat64.extended(self._offered, self.configuration.home.ipv6)
        before, self.attachments = self.attachments, attachments
        if places(attachments) == places(before):
            return self._same_places(before, now)
        self.choice.forget_absent(attachments)
        return [AskDns(query) for query in self.discovery.network_changed(bool(attachments), now)]

    def _same_places(self, before: tuple[Attachment, ...], now: float) -> list[Action]:
        """Another network may have the same prefix, and give the same address: the way to it is another."""
        networks = {(a.interface, a.care_of): a.network for a in before}
        for place in self.attachments:
            known = networks.get((place.interface, place.care_of))
            elsewhere = None not in (known, place.network) and known != place.network
            if elsewhere and self.target is not None and self.target.is_in((place,)):
                return self._follow(self.registration.refresh(now), now)
        return []

    def _control_received(self, packet: bytes, now: float) -> list[Action]:
        if is_icmp(packet):
            return self._counted(self.enquiries.heard(packet, self.target, now))
        message = self._associations.open(packet, self.target, now)
        match message:
            case Drop():
                return self._refuse(message)
            case ClockCorrected(seconds=seconds):
                corrected = Report("clock", {"corrected_s": seconds})
                return [*self._follow(self.registration.say_again(now), now), corrected]
            case BindingAck() as ack if self.ways.answered(ack, now):
                return []
            case BindingAck() as ack:
                return self._acknowledged(ack, now)
            case BindingRefreshRequest():
                return self._follow(self.registration.refresh(now), now)
            case BindingError(status=status) if status == UNKNOWN_BINDING:
                return self._follow(self.registration.refresh(now), now)
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
        actions = self._follow(effects, now)
        bound = [effect.binding.path for effect in effects if isinstance(effect, Bound)]
        self.dialect.heard(ack, now)
        return [*actions, *self.payload.accepted(bound, ack.options, now), report]

    def _counted(self, outcome: list[Action] | Drop) -> list[Action]:
        return self._refuse(outcome) if isinstance(outcome, Drop) else outcome

    def _refuse(self, drop: Drop) -> list[Action]:
        self._parts.refuse(drop)
        return []

    def _timers(self, now: float) -> list[Effect]:
        self._old_paths.expire(now)
        effects = self.registration.tick(now)
        wanted = self.payload.wants_renewal(now) | self.paths.wants_update(now)
        return effects + self.registration.refresh(now) if wanted else effects

    # ---- settling: from what is known to what shall be --------------------------------------
    def _settle(self, now: float) -> list[Action]:
        """Aim the registration at the best target."""
        if isinstance(self.registration.state, Deregistering) or self._stopping:
            return []
        self._notice_lost_path()
        given_up = self._give_up(now)
        present = self.target
        ranking = self.ranking(now)
        aim = chosen(ranking)
        if aim is None:
            return given_up + self._without_aim(present, now)
        if present is not None and aim.same_as(present):
            return given_up
        gone = present is not None and not present.is_in(self.attachments)
        origin = origin_of(self.registration.state)
        self.journal.open(aim, self.registration.state, gone, self.choice.wanted != ANY, self._cause_at)
        moving = self.journal.current
        cause, number = "first registration" if origin is None else "back after a failed move", None
        if moving is not None:
            cause, number = moving.reason, moving.number
        self.decisions.taken(Decision(now, cause, origin, ranking, number))
        return given_up + self._follow(self.registration.register(aim, now), now)

    def _give_up(self, now: float) -> list[Action]:
        """Neither payload nor an update is answered: that is enough, without a third try."""
        target, silent = self.target, unanswered(self.registration.state)
        if target is None or not silent or not self.paths.is_dead(target) or self.choice.is_aside(target):
            return []
        return self._follow([Unanswered(target, max(silent, PATIENCE))], now)

    def _without_aim(self, present: Target | None, now: float) -> list[Action]:
        if present is not None and present.is_in(self.attachments) and not self.choice.holds(present):
            return []
        actions: list[Action] = []
        if self.attachments and not self.discovery.home_agents:
            return actions
        if self.attachments:
            # Perhaps a record was added meanwhile: IPv4 links need the home agent's A record.
            actions += [AskDns(query) for query in self.discovery.doubt(now)]
        return actions + self._follow(self.registration.detach(self._cause_at), now)

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
        if not isinstance(self.registration.state, Registered):
            self.ways.stop()
        actions += self.ways.due(self.registration.next_sequence, self._associations, now)
        reserved = self.memory.renew(
            self.registration.next_sequence,
            self._associations.next_sequence,
            self._associations.seen,
            self.discovery,
        )
        if reserved is not None:
            self.memory = reserved
            actions.append(Remember(reserved.as_json()))
        actions += self.networks.due(now)
        if (after := self.summary()) != before:
            actions.append(Report("state", {"state": after[0], "reason": after[1]}))
        around = self.surroundings()
        if around == self._around:
            return in_order([], actions, around)
        self._around = around
        derived = desired(around)
        changed = [action for action in derived if action not in self._derived]
        self._derived = derived
        return in_order(changed, actions, around)
