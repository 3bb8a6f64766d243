"""A host with a real MobileNode, a real Endpoint, the real Driver, and links that are plugged in and out.

Pure. It follows mn_agent.shell, with datagrams in place of sockets and a dictionary in place of the disk.
"""

from __future__ import annotations

import json
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from ipaddress import IPv4Address
from random import Random
from typing import assert_never

from mn_agent.actions import (
    Action,
    AnnounceHome,
    AnnouncePath,
    AskDhcp,
    AskDns,
    AskNat64,
    AskPathUse,
    AskRouters,
    ConfigureEndpoint,
    ConfigureKernel,
    DeliverKept,
    ExpectLinks,
    FetchPage,
    Finished,
    InstallRoutes,
    KeepUnderlays,
    ListenOnLinks,
    ProbeLink,
    Remember,
    RememberNetworks,
    Report,
    SendAgain,
    SendControl,
    SendEcho,
    SendIcmp,
    SendOnLink,
    SendProbe,
    WatchLink,
)
from mn_agent.config import Configuration
from mn_agent.desired import home_addresses
from mn_agent.events import (
    ControlReceived,
    EchoHeard,
    Event,
    LinkUnusable,
    NeighbourAnswered,
    NetworkChanged,
    PathLastUsed,
    PathSilent,
    ProbeAnswered,
    Refresh,
    Resumed,
    RouterSaid,
)
from mn_agent.memory import ESP_EPOCH, recall
from mn_agent.node import MobileNode
from movement.known_networks import KnownNetworks, recall_networks
from movement.policy import Attachment
from movement.snapshot import Link, Snapshot
from movement.visit import Ask
from runtime.driver import Driver, Fault
from tests.internet.cast import payload_key_of
from tests.internet.dns import Dns
from tests.internet.echo import ECHO_PROTOCOLS, ECHO_REPLIES, echo_datagram
from tests.internet.internet import AccessNetwork
from tests.internet.law import Law
from tests.internet.plane import Carrier, Plane
from tests.internet.probe import answer_in, request_of
from tests.internet.timeline import Timeline, VirtualTimer
from tests.internet.weather import Address, Datagram
from tunnel.authentication import Keys
from tunnel.endpoint import Role
from tunnel.forwarding import ForwardingTable
from tunnel.kernel import KernelConfig
from tunnel.path import Arrival
from wire.advertisement import WayOut
from wire.echo import Echo, decode_reply
from wire.ip import PROTOCOL_UDP
from wire.router_probes import ArpReply

HINT = 0.001
"""Seconds from a change of the kernel to the snapshot that shows it (movement.sources coalesces)."""
CARRIER = 0.002
"""Seconds between two networks at one interface: long enough for a snapshot to show it."""
EPOCH = 1_800_000_000.0
"""What the wall clock says at instant 0 of the timeline."""
INTERFACES = {"eth0": 2, "wlan0": 3}
EPHEMERAL = range(32768, 61000)


