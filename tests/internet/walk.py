"""A random walk: one seed decides what happens to both ends, to the networks between them, and when.

Pure. After the last step everything heals, and then liveness is asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from ipaddress import IPv4Address
from random import Random

from home_agent.events import Revoke
from mn_agent.events import Roam
from tests.internet.cast import (
    BY_ADDRESS,
    BY_NAME,
    BY_SERVICE,
    CORRESPONDENT4,
    CORRESPONDENT6,
    HA4,
    HA6,
    LAPTOP4,
    LAPTOP6,
    MALLORY4,
    MALLORY6,
    PROTECTED,
    TABLET6,
)
from tests.internet.mobile_host import MobileHost
from tests.internet.nat import Behaviour, Dependence
from tests.internet.weather import CHAOS, CUT, FAIR, STORM, Address, Datagram, Weather
from tests.internet.world import World
from wire.ip import (
    PROTOCOL_DESTINATION_OPTIONS,
    PROTOCOL_ESP,
    PROTOCOL_IPV4,
    PROTOCOL_IPV6,
    PROTOCOL_MOBILITY,
    PROTOCOL_UDP,
)

V4, V6 = frozenset({4}), frozenset({6})
WEATHERS = (
    FAIR,
    STORM,
    CHAOS,
    CUT,
    Weather(loss=0.6),
    Weather(delay=1.5, jitter=1.0),
    Weather(cut=V6),
    Weather(cut=V4),
    Weather(blocked=frozenset({PROTOCOL_DESTINATION_OPTIONS})),
    Weather(blocked=frozenset({PROTOCOL_UDP})),
    Weather(blocked=frozenset({PROTOCOL_IPV4, PROTOCOL_IPV6})),
    Weather(duplication=1.0, jitter=0.1),
    Weather(corruption=0.5),
)
BOXES = ("cafe", "hotel", "town")
INTERFACES = ("eth0", "wlan0")
LIFETIMES = (60, 120, 420)
FORMATS = (
    ("rfc5555", ""),
    ("rfc5555", ""),
    ("rfc5555", "force_udp = true"),
    ("rfc5555+rfc5845-tlv", "tlv = true"),
    ("draft-00", "tlv = true\nforce_udp = true"),
    ("rfc5555", PROTECTED),
)

HEALED = 45.0
"""Seconds after which both ends agree again at the latest: the longest retry is 32 s, of a Binding Update
as of a DNS question, which DNS may have left unanswered for 10 s before; duplicates take 1 s to detect.
If the home agent has forgotten everything, nothing tells the mobile node before its next refresh."""


class Walk:
    """`world` after `steps` random steps; `heal` brings it to rest."""

    def __init__(self, seed: int, home_agents: int = 1) -> None:
        self.seed = seed
        self._rng = rng = Random(seed)
        self._pair = rng.random() < 0.3
        self._forgotten = False
        self.lifetime = rng.choice(LIFETIMES)
        profile, more = rng.choice(FORMATS)
        self._option = rng.random() < 0.3
        self.world = World(
            seed,
            profile=profile,
            more=more,
            protection="option" if self._option else "esp",
            clock_error=rng.choice((0.0, 0.0, 3.0, -8.0, 3600.0, -3e8)),
            mobile_nodes=("laptop", "tablet") if self._pair else ("laptop",),
            agent=rng.choice((BY_ADDRESS, BY_NAME)) if home_agents == 1 else BY_SERVICE,
            home_agents=home_agents,
            lifetime=self.lifetime,
        )
        for name in BOXES:
            box = self.world.networks[name].nat
            assert box is not None
            few = range(7000, 7008) if rng.random() < 0.2 else range(1024, 65536)
            timeout = rng.choice((30.0, 120.0, 300.0))
            mapping, filtering = rng.choice(list(Dependence)), rng.choice(list(Dependence))
            box.behaviour = Behaviour(mapping, filtering, timeout, rng.random() < 0.5, few)
        self._choices: list[tuple[Callable[[], None], int]] = [
            (self._move, 30),
            (self._unplug, 10),
            (self._renumber, 3),
            (self._change_weather, 15),
            (self._clear_up, 6),
            (self._shake_nat, 6),
            (self._restart_home_agent, 3),
            (self._restart_mobile_node, 4),
            (self._doze, 3),
            (self._ask, 8),
            (self._revoke, 2),
            (self._trouble_dns, 3),
            (self._talk, 30),
            (self._replay, 12),
            (self._spoof, 6),
        ]

    # ---- the walk --------------------------------------------------------------------------
    def go(self, steps: int) -> Walk:
        works, weights = [work for work, _ in self._choices], [weight for _, weight in self._choices]
        for work in self._rng.choices(works, weights, k=steps):
            work()
            self.world.run(self._pause())
        return self

    def heal(self) -> float:
        """End all trouble and plug in; the seconds until both ends agree. Then payload must pass."""
        world, node = self.world, self.world.laptop
        world.fair()
        world.dns.silent, world.dns.problem = False, None
        for agent in world.agents:
            if not agent.running:
                agent.start()
        for host in world.nodes.values():
            self._revive(host)
            host.unplug("wlan0")
        world.plug("eth0", self._rng.choice([n for n in sorted(world.networks) if n != "trap"])).run(0.5)
        refresh = 0.8 * self.lifetime if self._forgotten else 0.0
        took = world.run_until(self._is_settled, HEALED + refresh)
        if world.passes():
            # The NAT may have forgotten a mapping, or the home agent everything, since the last update.
            world.run(self.lifetime + 5.0)
            world.run_until(self._is_settled, HEALED)
            node.refresh()  # this NAT may wait half a minute only
            world.run(1.0)
            assert world.passes() == [], world.protocol()
        assert node.node.summary() == ("home" if node.at_home else "bound", None), world.protocol()
        return took

    def _is_settled(self) -> bool:
        return self.world.is_home() or self.world.is_bound()

    def _revive(self, host: MobileHost) -> None:
        if not host.running:
            host.start()
        if not host.awake:
            host.wake()

    def _pause(self) -> float:
        rng = self._rng
        kind = rng.random()
        if kind < 0.45:
            return rng.random() * 0.2
        if kind < 0.85:
            return rng.random() * 4.0
        return rng.random() * (40.0 if kind < 0.97 else 400.0)

    # ---- steps -----------------------------------------------------------------------------
    def _host(self) -> MobileHost:
        return self._rng.choice(list(self.world.nodes.values()))

    def _move(self) -> None:
        network = self._rng.choice(sorted(self.world.networks))
        self.world.plug(self._rng.choice(INTERFACES), network, self._host())

    def _unplug(self) -> None:
        self.world.unplug(self._rng.choice(INTERFACES), self._host())

    def _renumber(self) -> None:
        interface, host = self._rng.choice(INTERFACES), self._host()
        network = host.network(interface)
        if network is not None and network.name not in ("home", "trap"):
            self.world.tell(f"renumber {interface}")
            host.renumber(interface)

    def _change_weather(self) -> None:
        down = self._rng.choice(WEATHERS) if self._rng.random() < 0.5 else None
        network = self._rng.choice(sorted(self.world.networks))
        self.world.weather(network, self._rng.choice(WEATHERS), down)

    def _clear_up(self) -> None:
        self.world.tell("fair weather everywhere")
        self.world.fair()

    def _shake_nat(self) -> None:
        network = self.world.networks[self._rng.choice(BOXES)]
        assert network.nat is not None
        if self._rng.random() < 0.5:
            self.world.tell(f"flush the NAT of {network.name}")
            network.nat.flush()
        else:
            public = IPv4Address(f"192.0.2.{200 + 10 * BOXES.index(network.name) + self._rng.randrange(10)}")
            self.world.tell(f"move the NAT of {network.name} to {public}")
            network.move_nat(public)

    def _restart_home_agent(self) -> None:
        agent = self._rng.choice(self.world.agents)
        if agent.running:
            self.world.tell(f"{agent.name} dies")
            agent.crash()
            self.world.run(self._rng.choice((0.0, 0.5, 5.0, 60.0)))
        remember = self._rng.random() < 0.7 or not agent.may_forget
        self.world.tell(f"{agent.name} starts, remember={remember}")
        agent.start(remember=remember)
        self._forgotten = self._forgotten or not remember

    def _restart_mobile_node(self) -> None:
        host = self._host()
        self._revive(host)
        self.world.tell(f"{host.name} dies")
        host.crash()
        self.world.run(self._rng.choice((0.0, 0.2, 3.0)))
        remember = self._rng.random() < 0.7 or not host.may_forget
        self.world.tell(f"{host.name} starts, remember={remember}")
        host.start(remember=remember)

    def _doze(self) -> None:
        host = self._host()
        self.world.tell(f"{host.name} {'sleeps' if host.awake else 'wakes up'}")
        if host.awake:
            host.sleep()
            self.world.run(self._rng.choice((0.5, 20.0, 600.0)))
        host.wake()

    def _ask(self) -> None:
        host = self._host()
        if self._rng.random() < 0.4:
            times = self._rng.choice((1, 1, 1, 5, 20))
            self.world.tell(f"{host.name}: refresh {times} times")
            for _ in range(times):
                host.refresh()
                self.world.run(0.05)
        else:
            to, family = self._rng.choice((*INTERFACES, None)), self._rng.choice((4, 6, None))
            self.world.tell(f"{host.name}: roam {to} {family}")
            host.tell(Roam(to, family))

    def _revoke(self) -> None:
        self.world.tell("the operator drops the laptop")
        self._rng.choice(self.world.agents).tell(Revoke(LAPTOP6))

    def _trouble_dns(self) -> None:
        dns = self.world.dns
        dns.silent = self._rng.random() < 0.3
        dns.problem = "SERVFAIL" if self._rng.random() < 0.3 else None
        self.world.tell(f"DNS: silent={dns.silent}, problem={dns.problem}")

    def _talk(self) -> None:
        """Payload in all directions: the law sees to it that it goes nowhere else."""
        for host in self.world.nodes.values():
            for family in (6, 4):
                self.world.call(host, family)
                self.world.reply(host, family)
        if self._pair:
            self.world.reply(self.world.laptop, 6, to=TABLET6)

    def _replay(self) -> None:
        """Mallory sends again what she has heard, as it was or with another source, whole or damaged."""
        recorded = self.world.internet.recorded
        if not recorded:
            return
        for _ in range(self._rng.randrange(1, 8)):
            datagram = self._rng.choice(recorded)
            kind = self._rng.random()
            if self._option and datagram.destination not in (HA6, HA4):
                continue  # test_attacks: a recorded correction of the clock is believed more than once
            if _is_control(datagram):
                if kind < 0.3:
                    mallory: Address = MALLORY4 if datagram.source.version == 4 else MALLORY6
                    datagram = replace(datagram, source=mallory, source_port=self._rng.randrange(65536))
                elif kind < 0.5:
                    octets = bytearray(datagram.payload)
                    octets[self._rng.randrange(len(octets))] ^= 1 << self._rng.randrange(8)
                    datagram = replace(datagram, payload=bytes(octets), damaged=True)
                self.world.inject(datagram)

    def _spoof(self) -> None:
        """Mallory pretends to be a mobile node, from her own address."""
        for home, other in ((LAPTOP6, CORRESPONDENT6), (LAPTOP4, CORRESPONDENT4)):
            packet = self.world.forge(home, other)
            port = self._rng.randrange(65536)
            self.world.inject(Datagram(MALLORY4, HA4, PROTOCOL_UDP, packet, port, 4191))
            protocol = PROTOCOL_IPV6 if home.version == 6 else PROTOCOL_IPV4
            self.world.inject(Datagram(MALLORY6, HA6, protocol, packet))


def _is_control(datagram: Datagram) -> bool:
    """Payload is not protected: replaying it is what any router can do, and says nothing."""
    if datagram.in_udp:
        octets = datagram.payload
        return len(octets) > 6 and octets[0] >> 4 == 6 and octets[6] in (PROTOCOL_ESP, PROTOCOL_MOBILITY)
    return datagram.protocol not in (PROTOCOL_IPV4, PROTOCOL_IPV6)
