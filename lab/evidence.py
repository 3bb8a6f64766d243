"""What a captured frame shows of the tunnel: Binding Update, acknowledgement or payload, and how wrapped.

Pure. RFC 5555 section 4.1, RFC 6275 sections 6.1.7 and 6.4. Looks at headers only: what is inside ESP next to
the mobility header, or protected payload, is between the mobile node and its home agent.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum
from ipaddress import IPv4Address, IPv6Address, ip_address

from lab.pcap import Frame
from tunnel.path import Encapsulation
from wire.esp import UDP_PORT_NAT_TRAVERSAL
from wire.ip import (
    PROTOCOL_DESTINATION_OPTIONS,
    PROTOCOL_ESP,
    PROTOCOL_IPV4,
    PROTOCOL_IPV6,
    PROTOCOL_MOBILITY,
    PROTOCOL_ROUTING,
    PROTOCOL_UDP,
)

_ETHERNET = 14
_CONTROL = (PROTOCOL_ESP, PROTOCOL_MOBILITY)
_TUNNELLED = (PROTOCOL_IPV4, PROTOCOL_IPV6)
_IPV4, _IPV6 = b"\x08\x00", b"\x86\xdd"


class Kind(Enum):
    """What goes between the mobile node and the home agent."""

    UPDATE = "BU"
    ACK = "BA"
    PAYLOAD = "payload"


@dataclass(frozen=True, slots=True)
class Sighting:
    """One packet between care-of address and home agent, seen on some interface."""

    at_ns: int
    kind: Kind
    outbound: bool
    """From the mobile node to the home agent."""
    encapsulation: Encapsulation | None
    """None for signalling that is not encapsulated, as on an IPv6 link."""
    care_of: IPv4Address | IPv6Address
    port: int


SLOT_NS = 100_000_000
"""Payload is counted per tenth of a second."""


@dataclass(slots=True)
class Seen:
    """What was seen on one interface: signalling packet by packet, payload in numbers."""

    signals: list[Sighting] = field(default_factory=list)
    payload: Counter[tuple[int, int, Encapsulation]] = field(default_factory=Counter)
    """Packets by slot, outer family (4 or 6) and encapsulation."""

    def add(self, sighting: Sighting) -> None:
        if sighting.kind is not Kind.PAYLOAD:
            self.signals.append(sighting)
        elif sighting.encapsulation is not None:
            slot = sighting.at_ns // SLOT_NS
            self.payload[slot, sighting.care_of.version, sighting.encapsulation] += 1


class Observer:
    """Recognises the traffic of one home agent, by its `addresses`, as they are and as a NAT64 shows them.

    ESP without anything before it is signalling between it and `homes`, on the home link, else payload.
    """

    def __init__(
        self,
        addresses: tuple[IPv4Address | IPv6Address, ...],
        port: int,
        homes: Iterable[IPv4Address | IPv6Address] = (),
    ) -> None:
        self._homes = frozenset(homes)
        self._addresses = frozenset(address.packed for address in addresses)
        self._port = port

    def observe(self, frame: Frame) -> Sighting | None:
        """What this frame is, or None when it has nothing to do with the tunnel."""
        octets = frame.octets
        if octets[12:14] == _IPV4 and len(octets) >= _ETHERNET + 20:
            return self._ipv4(frame.at_ns, octets[_ETHERNET:])
        if octets[12:14] == _IPV6 and len(octets) >= _ETHERNET + 40:
            return self._ipv6(frame.at_ns, octets[_ETHERNET:])
        return None

    def _ipv4(self, at_ns: int, packet: bytes) -> Sighting | None:
        outbound = packet[16:20] in self._addresses
        if not outbound and packet[12:16] not in self._addresses:
            return None
        care_of = ip_address(packet[12:16] if outbound else packet[16:20])
        if packet[9] in _TUNNELLED:
            return Sighting(at_ns, Kind.PAYLOAD, outbound, Encapsulation.IP_IN_IP, care_of, 0)
        if packet[9] != PROTOCOL_UDP:
            return None
        return self._udp(at_ns, packet, (packet[0] & 0x0F) * 4, outbound, care_of)

    def _udp(
        self, at_ns: int, packet: bytes, start: int, outbound: bool, care_of: IPv4Address | IPv6Address
    ) -> Sighting | None:
        if len(packet) < start + 16:
            return None
        source, destination = (int.from_bytes(packet[start + i : start + i + 2]) for i in (0, 2))
        place = source if outbound else destination
        if (destination if outbound else source) == UDP_PORT_NAT_TRAVERSAL:
            return Sighting(at_ns, Kind.PAYLOAD, outbound, Encapsulation.ESP_UDP, care_of, place)
        if (destination if outbound else source) != self._port:
            return None
        inner = packet[start + 8 :]
        encapsulation = Encapsulation.UDP if inner[0] >> 4 in (4, 6) else Encapsulation.UDP_TLV
        kind = Kind.PAYLOAD
        if inner[0] >> 4 == 6 and inner[6] in _CONTROL:
            kind = Kind.UPDATE if outbound else Kind.ACK
        return Sighting(at_ns, kind, outbound, encapsulation, care_of, place)

    def _ipv6(self, at_ns: int, packet: bytes) -> Sighting | None:
        outbound = packet[24:40] in self._addresses
        if not outbound and packet[8:24] not in self._addresses:
            return None
        care_of = ip_address(packet[8:24] if outbound else packet[24:40])
        if packet[6] in _TUNNELLED:
            return Sighting(at_ns, Kind.PAYLOAD, outbound, Encapsulation.IP_IN_IP, care_of, 0)
        if packet[6] == PROTOCOL_ESP and care_of not in self._homes:
            return Sighting(at_ns, Kind.PAYLOAD, outbound, Encapsulation.ESP, care_of, 0)
        if packet[6] == PROTOCOL_UDP:  # to the home agent's IPv4 address, through a NAT64
            return self._udp(at_ns, packet, 40, outbound, care_of)
        next_header = packet[6]
        extension = PROTOCOL_DESTINATION_OPTIONS if outbound else PROTOCOL_ROUTING
        if next_header == extension and len(packet) > 40:
            next_header = packet[40]
        if next_header not in _CONTROL:
            return None
        return Sighting(at_ns, Kind.UPDATE if outbound else Kind.ACK, outbound, None, care_of, 0)
