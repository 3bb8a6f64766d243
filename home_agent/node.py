"""The home agent: Binding Updates in, bindings and what follows from them out.

Pure. RFC 6275 section 10, RFC 3963 section 6, RFC 5555 section 4.5; docs/security.md, sections 2 to 4.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from ipaddress import IPv4Address, IPv4Network, IPv6Address
from types import MappingProxyType
from typing import assert_never

from home_agent.actions import (
    Action,
    ConfigureEndpoint,
    ConfigureKernel,
    Defend,
    InstallTable,
    ProbeAddresses,
    Remember,
    Report,
    SendAgain,
    SendOnLink,
)
from home_agent.associations import Associations
from home_agent.authentication import Refusal
from home_agent.binding_cache import Binding, BindingCache, Due, change_between
from home_agent.config import Configuration
from home_agent.desired import DesiredHost, claims, endpoint
from home_agent.events import ControlReceived, Event, Probed, Revoke, SecondPortOpen, Start
from home_agent.limits import TokenBuckets
from home_agent.location import about_the_way, nat_detection, tlv_encapsulation
from home_agent.outgoing import Outgoing
from home_agent.precedents import Precedents, Repetition
from home_agent.prefix_discovery import accepted_status, advertisement
from home_agent.protection import SUMMONS_PER_SECOND, PayloadProtection
from home_agent.recall import recall
from home_agent.records import Record
from home_agent.replies import reply_to
from home_agent.reports import changed, rejected
from home_agent.requests import Address, Pending, Probes, Request, astray, open_books
from home_agent.tally import Account, LastUpdate, Tally
from home_agent.updates import Accepted, Ignored, ProbeFirst, Refused, Released, Verdict, judge
from runtime.node import Deadline, earliest
from tunnel.authentication import Keys, protection
from tunnel.envelope import OpenedControl, Unsealed
from tunnel.forwarding import ForwardingTable
from tunnel.keyring import NO_KEYS
from tunnel.path import Arrival, Drop
from tunnel.protection import PayloadKey
from tunnel.security import KeyPair
from wire.dialect import in_update
from wire.icmp import MobilePrefixSolicitation
from wire.mobility import (
    AckFlag,
    BindingAck,
    BindingError,
    BindingRefreshRequest,
    BindingStatus,
    BindingUpdate,
    UnknownMessage,
)
from wire.options import Option
from wire.serial import is_newer16
from wire.vendor import interruption_in

UPDATES_PER_SECOND = 5.0
UPDATE_BURST = 20.0
"""What one mobile node may ask for. RFC 6275 lets it send three a second (MAX_UPDATE_RATE)."""
REFUSALS_PER_SECOND = 1.0
REFUSAL_BURST = 3.0
"""Answers to updates that are not looked at, by home address and status: anybody can send such updates."""
PROBE_PATIENCE = 5.0
"""Seconds after which an unanswered probe gives its Binding Update up."""
SHUN = 3600.0
"""Seconds for which an address that somebody else uses is not offered again."""

REFUSALS = {
    BindingStatus.ID_MISMATCH: "authentication-wrong-time",
    BindingStatus.MESSAGE_ID_REQUIRED: "authentication-no-time",
    BindingStatus.AUTHENTICATION_FAILED: "authentication-failed",
}
UNKNOWN_BINDING, UNKNOWN_TYPE = 1, 2
"""Statuses of a Binding Error (RFC 6275 section 6.1.9)."""


class HomeAgent:
    """The home agent as a `runtime.node.Node`.

    `records` are what was remembered when it last ran; `Start` puts them into effect. `first_sequence` is
    explained at `Associations`, as is `wall_offset`; `link_mtu` is that of the outer packets.
    """

    def __init__(
        self,
        configuration: Configuration,
        keys: Mapping[IPv6Address, Keys],
        records: Iterable[Record],
        now: float,
        *,
        link_mtu: int = 1500,
        first_sequence: int = 1,
        iv_source: Callable[[int], bytes] = os.urandom,
        wall_offset: float = 0.0,
        payload_keys: Mapping[IPv6Address, PayloadKey] = MappingProxyType({}),
    ) -> None:
        profile = configuration.profile
        self.started_at = now
        self.configuration = configuration
        self.nodes = {node.home_address: node for node in configuration.mobile_node}
        self.protections = {home: protection(secret) for home, secret in keys.items()}
        """How the messages of each mobile node are protected, for people."""
        self.tally = Tally({home: Account() for home in self.nodes})
        taken = (secret.update.spi for secret in keys.values() if isinstance(secret, KeyPair))
        self._precedents = Precedents(configuration.home_agent.ipv6)
        self.payload = PayloadProtection(payload_keys, taken, iv_source)
        cache = BindingCache(
            link_mtu,
            tlv_encapsulation(profile),
            self.payload.spis,
            refresh_requests=configuration.binding.refresh_requests,
        )
        self.books = open_books(configuration, cache)
        known = {record.home_address: record for record in records if record.home_address in self.nodes}
        memories = {home: record.memory for home, record in known.items()}
        self._associations = Associations(keys, memories, profile, first_sequence, iv_source, wall_offset)
        self._pending: dict[IPv6Address, Pending] = {}
        self._updates: TokenBuckets[IPv6Address] = TokenBuckets(
            UPDATES_PER_SECOND, UPDATE_BURST, len(self.nodes) + 1
        )
        self._refusals: TokenBuckets[tuple[IPv6Address, int]] = TokenBuckets(
            REFUSALS_PER_SECOND, REFUSAL_BURST, len(REFUSALS) * len(self.nodes) + 1
        )
        self._installed: ForwardingTable | None = None
        self._keyring = NO_KEYS
        self.second_port: int | None = None
        for record in known.values():
            recall(record, self.nodes[record.home_address], self.books, now)
        self._outgoing = Outgoing(self._associations, self.books, self.nodes, self.tally)
        self._host = DesiredHost(self.books, link_mtu)

    # ---- the node ---------------------------------------------------------------------------

    def handle(self, event: Event, now: float) -> list[Action]:
        match event:
            case Start():
                host = (ConfigureKernel(self._host.kernel()), Defend(self._host.defence()))
                return [*self._settle(), *host, *self._summon(now)]
            case ControlReceived(packet, arrival):
                return self._receive(packet, arrival, now)
            case Probed(home_address, addresses, in_use):
                return self._probed(home_address, addresses, in_use, now)
            case Revoke(home_address):
                return self._revoke(home_address, now)
            case SecondPortOpen(port):
                self.second_port = port
                return []
            case _:
                assert_never(event)

    def tick(self, now: float) -> list[Action]:
        actions: list[Action] = []
        while (due := self.books.cache.due(now)) is not None:
            actions += self._due(*due, now)
        actions += self._settle()
        for home in [home for home, pending in self._pending.items() if pending.give_up_at <= now]:
            del self._pending[home]
            self.tally.accounts[home].ignored["probe-unanswered"] += 1
        return actions + self._summoned(now)

    def deadline(self) -> Deadline | None:
        waiting = (Deadline(pending.give_up_at, "probe is given up") for pending in self._pending.values())
        return earliest((self.books.cache.deadline(), self.payload.deadline(), *waiting))

    # ---- a message comes in -----------------------------------------------------------------

    def _receive(self, data: bytes, arrival: Arrival, now: float) -> list[Action]:
        """Authenticate first: until that has happened, nothing changes and nothing is answered."""
        unsealed = self._associations.unseal(data)
        if isinstance(unsealed, Drop):
            return self._ignore(unsealed.reason)
        repetition = self._repetition(unsealed, arrival)
        if repetition is not None:
            return self._renew(repetition, now)
        opened = self._associations.read(unsealed, now)
        match opened:
            case Drop():
                return self._ignore(opened.reason)
            case Refusal():
                return self._decline(opened, arrival, now)
        home = opened.packet.home_side_source
        if not self._updates.spend(home, now):
            return self._ignore("update-too-many", home)
        actions = self._authentic(opened, arrival, now)
        if any(isinstance(action, Remember) for action in actions):
            return actions
        # What nobody answers has moved the replay window as well.
        return [Remember(self._outgoing.record(home)), *actions]

    def _decline(self, refusal: Refusal, arrival: Arrival, now: float) -> list[Action]:
        """Say why an update is not looked at. Nothing is written down, since anybody can cause this."""
        packet, update = refusal.packet, refusal.update
        home = packet.home_side_source
        self.tally.strangers[REFUSALS[refusal.status]] += 1
        odd = astray(packet, arrival, self.configuration.home_agent.ipv6, self.second_port)
        unproven_here = arrival.local_port and arrival.local_port == self.second_port
        if odd or unproven_here or not self._refusals.spend((home, refusal.status), now):
            return []
        nat = nat_detection(Request(self.nodes[home], packet, update, b"", arrival, now), self.books)
        ack = BindingAck(refusal.status, update.sequence, 0, options=() if nat is None else (nat,))
        actions = self._outgoing.send(home, reply_to(packet, ack), arrival, refusal, now, remember=False)
        return [*actions, self._rejected(home, refusal.status)]

    def _authentic(self, opened: OpenedControl, arrival: Arrival, now: float) -> list[Action]:
        packet, octets = opened.packet, opened.octets
        home = packet.home_side_source
        odd = astray(packet, arrival, self.configuration.home_agent.ipv6, self.second_port)
        if odd:
            return self._ignore(odd, home)
        match packet.message:
            case BindingUpdate() as update:
                request = Request(self.nodes[home], packet, update, octets, arrival, now)
                dialect = in_update(update, self.configuration.profile, not request.in_udp)
                self.tally.accounts[home].note_dialect(dialect, now)
                return self._update(request, now)
            case UnknownMessage():
                via = reply_to(packet, BindingError(UNKNOWN_TYPE, IPv6Address(0)))
                return self._outgoing.send(home, via, arrival, packet, now, remember=True)
            case MobilePrefixSolicitation() as solicitation if packet.home_address_option is not None:
                return self._advertise(solicitation, home, now)
            case _:
                return self._ignore("control-unexpected", home)

    def _advertise(
        self, solicitation: MobilePrefixSolicitation, home: IPv6Address, now: float
    ) -> list[Action]:
        binding, configuration = self.books.cache.get(home), self.configuration
        if binding is None:
            return self._ignore("prefix-solicitation-unbound", home)
        packet = advertisement(solicitation, binding, configuration.home_agent.ipv6, configuration.home_link)
        return self._outgoing.send(home, packet, binding.arrival, binding.care_of, now, remember=True)

    def _ignore(self, reason: str, home_address: IPv6Address | None = None) -> list[Action]:
        counter = self.tally.strangers
        if home_address is not None:
            counter = self.tally.accounts[home_address].ignored
        counter[reason] += 1
        return []

    # ---- a Binding Update -------------------------------------------------------------------

    def _update(self, request: Request, now: float) -> list[Action]:
        """A newer update takes the place of one that still waits for its probe, and keeps its answers."""
        pending = self._pending.get(request.home_address)
        if pending is None:
            return self._decide(Pending(request, Probes(), frozenset(), now + PROBE_PATIENCE), now)
        if not is_newer16(request.update.sequence, pending.request.update.sequence):
            return self._ignore("update-overtaken", request.home_address)
        return self._decide(Pending(request, pending.probes, pending.asked, pending.give_up_at), now)

    def _probed(
        self, home: IPv6Address, addresses: frozenset[Address], in_use: frozenset[Address], now: float
    ) -> list[Action]:
        pending = self._pending.get(home)
        for address in in_use:
            if isinstance(address, IPv4Address):
                self.books.addresses.shun(IPv4Network(address), now + SHUN)
        if pending is None:
            return []
        probes = pending.probes.with_answer(addresses, in_use)
        return self._decide(Pending(pending.request, probes, pending.asked, pending.give_up_at), now)

    def _decide(self, pending: Pending, now: float) -> list[Action]:
        request = pending.request
        home = request.home_address
        self._pending.pop(home, None)
        verdict = judge(request, self.books, pending.probes, now)
        if isinstance(verdict, ProbeFirst):
            asked = pending.asked | verdict.addresses
            self._pending[home] = Pending(request, pending.probes, asked, pending.give_up_at)
            missing = verdict.addresses - pending.asked
            return [ProbeAddresses(home, missing)] if missing else []
        return self._apply(request, verdict, pending.probes, now)

    def _apply(self, request: Request, verdict: Verdict, probes: Probes, now: float) -> list[Action]:
        match verdict:
            case Refused(status, sequence, remark):
                return self._refuse(request, status, sequence, remark, now)
            case Ignored(reason):
                return self._ignore(reason, request.home_address)
            case Released(acks):
                return self._release(request, acks, now)
            case Accepted():
                return self._accept(request, verdict, probes, now)
            case ProbeFirst():
                raise AssertionError("a probe is not a decision")
            case _:
                assert_never(verdict)

    def _refuse(
        self, request: Request, status: BindingStatus, sequence: int | None, remark: str, now: float
    ) -> list[Action]:
        number = request.update.sequence if sequence is None else sequence
        _, answer = self._answer(request, BindingAck(status, number, 0), (), now)
        told = () if request.is_question else (self._rejected(request.home_address, status, remark),)
        return [*answer, *told]

    def _release(self, request: Request, acks: tuple[Option, ...], now: float) -> list[Action]:
        home, sequence = request.home_address, request.update.sequence
        ended = self.books.cache.release(home, sequence, now)
        self._forget(home)
        ack = BindingAck(BindingStatus.ACCEPTED, sequence, 0)
        # The kernel lets go of the address first: at home, the answer has to leave on the home link.
        actions = self._settle(home) + self._answer(request, ack, acks, now)[1]
        interruption = interruption_in(request.update.options)
        if ended is not None and interruption is not None and request.is_home:
            actions.append(SendOnLink(ended.home_networks, request.received_at - interruption))
        return actions + ([self._report(ended, "removed")] if ended is not None else [])

    def _accept(self, request: Request, verdict: Accepted, probes: Probes, now: float) -> list[Action]:
        binding, old = verdict.binding, self.books.cache.get(request.home_address)
        if verdict.address_lease is not None:
            self.books.addresses.keep(verdict.address_lease)
        if verdict.prefix_lease is not None:
            self.books.prefixes.keep(verdict.prefix_lease)
        shares = self.payload.agree(request.home_address, request.update.options)
        self.books.cache.put(binding, now)
        flags = AckFlag.ROUTER if binding.router else AckFlag(0)
        if verdict.tlv:
            flags |= AckFlag.TLV
        status = accepted_status(binding.lifetime, self.configuration.home_link)
        ack = BindingAck(status, binding.sequence, binding.lifetime, flags)
        same = old is not None and claims(old) == claims(binding)
        actions = self._settle(None if same else binding.home_address)
        change = change_between(old, binding)
        interruption = interruption_in(request.update.options)
        if change in ("moved", "new") and interruption is not None:
            actions.append(SendAgain(binding.home_networks, request.received_at - interruption))
        octets, answer = self._answer(request, ack, (*verdict.acks, *shares), now)
        if octets:
            self._precedents.note(request, verdict, probes, octets)
        actions += answer
        return [*actions, self._report(binding, change, verdict.remark)]

    def _repetition(self, unsealed: Unsealed, arrival: Arrival) -> Repetition | None:
        """What an authentic update repeats, while nothing else is under way for its sender."""
        owner = self._associations.owner(unsealed.spi)
        if owner is None or owner in self._pending:
            return None
        return self._precedents.find(unsealed, arrival, self.books.cache.get(owner))

    def _renew(self, repetition: Repetition, now: float) -> list[Action]:
        """The short way of `_receive` for a refresh that says nothing new: decided as the last one was."""
        home = repetition.home_address
        if not self._updates.spend(home, now):
            return self._ignore("update-too-many", home)
        binding, account = repetition.binding_at(now), self.tally.accounts[home]
        self.books.cache.put(binding, now)
        self._precedents.follow(repetition, binding)
        account.note_dialect("", now)
        account.note_answer(LastUpdate(now, repetition.status, binding.arrival))
        back = repetition.reply()
        actions = [
            *self._settle(),
            *self._outgoing.send(home, back, binding.arrival, back, now, remember=True),
        ]
        return [*actions, self._report(binding, "refreshed")]

    # ---- other reasons for a change ---------------------------------------------------------

    def _due(self, due: Due, home: IPv6Address, binding: Binding | None, now: float) -> list[Action]:
        match due:
            case Due.EXPIRY:
                assert binding is not None
                self._forget(home)
                remember = Remember(self._outgoing.record(home))
                return [*self._settle(home), remember, self._report(binding, "expired")]
            case Due.REFRESH_REQUEST:
                assert binding is not None
                return self._outgoing.tell(binding, BindingRefreshRequest(), now)
            case Due.OLD_PATH_ENDS | Due.CLOSED:
                return []  # what that changes is settled once for all that are due
            case _:
                assert_never(due)

    def _revoke(self, home: IPv6Address, now: float) -> list[Action]:
        """End a binding for the operator. The mobile node hears of it, and may ask for a new one."""
        binding = self.books.cache.get(home)
        if binding is None:
            return []
        self.books.cache.release(home, binding.sequence, now)
        self._forget(home)
        actions = [*self._settle(home), Remember(self._outgoing.record(home))]
        actions += self._outgoing.tell(binding, BindingError(UNKNOWN_BINDING, home), now)
        return [*actions, self._report(binding, "removed")]

    def _summon(self, now: float) -> list[Action]:
        """The keys of protected payload went with the last run: have them made anew."""
        for number, binding in enumerate(self.books.cache):
            self.payload.summon(binding.home_address, now + number / SUMMONS_PER_SECOND)
        return self._summoned(now)

    def _summoned(self, now: float) -> list[Action]:
        bindings = (self.books.cache.get(home) for home in self.payload.due(now))
        told = (self._outgoing.tell(one, BindingRefreshRequest(), now) for one in bindings if one is not None)
        return [action for actions in told for action in actions]

    def _settle(self, changed: IPv6Address | None = None) -> list[Action]:
        """The desired states that differ from what was last asked for.

        `changed`: the mobile node whose claims on this host may be others than before.
        """
        actions: list[Action] = []
        if self.payload.keyring is not self._keyring:
            self._keyring = self.payload.keyring
            actions.append(ConfigureEndpoint(endpoint(self.configuration, self._keyring)))
        table = self.books.cache.table
        if table is not self._installed:
            self._installed = table
            actions.append(InstallTable(table))
        if changed is not None and self._host.note(changed):
            actions += [ConfigureKernel(self._host.kernel()), Defend(self._host.defence())]
        return actions

    # ---- a message goes out -----------------------------------------------------------------

    def _answer(
        self, request: Request, ack: BindingAck, options: tuple[Option, ...], now: float
    ) -> tuple[bytes, list[Action]]:
        """The acknowledgement, and what sends it back where the update came from, whatever the cache says."""
        home, via = request.home_address, request.arrival
        self.tally.accounts[home].note_answer(LastUpdate(now, ack.status, via))
        options += about_the_way(request, self.books, self.second_port)
        complete = BindingAck(ack.status, ack.sequence, ack.lifetime, ack.flags, options)
        octets = self._associations.encode(home, back := reply_to(request.packet, complete))
        sent = self._outgoing.send(home, back, via, request.packet, now, remember=True, octets=octets)
        return octets, sent

    def _forget(self, home: IPv6Address) -> None:
        """The binding has ended, and with it what depended on it."""
        self.payload.forget(home)
        self._precedents.forget(home)

    def _rejected(self, home_address: IPv6Address, status: BindingStatus, remark: str = "") -> Report:
        return rejected(self.nodes[home_address].label, status, remark)

    def _report(self, binding: Binding, change: str, remark: str = "") -> Report:
        return changed(self.nodes[binding.home_address].label, binding, change, remark)
