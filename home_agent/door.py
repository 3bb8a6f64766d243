"""The first look at a control packet: could it be from a mobile node at all, and is its source modest?

Pure. threats.md C.1 rows 10 and 12. Runs in the data plane's thread, in front of the bounded way into the
event loop, so that a flood of forgeries does not crowd out the Binding Updates of those who belong here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from ipaddress import IPv6Address

from home_agent.limits import TokenBuckets
from tunnel.path import Arrival
from wire.ip import (
    IPV6_HEADER,
    PROTOCOL_DESTINATION_OPTIONS,
    PROTOCOL_ESP,
    PROTOCOL_ROUTING,
)

PACKETS_PER_SECOND = 200.0
PACKET_BURST = 400.0
SOURCES = 4096
"""What one IPv4 address or IPv6 /64 may make us verify, and how many of them are remembered."""

UNPROTECTED = "control-unprotected"
UNKNOWN_SPI = "control-unknown-spi"
TOO_MANY = "control-too-many"


class Door:
    """Knows the SPIs of all mobile nodes. `turned_away` counts the others by reason."""

    def __init__(self, spis: Iterable[int]) -> None:
        self.turned_away: Counter[str] = Counter()
        self._spis = frozenset(spi.to_bytes(4, "big") for spi in spis)
        self._sources: TokenBuckets[bytes] = TokenBuckets(PACKETS_PER_SECOND, PACKET_BURST, SOURCES)

    def admits(self, packet: bytes, arrival: Arrival, now: float) -> bool:
        """Whether `packet`, a whole IPv6 packet, is worth its verification. Proves nothing yet."""
        spi = _spi_of(packet)
        if spi is None:
            self.turned_away[UNPROTECTED] += 1
        elif spi not in self._spis:
            self.turned_away[UNKNOWN_SPI] += 1
        elif not self._sources.spend(_source_of(arrival), now):
            self.turned_away[TOO_MANY] += 1
        else:
            return True
        return False


def _spi_of(packet: bytes) -> bytes | None:
    """The four octets behind the IPv6 header and at most one extension header, if they belong to ESP."""
    if len(packet) < IPV6_HEADER + 8:
        return None
    next_header, position = packet[6], IPV6_HEADER
    if next_header in (PROTOCOL_DESTINATION_OPTIONS, PROTOCOL_ROUTING):
        next_header, position = packet[position], position + (packet[position + 1] + 1) * 8
    if next_header != PROTOCOL_ESP or len(packet) < position + 8:
        return None
    return packet[position : position + 4]


def _source_of(arrival: Arrival) -> bytes:
    octets = arrival.remote.packed
    return octets[:8] if isinstance(arrival.remote, IPv6Address) else octets
