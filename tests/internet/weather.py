"""Datagrams, and what becomes of them on a link: loss, delay, reordering, duplication, damage, black holes.

Pure. A link is a value; a change of weather is another value.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv6Address
from random import Random

from wire.ip import PROTOCOL_IPV4, PROTOCOL_IPV6, PROTOCOL_UDP

Address = IPv4Address | IPv6Address


@dataclass(frozen=True, slots=True)
class Datagram:
    """An addressed datagram: the outer headers as fields, what follows them as octets.

    `payload` follows the UDP header (protocol 17) or the outer IP header (4, 41). For control packets of IPv6
    links it is the whole IPv6 packet and `protocol` the first next header (43, 50, 60, 135).
    """

    source: Address
    destination: Address
    protocol: int
    payload: bytes
    source_port: int = 0
    destination_port: int = 0
    damaged: bool = False
    """The weather flipped a bit of it. No checksum of the link helps here: that is the meaner case."""

    @property
    def in_udp(self) -> bool:
        return self.protocol == PROTOCOL_UDP

    @property
    def size(self) -> int:
        """Octets of the IP packet. On IPv6 links what is no tunnel is a whole packet already."""
        if self.protocol == PROTOCOL_UDP:
            return 28 + len(self.payload)
        if self.protocol in (PROTOCOL_IPV4, PROTOCOL_IPV6):
            return len(self.payload) + (20 if self.source.version == 4 else 40)
        return len(self.payload)

    def __str__(self) -> str:
        ports = f":{self.source_port}", f":{self.destination_port}"
        source, destination = ports if self.in_udp else ("", "")
        protocol = "udp" if self.in_udp else f"protocol {self.protocol}"
        octets = f"{len(self.payload)} octets{' damaged' if self.damaged else ''}"
        return f"{self.source}{source} > {self.destination}{destination} {protocol} {octets}"


NOTHING: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Weather:
    """One direction of a link. Probabilities in 0..1, times in seconds.

    `cut` holds IP versions that do not pass, `blocked` IP protocols that do not pass, `largest` the octets of
    the largest IP packet that does (0: any).
    """

    delay: float = 0.01
    jitter: float = 0.0
    loss: float = 0.0
    duplication: float = 0.0
    corruption: float = 0.0
    cut: frozenset[int] = NOTHING
    blocked: frozenset[int] = NOTHING
    largest: int = 0

    def fate(self, datagram: Datagram, rng: Random) -> list[tuple[float, Datagram]]:
        """(delay, datagram) for each copy that arrives."""
        if datagram.destination.version in self.cut or datagram.protocol in self.blocked:
            return []
        if self.largest and datagram.size > self.largest:
            return []
        copies = 2 if self.duplication and rng.random() < self.duplication else 1
        return [
            (self.delay + (rng.random() * self.jitter if self.jitter else 0.0), self._worn(datagram, rng))
            for _ in range(copies)
            if not (self.loss and rng.random() < self.loss)
        ]

    def _worn(self, datagram: Datagram, rng: Random) -> Datagram:
        if not self.corruption or not datagram.payload or rng.random() >= self.corruption:
            return datagram
        octets = bytearray(datagram.payload)
        bit = rng.randrange(8 * len(octets))
        octets[bit // 8] ^= 1 << bit % 8
        return replace(datagram, payload=bytes(octets), damaged=True)


FAIR = Weather()
STORM = Weather(loss=0.3)
CHAOS = Weather(jitter=0.4, loss=0.1, duplication=0.2, corruption=0.05)
CUT = Weather(cut=frozenset({4, 6}))
