"""Home registration: keep one binding alive at one home agent.

Pure. RFC 6275 sections 11.7 (registration) and 11.8 (retransmission), draft section 4.4.
"""

from __future__ import annotations

from dataclasses import replace
from math import inf
from random import Random
from typing import assert_never

from mn_agent.binding_update_list import Binding, Target
from mn_agent.demands import Demands
from mn_agent.messages import (
    Reaction,
    Wish,
    accepted_binding,
    compose_update,
    ipv4_unacknowledged,
    leaves_payload_unprotected,
    reaction_to,
)
from mn_agent.mobile_router import MobileRouter
from mn_agent.nat_mapping import NatMappings
from mn_agent.registration_states import (
    AskLastSent,
    AtHome,
    Bound,
    CameHome,
    Deregistered,
    Deregistering,
    Effect,
    Expired,
    Idle,
    Outstanding,
    Refused,
    Refusing,
    Registered,
    Registering,
    SendUpdate,
    State,
    Unanswered,
    aim_of,
    answered_by,
    carrying,
    expiry_of,
    payload_waits,
)
from mn_agent.retransmission import MAX_ACK_TIMEOUT, Retransmission
from runtime.node import Deadline, earliest
from tunnel.envelope import ControlPacket
from wire.mobility import BindingAck, BindingStatus, BindingUpdate
from wire.serial import is_newer16, next16

DEREGISTRATION_PATIENCE = 7.0
"""Seconds after which an unanswered deregistration is given up: three tries, or more on quick paths. Ours."""
REFUSED_WAIT = 30.0
"""Seconds before a refused registration is tried again; doubles up to MAX_REFUSED_WAIT. Ours."""
MAX_REFUSED_WAIT = 300.0
ROLE_WAIT = 0.1
"""Seconds for another home agent to be chosen before one that takes no router is asked as a host. Ours."""
MAX_OUTSTANDING = 8
LEAST_LIFETIME = 4
"""Seconds: the unit of lifetimes; less than that would deregister."""


