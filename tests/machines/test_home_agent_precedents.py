"""The short way of a refresh ends like the long one: the same octets, the same state, whatever was before."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from ipaddress import IPv4Address, IPv6Address, IPv6Network
from random import Random
from typing import Any

import pytest

from home_agent.actions import Action, InstallTable, ProbeAddresses, SendControl
from home_agent.config import Configuration
from home_agent.events import ControlReceived, Event, Probed, Revoke
from home_agent.node import HomeAgent
from home_agent.precedents import Precedents
from tests.machines.ha_script import (
    COA4,
    COA6,
    HA4,
    HA6,
    HOME,
    LAPTOP,
    LAPTOP4,
    NAT4,
    OTHER_COA6,
    PRIVATE4,
    HomeScript,
    MobileNode,
    configured,
    home4,
    over_ipv4,
    over_ipv6,
)
from tunnel.envelope import ControlPacket, encode_control, seal_encoded
from tunnel.path import Arrival
from wire.mobility import BindingStatus, BindingUpdate, UpdateFlag
from wire.options import (
    AlternateCareOfAddress,
    Ipv4CareOfAddress,
    Ipv4HomeAddress,
    MobileNetworkPrefix,
    Option,
)
from wire.vendor import Protection, interruption_option, path_mtu_option, protection_option

STEPS = 500


class Twins:
    """Two home agents that are told the same; the second one has no precedents, so it goes the long way."""

    def __init__(self, short: HomeAgent, long: HomeAgent) -> None:
        self.short, self.long = short, long
        self.repeated = 0

    def handle(self, event: Event, now: float) -> list[Action]:
        before = dict(self.short._precedents._of)
        self.long._precedents = Precedents(HA6)
        actions = self.short.handle(event, now)
        assert actions == self.long.handle(event, now)
        assert state(self.short) == state(self.long)
        followed = (self.short._precedents._of.get(home) for home in before)
        known = {id(precedent.update) for precedent in before.values()}
        fresh = [one for one in followed if one is not None and one not in before.values()]
        self.repeated += any(id(one.update) in known for one in fresh)
        return actions

    def tick(self, now: float) -> list[Action]:
        actions = self.short.tick(now)
        assert actions == self.long.tick(now)
        assert state(self.short) == state(self.long)
        return actions

    def __getattr__(self, name: str) -> Any:
        return getattr(self.short, name)


def state(agent: HomeAgent) -> Mapping[str, object]:
    """All that a home agent knows, but for its precedents."""
    cache, payload, keys = agent.books.cache, agent.payload, agent._associations
    return {
        "bindings": cache._bindings,
        "old paths": cache._old_paths,
        "released": cache._released,
        "asked": cache._asked,
        "turns": (cache._turns, cache._next_turn),
        "agenda": (cache._agenda._at, agent.deadline()),
        "table": cache.table,
        "pending": agent._pending,
        "leases": (agent.books.addresses.leases, agent.books.prefixes.leases),
        "rates": (agent._updates._full_at, agent._refusals._full_at),
        "tally": agent.tally,
        "sessions": (payload._sessions, payload._tries, payload.deadline()),
        "memories": {home: keys.memory(home) for home in agent.nodes},
        "numbers": {home: sealer.next_sequence for home, sealer in keys._sealers.items()},
    }


def twins(configuration: Configuration) -> HomeScript:
    ha = HomeScript(configuration)
    twin: Any = Twins(ha.agent, HomeScript(configuration).agent)
    ha.agent = twin
    return ha


def repeated(ha: HomeScript) -> int:
    agent: Any = ha.agent
    return int(agent.repeated)


class Walk:
    """Mobile nodes that mostly say what they said before, and sometimes anything else."""

    def __init__(self, seed: int, dad: bool, protected: bool, profile: str) -> None:
        self.chance = Random(seed)
        change = {"duplicate_address_detection = false": f"duplicate_address_detection = {str(dad).lower()}"}
        more = f'[wire]\nprofile = "{profile}"\n[binding]\nlease_lifetime = 300'
        laptop = "protect_payload = true" if protected else ""
        tablet = 'ipv4 = "dynamic"\nipv4_prefix_requests = true'
        self.ha = twins(configured(change, laptop=laptop, tablet=tablet, more=more))
        self.said: dict[IPv6Address, tuple[BindingUpdate, int]] = {}
        self.captured: list[ControlReceived] = []
        self.asked: list[ProbeAddresses] = []

    def step(self) -> None:
        kind, ha = self.chance.random(), self.ha
        node = self.chance.choice((ha.laptop, ha.tablet, ha.router))
        if kind < 0.8:
            self.refresh(node)
        elif kind < 0.88:
            self.said[node.home_address] = self.anything(node), self.chance.randrange(6)
            self.refresh(node)
        elif kind < 0.92 and self.asked:
            asked = self.asked.pop()
            in_use = frozenset(one for one in asked.addresses if self.chance.random() < 0.2)
            ha.feed(Probed(asked.home_address, asked.addresses, in_use))
        elif kind < 0.95 and self.captured:
            ha.feed(self.chance.choice(self.captured))
        elif kind < 0.955:
            ha.feed(Revoke(node.home_address))
        else:
            self.sleep(self.chance.choice((0.01, 1.0, 1.0, 3.0, 3.0, 40.0, 500.0)))
        self.asked += [action for action in ha.actions if isinstance(action, ProbeAddresses)]

    def refresh(self, node: MobileNode) -> None:
        self.sleep(self.chance.choice((0.05, 0.3)))
        update, place = self.said.setdefault(node.home_address, (self.anything(node), 0))
        number = node.update().sequence - (self.chance.randrange(1, 9) if self.chance.random() < 0.05 else 0)
        event = self.carried(node, dataclasses.replace(update, sequence=number), place)
        self.captured = [*self.captured[-30:], event]
        self.ha.feed(event)

    def anything(self, node: MobileNode) -> BindingUpdate:
        """Mostly what may be granted."""
        flags = HOME
        if (node is self.ha.router) is (self.chance.random() < 0.9):
            flags |= UpdateFlag.ROUTER
        for flag in (UpdateFlag.FORCE_UDP, UpdateFlag.LINK_LOCAL, UpdateFlag.TLV):
            if self.chance.random() < 0.15 and node.profile.update_flags.get(flag):
                flags |= flag
        options = [option for option in self.options() if self.chance.random() < 0.3]
        if node is self.ha.laptop:
            options.append(protection_option(Protection(self.chance.choice((0x5151, 0x6161)), bytes(16))))
        return node.update(*options, lifetime=self.chance.choice((0, 4, 40, *[420] * 9)), flags=flags)

    def options(self) -> tuple[Option, ...]:
        return (
            Ipv4CareOfAddress(self.chance.choice((COA4, PRIVATE4))),
            Ipv4HomeAddress(self.chance.choice((LAPTOP4, IPv4Address(0), IPv4Address("10.77.0.1")))),
            Ipv4HomeAddress(IPv4Address(0), self.chance.choice((24, 29)), prefix_request=True),
            AlternateCareOfAddress(self.chance.choice((COA6, OTHER_COA6, LAPTOP))),
            MobileNetworkPrefix(IPv6Network("2001:db8:7701::/48")),
            interruption_option(0.5),
            path_mtu_option(self.chance.choice((1300, 1400))),
        )

    def carried(self, node: MobileNode, update: BindingUpdate, place: int) -> ControlReceived:
        match place:
            case 0:
                return node.udp(update)
            case 1:
                return node.udp(update, NAT4, 61000)
            case 2:
                return node.native(update)
            case 3:
                return node.native(update, node.home_address)
            case 4:
                return node.native(update, OTHER_COA6)
            case _:  # from the home address in UDP, and with a home address option that says the same
                packet = ControlPacket(node.home_address, HA6, update, home_address_option=node.home_address)
                return ControlReceived(node.sealed(packet), Arrival(HA4, COA4, 4191, 5000))

    def sleep(self, seconds: float) -> None:
        until = self.ha.now + seconds
        while (due := self.ha.agent.deadline()) is not None and due.at <= until:
            self.ha.now = max(self.ha.now, due.at)
            self.ha._take(self.ha.agent.tick(self.ha.now))
        self.ha.now = until


@pytest.mark.parametrize("seed", range(4))
def test_with_precedents_and_without_every_answer_and_all_state_is_the_same(seed: int) -> None:
    profile = ("rfc5555", "rfc5555+rfc5845-tlv", "draft-00")[seed % 3]
    walk = Walk(seed, dad=seed % 2 == 1, protected=seed >= 2, profile=profile)
    for _ in range(STEPS):
        walk.step()
    assert repeated(walk.ha) >= STEPS // 20, "a walk that hardly repeats anything proves nothing"


def settled() -> HomeScript:
    """The laptop is bound over IPv4 and has said twice the same."""
    ha = twins(configured())
    for _ in range(2):
        ha.feed(ha.laptop.udp(over_ipv4(ha.laptop, home4())))
    assert repeated(ha) == 1
    return ha


def test_the_update_after_a_move_is_a_precedent_as_well() -> None:
    ha = settled()
    for _ in range(2):
        ha.feed(ha.laptop.udp(over_ipv4(ha.laptop, home4(), care_of=NAT4), NAT4))
    assert repeated(ha) == 2
    for _ in range(2):
        ha.feed(ha.laptop.native(over_ipv6(ha.laptop, home4())))
    assert repeated(ha) == 3
    assert ha.answer().status == BindingStatus.ACCEPTED


def test_from_another_port_the_same_update_is_a_move() -> None:
    ha = settled()
    ha.feed(ha.laptop.udp(over_ipv4(ha.laptop, home4()), port=5001))
    assert (repeated(ha), ha.events()) == (1, [("binding", "moved")])
    assert any(isinstance(action, InstallTable) for action in ha.actions)


@pytest.mark.parametrize("number", [101, 100, 40_000])
def test_an_old_sequence_number_is_refused_in_the_same_words(number: int) -> None:
    ha = settled()
    ha.feed(ha.laptop.udp(over_ipv4(ha.laptop, home4(), sequence=number)))
    assert (repeated(ha), ha.answer().status) == (1, BindingStatus.SEQUENCE_OUT_OF_WINDOW)


def test_a_replayed_and_a_forged_refresh_change_nothing() -> None:
    ha = settled()
    event = ha.laptop.udp(over_ipv4(ha.laptop, home4()))
    ha.feed(event)
    ha.feed(event)
    assert (repeated(ha), ha.actions) == (2, [])
    fresh = ha.laptop.udp(over_ipv4(ha.laptop, home4()))
    ha.feed(dataclasses.replace(fresh, packet=fresh.packet[:-1] + bytes([fresh.packet[-1] ^ 1])))
    assert (repeated(ha), ha.actions) == (2, [])
    ha.feed(fresh)
    assert repeated(ha) == 3, "the forgery has moved nothing"


def test_what_hurries_is_bounded_on_the_short_way_as_well() -> None:
    ha = settled()
    for _ in range(40):
        ha.feed(ha.laptop.udp(over_ipv4(ha.laptop, home4())))
    assert ha.actions == []
    assert ha.agent.tally.accounts[LAPTOP].ignored["update-too-many"] == 22
    ha.at(10.0).feed(ha.laptop.udp(over_ipv4(ha.laptop, home4())))
    assert any(isinstance(action, SendControl) for action in ha.actions)


def test_a_message_whose_checksum_is_wrong_is_no_repetition() -> None:
    ha = settled()
    packet = ControlPacket(LAPTOP, HA6, over_ipv4(ha.laptop, home4()))
    next_header, octets = encode_control(packet, ha.laptop.profile)
    damaged = octets[:4] + bytes([octets[4] ^ 1]) + octets[5:]
    sealed = seal_encoded(packet, next_header, damaged, ha.laptop.sealer)
    ha.feed(ControlReceived(sealed, Arrival(HA4, COA4, 4191, 5000)))
    assert repeated(ha) == 1
    assert ha.agent.tally.strangers["control-malformed"] == 1


def test_a_binding_that_was_revoked_has_no_precedent() -> None:
    ha = settled()
    ha.feed(Revoke(LAPTOP))
    assert LAPTOP not in ha.agent._precedents._of
    ha.feed(ha.laptop.udp(over_ipv4(ha.laptop, home4())))
    assert (repeated(ha), ha.events()) == (1, [("binding", "new")])
