"""The memory of networks: what was learnt in each, until when it holds, and in which one was met last.

Pure. RFC 4436 section 2.1, RFC 6059 section 4.3. Nothing secret is in it, and nothing in it proves anything.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any, Generic, TypeVar

import msgspec

from movement.network import MAX_HARDWARE, NetworkId

T = TypeVar("T")

MAX_NETWORKS = 64
"""The one that was not met for longest makes room."""
MAX_AGE = 90 * 86400.0
"""Seconds that anything is believed; a clock that was set back shall not make a fact eternal."""
MAX_OCTETS = 256 * 1024
"""A file that is larger was not written by us."""


@dataclass(frozen=True, slots=True)
class Learnt(Generic[T]):
    """`value` holds until `until`, in seconds of CLOCK_BOOTTIME."""

    value: T
    until: float


@dataclass(frozen=True, slots=True)
class Lease:
    """Our IPv4 address in a network, by DHCP. It ends with the fact; gateway and prefix are the network's."""

    address: IPv4Address
    client_id: str | None = None
    """As text; None if the DHCP client did not tell."""


@dataclass(frozen=True, slots=True)
class NetworkFacts:
    """What was learnt in one network. Every field is a `Learnt`, or None for what is not known (any more)."""

    lease: Learnt[Lease] | None = None
    address6: Learnt[IPv6Address] | None = None
    """Our IPv6 address, as long as it is valid."""

    def at(self, now: float) -> NetworkFacts:
        """Without what no longer holds."""
        return self._mapped(lambda fact: fact if fact.until > now else None)

    def shifted(self, seconds: float, latest: float) -> NetworkFacts:
        """With every instant `seconds` later, yet none after `latest`."""
        return self._mapped(lambda fact: Learnt(fact.value, min(fact.until + seconds, latest)))

    def _mapped(self, change: Callable[[Learnt[Any]], Learnt[Any] | None]) -> NetworkFacts:
        known = {field.name: getattr(self, field.name) for field in fields(self)}
        return NetworkFacts(**{name: change(fact) for name, fact in known.items() if fact is not None})


NOTHING = NetworkFacts()


@dataclass(frozen=True, slots=True)
class KnownNetworks:
    """At most MAX_NETWORKS networks; the one met last comes last."""

    entries: tuple[tuple[NetworkId, NetworkFacts], ...] = ()

    def about(self, network: NetworkId | None) -> NetworkFacts:
        """What is known of `network`, which may be nothing."""
        return next((facts for known, facts in self.entries if known == network), NOTHING)

    def learn(self, network: NetworkId, **facts: Learnt[Any] | None) -> KnownNetworks:
        """With these fields of its NetworkFacts, and `network` as the one met last."""
        others = tuple(entry for entry in self.entries if entry[0] != network)
        learnt = replace(self.about(network), **facts)
        return KnownNetworks((*others, (network, learnt))[-MAX_NETWORKS:])

    def at(self, now: float) -> KnownNetworks:
        """Without facts that no longer hold, and without networks of which nothing is left."""
        current = ((network, facts.at(now)) for network, facts in self.entries)
        return KnownNetworks(tuple(entry for entry in current if entry[1] != NOTHING))

    def as_json(self, wall_offset: float) -> bytes:
        """For a file. `wall_offset` is the wall clock less CLOCK_BOOTTIME, which starts with the host."""
        document = _Document(
            [
                _Entry(
                    str(network.router),
                    network.hardware.hex(":"),
                    str(network.prefix),
                    facts.shifted(wall_offset, float("inf")),
                )
                for network, facts in self.entries
            ]
        )
        return msgspec.json.encode(document, enc_hook=str)


NO_NETWORKS = KnownNetworks()


class _Entry(msgspec.Struct, frozen=True):
    router: str
    hardware: str
    prefix: str
    facts: NetworkFacts


class _Document(msgspec.Struct, frozen=True):
    networks: list[_Entry]


def recall_networks(document: bytes, now: float, wall_offset: float) -> KnownNetworks:
    """The memory that `as_json` wrote. ValueError with the reason if it is damaged or from somebody else.

    Fields that are not known here are passed over, and those that are missing are not known.
    """
    if len(document) > MAX_OCTETS:
        raise ValueError(f"{len(document)} octets are too many")
    try:
        read = msgspec.json.decode(document, type=_Document, dec_hook=_from_text)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    latest = now + MAX_AGE
    entries = {
        _network(entry): entry.facts.shifted(-wall_offset, latest) for entry in read.networks[-MAX_NETWORKS:]
    }
    return KnownNetworks(tuple(entries.items())).at(now)


def _network(entry: _Entry) -> NetworkId:
    hardware = bytes.fromhex(entry.hardware.replace(":", ""))
    if not 0 < len(hardware) <= MAX_HARDWARE:
        raise ValueError(f"a link-layer address of {len(hardware)} octets")
    return NetworkId(ip_address(entry.router), hardware, ip_network(entry.prefix))


def _from_text(kind: type[Any], value: object) -> Any:
    if kind not in (IPv4Address, IPv6Address) or not isinstance(value, str):
        raise ValueError(f"{kind.__name__} is not written like that")
    return kind(value)
