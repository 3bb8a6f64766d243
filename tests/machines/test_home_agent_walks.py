"""Seeded random walks: whatever mobile nodes, neighbours and time do, what must hold holds."""

from __future__ import annotations

import random
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_network

import pytest

from home_agent.actions import ProbeAddresses, SendControl
from home_agent.events import ControlReceived, Probed, Revoke
from tests.machines.ha_script import HA4, HA6, HOME, START, HomeScript, MobileNode, configured
from tunnel.envelope import ControlPacket
from tunnel.path import Arrival
from wire.mobility import (
    BindingAck,
    BindingRefreshRequest,
    BindingUpdate,
    HomeTestInit,
    Message,
    UnknownMessage,
    UpdateFlag,
)
from wire.options import (
    AlternateCareOfAddress,
    BindingRefreshAdvice,
    Ipv4CareOfAddress,
    Ipv4HomeAddress,
    MobileNetworkPrefix,
    Option,
    UnknownOption,
)

STEPS = 1500
ADDRESSES6 = [
    IPv6Address(text)
    for text in (
        "::", "::1", "ff02::1", "fe80::1", "2001:db8:99::77", "2001:db8:99::2", "2001:db8:a::1",
        "2001:db8:b::1", "2001:db8:7700::9", "2001:db8:99::99",
    )
]  # fmt: skip
ADDRESSES4 = [
    IPv4Address(text)
    for text in (
        "0.0.0.0", "255.255.255.255", "224.0.0.1", "127.0.0.1", "169.254.1.1", "203.0.113.77",
        "203.0.113.2", "203.0.113.128", "203.0.113.129", "198.51.100.7",
        "198.51.100.99", "192.168.7.2", "10.77.0.1", "10.64.0.0",
    )
]  # fmt: skip
PREFIXES6 = [
    "2001:db8:7700::/40",
    "2001:db8:7701::/48",
    "2001:db8::/32",
    "::/0",
    "ff00::/8",
    "2001:db8:99::/64",
]


