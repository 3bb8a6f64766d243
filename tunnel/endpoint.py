"""One end of the tunnel as a function: which packet goes where, which comes in, and which goes no further.

Pure. RFC 6275 sections 10.4 and 11.3, RFC 5555 section 4, RFC 2473 section 4, RFC 4459; protected
payload: RFC 4303 section 3.4, RFC 3948; docs/security.md: open-tunnel, nested-tunnel, spoofed-payload,
false-claim.

Judging a packet makes no object in the common case: the verdict is the lane that it leaves by, or the packet
itself. A handover is the assignment of `Endpoint.table` and nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from ipaddress import IPv4Address, IPv6Address, ip_address

from tunnel.encapsulation import KEEPALIVE, demultiplex, esp_in, with_outer_ecn
from tunnel.forwarding import ASSOCIATION, ForwardingTable, Peer, Way
from tunnel.fragmentation import fragment_inside, fragment_ipv4
from tunnel.keyring import NO_KEYS, Keyring, Session, Sessions
from tunnel.lane import CONTROL, MIN_IPV6_MTU, Control, Lane, Pieces, Reply
from tunnel.path import Drop, TunnelPath
from tunnel.routable import SUSPECT4, SUSPECT6, routable4, routable6
from tunnel.security import DUMMY, UNKNOWN_SPI
from tunnel.token_bucket import TokenBucket
from wire.esp import UDP_PORT_NAT_TRAVERSAL
from wire.icmp import deserves_error, packet_too_big
from wire.ip import (
    NO_NEXT_HEADER,
    PROTOCOL_DESTINATION_OPTIONS,
    PROTOCOL_ESP,
    PROTOCOL_IPV4,
    PROTOCOL_IPV6,
    PROTOCOL_MOBILITY,
    PROTOCOL_ROUTING,
    PROTOCOL_UDP,
)
from wire.profile import HOME_AGENT_PORT, TlvLayout

MALFORMED = Drop("inner-malformed")
NOT_HOME = Drop("not-a-home-address")
WRONG_PEER = Drop("wrong-peer")
UNPROTECTED = Drop("payload-unprotected")
ASTRAY = Drop("control-in-payload")
NOT_ROUTABLE = Drop("link-local-or-multicast")
NESTED = Drop("nested-tunnel")
TOO_BIG = Drop("too-big-unanswered")

_PROTOCOL_GRE = 47
_PROTOCOLS = {4: PROTOCOL_IPV4, 6: PROTOCOL_IPV6}
_CONTROL_HEADERS = frozenset(
    (PROTOCOL_ROUTING, PROTOCOL_ESP, PROTOCOL_DESTINATION_OPTIONS, PROTOCOL_MOBILITY)
)
_TUNNEL_PROTOCOLS = frozenset((PROTOCOL_IPV4, PROTOCOL_IPV6, _PROTOCOL_GRE))
_NESTABLE = _TUNNEL_PROTOCOLS | {PROTOCOL_UDP}
_PORTS = frozenset(port.to_bytes(2, "big") for port in (HOME_AGENT_PORT, UDP_PORT_NAT_TRAVERSAL))
_ERRORS_PER_SECOND = 200.0  # the bound that RFC 4443 section 2.4 (f) demands
_ERROR_BURST = 50.0


class Role(Enum):
    """Which side of a packet is the home side."""

    MOBILE_NODE = "mobile-node"
    """Outbound packets come from a home address, inbound ones go to it."""
    HOME_AGENT = "home-agent"
    """The reverse."""


@dataclass(frozen=True, slots=True)
class EndpointConfig:
    """What tells control packets and nested tunnels from data.

    An inner IPv6 packet is control if its next header is a mobility header, ESP, destination options or a
    routing header, its destination is in `control_local` and its source in `control_peer`:
    at the home agent `control_local` is its own IPv6 address and `control_peer` is empty, which means
    anybody, since a mobile node without a binding has to be heard; at the mobile node `control_local` is its
    IPv6 home address and `control_peer` the home agent's IPv6 address. Hence ESP between an application on
    the mobile node and a correspondent node is data, whatever is inside.

    `home_agent` holds every address of the home agent, of both families: a tunnel packet (4, 41, 47 or UDP
    4191 or 4500) from or to one of them is never carried inside the tunnel. `tlv` is the profile's layout.
    `keyring` has the keys of the paths that are protected.
    """

    control_local: frozenset[IPv6Address] = frozenset()
    control_peer: frozenset[IPv6Address] = frozenset()
    home_agent: frozenset[IPv4Address | IPv6Address] = frozenset()
    tlv: TlvLayout | None = None
    keyring: Keyring = NO_KEYS


class Endpoint:
    """One end of the tunnel. Assigning `table` or `config` is atomic and may happen while packets flow."""

    __slots__ = (
        "_errors",
        "_home_source",
        "_lanes",
        "_lanes_by_path",
        "_paths",
        "_scope",
        "_sessions",
        "drops",
        "role",
        "table",
    )

    def __init__(
        self,
        role: Role,
        config: EndpointConfig | None = None,
        table: ForwardingTable | None = None,
    ) -> None:
        self.role = role
        self.table = table or ForwardingTable()
        self.drops: dict[str, int] = {}
        """Reason -> packets refused for it, in either direction."""
        self._sessions = Sessions()
        self.config = config or EndpointConfig()
        self._home_source = role is Role.MOBILE_NODE
        self._lanes: dict[int, Lane] = {}
        """By the identity of the path: hashing one takes longer than all the rest of a verdict."""
        self._paths: list[TunnelPath] = []
        """Keeps the paths of `_lanes` alive, so that no other path gets their identity."""
        self._lanes_by_path: dict[TunnelPath, Lane] = {}
        self._errors = TokenBucket(_ERRORS_PER_SECOND, _ERROR_BURST)

    @property
    def config(self) -> EndpointConfig:
        return self._scope.config

    @config.setter
    def config(self, config: EndpointConfig) -> None:
        self._scope = _Scope.of(config)
        self._sessions.keyring = config.keyring

    def outbound(self, packet: bytes, now: float) -> Lane | Drop | Reply | Pieces:
        """Judge a packet that came from the TUN device: usually the lane that carries it."""
        size = len(packet)
        lane = self._lane_for(packet, size)
        if isinstance(lane, Lane) and size > lane.limit:
            return self._oversize(lane, packet, now)
        return lane

    def outbound_super(self, head: bytes, size: int, largest: int, segments: int) -> Lane | Drop | None:
        """Judge a super-packet of `size` octets by its headers: the verdict on each of its segments.

        None if the `largest` of them is too large, so that they have to be judged one by one.
        """
        lane = self._lane_for(head, size)
        if isinstance(lane, Drop):
            return self.drop(lane, segments - 1)
        return lane if largest <= lane.limit else None

    def _lane_for(self, packet: bytes, size: int) -> Lane | Drop:
        """The lane for a packet whose headers, at least, are in `packet`."""
        if size < 20:
            return self.drop(MALFORMED)
        version = packet[0] >> 4
        if version == 6:
            if size < 40 or packet[4] << 8 | packet[5] != size - 40:
                return self.drop(MALFORMED)
            home = packet[8:24] if self._home_source else packet[24:40]
            if (SUSPECT6[packet[8]] or SUSPECT6[packet[24]]) and not routable6(packet):
                return self.drop(NOT_ROUTABLE)
            if packet[6] in _NESTABLE and self._is_nested6(packet):
                return self.drop(NESTED)
        elif version == 4:
            if packet[2] << 8 | packet[3] != size or packet[0] < 0x45:
                return self.drop(MALFORMED)
            home = packet[12:16] if self._home_source else packet[16:20]
            if (SUSPECT4[packet[12]] or SUSPECT4[packet[16]]) and not routable4(packet):
                return self.drop(NOT_ROUTABLE)
            if packet[9] in _NESTABLE and self._is_nested4(packet):
                return self.drop(NESTED)
        else:
            return self.drop(MALFORMED)
        way = self.table.find(home)
        if way is None:
            return self.drop(NOT_HOME)
        return self._lanes.get(id(way.path)) or self._open_lane(way)

    def inbound(self, peer: Peer, packet: bytes, outer_tos: int = 0) -> bytes | Control | Drop:
        """Judge what followed the UDP header, or the outer IP header (`peer` with port 0).

        The packet to write to the TUN device (the same object unless it had a TLV header or gets a
        congestion mark), or CONTROL, which `control_packet` takes out of its wrapping.
        """
        size = len(packet)
        if size < 20:
            return self._inbound_unusual(peer, packet, outer_tos)
        version = packet[0] >> 4
        if version == 6:
            if size < 40 or packet[4] << 8 | packet[5] != size - 40:
                return self.drop(MALFORMED)
            if packet[6] in _CONTROL_HEADERS and self._scope.is_control(packet):
                return CONTROL
            home = packet[24:40] if self._home_source else packet[8:24]
            if (SUSPECT6[packet[8]] or SUSPECT6[packet[24]]) and not routable6(packet):
                return self.drop(NOT_ROUTABLE)
            if packet[6] in _NESTABLE and self._is_nested6(packet):
                return self.drop(NESTED)
        elif version == 4:
            if packet[2] << 8 | packet[3] != size or packet[0] < 0x45:
                return self.drop(MALFORMED)
            home = packet[16:20] if self._home_source else packet[12:16]
            if (SUSPECT4[packet[12]] or SUSPECT4[packet[16]]) and not routable4(packet):
                return self.drop(NOT_ROUTABLE)
            if packet[9] in _NESTABLE and self._is_nested4(packet):
                return self.drop(NESTED)
        else:
            return self._inbound_unusual(peer, packet, outer_tos)
        way = self.table.find(home)
        if way is None:
            return self.drop(NOT_HOME)
        if peer not in way.peers:
            in_clear = way.path.encapsulation.protected and peer[0] != ASSOCIATION
            return self.drop(UNPROTECTED if in_clear else WRONG_PEER)
        if outer_tos & 1:
            marked = with_outer_ecn(packet, outer_tos)
            return self.drop(marked) if isinstance(marked, Drop) else marked
        return packet

    def inbound_protected(self, peer: Peer, esp: bytes, outer_tos: int = 0) -> bytes | Drop:
        """Judge an ESP packet of payload, from SPI to ICV, that came from `peer` (port 0 without UDP).

        Whom it is from its keys say; the outer source only tells where to send. DUMMY, which is not counted,
        for a packet that has come to say just that.
        """
        spi = int.from_bytes(esp[:4], "big")
        session = self.receiver(spi)
        if session is None:
            return self.drop(UNKNOWN_SPI)
        opened = session.opener.open(esp)
        if isinstance(opened, Drop):
            return self.drop(opened)
        session.hear(peer)
        return self.inbound_opened(spi, *opened, outer_tos)

    def inbound_opened(self, spi: int, next_header: int, packet: bytes, outer_tos: int = 0) -> bytes | Drop:
        """Judge what was in an authentic ESP packet."""
        if next_header == NO_NEXT_HEADER:
            return DUMMY
        if len(packet) < 20 or _PROTOCOLS.get(packet[0] >> 4) != next_header:
            return self.drop(MALFORMED)
        verdict = self.inbound((ASSOCIATION, spi), packet, outer_tos)
        # Signalling has protection of its own, and a path of its own that shows where it comes from.
        return self.drop(ASTRAY) if isinstance(verdict, Control) else verdict

    def inbound_4500(self, peer: Peer, datagram: bytes, outer_tos: int = 0) -> bytes | Drop:
        """The same for a datagram on UDP port 4500. KEEPALIVE and DUMMY are not counted."""
        esp = esp_in(datagram)
        if isinstance(esp, Drop):
            return esp if esp is KEEPALIVE else self.drop(esp)
        return self.inbound_protected(peer, esp, outer_tos)

    def lane(self, path: TunnelPath) -> Lane:
        """The lane of `path`, whether the table uses it or not."""
        return self._lanes_by_path.setdefault(path, Lane(path))

    def session(self, path: TunnelPath) -> Session | None:
        """What seals the packets of a protected path. None without keys: then nothing may leave."""
        return self._sessions.sender(path.spi)

    def receiver(self, spi: int) -> Session | None:
        """What opens the packets that come under `spi`."""
        return self._sessions.find(spi)

    def connected(self, lane: Lane) -> None:
        """The protected `lane` was connected, until the other end is heard from elsewhere."""
        self._sessions.connected(lane)

    def has_keys(self, spi: int) -> bool:
        """Whether ESP with this SPI is protected payload of ours."""
        return spi in self._sessions.keyring

    def destination(self, path: TunnelPath) -> TunnelPath:
        """`path` as it leads now to where the other end is heard from. The home agent stays where it is."""
        if self._home_source or not path.encapsulation.protected or not path.encapsulation.in_udp:
            return path
        return replace(path, remote_port=self._sessions.port_of(path))

    def is_signalling(self, packet: bytes) -> bool:
        """Whether a packet that has not been through the tunnel is a message from or to a home agent."""
        if len(packet) < 40 or packet[0] >> 4 != 6 or packet[6] not in _CONTROL_HEADERS:
            return False
        return not self._scope.home_agent.isdisjoint((packet[8:24], packet[24:40]))

    def control_packet(self, payload: bytes) -> bytes:
        """The IPv6 packet in a payload that was judged CONTROL."""
        inner = demultiplex(payload, self._scope.config.tlv)
        return payload if isinstance(inner, Drop) else inner

    def drop(self, refusal: Drop, packets: int = 1) -> Drop:
        """Count a refusal."""
        reason = refusal.reason
        self.drops[reason] = self.drops.get(reason, 0) + packets
        return refusal

    def last_sent(self, path: TunnelPath) -> float:
        """When a packet last left by `path`, in seconds of CLOCK_BOOTTIME; 0.0 for never."""
        lane = self._lanes_by_path.get(path)
        return lane.sent_at if lane is not None else 0.0

    def disconnect_lanes(self) -> None:
        """Forget the carriers of all lanes, because the set of carriers changed."""
        for lane in list(self._lanes_by_path.values()):
            lane.send = lane.send_fragmented = None

    def _inbound_unusual(self, peer: Peer, packet: bytes, outer_tos: int) -> bytes | Control | Drop:
        """A datagram that does not begin like an IP packet: a TLV header, or nothing at all."""
        if peer[1] == 0:
            return self.drop(MALFORMED)  # IP in IP has no format to negotiate
        inner = demultiplex(packet, self._scope.config.tlv)
        if isinstance(inner, Drop):
            return self.drop(inner)
        if len(inner) < 20:
            return self.drop(MALFORMED)
        return self.inbound(peer, inner, outer_tos)

    def _is_nested6(self, packet: bytes) -> bool:
        home_agent = self._scope.home_agent
        if packet[8:24] not in home_agent and packet[24:40] not in home_agent:
            return False
        return packet[6] != PROTOCOL_UDP or packet[40:42] in _PORTS or packet[42:44] in _PORTS

    def _is_nested4(self, packet: bytes) -> bool:
        home_agent = self._scope.home_agent
        if packet[12:16] not in home_agent and packet[16:20] not in home_agent:
            return False
        ports = (packet[0] & 0x0F) * 4
        return (
            packet[9] != PROTOCOL_UDP
            or packet[ports : ports + 2] in _PORTS
            or packet[ports + 2 : ports + 4] in _PORTS
        )

    def _open_lane(self, way: Way) -> Lane:
        """The lane of a path seen for the first time; equal paths share one, so that its history goes on."""
        if len(self._lanes) > len(self.table) + 16:
            self._forget_unused_lanes()
        lane = self.lane(way.path)
        self._lanes[id(way.path)] = lane
        self._paths.append(way.path)
        return lane

    def _forget_unused_lanes(self) -> None:
        current = {way.path for way in {id(way): way for way in self.table.ways()}.values()}
        self._lanes_by_path = {path: lane for path, lane in self._lanes_by_path.items() if path in current}
        self._lanes.clear()
        self._paths.clear()

    def _oversize(self, lane: Lane, packet: bytes, now: float) -> Lane | Drop | Reply | Pieces:
        """RFC 4459: tell the sender, or fragment inside; see there below the least IPv6 MTU."""
        if lane.reduced_until and now >= lane.reduced_until:
            lane.limit, lane.reduced_until = lane.path.inner_mtu, 0.0
            return self.outbound(packet, now)
        if packet[0] >> 4 == 6:
            if len(packet) <= MIN_IPV6_MTU:
                inside = fragment_inside(packet, lane.limit) if lane.path.encapsulation.in_udp else ()
                return Pieces(lane, inside or (packet,), fragment_outer=not inside)
            return self._too_big(packet, max(lane.limit, MIN_IPV6_MTU), now)
        fragments = fragment_ipv4(packet, lane.limit)
        return Pieces(lane, fragments) if fragments else self._too_big(packet, lane.limit, now)

    def _too_big(self, packet: bytes, mtu: int, now: float) -> Drop | Reply:
        """The ICMP error, at a bounded rate and never about another error."""
        if not deserves_error(packet) or not self._errors.take(now):
            return self.drop(TOO_BIG)
        # Signed by the packet's own destination: an error from an address of this host would be a martian on
        # its way back through the TUN device, whereas that one is routed to it.
        source = ip_address(packet[24:40] if packet[0] >> 4 == 6 else packet[16:20])
        return Reply(packet_too_big(packet, mtu, source))


@dataclass(frozen=True, slots=True)
class _Scope:
    """An EndpointConfig as octets, which is what packets are made of."""

    config: EndpointConfig
    control_local: frozenset[bytes]
    control_peer: frozenset[bytes]
    home_agent: frozenset[bytes]

    @classmethod
    def of(cls, config: EndpointConfig) -> _Scope:
        return cls(
            config,
            frozenset(address.packed for address in config.control_local),
            frozenset(address.packed for address in config.control_peer),
            frozenset(address.packed for address in config.home_agent),
        )

    def is_control(self, packet: bytes) -> bool:
        if packet[24:40] not in self.control_local:
            return False
        return not self.control_peer or packet[8:24] in self.control_peer
