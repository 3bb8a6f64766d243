"""A network address and port translator as RFC 4787 tells them apart.

Pure.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import Enum
from ipaddress import IPv4Address
from random import Random

from tests.internet.weather import Address, Datagram
from wire.ip import PROTOCOL_ICMP

Endpoint = tuple[Address, int]
"""Address and UDP port."""


class Dependence(Enum):
    """What a mapping, or a filter, depends on (RFC 4787 sections 4.1 and 5)."""

    ENDPOINT_INDEPENDENT = "endpoint-independent"
    ADDRESS = "address-dependent"
    ADDRESS_AND_PORT = "address-and-port-dependent"

    def part_of(self, remote: Endpoint) -> tuple[object, ...]:
        match self:
            case Dependence.ENDPOINT_INDEPENDENT:
                return ()
            case Dependence.ADDRESS:
                return (remote[0],)
            case Dependence.ADDRESS_AND_PORT:
                return remote


@dataclass(frozen=True, slots=True)
class Behaviour:
    """How one NAT behaves. `timeout` seconds without traffic end a mapping."""

    mapping: Dependence = Dependence.ENDPOINT_INDEPENDENT
    filtering: Dependence = Dependence.ADDRESS_AND_PORT
    timeout: float = 120.0
    refreshed_inbound: bool = False
    """Whether packets from outside keep a mapping alive too (RFC 4787 REQ-6 only demands outbound)."""
    ports: range = range(1024, 65536)


CONE = Behaviour(filtering=Dependence.ENDPOINT_INDEPENDENT)
SYMMETRIC = Behaviour(Dependence.ADDRESS_AND_PORT, Dependence.ADDRESS_AND_PORT)


@dataclass(slots=True)
class _Mapping:
    inside: Endpoint
    port: int
    expires_at: float
    permitted: set[tuple[object, ...]] = field(default_factory=set)


class Nat:
    """One public address, random ports. Only UDP and ICMP echo pass: a NAPT knows nothing else to rewrite."""

    def __init__(self, public: IPv4Address, rng: Random, behaviour: Behaviour = SYMMETRIC) -> None:
        self.public = public
        self.behaviour = behaviour
        self._rng = rng
        self._by_flow: dict[tuple[object, ...], _Mapping] = {}
        self._by_port: dict[int, _Mapping] = {}

    def __len__(self) -> int:
        return len(self._by_port)

    def outbound(self, datagram: Datagram, now: float) -> Datagram | None:
        """`datagram` as it leaves on the public side; None if it does not."""
        if not _passes(datagram):
            return None
        inside = (datagram.source, datagram.source_port)
        remote = (datagram.destination, datagram.destination_port)
        key = (inside, *self.behaviour.mapping.part_of(remote))
        mapping = self._alive(self._by_flow.get(key), now) or self._map(key, inside, now)
        if mapping is None:
            return None
        mapping.expires_at = now + self.behaviour.timeout
        mapping.permitted.add(self.behaviour.filtering.part_of(remote))
        return replace(datagram, source=self.public, source_port=mapping.port)

    def inbound(self, datagram: Datagram, now: float) -> Datagram | None:
        """`datagram` as it goes on inside; None if no mapping or a filter stops it."""
        mapping = self._alive(self._by_port.get(datagram.destination_port), now)
        remote = (datagram.source, datagram.source_port)
        if not _passes(datagram) or mapping is None:
            return None
        if self.behaviour.filtering.part_of(remote) not in mapping.permitted:
            return None
        if self.behaviour.refreshed_inbound:
            mapping.expires_at = now + self.behaviour.timeout
        address, port = mapping.inside
        return replace(datagram, destination=address, destination_port=port)

    def flush(self) -> None:
        """Forget every mapping: the box was restarted, or its table overflowed."""
        self._by_flow.clear()
        self._by_port.clear()

    def _alive(self, mapping: _Mapping | None, now: float) -> _Mapping | None:
        return mapping if mapping is not None and mapping.expires_at > now else None

    def _map(self, key: tuple[object, ...], inside: Endpoint, now: float) -> _Mapping | None:
        self._sweep(now)
        ports = self.behaviour.ports
        if len(self._by_port) >= len(ports):
            return None
        port = self._rng.choice(ports)
        while port in self._by_port:
            port = self._rng.choice(ports)
        mapping = _Mapping(inside, port, now)
        self._by_flow[key] = self._by_port[port] = mapping
        return mapping

    def _sweep(self, now: float) -> None:
        self._by_flow = {key: one for key, one in self._by_flow.items() if one.expires_at > now}
        self._by_port = {port: one for port, one in self._by_port.items() if one.expires_at > now}


def _passes(datagram: Datagram) -> bool:
    return datagram.in_udp or datagram.protocol == PROTOCOL_ICMP
