"""A mobile node on a timed script, and a home agent that answers as the test says, in real octets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address
from random import Random

from mn_agent.actions import (
    Action,
    AskDhcp,
    AskDns,
    AskRouters,
    InstallRoutes,
    Report,
    SendControl,
    SendEcho,
    SendProbe,
)
from mn_agent.binding_update_list import HomeAgent
from mn_agent.config import Configuration, parse_configuration
from mn_agent.events import (
    ControlReceived,
    DhcpSaid,
    EchoHeard,
    Event,
    HomeAgentsFound,
    NetworkChanged,
    ProbeAnswered,
    RouterSaid,
)
from mn_agent.memory import Memory
from mn_agent.node import MobileNode
from movement.snapshot import DefaultRouter, Link, LinkAddress, Snapshot
from tunnel.envelope import ControlPacket, OpenedControl, open_control, seal_control
from tunnel.forwarding import Route
from tunnel.path import Arrival, TunnelPath
from tunnel.protection import PayloadKey
from tunnel.replay import ReplayWindow
from tunnel.security import Encryption, Integrity, KeyPair, Opener, Sealer, SecurityAssociation
from wire.advertisement import WayOut
from wire.mobility import AckFlag, BindingAck, BindingUpdate
from wire.options import NO_KEEPALIVE, Ipv4AddressAck, Ipv4HomeAddress, NatDetection, Option, first
from wire.probe import Probe
from wire.profile import Profile

HOME6 = IPv6Address("2001:db8:99::77")
HOME4 = IPv4Address("203.0.113.77")
AGENT6 = IPv6Address("2001:db8:99::2")
AGENT4 = IPv4Address("203.0.113.2")
AGENT = HomeAgent("ha.example.net", AGENT6, AGENT4)
OFFICE6 = IPv6Address("2001:db8:a::10")
CAMPUS6 = IPv6Address("2001:db8:c::10")
MOBILE4 = IPv4Address("198.51.100.10")
CAFE4 = IPv4Address("192.168.7.10")

NO_FLAGS = AckFlag(0)
PAYLOAD_KEY = PayloadKey(bytes(range(32)))

CONFIGURATION = """
[home]
ipv6 = "2001:db8:99::77"
ipv4 = {ipv4}
[home_agent]
{agent}
[security]
key_file = "/etc/mn-agent/keys.toml"
{more}
"""


def configuration(
    ipv4: str = '"203.0.113.77"',
    agent: str = 'ipv6 = "2001:db8:99::2"\nipv4 = "203.0.113.2"',
    more: str = "",
) -> Configuration:
    text = CONFIGURATION.format(ipv4=ipv4, agent=agent, more=more)
    return parse_configuration(text if ipv4 else text.replace("ipv4 = \n", "", 1))


def keys() -> KeyPair:
    def association(spi: int, octet: int) -> SecurityAssociation:
        return SecurityAssociation(spi, Integrity.HMAC_SHA256_128, bytes([octet]) * 32, Encryption.NULL, b"")

    return KeyPair(association(0x1001, 1), association(0x1002, 2))


def link(name: str, *addresses: IPv4Address | IPv6Address, index: int = 2, up: bool = True) -> Link:
    """A link with a default router for each family that it has an address of."""
    routers = tuple(
        DefaultRouter(family, IPv4Address("192.0.2.1") if family == 4 else IPv6Address("fe80::1"), 100)
        for family in sorted({a.version for a in addresses})
    )
    return Link(
        index, name, up, 1500, tuple(LinkAddress(a, 24 if a.version == 4 else 64) for a in addresses), routers
    )


def heard(echo: SendEcho) -> EchoHeard:
    """The answer to an echo request."""
    place = echo.attachment
    return EchoHeard(
        place.interface, place.care_of, echo.remote, echo.identifier, echo.sequence, echo.data
    )


@dataclass
class Sent:
    """A Binding Update as the home agent reads it."""

    action: SendControl
    packet: ControlPacket
    protected: bool

    @property
    def update(self) -> BindingUpdate:
        assert isinstance(self.packet.message, BindingUpdate)
        return self.packet.message


@dataclass
class Script:
    """Drives one mobile node through time: at -> event -> look at what it did."""

    config: Configuration = field(default_factory=configuration)
    memory: Memory = field(default_factory=lambda: Memory(100, 5000))
    seed: int = 7
    answers_echoes: bool = True
    """The home agent answers every echo at once, and routers say that there is nothing special with them."""
    passes: Callable[[TunnelPath, int], bool] = lambda path, size: True
    """Whether a path carries an inner packet of that many octets to the home agent and back."""

    def __post_init__(self) -> None:
        self.now = 0.0
        self.keys = keys()
        self.node = MobileNode(
            self.config, self.keys, self.memory, Random(self.seed), 0.0, payload_key=PAYLOAD_KEY
        )
        self.agent_opener = Opener(self.keys.update, ReplayWindow())
        self.agent_sealer = Sealer(self.keys.ack, 1)
        self.actions: list[Action] = []
        self.all_actions: list[Action] = []
        self.routes: tuple[Route, ...] = ()
        self.sent: list[Sent] = []
        self.echoes: list[SendEcho] = []
        """Every echo request of this run."""
        self.probes: list[Probe] = []
        """Every probe of this run."""

    def at(self, now: float) -> Script:
        assert now >= self.now, "time does not run backwards"
        due = self.node.deadline()
        assert due is None or now <= due.at + 1e-9, f"slept past {due}"
        self.now = now
        return self

    def feed(self, event: Event) -> Script:
        return self._take(self.node.handle(event, self.now))

    def wakes(self, reason: str) -> Script:
        """The next timer is due now, and has this name."""
        due = self.node.deadline()
        assert due is not None
        assert due.reason == reason, due
        assert abs(due.at - self.now) < 1e-6, due
        return self._take(self.node.tick(self.now))

    def sleep(self) -> str:
        """Sleep until the next timer and run it; returns its name."""
        due = self.node.deadline()
        assert due is not None, "nothing would ever wake this node"
        self.now = max(self.now, due.at)
        self._take(self.node.tick(self.now))
        return due.reason

    def links(self, *links: Link) -> Script:
        return self.feed(NetworkChanged(Snapshot(links), self.now))

    def found(self, *agents: HomeAgent) -> Script:
        return self.feed(HomeAgentsFound(agents))

    def _take(self, actions: list[Action]) -> Script:
        self.echoes += [action for action in actions if isinstance(action, SendEcho)]
        if self.answers_echoes:
            for echo in [action for action in actions if isinstance(action, SendEcho)]:
                actions = [*actions, *self.node.handle(heard(echo), self.now)]
        for asked in [action for action in actions if isinstance(action, AskRouters)]:
            if self.answers_echoes:
                actions = [*actions, *self.node.handle(RouterSaid(asked.interface, WayOut()), self.now)]
        for told in [action for action in actions if isinstance(action, AskDhcp)]:
            if self.answers_echoes:
                actions = [*actions, *self.node.handle(DhcpSaid(told.interface, None), self.now)]
        for probe in [action.probe for action in actions if isinstance(action, SendProbe)]:
            self.probes.append(probe)
            if self.passes(self._path_after(actions), probe.size):
                actions = [*actions, *self.node.handle(ProbeAnswered(probe), self.now)]
        self.actions = actions
        self.sent = [self.read(action) for action in actions if isinstance(action, SendControl)]
        self.all_actions += actions
        for action in actions:
            if isinstance(action, InstallRoutes):
                self.routes = action.routes
        return self

    def _path_after(self, actions: list[Action]) -> TunnelPath:
        installed = [action.routes for action in actions if isinstance(action, InstallRoutes)]
        return (installed[-1] if installed else self.routes)[0].path

    # ---- what it did -----------------------------------------------------------------------
    def one(self) -> Sent:
        """The only Binding Update of the last event."""
        assert len(self.sent) == 1, self.sent
        return self.sent[0]

    def nothing(self) -> Script:
        assert self.sent == []
        return self

    @property
    def questions(self) -> list[AskDns]:
        return [action for action in self.actions if isinstance(action, AskDns)]

    def reports(self, event: str) -> list[Report]:
        return [a for a in self.actions if isinstance(a, Report) and a.event == event]

    @property
    def path(self) -> TunnelPath:
        """The path of the payload."""
        paths = {route.path for route in self.routes}
        assert len(paths) == 1, paths
        return paths.pop()

    @property
    def homes(self) -> set[str]:
        """The home addresses that are tunnelled."""
        return {str(route.prefix.network_address) for route in self.routes}

    @property
    def state(self) -> str:
        return self.node.summary()[0]

    def read(self, action: SendControl) -> Sent:
        opened = open_control(action.packet, {0x1001: self.agent_opener}, self.config.profile)
        assert isinstance(opened, OpenedControl), opened
        return Sent(action, opened.packet, opened.spi is not None)

    # ---- the home agent's side -------------------------------------------------------------
    def answer(
        self,
        to: Sent,
        *,
        status: int = 0,
        lifetime: int | None = None,
        sequence: int | None = None,
        refresh: int | None = NO_KEEPALIVE,
        force_udp: bool = False,
        flags: AckFlag = NO_FLAGS,
        ipv4: Option | None = None,
        without_ipv4: bool = False,
        options: tuple[Option, ...] = (),
        protect: bool = True,
        source: IPv6Address = AGENT6,
        profile: Profile | None = None,
    ) -> Script:
        """A Binding Acknowledgement for `to`, as a home agent following the draft writes it."""
        asked = first(to.update.options, Ipv4HomeAddress)
        every: list[Option] = list(options)
        if ipv4 is not None:
            every.append(ipv4)
        elif asked is not None and not without_ipv4:
            address = HOME4 if asked.address.is_unspecified else asked.address
            every.append(Ipv4AddressAck(0, address))
        in_udp = to.packet.home_address_option is None
        if in_udp and refresh is not None:
            every.append(NatDetection(force_udp, refresh))
        ack = BindingAck(
            status,
            to.update.sequence if sequence is None else sequence,
            to.update.lifetime if lifetime is None else lifetime,
            flags,
            tuple(every),
        )
        if in_udp:
            packet = ControlPacket(source, HOME6, ack)
        else:
            packet = ControlPacket(source, to.packet.source, ack, routing_home_address=HOME6)
        sealer = self.agent_sealer if protect else None
        return self.receive(seal_control(packet, sealer, profile or self.config.profile), to)

    def receive(self, octets: bytes, to: Sent) -> Script:
        arrival = Arrival(to.action.care_of, to.action.remote, 40000, to.action.port)
        return self.feed(ControlReceived(octets, arrival))

    def bind(self, *links: Link, **answer: object) -> Sent:
        """Attach to `links` and be accepted at once."""
        self.links(*links)
        sent = self.one()
        self.answer(sent, **answer)  # type: ignore[arg-type]
        assert self.state == "bound"
        return sent
