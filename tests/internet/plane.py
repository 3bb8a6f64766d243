"""The data plane of a simulated host: a real Endpoint between a TUN device and carriers of datagrams.

Pure. It follows tunnel.portable, with datagrams in place of system calls.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Address, IPv6Network

from tests.internet.weather import Address, Datagram
from tunnel.encapsulation import protocol_of, wrap
from tunnel.endpoint import CONTROL, Endpoint, EndpointConfig, Lane, Pieces, Role
from tunnel.forwarding import ForwardingTable, peer_of
from tunnel.path import Arrival, Drop, Encapsulation, TunnelPath
from tunnel.recent import RecentPackets
from tunnel.silence import Silence
from wire.ip import PROTOCOL_IPV4, PROTOCOL_IPV6, PROTOCOL_UDP

NO_CARRIER = Drop("no-underlay")


@dataclass(eq=False, slots=True)
class Carrier:
    """Sockets at one local address. `send` says whether the datagram left."""

    local: Address
    port: int
    interface: str
    send: Callable[[Datagram], bool]


@dataclass(slots=True)
class Plane:
    """`on_control` takes control packets, `deliver` what came out of the tunnel, and in what."""

    role: Role
    on_control: Callable[[bytes, Arrival], None]
    deliver: Callable[[bytes, Datagram], None]
    clock: Callable[[], float]
    endpoint: Endpoint = field(init=False)
    recent: RecentPackets = field(init=False)
    carriers: list[Carrier] = field(default_factory=list)
    received_at: float = 0.0
    on_silence: Callable[[], None] | None = None
    silence: Silence = field(default_factory=Silence)

    def __post_init__(self) -> None:
        self.endpoint = Endpoint(self.role)
        self.recent = RecentPackets(by_source=self.role is Role.MOBILE_NODE)

    def configure(self, config: EndpointConfig) -> None:
        self.endpoint.config = config

    def install(self, table: ForwardingTable) -> None:
        self.endpoint.table = table

    def send_again(self, homes: Iterable[IPv4Network | IPv6Network], since: float) -> None:
        for packet in self.recent.take(homes, since, self.clock()):
            self._judge(packet)

    def outbound(self, packet: bytes) -> None:
        """From the TUN device."""
        self.recent.remember((self.clock(), packet))
        self._judge(packet)

    def _judge(self, packet: bytes) -> None:
        verdict = self.endpoint.outbound(packet, self.clock())
        match verdict:
            case Lane():
                self._send(verdict, packet)
                if self.on_silence is not None and self.silence.sent(self.clock(), self.received_at):
                    self.on_silence()
            case Pieces(lane=lane, packets=packets):
                for piece in packets:
                    self._send(lane, piece)
            case _:
                pass  # counted, or an ICMP error for the application

    def inbound(self, carrier: Carrier, datagram: Datagram) -> None:
        """From a socket of `carrier`."""
        if datagram.protocol not in (PROTOCOL_IPV4, PROTOCOL_IPV6, PROTOCOL_UDP):
            source = IPv6Address(datagram.payload[8:24])
            self.on_control(datagram.payload, Arrival(carrier.local, source, interface=carrier.interface))
            return
        if datagram.in_udp and datagram.destination_port != carrier.port:
            return
        port = datagram.source_port if datagram.in_udp else 0
        verdict = self.endpoint.inbound(peer_of(datagram.source, port), datagram.payload)
        if isinstance(verdict, bytes):
            self.received_at = self.clock()
            self.deliver(verdict, datagram)
        elif verdict is CONTROL:
            local_port = carrier.port if port else 0
            arrival = Arrival(carrier.local, datagram.source, local_port, port, carrier.interface)
            self.on_control(self.endpoint.control_packet(datagram.payload), arrival)

    def _send(self, lane: Lane, packet: bytes) -> None:
        carrier = self._carrier_of(lane.path)
        if carrier is None or not carrier.send(_wrapped(packet, lane.path, carrier)):
            self.endpoint.drop(NO_CARRIER)
            return
        lane.sent_at = self.clock()

    def _carrier_of(self, path: TunnelPath) -> Carrier | None:
        """Local port 0 of a path stands for the port that the carrier happens to have."""
        for carrier in self.carriers:
            if carrier.local != path.local or (
                path.encapsulation.in_udp and path.local_port not in (0, carrier.port)
            ):
                continue
            if not path.interface or not carrier.interface or path.interface == carrier.interface:
                return carrier
        return None


def _wrapped(packet: bytes, path: TunnelPath, carrier: Carrier) -> Datagram:
    payload = wrap(packet, path.encapsulation)
    if path.encapsulation is Encapsulation.IP_IN_IP:
        return Datagram(path.local, path.remote, protocol_of(packet), payload)
    return Datagram(path.local, path.remote, PROTOCOL_UDP, payload, carrier.port, path.remote_port)
