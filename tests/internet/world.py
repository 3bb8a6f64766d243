"""The stage: networks, home agents, mobile nodes, correspondents, and what a test may do and ask.

Pure. Everything random comes from one seed, so that a run repeats exactly.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from random import Random

from home_agent.binding_cache import Binding
from tests.internet import cast
from tests.internet.dns import Dns
from tests.internet.home_host import HomeHost
from tests.internet.home_link import HomeLink
from tests.internet.internet import AccessNetwork, Internet
from tests.internet.law import Law
from tests.internet.mobile_host import MobileHost
from tests.internet.nat import CONE, SYMMETRIC, Behaviour, Dependence, Nat
from tests.internet.payload import addresses_of, number_of, packet
from tests.internet.timeline import Timeline
from tests.internet.weather import FAIR, Address, Datagram, Weather
from wire.serial import is_newer16

CAREFUL = Behaviour(Dependence.ENDPOINT_INDEPENDENT, Dependence.ADDRESS_AND_PORT)


class World:
    """`home_agents` of them share one home link; `agent` is how the mobile nodes find them."""

    def __init__(
        self,
        seed: int = 1,
        *,
        mobile_nodes: tuple[str, ...] = ("laptop",),
        home_agents: int = 1,
        agent: str = cast.BY_ADDRESS,
        lifetime: int = 420,
        protection: str = "esp",
        clock_error: float = 0.0,
        profile: str = "rfc5555",
        more: str = "",
    ) -> None:
        """`protection`, of messages, is "esp" or "option" (RFC 4285); `more` are lines for the mobile nodes'
        [tunnel], and where they are `cast.PROTECTED` for that of the home agents as well.
        """
        self.seed = seed
        self.rng = Random(seed)
        self.timeline = Timeline()
        self.law = Law(self.timeline)
        self.law.refusals_to_anybody = protection == "option"
        self.law.payload_is_protected = more == cast.PROTECTED
        ours = more if more == cast.PROTECTED else ""
        self.internet = Internet(self.timeline, self.rng)
        self.home_link = HomeLink(self.timeline)
        self.dns = Dns(self.timeline, cast.AGENTS[:home_agents])
        self.story: deque[str] = deque(maxlen=400)
        """What the test did, and when."""
        self.arrived: dict[int, float] = {}
        """Number of a payload packet -> when it reached its destination."""
        self._numbers = itertools.count(1)
        self.networks = self._networks()
        self.home_link.hosts = lambda: self.networks["home"].present
        names = [agent.name for agent in cast.AGENTS[:home_agents]]
        for known in cast.AGENTS[:home_agents]:
            self.law.home_agent_addresses |= {a for a in (known.ipv6, known.ipv4) if a is not None}
        keys = {home: cast.keys_for(name, protection) for name, home in cast.HOMES.items()}
        self.agents = [
            HomeHost(
                name,
                self.timeline,
                self.rng,
                self.law,
                self.internet,
                self.home_link,
                cast.home_agent_configuration(number, profile, ours),
                keys,
            )
            for number, name in enumerate(names)
        ]
        self.nodes = {
            name: MobileHost(
                name,
                self.timeline,
                self.rng,
                self.law,
                self.dns,
                cast.mobile_node_configuration(name, agent, lifetime, profile, more),
                cast.keys_for(name, protection),
                clock_error,
            )
            for name in mobile_nodes
        }
        for home in self.agents:
            home.forwarded = self._reached_correspondent
        for node in self.nodes.values():
            node.received = self._reached_mobile_node
            node.in_clear = self._left_in_clear

    def _networks(self) -> dict[str, AccessNetwork]:
        net, rng = self.internet, self.rng
        networks = (
            AccessNetwork(net, "office", ipv6="2001:db8:a::/64"),
            AccessNetwork(net, "campus", ipv6="2001:db8:c::/64"),
            AccessNetwork(net, "mobile", ipv4="198.51.100.0/24", mtu=1420),
            AccessNetwork(net, "street", ipv4="192.0.2.128/26"),
            AccessNetwork(net, "cafe", ipv4="192.168.7.0/24", nat=Nat(IPv4Address("192.0.2.100"), rng, CONE)),
            AccessNetwork(
                net, "hotel", ipv4="10.0.0.0/24", nat=Nat(IPv4Address("192.0.2.101"), rng, SYMMETRIC)
            ),
            AccessNetwork(
                net,
                "town",
                ipv6="2001:db8:d::/64",
                ipv4="172.16.3.0/24",
                nat=Nat(IPv4Address("192.0.2.102"), rng, CAREFUL),
                lease_delay=0.2,
            ),
            AccessNetwork(net, "home", ipv6="2001:db8:99::/64", ipv4="203.0.113.0/24"),
            AccessNetwork(net, "trap", ipv6="2001:db8:99::/64", forged=True),
        )
        return {network.name: network for network in networks}

    # ---- who is there ----------------------------------------------------------------------
    @property
    def laptop(self) -> MobileHost:
        return self.nodes["laptop"]

    @property
    def tablet(self) -> MobileHost:
        return self.nodes["tablet"]

    @property
    def agent(self) -> HomeHost:
        return self.agents[0]

    @property
    def now(self) -> float:
        return self.timeline.now

    def tell(self, text: str) -> None:
        """One line of the story."""
        self.story.append(f"{self.now:.6f} {text}")

    # ---- time ------------------------------------------------------------------------------
    def run(self, seconds: float) -> World:
        """Let time pass. A breach of the law ends the test at the instant at which it happens."""
        until = self.now + seconds
        timeline, breaches = self.timeline, self.law.breaches
        while (at := timeline.next_at()) is not None and at <= until:
            timeline.step()
            if breaches:
                raise AssertionError(self.protocol())
        timeline.now = until
        return self

    def run_until(self, condition: Callable[[], bool], within: float) -> float:
        """Let time pass until `condition` holds; how long that took. It fails after `within` seconds."""
        start = self.now
        while not condition():
            at = self.timeline.next_at()
            if at is None or at > start + within:
                raise AssertionError(f"not within {within} s\n{self.protocol()}")
            self.timeline.step()
            if self.law.breaches:
                raise AssertionError(self.protocol())
        return self.now - start

    # ---- moves -----------------------------------------------------------------------------
    def plug(self, interface: str, network: str, node: MobileHost | None = None) -> World:
        self.tell(f"plug {interface} into {network}")
        (node or self.laptop).plug(interface, self.networks[network])
        return self

    def unplug(self, interface: str, node: MobileHost | None = None) -> World:
        self.tell(f"unplug {interface}")
        (node or self.laptop).unplug(interface)
        return self

    def weather(self, network: str, up: Weather, down: Weather | None = None) -> World:
        self.tell(f"weather in {network}: {up} {down}")
        self.networks[network].set_weather(up, down)
        return self

    def fair(self) -> World:
        """Every network is at its best again."""
        for network in self.networks.values():
            network.set_weather(FAIR)
        return self

    # ---- payload ---------------------------------------------------------------------------
    def call(self, node: MobileHost, family: int) -> int:
        """A correspondent sends one packet to a home address; returns its number."""
        number = next(self._numbers)
        destination: Address | None = node.configuration.home.ipv6 if family == 6 else node.ipv4_home
        source: Address = cast.CORRESPONDENT6 if family == 6 else cast.CORRESPONDENT4
        if destination is not None:
            self.law.receivers[number] = node.name
            neighbour = self.home_link.neighbour(destination)
            for agent in self.agents:
                if agent.name == neighbour:
                    agent.send(packet(source, destination, number))
            if neighbour is None and destination in self.networks["home"].present and node.at_home:
                self._arrive(number)
        return number

    def reply(self, node: MobileHost, family: int, to: Address | None = None) -> int:
        """The mobile node sends one packet from a home address, to the correspondent; returns its number."""
        number = next(self._numbers)
        source: Address | None = node.configuration.home.ipv6 if family == 6 else node.ipv4_home
        correspondent: Address = cast.CORRESPONDENT6 if family == 6 else cast.CORRESPONDENT4
        if source is not None:
            node.send(packet(source, to or correspondent, number))
        return number

    def forge(self, source: Address, destination: Address) -> bytes:
        """A payload packet that nobody honest has sent."""
        number = next(self._numbers)
        self.law.forged.add(number)
        return packet(source, destination, number)

    def inject(self, datagram: Datagram) -> None:
        """Somebody in the core sends `datagram`, whatever its source address says."""
        self.internet.carry(datagram)

    def passes(self, node: MobileHost | None = None, within: float = 1.0) -> list[str]:
        """Send one packet each way in each family; which of them do not arrive. Empty: all is well."""
        host = node or self.laptop
        sent = {
            f"{way} {family}": send(host, family)
            for way, send in (("to", self.call), ("from", self.reply))
            for family in (6, 4)
        }
        self.run(within)
        return [which for which, number in sent.items() if number not in self.arrived]

    def _reached_mobile_node(self, octets: bytes, datagram: Datagram) -> None:
        if not datagram.damaged:
            self._arrive(number_of(octets))

    def _reached_correspondent(self, octets: bytes, datagram: Datagram) -> None:
        if not datagram.damaged and addresses_of(octets)[1] in (cast.CORRESPONDENT6, cast.CORRESPONDENT4):
            self._arrive(number_of(octets))

    def _left_in_clear(self, octets: bytes) -> None:
        if addresses_of(octets)[1] in (cast.CORRESPONDENT6, cast.CORRESPONDENT4):
            self._arrive(number_of(octets))

    def _arrive(self, number: int) -> None:
        self.arrived.setdefault(number, self.now)

    # ---- what is so ------------------------------------------------------------------------
    def binding(self, node: MobileHost | None = None) -> Binding | None:
        """The only binding that any running home agent has for `node`."""
        home = (node or self.laptop).configuration.home.ipv6
        found = [b for agent in self.agents if agent.running and (b := agent.binding(home)) is not None]
        assert len(found) <= 1, found
        return found[0] if found else None

    def is_bound(self, node: MobileHost | None = None) -> bool:
        """Both ends agree, and about a place where the mobile node is."""
        host = node or self.laptop
        mine = host.node.registration.binding
        if mine is None or host.at_home or not host.running or mine.target.care_of not in host.addresses:
            return False
        home, chosen = host.configuration.home.ipv6, mine.target.home_agent.ipv6
        theirs = [agent.binding(home) for agent in self.agents if agent.running and agent.ipv6 == chosen]
        return any(
            b is not None
            and (b.care_of, b.encapsulation) == (mine.target.care_of, mine.path.encapsulation)
            and not is_newer16(mine.sequence, b.sequence)  # the answers to later tries may be under way
            for b in theirs
        )

    def is_home(self, node: MobileHost | None = None) -> bool:
        """Both ends agree that there is no binding, and the home addresses are on the home link."""
        host = node or self.laptop
        home = host.configuration.home.ipv6
        released = all(agent.binding(home) is None for agent in self.agents if agent.running)
        return host.at_home and released and home in self.networks["home"].present

    def come_home(self, interface: str = "eth0", node: MobileHost | None = None) -> World:
        self.plug(interface, "home", node).run_until(lambda: self.is_home(node), 10.0)
        return self

    def bind(self, network: str, interface: str = "eth0", node: MobileHost | None = None) -> World:
        """Plug in and wait until both ends agree."""
        self.plug(interface, network, node)
        place = self.networks[network]
        host = node or self.laptop
        self.run_until(lambda: self.is_bound(host) and self.is_in(place, host), 10.0)
        return self

    def is_in(self, network: AccessNetwork, node: MobileHost | None = None) -> bool:
        """The mobile node's binding leads through this network."""
        host = node or self.laptop
        binding = host.node.registration.binding
        return binding is not None and host.network(binding.target.attachment.interface) is network

    def protocol(self) -> str:
        """What a person needs to understand a failure; the seed repeats it."""
        breaches = [f"{b.article}: {b.text} (at {b.at:.6f})" for b in self.law.breaches]
        lines = [f"seed {self.seed}, now {self.now:.6f}", *breaches, "---- story", *self.story]
        drivers = [(n.name, n.driver.flight) for n in self.nodes.values()]
        for name, flight in drivers:
            lines.append(f"---- flight record of {name}")
            lines += [_line(r.now, r.event, r.actions, r.fault) for r in flight.records[-40:]]
        for agent in self.agents:
            lines.append(f"---- flight record of {agent.name}")
            lines += [_line(r.now, r.event, r.actions, r.fault) for r in agent.driver.flight.records[-40:]]
        return "\n".join(lines)