class MobileHost:
    """`received` takes what came out of the tunnel: (octets, instant)."""

    def __init__(
        self,
        name: str,
        timeline: Timeline,
        rng: Random,
        law: Law,
        dns: Dns,
        configuration: Configuration,
        keys: Keys,
        clock_error: float = 0.0,
    ) -> None:
        self.name = name
        self.configuration = configuration
        self.keys = keys
        self.disk: str = "{}"
        self.networks = KnownNetworks().as_json(0.0)
        """The memory of networks, on the disk as well."""
        self.clock_error = clock_error
        """Seconds by which the wall clock of this host is fast; an agent notices when it starts."""
        self.reports: deque[tuple[float, Report]] = deque(maxlen=200)
        self.received: Callable[[bytes, Datagram], None] = lambda packet, datagram: None
        self.in_clear: Callable[[bytes], None] = lambda packet: None
        """Takes what leaves without a tunnel, at home."""
        self.kernel: KernelConfig | None = None
        self.home_interface = ""
        self.finished = False
        self.updates = 0
        self.echoes = 0
        self.awake = True
        self._slept, self._lay_down_at = 0.0, 0.0
        self.running = False
        self._timeline = timeline
        self._rng = rng
        self._law = law
        self._dns = dns
        self._own: dict[Address, str] = {}
        """Addresses that the agent has put on an interface: its home addresses, at home."""
        self._wanted: dict[str, AccessNetwork] = {}
        self._plugs: dict[str, tuple[AccessNetwork, tuple[Address, ...]]] = {}
        self._carrier_losses: Counter[str] = Counter()
        self._pending_snapshot = False
        self.start()

    # ---- the agent's life ------------------------------------------------------------------
    def start(self, *, remember: bool = True, next_sequence: int | None = None) -> None:
        """Run the agent, with what it has on disk or with nothing."""
        now = self._timeline.now
        document = json.loads(self.disk) if remember else {}
        if next_sequence is not None:
            document["next_sequence"] = next_sequence
        offset = EPOCH + self.clock_error
        memory = recall(document, self._rng.getrandbits(16), offset + now)
        rng = Random(self._rng.getrandbits(32))
        payload_key = payload_key_of(self.name)
        networks = recall_networks(self.networks, now, offset) if remember else KnownNetworks()
        self.node = MobileNode(self.configuration, self.keys, memory, rng, now, offset, payload_key, networks)
        random_bytes = Random(self._rng.getrandbits(32)).randbytes
        self.plane = Plane(Role.MOBILE_NODE, self._on_control, self._deliver, self._clock, random_bytes)
        self.plane.on_silence = lambda: self.driver.dispatch(PathSilent())
        self._carriers: dict[tuple[str, Address], Carrier] = {}
        self.timer = VirtualTimer(self._timeline, self._wake)
        self.driver: Driver[Event, Action] = Driver(
            self.node,
            self._perform,
            clock=self._clock,
            on_fault=self._failed,
            timer=self.timer,
            on_slept=self._resumed,
            time_asleep=lambda: self._slept,
            kept=FLIGHT,
        )
        self.running, self.finished = True, False
        self._law.mobile_node_started(self, forgetful=not remember)
        self.driver.start()
        self._hint()

    @property
    def may_forget(self) -> bool:
        """Whether the ESP numbers that it begins with when it knows nothing are above all it has used."""
        used = int(json.loads(self.disk).get("next_esp_sequence", 0))
        return used < EPOCH + self.clock_error + self._timeline.now - ESP_EPOCH

    def crash(self) -> None:
        """kill -9: sockets, TUN device and all that was not on disk are gone; addresses are cleaned up."""
        self.running = False
        self._configure(KernelConfig("mip0", 1400))
        self.home_interface = ""
        self.driver.stop()
        self.plane.carriers.clear()
        self._carriers.clear()
        self.plane.install(ForwardingTable())

    def sleep(self) -> None:
        """The lid is closed: nothing runs, nothing is heard."""
        self.awake = False
        self.timer.asleep = True
        self._lay_down_at = self._timeline.now

    def wake(self) -> None:
        """As after a suspend: CLOCK_BOOTTIME is ahead of CLOCK_MONOTONIC, which the kernel tells of."""
        self.awake = True
        self._slept += self._timeline.now - self._lay_down_at
        self.timer.resume()
        self.driver.wake()
        self._law.mobile_node_stepped(self)
        self._hint()

    def set_clock(self, seconds: float) -> None:
        """Somebody sets the wall clock: the kernel tells of that too, and nothing has slept."""
        self.clock_error += seconds
        self.driver.wake()

    def _resumed(self, slept: float) -> None:
        self.driver.dispatch(NetworkChanged(self.snapshot(), self._timeline.now))
        self.driver.dispatch(Resumed(slept))

    def tell(self, event: Event) -> None:
        """An event from the user, or any other."""
        if self.running and self.awake:
            self.driver.dispatch(event)
            self._law.mobile_node_stepped(self)

    def refresh(self) -> None:
        """`mnctl refresh`."""
        self.tell(Refresh())

    # ---- links -----------------------------------------------------------------------------
    def plug(self, interface: str, network: AccessNetwork) -> None:
        """`interface` is in `network` from now on; if it was in another one, after its carrier was lost."""
        was_plugged = interface in self._plugs
        self.unplug(interface)
        self._wanted[interface] = network
        self._timeline.after(CARRIER if was_plugged else 0.0, partial(self._carrier, interface, network))

    def swap(self, interface: str, network: AccessNetwork) -> None:
        """`network` takes the place of another one before a snapshot shows that: an evil twin."""
        self.unplug(interface)
        self._join(interface, network)

    def _carrier(self, interface: str, network: AccessNetwork) -> None:
        if self._wanted.get(interface) is network and interface not in self._plugs:
            self._join(interface, network)

    def _join(self, interface: str, network: AccessNetwork) -> None:
        addresses = network.addresses(f"{self.name}/{interface}")
        soon = tuple(a for a in addresses if a.version == 6 or not network.lease_delay)
        self._has(interface, network, soon)
        if len(soon) < len(addresses):
            self._timeline.after(
                network.lease_delay, partial(self._leased, interface, network, soon, addresses)
            )

    def unplug(self, interface: str) -> None:
        self._wanted.pop(interface, None)
        network, addresses = self._plugs.pop(interface, (None, ()))
        if network is not None:
            self._carrier_losses[interface] += 1
            for address in (*addresses, *(own for own, where in self._own.items() if where == interface)):
                network.leave(address)
            self._hint()

    def renumber(self, interface: str) -> None:
        """The network gives this host other addresses."""
        plugged = self._plugs.get(interface)
        if plugged is not None:
            plugged[0].renumber(f"{self.name}/{interface}")
            self.plug(interface, plugged[0])

    def network(self, interface: str) -> AccessNetwork | None:
        return self._plugs[interface][0] if interface in self._plugs else None

    @property
    def addresses(self) -> set[Address]:
        given = {address for _, addresses in self._plugs.values() for address in addresses}
        return given | {own for own, interface in self._own.items() if interface in self._plugs}

    def _leased(
        self, interface: str, network: AccessNetwork, soon: tuple[Address, ...], every: tuple[Address, ...]
    ) -> None:
        if self._plugs.get(interface) == (network, soon):
            self._has(interface, network, every)

    def _has(self, interface: str, network: AccessNetwork, addresses: tuple[Address, ...]) -> None:
        self._plugs[interface] = (network, addresses)
        for address in (*addresses, *(own for own, where in self._own.items() if where == interface)):
            network.join(address, partial(self._receive, interface))
        self._hint()

    def _hint(self) -> None:
        if not self._pending_snapshot:
            self._pending_snapshot = True
            self._timeline.after(HINT, self._snapshot_taken)

    def _snapshot_taken(self) -> None:
        self._pending_snapshot = False
        self.tell(NetworkChanged(self.snapshot(), self._timeline.now - HINT, self.plane.received_at))

    def snapshot(self) -> Snapshot:
        return Snapshot(tuple(self._link(name, index) for name, index in INTERFACES.items()))

    def _link(self, name: str, index: int) -> Link:
        plugged = self._plugs.get(name)
        if plugged is None:
            return Link(index, name, False, 1500, carrier_losses=self._carrier_losses[name])
        own = tuple(address for address, interface in self._own.items() if interface == name)
        return replace(
            plugged[0].link(index, name, plugged[1], own), carrier_losses=self._carrier_losses[name]
        )

    # ---- payload ---------------------------------------------------------------------------
    @property
    def at_home(self) -> bool:
        """Whether home addresses are used on a link, without any tunnel."""
        return bool(self.home_interface) and self.running and self.awake

    def send(self, packet: bytes) -> None:
        """An application of this host sends `packet`: through the TUN device, or in clear at home."""
        if self.at_home and self.network(self.home_interface) is None:
            return  # the agent has not heard yet that the link is gone
        if self.at_home:
            self._law.sent_in_clear(self)
            self.in_clear(packet)
        elif self.running and self.awake:
            self.plane.outbound(packet)

    @property
    def ipv4_home(self) -> IPv4Address | None:
        """The configured one, or what the home agent has allocated."""
        homes = home_addresses(self.node.surroundings())
        return next((home for home in homes if isinstance(home, IPv4Address)), None)

    def _deliver(self, packet: bytes, datagram: Datagram) -> None:
        self._law.delivered_to_mobile_node(self, packet, datagram)
        if (probe := answer_in(packet)) is not None:
            if not datagram.damaged:  # the kernel has looked at the checksum
                self.tell(ProbeAnswered(probe))
            return
        self.received(packet, datagram)

    # ---- what the shell does ---------------------------------------------------------------
    def _perform(self, action: Action) -> None:
        match action:
            case KeepUnderlays(attachments=attachments):
                self._keep(attachments)
            case ExpectLinks(interfaces=interfaces):
                self.plane.expect(interfaces)
            case ConfigureEndpoint(config=config):
                self.plane.configure(config)
            case AnnouncePath(path=path, idle=idle):
                self.plane.announce(path, idle)
            case InstallRoutes(routes=routes):
                self._law.routes_installed(self, routes)
                self.plane.install(ForwardingTable(routes))
            case ConfigureKernel(config=config):
                self._configure(config)
            case AnnounceHome(interface=interface):
                self.home_interface = interface
            case SendAgain(homes=homes, since=since):
                self.plane.send_again(homes, since)
            case WatchLink() | SendOnLink() | DeliverKept():
                pass  # no payload is on the home link here
            case SendControl():
                self._send_control(action)
            case SendIcmp(care_of=care_of, remote=remote, port=port, packet=packet):
                self._send_icmp(care_of, remote, port, packet)
            case AskRouters(interface=interface):
                self._timeline.after(HINT, partial(self._router_said, interface))
            case AskDhcp():
                pass  # no DHCP server here knows of portals
            case AskNat64():
                pass  # nobody here has a NAT64
            case FetchPage():
                raise AssertionError("no network here has a captive portal")
            case SendEcho():
                self._send_echo(action)
            case SendProbe():
                self.plane.outbound(request_of(action))
            case AskDns(query=query):
                self._law.dns_asked(self.name)
                self._dns.ask(query, bool(self._plugs), partial(self._dns_answered, self.driver))
            case AskPathUse(path=path):
                last_sent = self.plane.endpoint.last_sent(path)
                self.driver.dispatch(PathLastUsed(last_sent, self.plane.received_at))
            case ListenOnLinks():
                pass  # what is answered here is heard
            case ProbeLink(interface=interface, ask=ask):
                self._probe_link(interface, ask)
            case Remember(state=state):
                self.disk = json.dumps(state)
            case RememberNetworks(document=document):
                self.networks = document
            case Report():
                self.reports.append((self._timeline.now, action))
            case Finished():
                self.finished = True
            case _:
                assert_never(action)

    def _probe_link(self, interface: str, ask: Ask) -> None:
        """The router of the network that the interface is in answers a millisecond later, if it was meant."""
        network = self.network(interface)
        if network is None:
            return
        for one in ask.gateways:
            if one.network.hardware == network.hardware and isinstance(one.network.router, IPv4Address):
                reply = ArpReply(one.network.router, network.hardware)
                event = NeighbourAnswered(interface, reply)
                self._timeline.after(0.001, partial(self.driver.dispatch, event))

    def _configure(self, config: KernelConfig) -> None:
        """Of all that a kernel would do, only addresses on links matter here."""
        self.kernel = config
        wanted = {one.address: one.interface for one in config.on_link}
        for address, interface in (self._own.items() - wanted.items()) | (wanted.items() - self._own.items()):
            network = self.network(interface)
            if network is None:
                continue
            if wanted.get(address) == interface:
                network.join(address, partial(self._receive, interface))
            else:
                network.leave(address)
        if self._own != wanted:
            self._own = wanted
            self._hint()

    def _keep(self, attachments: tuple[Attachment, ...]) -> None:
        wanted = {(a.interface, a.care_of) for a in attachments}
        for place in [place for place in self._carriers if place not in wanted]:
            self.plane.detach(self._carriers.pop(place))
        for interface, care_of in sorted(wanted - self._carriers.keys(), key=str):
            if not self._is_here(interface, care_of):
                self.driver.dispatch(LinkUnusable(care_of, "Cannot assign requested address"))
                continue
            ports = self._rng.sample(EPHEMERAL, 2) if care_of.version == 4 else (0, 0)
            carrier = Carrier(care_of, ports[0], interface, partial(self._transmit, interface), ports[1])
            self._carriers[interface, care_of] = carrier
            self.plane.attach(carrier)

    def _send_control(self, action: SendControl) -> None:
        carrier = next((c for (_, local), c in self._carriers.items() if local == action.care_of), None)
        if carrier is None:
            return
        self.updates += 1
        self._law.update_sent(self, action)
        if action.care_of.version == 4:
            datagram = Datagram(
                action.care_of, action.remote, PROTOCOL_UDP, action.packet, carrier.port, action.port
            )
        else:
            datagram = Datagram(action.care_of, action.remote, action.packet[6], action.packet)
        if not carrier.transmit(datagram):
            self.driver.dispatch(LinkUnusable(action.care_of, "Network is unreachable"))

    def _send_icmp(self, care_of: Address, remote: Address, port: int, packet: bytes) -> None:
        carrier = next((c for (_, local), c in self._carriers.items() if local == care_of), None)
        if carrier is not None and care_of.version == 4:
            carrier.transmit(Datagram(care_of, remote, PROTOCOL_UDP, packet, carrier.port, port))
        elif carrier is not None:
            carrier.transmit(Datagram(care_of, remote, packet[6], packet))

    def _router_said(self, interface: str) -> None:
        """No router here says more than its prefix."""
        network = self.network(interface)
        if network is not None and network.advertises:
            self.tell(RouterSaid(interface, WayOut()))

    def _send_echo(self, action: SendEcho) -> None:
        version, place = action.remote.version, action.attachment
        request = Echo(action.identifier, action.sequence, action.data).request(version)
        self.echoes += 1
        self._transmit(
            place.interface, echo_datagram(place.care_of, action.remote, request, action.identifier)
        )

    def _transmit(self, interface: str, datagram: Datagram) -> bool:
        network = self.network(interface)
        if network is None or not self._is_here(interface, datagram.source):
            return False
        self._law.left(self.name, datagram)
        network.send(datagram)
        return True

    def _is_here(self, interface: str, address: Address) -> bool:
        given = self._plugs.get(interface, (None, ()))[1]
        return address in given or (interface in self._plugs and self._own.get(address) == interface)

    def _dns_answered(self, asker: Driver[Event, Action], event: Event) -> None:
        if asker is self.driver:
            self.tell(event)

    # ---- what comes in ---------------------------------------------------------------------
    def _receive(self, interface: str, datagram: Datagram) -> None:
        if datagram.protocol in ECHO_PROTOCOLS and datagram.payload[:1] in ECHO_REPLIES:
            self._echo_heard(interface, datagram)
            return
        carrier = self._carriers.get((interface, datagram.destination))
        if carrier is not None and self.running and self.awake:
            self.plane.inbound(carrier, datagram)

    def _echo_heard(self, interface: str, datagram: Datagram) -> None:
        if datagram.damaged:
            return  # the kernel has looked at the checksum
        echo = decode_reply(datagram.payload, datagram.source.version)
        heard = (datagram.destination, datagram.source, echo.identifier, echo.sequence, echo.data)
        self.tell(EchoHeard(interface, *heard))

    def _on_control(self, packet: bytes, arrival: Arrival) -> None:
        before = self._law.before_answer(self)
        self.driver.dispatch(ControlReceived(packet, arrival))
        self._law.answer_handled(self, packet, before)
        self._law.mobile_node_stepped(self)

    def _wake(self) -> None:
        self._law.rang(self.name)
        self.driver.wake()
        self._law.mobile_node_stepped(self)

    def _failed(self, fault: Fault) -> None:
        self._law.broken("never-raises", f"{self.name}: {fault.text}", fault.error)

    def _clock(self) -> float:
        return self._timeline.now

    def last_report(self, event: str) -> Mapping[str, object]:
        """The fields of the last report of this kind."""
        return next(report.fields for _, report in reversed(self.reports) if report.event == event)


FLIGHT = 256
