"""The data plane of a simulated host: a real Endpoint between a TUN device and carriers of datagrams.

Pure. It follows tunnel.portable, with datagrams in place of system calls.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from ipaddress import IPv4Network, IPv6Address, IPv6Network

from tests.internet.weather import Address, Datagram
from tunnel.carriers import Carriers, reason_not_sent
from tunnel.encapsulation import protocol_of, wrap
from tunnel.endpoint import Endpoint, EndpointConfig, Role
from tunnel.forwarding import ForwardingTable, peer_of
from tunnel.keyring import Sessions
from tunnel.lane import CONTROL, Lane, Pieces
from tunnel.path import HELD, Arrival, TunnelPath
from tunnel.plane import Intake, Seal, Send
from tunnel.recent import RecentPackets
from tunnel.silence import Silence
from wire.ip import IPV6_HEADER, PROTOCOL_ESP, PROTOCOL_IPV4, PROTOCOL_IPV6, PROTOCOL_UDP, IPv6Header


@dataclass(eq=False, slots=True)
class Carrier:
    """Sockets at one local address: a `tunnel.plane.Carrier`. `transmit` says whether the datagram left.

    `esp_port` is the UDP port of protected payload; 0 for none, as on IPv6.
    """

    local: Address
    port: int
    interface: str
    transmit: Callable[[Datagram], bool]
    esp_port: int = 0
    intakes: tuple[Intake, ...] = ()

    def sender(self, path: TunnelPath, seal: Seal | None) -> Send:
        return partial(self._send, path, seal)

    fragmenting_sender = sender

    def path_mtu(self, path: TunnelPath) -> int:
        return path.link_mtu

    def _send(self, path: TunnelPath, seal: Seal | None, packet: bytes) -> None:
        if not self.transmit(self._wrapped(path, seal, packet)):
            raise OSError(errno.ENETUNREACH, "Network is unreachable")

    def _wrapped(self, path: TunnelPath, seal: Seal | None, packet: bytes) -> Datagram:
        local, remote = path.local, path.remote
        if seal is None and path.encapsulation.in_udp:
            payload = wrap(packet, path.encapsulation)
            return Datagram(local, remote, PROTOCOL_UDP, payload, self.port, path.remote_port)
        if seal is None:
            return Datagram(local, remote, protocol_of(packet), packet)
        esp = seal.seal(packet)
        if path.encapsulation.in_udp:
            return Datagram(local, remote, PROTOCOL_UDP, esp, self.esp_port, path.remote_port)
        assert isinstance(local, IPv6Address)
        assert isinstance(remote, IPv6Address)
        whole = IPv6Header(local, remote, PROTOCOL_ESP, len(esp)).encode() + esp
        return Datagram(local, remote, PROTOCOL_ESP, whole)


@dataclass(slots=True)
class Plane:
    """`on_control` takes control packets, `deliver` what came out of the tunnel, and in what."""

    role: Role
    on_control: Callable[[bytes, Arrival], None]
    deliver: Callable[[bytes, Datagram], None]
    clock: Callable[[], float]
    random_bytes: Callable[[int], bytes]
    endpoint: Endpoint = field(init=False)
    recent: RecentPackets = field(init=False)
    carriers: Carriers = field(default_factory=Carriers)
    received_at: float = 0.0
    on_silence: Callable[[], None] | None = None
    silence: Silence = field(default_factory=Silence)
    held_told: bool = False

    def __post_init__(self) -> None:
        self.endpoint = Endpoint(self.role)
        self.endpoint._sessions = Sessions(self.random_bytes)
        self.recent = RecentPackets(by_source=self.role is Role.MOBILE_NODE)

    def configure(self, config: EndpointConfig) -> None:
        same = config.keyring is self.endpoint.config.keyring
        self.endpoint.config = config
        if not same:
            self.endpoint.disconnect_lanes()

    def install(self, table: ForwardingTable) -> None:
        self.endpoint.table = table
        self.held_told = False

    def expect(self, interfaces: Iterable[str]) -> None:
        pass

    def attach(self, carrier: Carrier) -> None:
        self.carriers.append(carrier)
        self.endpoint.disconnect_lanes()

    def detach(self, carrier: Carrier) -> None:
        self.carriers.remove(carrier)
        self.endpoint.disconnect_lanes()

    def send_again(self, homes: Iterable[IPv4Network | IPv6Network], since: float) -> None:
        for packet in self.recent.take(homes, since, self.clock()):
            self._judge(packet)

    def announce(self, path: TunnelPath, idle: float) -> None:
        lane = self.endpoint.lane(path)
        if self.endpoint.session(path) is not None and self.clock() - lane.sent_at >= idle:
            self._send(lane, b"")

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
        if datagram.in_udp:
            self._inbound_udp(carrier, datagram)
        elif datagram.protocol in (PROTOCOL_IPV4, PROTOCOL_IPV6):
            verdict = self.endpoint.inbound(peer_of(datagram.source), datagram.payload)
            self._take(verdict, carrier, datagram, 0)
        else:
            self._inbound_native(carrier, datagram)

    def _inbound_udp(self, carrier: Carrier, datagram: Datagram) -> None:
        peer = peer_of(datagram.source, datagram.source_port)
        if datagram.destination_port == carrier.port:
            port = datagram.source_port
            self._take(self.endpoint.inbound(peer, datagram.payload), carrier, datagram, port)
        elif datagram.destination_port == carrier.esp_port:
            self._take(self.endpoint.inbound_4500(peer, datagram.payload), carrier, datagram, 0)

    def _inbound_native(self, carrier: Carrier, datagram: Datagram) -> None:
        """A whole IPv6 packet: protected payload, if its SPI is one of ours, else control."""
        packet = datagram.payload
        source, esp = IPv6Address(packet[8:24]), packet[IPV6_HEADER:]
        if packet[6] == PROTOCOL_ESP and self.endpoint.has_keys(int.from_bytes(esp[:4], "big")):
            verdict = self.endpoint.inbound_protected((str(source), 0), esp)
            self._take(verdict, carrier, datagram, 0)
        else:
            self.on_control(packet, Arrival(carrier.local, source, interface=carrier.interface))

    def _take(self, verdict: object, carrier: Carrier, datagram: Datagram, port: int) -> None:
        if isinstance(verdict, bytes):
            self.received_at = self.clock()
            self.deliver(verdict, datagram)
        elif verdict is CONTROL:
            local_port = carrier.port if port else 0
            arrival = Arrival(carrier.local, datagram.source, local_port, port, carrier.interface)
            self.on_control(self.endpoint.control_packet(datagram.payload), arrival)

    def _send(self, lane: Lane, packet: bytes) -> None:
        try:
            (lane.send or self.carriers.connect(lane, self.endpoint))(packet)
        except OSError as error:
            self.endpoint.drop(reason_not_sent(error))
            if lane.path.interface == HELD and not self.held_told and self.on_silence is not None:
                self.held_told = True
                self.on_silence()
        else:
            lane.sent_at = self.clock()