class HomeRegistration:
    """The registration machine. `next_sequence` and `rng` come from outside; see `state`."""

    def __init__(
        self,
        wish: Wish,
        next_sequence: int,
        rng: Random,
        now: float,
        *,
        reachable: bool = True,
        retry_unacknowledged_ipv4: bool = False,
        first_timeout: float = 1.5,
        router: MobileRouter | None = None,
        mappings: NatMappings,
    ) -> None:
        self.router = router or MobileRouter(None)
        self.demands = Demands(wish)
        self.mappings = mappings
        self._next_sequence = next_sequence
        self._rng = rng
        self._reachable = reachable
        self._retry_ipv4 = retry_unacknowledged_ipv4
        self._retransmission = Retransmission(first_timeout)
        self._refused_wait = REFUSED_WAIT
        self._type_changed = False
        self.home_valid_until = inf
        """When the home address ends to be valid, as far as the home agent has told."""
        self.state: State = Idle(None, now)

    @property
    def next_sequence(self) -> int:
        """The sequence number of the next Binding Update, 0..65535."""
        return self._next_sequence

    @property
    def binding(self) -> Binding | None:
        """The binding that carries data now."""
        return carrying(self.state)

    @property
    def target(self) -> Target | None:
        """Where the binding is, or is being made or ended."""
        return aim_of(self.state)

    @property
    def last_target(self) -> Target | None:
        """Where a binding may still be while there is nothing to register through."""
        known = self.state.binding if isinstance(self.state, Idle) else None
        return None if known is None else known.target

    @property
    def held(self) -> bool:
        """Whether payload has to wait, because the mapping at a NAT was not kept (R095)."""
        return payload_waits(self.state)

    # ---- events ----------------------------------------------------------------------------
    def register(self, target: Target, now: float) -> list[Effect]:
        """Bind `target`: the first time, after a movement, or again. On the home link: end the binding."""
        previous = self.binding
        known = self.state.binding if isinstance(self.state, Idle) else previous
        bound = known is not None and known.expires_at > now
        waits = self._woken_at(now) if previous is not None else None
        self.state = self._registering(target, previous, bound, waits, now)
        return self.tick(now)

    def _registering(
        self, target: Target, previous: Binding | None, bound: bool, woken_at: float | None, now: float
    ) -> Registering:
        """The beginning of a registration, with a back-off of its own for this care-of address."""
        timeout = self._retransmission.timeout(target.home_agent, bound)
        retry_at = self._retransmission.not_before(target, now)
        return Registering(target, previous, (), timeout, retry_at, 0, bound, woken_at)

    def refresh(self, now: float) -> list[Effect]:
        """Send a Binding Update for the present binding now (user, BRR, keepalive, lifetime)."""
        match self.state:
            case Registered(binding=binding):
                self.state = self._registering(binding.target, binding, True, self._woken_at(now), now)
                return self.tick(now)
            case Registering(target=target) | Refusing(target=target):
                return self.register(target, now)
            case Idle() | AtHome() | Deregistering():
                return []
            case _:
                assert_never(self.state)

    def detach(self, now: float) -> list[Effect]:
        """No care-of address is left. The home agent keeps the binding until it expires."""
        if isinstance(self.state, AtHome):
            self.state = Idle(None, now, self.state.target)
        elif not isinstance(self.state, Idle):
            self.state = Idle(self.binding, now)
        return []

    def drop_previous(self) -> None:
        """The old path is gone while a new one is being registered."""
        if isinstance(self.state, Registering | Refusing):
            self.state = replace(self.state, previous=None)

    def deregister(self, now: float) -> list[Effect]:
        """Ask the home agent to forget this node (lifetime 0)."""
        binding = self.binding
        match self.state:
            case Registering(target=target):
                pass
            case _:
                if binding is None:
                    self.state = Idle(None, now)
                    return [Deregistered(confirmed=True)]
                target = binding.target
        self.state = self._deregistering(target, None, now)
        return self.tick(now)

    def _deregistering(self, target: Target, refused: Refused | None, now: float) -> Deregistering:
        timeout = self._retransmission.timeout(target.home_agent, bound=True)
        retry_at = self._retransmission.not_before(target, now)
        return Deregistering(target, (), timeout, retry_at, refused)

    def path_used(self, sent_at: float, received_at: float, now: float) -> list[Effect]:
        """When a datagram last left through the present path, and when one last came in.

        Traffic both ways defers the keepalive. What only leaves proves nothing: the mapping may be
        forgotten, or the home agent may no longer know it.
        """
        match self.state:
            case Registered(binding=binding) if binding.keepalive is not None:
                due = max(min(sent_at, received_at), binding.sent_at) + binding.keepalive
                if due <= now and self._reachable:
                    self.mappings.idle(now - max(sent_at, binding.sent_at))
                    return self.refresh(now)
                self.state = Registered(binding, due) if due > now else Registered(binding, None, asleep=True)
        return []

    def silent(self, now: float) -> list[Effect]:
        """Payload leaves and nothing comes back: a mapping or the binding may be gone, or nobody answers."""
        return self.refresh(now) if isinstance(self.state, Registered) else []

    def resumed(self, now: float) -> list[Effect]:
        """The host has slept: mappings may be gone, and a long pause between tries has lost its reason."""
        begun = isinstance(self.state, Registering) and self.state.unanswered == 0
        return [] if begun else self.refresh(now)

    def acknowledge(self, ack: BindingAck, now: float) -> list[Effect]:
        """An authenticated Binding Acknowledgement. A stale one changes nothing."""
        match self.state:
            case Registering() as state:
                match_ = answered_by(ack, state.outstanding)
                return [] if match_ is None else self._registration_answered(state, match_, ack, now)
            case Deregistering() as state:
                if answered_by(ack, state.outstanding) is None:
                    return []
                if ack.status == BindingStatus.SEQUENCE_OUT_OF_WINDOW:
                    self._continue_after(ack.sequence)
                    self.state = replace(state, retry_at=self._not_before(now))
                    return self.tick(now)
                return self._deregistered(state, True, now)
            case Idle() | Registered() | AtHome() | Refusing():
                return []
            case _:
                assert_never(self.state)

    def say_again(self, now: float) -> list[Effect]:
        """The home agent did not look at the last update: ask the same once more, without a penalty."""
        match self.state:
            case Registering() as state:
                self.state = replace(state, outstanding=(), retry_at=self._not_before(now))
                return self.tick(now)
            case Deregistering() as state:
                self.state = replace(state, retry_at=self._not_before(now))
                return self.tick(now)
            case Idle() | Registered() | AtHome() | Refusing():
                return []
            case _:
                assert_never(self.state)

    def tick(self, now: float) -> list[Effect]:
        """Run the timers that are due."""
        effects: list[Effect] = []
        while (due := self.deadline()) is not None and due.at <= now:
            effects += self._run_timer(now)
        return effects

    def deadline(self) -> Deadline | None:
        """The next timer."""
        match self.state:
            case Idle() | AtHome():
                return None
            case Registering(previous=previous, retry_at=retry_at):
                retry = Deadline(retry_at, "binding update retry")
                return retry if previous is None else earliest((retry, expiry_of(previous)))
            case Registered(binding=binding, keepalive_at=keepalive_at):
                keepalive = None if keepalive_at is None else Deadline(keepalive_at, "NAT keepalive")
                return earliest((Deadline(binding.refresh_at, "binding refresh"), keepalive))
            case Refusing(previous=previous, retry_at=refused_until):
                again = None if refused_until is None else Deadline(refused_until, "retry after refusal")
                return earliest((again, None if previous is None else expiry_of(previous)))
            case Deregistering(retry_at=retry_at):
                return Deadline(retry_at, "deregistration retry")
            case _:
                assert_never(self.state)

    # ---- timers ----------------------------------------------------------------------------
    def _run_timer(self, now: float) -> list[Effect]:
        match self.state:
            case Registering(previous=Binding() as previous) | Refusing(previous=Binding() as previous) if (
                previous.expires_at <= now
            ):
                self.drop_previous()
                return [Expired(previous)]
            case Registering() as state:
                return self._send_update(state, now)
            case Registered(binding=binding, keepalive_at=keepalive_at):
                if binding.refresh_at <= now:
                    return self.refresh(now)
                assert keepalive_at is not None
                assert binding.keepalive is not None
                self.state = Registered(binding, now + binding.keepalive)
                return [AskLastSent(binding)]
            case Refusing(target=target):
                return self.register(target, now)
            case Deregistering() as state:
                return self._send_deregistration(state, now)
            case Idle() | AtHome():
                raise AssertionError("no deadline in this state")
            case _:
                assert_never(self.state)

    def _send_update(self, state: Registering, now: float) -> list[Effect]:
        packet, update = self._compose(state.target, 0 if state.target.at_home else self._lifetime(now), now)
        first_try = not state.outstanding
        timeout = state.timeout if first_try else min(2 * state.timeout, MAX_ACK_TIMEOUT)
        unanswered = state.unanswered if first_try else state.unanswered + 1
        outstanding = (*state.outstanding[1 - MAX_OUTSTANDING :], Outstanding(update, now))
        self.state = replace(
            state,
            outstanding=outstanding,
            timeout=timeout,
            retry_at=self._not_before(now + timeout, again=True),
            unanswered=unanswered,
        )
        report: list[Effect] = [Unanswered(state.target, unanswered)] if unanswered else []
        return [*report, SendUpdate(state.target, packet)]

    def _send_deregistration(self, state: Deregistering, now: float) -> list[Effect]:
        give_up_at = (state.outstanding[0].sent_at if state.outstanding else now) + DEREGISTRATION_PATIENCE
        if now >= give_up_at:
            return self._deregistered(state, False, now)
        packet, update = self._compose(state.target, 0, now)
        timeout = 2 * state.timeout if state.outstanding else state.timeout
        outstanding = (*state.outstanding, Outstanding(update, now))
        retry_at = min(self._not_before(now + timeout, again=True), give_up_at)
        self.state = replace(state, outstanding=outstanding, timeout=timeout, retry_at=retry_at)
        return [SendUpdate(state.target, packet)]

    def compose(self, target: Target, lifetime: int, sequence: int) -> ControlPacket:
        """The Binding Update that would go to `target`; nothing is consumed."""
        wish = self.demands.to(target, self.router.part(target.home_agent, lifetime))
        return compose_update(wish, target, sequence, lifetime)

    def _compose(self, target: Target, lifetime: int, now: float) -> tuple[ControlPacket, BindingUpdate]:
        self._retransmission.sent(target, now)
        packet = self.compose(target, lifetime, self._next_sequence)
        assert isinstance(packet.message, BindingUpdate)
        self._next_sequence = next16(self._next_sequence)
        return packet, packet.message

    def _woken_at(self, now: float) -> float | None:
        """Since when payload waits, if it has to wait for the Binding Update that leaves now."""
        match self.state:
            case Registered(asleep=True):
                return now
            case Registering(woken_at=woken_at):
                return woken_at
            case _:
                return None

    def _lifetime(self, now: float) -> int:
        """Not longer than the home address is valid (RFC 6275 section 11.7.1)."""
        return int(max(LEAST_LIFETIME, min(self.demands.wish.lifetime, self.home_valid_until - now)))

    def _continue_after(self, sequence: int) -> None:
        """The home agent has accepted `sequence`. A late answer does not set us back to used numbers."""
        if not is_newer16(self._next_sequence, sequence):
            self._next_sequence = next16(sequence)

    def _not_before(self, at: float, again: bool = False) -> float:
        """When the next update may leave for where the present ones go, not before `at`."""
        target = self.target
        return at if target is None else self._retransmission.not_before(target, at, again)

    # ---- answers ---------------------------------------------------------------------------
    def _registration_answered(
        self, state: Registering, answered: Outstanding, ack: BindingAck, now: float
    ) -> list[Effect]:
        home_agent, took = state.target.home_agent, now - answered.sent_at
        self._retransmission.answered(home_agent, took, state.bound)
        if state.target.at_home and (ack.status < 128 or ack.status == BindingStatus.NOT_HOME_AGENT):
            self.state = AtHome(state.target, now)  # refused because there is no binding: as good
            return [CameHome(state.target, state.previous)]
        if ack.status >= 128:
            return self._refused(state, answered.update, ack, now)
        target, update = state.target, answered.update
        if self.router.is_denied_by(update, ack):
            # RFC 3963 section 5.3: it is no home agent of mobile routers, and shall not believe otherwise.
            self.router.refuse(target.home_agent, BindingStatus.ROUTER_NOT_PERMITTED)
            refused = Refused(target, BindingStatus.ROUTER_NOT_PERMITTED, Reaction.NOT_AS_ROUTER)
            return self._withdraw(refused, now)
        if leaves_payload_unprotected(self.demands.wish, ack):
            return self._withdraw(Refused(target, ack.status, Reaction.UNPROTECTED), now)
        jitter = self._rng.uniform(-1.0, 1.0)
        binding = accepted_binding(self.demands.wish, target, update, ack, answered.sent_at, now, jitter)
        binding = self.router.bound(binding, update, ack)
        if ipv4_unacknowledged(update, ack) and not self._retry_ipv4 and target.home_agent.ipv6 is not None:
            self.demands.ipv4_ignored(target.home_agent)
        if binding.ipv4_home_address is not None:
            self.demands.allocated = binding.ipv4_home_address
        binding = self.mappings.kept(binding, state.previous, now)
        period = binding.keepalive
        self._refused_wait, self._type_changed = REFUSED_WAIT, False
        self.state = Registered(binding, None if period is None else binding.sent_at + period)
        return [Bound(binding, state.previous, state.woken_at)]

    def _refused(
        self, state: Registering, update: BindingUpdate, ack: BindingAck, now: float
    ) -> list[Effect]:
        reaction = reaction_to(ack.status, update)
        if reaction is Reaction.OTHER_TYPE and self._type_changed:
            reaction = Reaction.ANOTHER_HOME_AGENT
        refused = Refused(state.target, ack.status, reaction)
        match reaction:
            case Reaction.RESYNCHRONISE:
                self._continue_after(ack.sequence)
                self.state = replace(state, outstanding=(), retry_at=self._not_before(now))
                return self.tick(now)
            case Reaction.WITHOUT_FORCED_UDP:
                self.demands.udp_refused(state.target.home_agent)
                self.state = replace(state, outstanding=(), retry_at=self._not_before(now))
                return self.tick(now)
            case Reaction.OTHER_TYPE:
                self._type_changed = True
                return self._withdraw(refused, now)
            case Reaction.NOT_AS_ROUTER:
                self.router.refuse(state.target.home_agent, ack.status)
                bound = state.previous
                if bound is not None and bound.target.home_agent == state.target.home_agent:
                    return self._withdraw(refused, now)
                self.state = Refusing(state.target, bound, ack.status, self._not_before(now) + ROLE_WAIT)
            case Reaction.GIVE_UP:
                self.state = Refusing(state.target, state.previous, ack.status, None)
            case Reaction.ANOTHER_HOME_AGENT | Reaction.ANOTHER_CARE_OF_ADDRESS | Reaction.UNPROTECTED:
                self.state = Refusing(state.target, state.previous, ack.status, self._after_refusal(now))
            case _:
                assert_never(reaction)
        return [refused]

    def _withdraw(self, refused: Refused, now: float) -> list[Effect]:
        """End what the home agent believes; only then is `refused` acted upon."""
        self.state = self._deregistering(refused.target, refused, now)
        return self.tick(now)

    def _deregistered(self, state: Deregistering, confirmed: bool, now: float) -> list[Effect]:
        """The end, or what comes after a withdrawal: another try, perhaps as something else."""
        refused = state.refused
        self.state = Idle(None, now)
        if refused is None:
            return [Deregistered(confirmed)]
        if refused.reaction is Reaction.OTHER_TYPE:
            return self.register(refused.target, now)
        unprotected = refused.reaction is Reaction.UNPROTECTED
        retry_at = self._after_refusal(now) if unprotected else self._not_before(now) + ROLE_WAIT
        why = refused.reaction.value.partition(":")[0] if unprotected else None
        self.state = Refusing(refused.target, None, refused.status, retry_at, why)
        return [refused]

    def _after_refusal(self, now: float) -> float:
        wait = self._refused_wait
        self._refused_wait = min(2 * wait, MAX_REFUSED_WAIT)
        return now + wait
