"""The first look at a control packet: could it be from a mobile node at all, and is its source modest?

Pure. docs/security.md: forged-message, flood. Runs in the data plane's thread, in front of the bounded way
into the event loop, so that a flood of forgeries does not crowd out the updates of those who belong here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from ipaddress import IPv6Address

from home_agent.limits import TokenBuckets
from tunnel.authentication import AUTHENTICATOR_SIZE, AuthenticationAssociation, Keys
from tunnel.path import Arrival
from wire.ip import (
    IPV6_HEADER,
    NO_NEXT_HEADER,
    PROTOCOL_DESTINATION_OPTIONS,
    PROTOCOL_ESP,
    PROTOCOL_MOBILITY,
    PROTOCOL_ROUTING,
)

PACKETS_PER_SECOND = 200.0
PACKET_BURST = 400.0
SOURCES = 4096
"""What one IPv4 address or IPv6 /64 may make us verify, and how many of them are remembered."""

UNPROTECTED = "control-unprotected"
UNKNOWN_SPI = "control-unknown-spi"
TOO_MANY = "control-too-many"


_OPTION_SPI_AT = (-AUTHENTICATOR_SIZE - 4, -AUTHENTICATOR_SIZE - 8)
"""Where the SPI of an authentication option stands, from the end: the option is the last one, and as it is
aligned to four octets, at most four of padding follow it."""


def door_for(keys: Iterable[Keys]) -> Door:
    """The door that lets the holders of `keys` in."""
    esp, options = [], []
    for secret in keys:
        if isinstance(secret, AuthenticationAssociation):
            options.append(secret.spi)
        else:
            esp.append(secret.update.spi)
    return Door(esp, options)


class Door:
    """Knows the SPIs of all mobile nodes. `turned_away` counts the others by reason."""

    def __init__(self, spis: Iterable[int], option_spis: Iterable[int] = ()) -> None:
        """`spis` are those of ESP, `option_spis` those of authentication options."""
        self.turned_away: Counter[str] = Counter()
        self._spis = frozenset(spi.to_bytes(4, "big") for spi in spis)
        self._option_spis = frozenset(spi.to_bytes(4, "big") for spi in option_spis)
        self._sources: TokenBuckets[bytes] = TokenBuckets(PACKETS_PER_SECOND, PACKET_BURST, SOURCES)

    def admits(self, packet: bytes, arrival: Arrival, now: float) -> bool:
        """Whether `packet`, a whole IPv6 packet, is worth its verification. Proves nothing yet."""
        next_header, payload = _payload_of(packet)
        if next_header == PROTOCOL_MOBILITY:
            known = any(packet[at : at + 4] in self._option_spis for at in _OPTION_SPI_AT)
        else:
            known = next_header == PROTOCOL_ESP and packet[payload : payload + 4] in self._spis
        if next_header != PROTOCOL_ESP and not known:
            self.turned_away[UNPROTECTED] += 1
        elif not known:
            self.turned_away[UNKNOWN_SPI] += 1
        elif not self._sources.spend(_source_of(arrival), now):
            self.turned_away[TOO_MANY] += 1
        else:
            return True
        return False


def _payload_of(packet: bytes) -> tuple[int, int]:
    """(protocol, octet) of what stands behind the IPv6 header and at most one extension header."""
    if len(packet) < IPV6_HEADER + 8:
        return NO_NEXT_HEADER, IPV6_HEADER
    next_header, position = packet[6], IPV6_HEADER
    if next_header in (PROTOCOL_DESTINATION_OPTIONS, PROTOCOL_ROUTING):
        next_header, position = packet[position], position + (packet[position + 1] + 1) * 8
    return (next_header if len(packet) >= position + 8 else NO_NEXT_HEADER), position


def _source_of(arrival: Arrival) -> bytes:
    octets = arrival.remote.packed
    return octets[:8] if isinstance(arrival.remote, IPv6Address) else octets