class Walk:
    def __init__(self, seed: int, dad: bool, profile: str) -> None:
        self.chance = random.Random(seed)
        change = {"duplicate_address_detection = false": f"duplicate_address_detection = {str(dad).lower()}"}
        more = f'[wire]\nprofile = "{profile}"\n[binding]\nlease_lifetime = 300'
        self.ha = HomeScript(configured(change, tablet="ipv4_prefix_requests = true", more=more))
        self.asked: list[ProbeAddresses] = []
        self.captured: list[ControlReceived] = []

    def step(self) -> None:
        kind = self.chance.random()
        if kind < 0.62:
            self.update()
        elif kind < 0.8 and self.asked:
            self.answer_probe()
        elif kind < 0.85:
            self.sleep(self.chance.choice((0.01, 0.5, 3.0, 40.0, 500.0)))
        elif kind < 0.9 and self.captured:
            before = dict(self.ha.agent.books.cache._bindings)
            self.ha.feed(self.chance.choice(self.captured))
            assert dict(self.ha.agent.books.cache._bindings) == before, "a replay was believed"
        elif kind < 0.93:
            self.ha.feed(Revoke(self.node().home_address))
        elif kind < 0.96:
            self.ha = self.ha.restarted(after=self.chance.choice((0.0, 1.0, 100.0)))
            self.asked.clear()
        self.asked += [action for action in self.ha.actions if isinstance(action, ProbeAddresses)]
        self.check()

    def node(self) -> MobileNode:
        return self.chance.choice((self.ha.laptop, self.ha.tablet, self.ha.router))

    def sleep(self, seconds: float) -> None:
        until = self.ha.now + seconds
        while (due := self.ha.agent.deadline()) is not None and due.at <= until:
            self.ha.now = max(self.ha.now, due.at)
            self.ha._take(self.ha.agent.tick(self.ha.now))
            self.check()
        self.ha.now = until

    def answer_probe(self) -> None:
        asked = self.asked.pop(self.chance.randrange(len(self.asked)))
        in_use = frozenset(a for a in asked.addresses if self.chance.random() < 0.2)
        self.ha.feed(Probed(asked.home_address, asked.addresses, in_use))

    def update(self) -> None:
        node = self.node()
        self.sleep(0.3)
        event = self.carried(node, self.message(node))
        self.captured = [*self.captured[-50:], event]
        self.ha.feed(event)
        for action in self.ha.actions:
            if isinstance(action, SendControl):
                self.ha._nodes[node.home_address].read(action.packet)

    def message(self, node: MobileNode) -> Message:
        if self.chance.random() < 0.05:
            return self.chance.choice(
                (
                    UnknownMessage(99, bytes(2)),
                    HomeTestInit(bytes(8)),
                    BindingRefreshRequest(),
                    BindingAck(0, 1, 4),
                )
            )
        flags = HOME
        for flag in (UpdateFlag.ROUTER, UpdateFlag.FORCE_UDP, UpdateFlag.LINK_LOCAL, UpdateFlag.HOME):
            if self.chance.random() < 0.15 and node.profile.update_flags.get(flag):
                flags ^= flag
        if node.profile.tlv is not None and self.chance.random() < 0.3:
            flags |= UpdateFlag.TLV
        options = tuple(self.option() for _ in range(self.chance.randrange(5)))
        lifetime = self.chance.choice((0, 4, 40, 420, 420, 420, 262140))
        sequence = None if self.chance.random() < 0.9 else self.chance.randrange(65536)
        return node.update(*options, sequence=sequence, lifetime=lifetime, flags=flags)

    def option(self) -> Option:
        octets = bytes([self.chance.randrange(256), 0]) + self.chance.choice(ADDRESSES4).packed
        return self.chance.choice(
            (
                Ipv4CareOfAddress(self.chance.choice(ADDRESSES4)),
                Ipv4HomeAddress(self.chance.choice(ADDRESSES4)),
                Ipv4HomeAddress(IPv4Address(0)),
                Ipv4HomeAddress(IPv4Address(0), self.chance.randrange(1, 33), prefix_request=True),
                UnknownOption(29, octets),
                AlternateCareOfAddress(self.chance.choice(ADDRESSES6)),
                MobileNetworkPrefix(IPv6Network(self.chance.choice(PREFIXES6))),
                BindingRefreshAdvice(40),
                UnknownOption(self.chance.randrange(100, 200), bytes(self.chance.randrange(6))),
            )
        )

    def carried(self, node: MobileNode, message: Message) -> ControlReceived:
        kind = self.chance.random()
        if kind < 0.5:
            outer = self.chance.choice(ADDRESSES4)
            return node.udp(message, outer, self.chance.choice((5000, 61000)))
        care_of = self.chance.choice([*ADDRESSES6[6:8], node.home_address])
        if kind < 0.95 or not isinstance(message, BindingUpdate):
            return node.native(message, care_of)
        packet = ControlPacket(care_of, HA6, message, home_address_option=node.home_address)
        return ControlReceived(node.sealed(packet), Arrival(HA4, self.chance.choice(ADDRESSES4)))

    def check(self) -> None:
        ha, books = self.ha, self.ha.agent.books
        bindings = list(books.cache)
        networks = [network for binding in bindings for network in binding.home_networks]
        assert len(networks) == len(set(networks)), "two mobile nodes have the same home address or prefix"
        routes = {route.prefix: route for route in ha.table.routes}
        assert routes.keys() == set(networks), "the data plane follows the cache"
        assert ha.routed == set(networks)
        assert set(ha.defended) == {address for binding in bindings for address in books.defended(binding)}
        assert {address for address, _ in ha.proxied} == set(ha.defended)
        for binding in bindings:
            families = {routes[network].path.remote.version for network in binding.home_networks}
            assert len(families) == 1, "never both families registered"
            assert ha.now <= binding.expires_at <= ha.now + 3600
            record = ha.records[binding.home_address]
            assert record.binding == binding, "not written down"
            for network in binding.home_networks:
                assert not network.overlaps(ip_network(HA4)) if network.version == 4 else True
                assert not network.overlaps(ip_network(HA6)) if network.version == 6 else True
        leases = [lease.network for pool in (books.addresses, books.prefixes) for lease in pool.leases]
        assert not any(a.overlaps(b) for i, a in enumerate(leases) for b in leases[:i])
        due = ha.agent.deadline()
        assert due is None or due.at > START


@pytest.mark.requirement("R029")
@pytest.mark.parametrize("seed", range(6))
def test_invariants_hold_on_every_walk(seed: int) -> None:
    profile = ("rfc5555", "rfc5555+rfc5845-tlv", "draft-00")[seed % 3]
    walk = Walk(seed, dad=seed % 2 == 1, profile=profile)
    bound = moved = 0
    for _ in range(STEPS):
        walk.step()
        bound += ("binding", "new") in walk.ha.events()
        moved += ("binding", "moved") in walk.ha.events()
    assert bound > 20, "a walk that hardly binds proves nothing"
    assert moved > 5
