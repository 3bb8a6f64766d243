"""A host with a real HomeAgent, a real Endpoint and the real Driver, on the home link.

Pure.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable
from functools import partial
from ipaddress import IPv6Address
from random import Random
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
    SendControl,
    SendOnLink,
)
from home_agent.binding_cache import Binding
from home_agent.config import Configuration
from home_agent.door import door_for
from home_agent.events import ControlReceived, Event, Probed, SecondPortOpen, Start
from home_agent.node import HomeAgent
from home_agent.records import Record, from_document, to_document
from mn_agent.memory import ESP_EPOCH
from runtime.driver import Driver, Fault
from tests.internet.cast import HOMES, payload_key_of
from tests.internet.echo import ECHO_PROTOCOLS, reply_to
from tests.internet.home_link import HomeLink
from tests.internet.internet import Internet
from tests.internet.law import Law
from tests.internet.mobile_host import EPOCH, FLIGHT
from tests.internet.payload import addresses_of
from tests.internet.plane import Carrier, Plane
from tests.internet.probe import answer_to
from tests.internet.timeline import Timeline, VirtualTimer
from tests.internet.weather import Address, Datagram
from tunnel.authentication import Keys
from tunnel.endpoint import EndpointConfig, Role
from tunnel.forwarding import ForwardingTable
from tunnel.kernel import KernelConfig
from tunnel.path import Arrival
from tunnel.protection import PayloadKey
from wire.esp import UDP_PORT_NAT_TRAVERSAL
from wire.ip import PROTOCOL_UDP

SECOND_PORT = 40191


class HomeHost:
    """`forwarded` takes what came out of the tunnel for the rest of the world."""

    def __init__(
        self,
        name: str,
        timeline: Timeline,
        rng: Random,
        law: Law,
        internet: Internet,
        home_link: HomeLink,
        configuration: Configuration,
        keys: dict[IPv6Address, Keys],
    ) -> None:
        self.name = name
        self.configuration = configuration
        self.keys = keys
        self.disk: dict[IPv6Address, Record] = {}
        self.reports: deque[tuple[float, Report]] = deque(maxlen=200)
        self.forwarded: Callable[[bytes, Datagram], None] = lambda packet, datagram: None
        self.kernel: KernelConfig | None = None
        self.answers = 0
        self.octets_in = self.octets_out = 0
        self.running = False
        self._timeline = timeline
        self._rng = rng
        self._law = law
        self._internet = internet
        self._home_link = home_link
        section = configuration.home_agent
        for address in (section.ipv6, section.ipv4):
            internet.hold(address, self._receive)
        self._carriers: dict[Address, Carrier] = {
            section.ipv6: Carrier(section.ipv6, 0, "", self._transmit),
            section.ipv4: Carrier(section.ipv4, section.port, "", self._transmit, UDP_PORT_NAT_TRAVERSAL),
        }
        self.start()

    def start(self, *, remember: bool = True) -> None:
        """Run the home agent, with what it has on disk or with nothing."""
        if not remember:
            self.disk.clear()
        now = self._timeline.now
        records = [from_document(json.loads(json.dumps(to_document(r)))) for r in self.disk.values()]
        self.node = HomeAgent(
            self.configuration,
            self.keys,
            records,
            now,
            first_sequence=int(EPOCH + now) - ESP_EPOCH,
            iv_source=Random(self._rng.getrandbits(32)).randbytes,
            wall_offset=EPOCH,
            payload_keys=self._payload_keys(),
        )
        self.door = door_for(self.keys.values())
        section = self.configuration.home_agent
        random_bytes = Random(self._rng.getrandbits(32)).randbytes
        self.plane = Plane(Role.HOME_AGENT, self._on_control, self._deliver, self._clock, random_bytes)
        for carrier in self._carriers.values():
            self.plane.attach(carrier)
        own = frozenset({section.ipv6})
        everything: frozenset[Address] = frozenset({section.ipv6, section.ipv4})
        self.plane.configure(EndpointConfig(own, frozenset(), everything, self.configuration.profile.tlv))
        self.timer = VirtualTimer(self._timeline, self._wake)
        self.driver: Driver[Event, Action] = Driver(
            self.node,
            self._perform,
            clock=self._clock,
            on_fault=self._failed,
            timer=self.timer,
            time_asleep=lambda: 0.0,
            kept=FLIGHT,
        )
        self.running = True
        self._law.home_agent_started(self, forgetful=not remember)
        self.driver.start()
        self.tell(Start())
        if section.second_port != "none":
            self.tell(SecondPortOpen(SECOND_PORT))

    @property
    def may_forget(self) -> bool:
        """Whether the ESP numbers that it begins with when it knows nothing are above all it has used."""
        used = max((record.memory.reserved for record in self.disk.values()), default=0)
        return used < EPOCH + self._timeline.now - ESP_EPOCH

    def crash(self) -> None:
        """kill -9, or the machine is off: nobody answers on the home link for the home addresses."""
        self.running = False
        self.driver.stop()
        self.plane.install(ForwardingTable())
        self._home_link.silence(self.name)

    def tell(self, event: Event) -> None:
        if self.running:
            self.driver.dispatch(event)
            self._law.home_agent_stepped(self)

    @property
    def ipv6(self) -> IPv6Address:
        return self.configuration.home_agent.ipv6

    def tell_law(self) -> None:
        """Have the present state looked at."""
        self._law.home_agent_stepped(self)

    def binding(self, home: IPv6Address) -> Binding | None:
        return self.node.books.cache.get(home)

    def send(self, packet: bytes) -> None:
        """A neighbour on the home link, or the world behind it, sends `packet` to a home address."""
        if self.running:
            self.plane.outbound(packet)

    def _deliver(self, packet: bytes, datagram: Datagram) -> None:
        self._law.delivered_to_home_agent(self, packet, datagram)
        destination = addresses_of(packet)[1]
        if datagram.damaged:
            return  # whoever gets it throws it away: its checksum is wrong
        if destination == self.ipv6 and (answer := answer_to(packet)) is not None:
            self.plane.outbound(answer)  # the kernel does
            return
        if self.plane.endpoint.table.find(destination.packed) is not None:
            self.plane.outbound(packet)  # from one mobile node to another
        else:
            self.forwarded(packet, datagram)

    # ---- what the shell does ---------------------------------------------------------------
    def _perform(self, action: Action) -> None:
        match action:
            case Remember(record=record):
                self.disk[record.home_address] = record
            case ConfigureEndpoint(config=config):
                self.plane.configure(config)
            case InstallTable(table=table):
                self.plane.install(table)
            case ConfigureKernel(config=config):
                self.kernel = config
            case Defend(addresses=addresses):
                self._home_link.defend(self.name, frozenset(addresses))
            case ProbeAddresses(home_address=home, addresses=addresses):
                answer = partial(self._probed, self.driver, home, addresses)
                self._home_link.probe(self.name, addresses, answer)
            case SendAgain(homes=homes, since=since):
                self.plane.send_again(homes, since)
            case SendOnLink():
                pass  # no payload is on the home link here
            case SendControl(packet=packet, via=via):
                self.send_answer(packet, via)
            case Report(event=event, fields=fields):
                self.reports.append((self._timeline.now, action))
                if event == "rejected":
                    self._law.refused[str(fields["node"]), fields["status"]] += 1
            case _:
                assert_never(action)

    def _probed(
        self,
        asker: Driver[Event, Action],
        home: IPv6Address,
        addresses: frozenset[Address],
        in_use: frozenset[Address],
    ) -> None:
        if asker is self.driver:
            self.tell(Probed(home, addresses, in_use))

    def send_answer(self, packet: bytes, via: Arrival) -> None:
        self._law.answer_sent(self, packet, via)
        self.answers += 1
        self.octets_out += len(packet)
        if via.local.version == 4:
            self._transmit(
                Datagram(via.local, via.remote, PROTOCOL_UDP, packet, via.local_port, via.remote_port)
            )
        else:
            self._transmit(Datagram(via.local, via.remote, packet[6], packet))

    def _payload_keys(self) -> dict[IPv6Address, PayloadKey]:
        if not self.configuration.tunnel.protect_payload:
            return {}
        return {home: payload_key_of(name) for name, home in HOMES.items()}

    def _transmit(self, datagram: Datagram) -> bool:
        self._law.left(self.name, datagram)
        self._internet.carry(datagram)
        return True

    # ---- what comes in ---------------------------------------------------------------------
    def _receive(self, datagram: Datagram) -> None:
        if datagram.protocol in ECHO_PROTOCOLS and (reply := reply_to(datagram)) is not None:
            self._internet.carry(reply)  # the kernel answers, whether the daemon runs or not
        elif self.running:
            self.octets_in += len(datagram.payload)
            if datagram.in_udp and datagram.destination_port == SECOND_PORT:
                self._at_second_port(datagram)
                return
            self.plane.inbound(self._carriers[datagram.destination], datagram)

    def _at_second_port(self, datagram: Datagram) -> None:
        """A socket of its own, of which the data plane knows nothing."""
        if self.configuration.home_agent.second_port != "none":
            arrival = Arrival(datagram.destination, datagram.source, SECOND_PORT, datagram.source_port)
            self._on_control(datagram.payload, arrival)

    def _on_control(self, packet: bytes, arrival: Arrival) -> None:
        if not self.door.admits(packet, arrival, self._timeline.now):
            return
        before = self._law.before_update(self)
        self._law.update_arrived(self, packet, arrival)
        self.driver.dispatch(ControlReceived(packet, arrival))
        self._law.update_handled(self, packet, before)
        self._law.home_agent_stepped(self)

    def _wake(self) -> None:
        self._law.rang(self.name)
        self.driver.wake()
        self._law.home_agent_stepped(self)

    def _failed(self, fault: Fault) -> None:
        self._law.broken("never-raises", f"{self.name}: {fault.text}", fault.error)

    def _clock(self) -> float:
        return self._timeline.now