def _line(now: float, event: object, actions: tuple[object, ...], fault: str | None) -> str:
    done = ", ".join(_short(action) for action in actions)
    return f"{now:.6f} {_short(event)} -> [{done}]{f' FAULT {fault}' if fault else ''}"


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 160 else f"{text[:157]}..."


@dataclass(slots=True)
class Stream:
    """Packets each way in each family, every `period` seconds, and the holes in them."""

    world: World
    node: MobileHost
    period: float = 0.02
    sent: dict[str, list[tuple[float, int]]] = field(default_factory=dict)
    stopped: bool = False

    def start(self) -> Stream:
        self._beat()
        return self

    def stop(self) -> Stream:
        self.stopped = True
        return self

    def _beat(self) -> None:
        if self.stopped:
            return
        world = self.world
        for way, send in (("to", world.call), ("from", world.reply)):
            for family in (6, 4):
                self.sent.setdefault(f"{way} {family}", []).append((world.now, send(self.node, family)))
        world.timeline.after(self.period, self._beat)

    def lost(self, which: str) -> int:
        return sum(number not in self.world.arrived for _, number in self.sent[which])

    def longest_gap(self, which: str) -> float:
        """The longest time during which everything sent was lost, in seconds."""
        longest = run = 0.0
        for _, number in self.sent[which]:
            run = 0.0 if number in self.world.arrived else run + self.period
            longest = max(longest, run)
        return longest
