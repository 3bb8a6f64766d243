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
MAX_LEASES = 4
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
    client_id: str = ""
    """Whose it is: what a DHCP server knows us by is derived from the link-layer address of our own."""
    metric: int = 0
    """Of the default route that came with it."""


@dataclass(frozen=True, slots=True)
class NetworkFacts:
    """What was learnt in one network. Every field is a `Learnt`, None for what is not known (any more), or a
    tuple of `Learnt`."""

    leases: tuple[Learnt[Lease], ...] = ()
    """One for each of our links that was here, at most MAX_LEASES; the newest comes last."""
    address6: Learnt[IPv6Address] | None = None
    """Our IPv6 address, as long as it is valid."""
    path_mtu: Learnt[int] | None = None
    """Octets of the largest outer packet that passes, where it is less than the link's."""
    keepalive: Learnt[float] | None = None
    """Seconds between keepalives that the NAT there needs, where it is less than the home agent suggests."""
    needs_udp: Learnt[bool] | None = None
    """IP in IP carries no payload from here; UDP does."""
    no_payload: Learnt[bool] | None = None
    """Nothing carries payload from here; another family or link did."""
    silent: Learnt[bool] | None = None
    """The home agent did not answer an echo from here, while it answered one by another way."""

    def at(self, now: float) -> NetworkFacts:
        """Without what no longer holds."""
        return self._mapped(lambda fact: fact if fact.until > now else None)

    def shifted(self, seconds: float, latest: float) -> NetworkFacts:
        """With every instant `seconds` later, yet none after `latest`."""
        return self._mapped(lambda fact: Learnt(fact.value, min(fact.until + seconds, latest)))

    def leased(self, lease: Learnt[Lease]) -> NetworkFacts:
        """With this lease in the place of the one that the same client had."""
        others = tuple(known for known in self.leases if known.value.client_id != lease.value.client_id)
        return replace(self, leases=(*others, lease)[-MAX_LEASES:])

    def _mapped(self, change: Callable[[Learnt[Any]], Learnt[Any] | None]) -> NetworkFacts:
        def mapped(fact: Any) -> Any:
            if isinstance(fact, tuple):
                return tuple(kept for kept in map(change, fact) if kept is not None)
            return None if fact is None else change(fact)

        return NetworkFacts(**{field.name: mapped(getattr(self, field.name)) for field in fields(self)})


NOTHING = NetworkFacts()


@dataclass(frozen=True, slots=True)
class KnownNetworks:
    """At most MAX_NETWORKS networks; the one met last comes last."""

    entries: tuple[tuple[NetworkId, NetworkFacts], ...] = ()

    def about(self, network: NetworkId | None) -> NetworkFacts:
        """What is known of `network`, which may be nothing."""
        return next((facts for known, facts in self.entries if known == network), NOTHING)

    def learn(self, network: NetworkId, **facts: Any) -> KnownNetworks:
        """With these fields of its NetworkFacts, and `network` as the one met last."""
        return self.put(network, replace(self.about(network), **facts))

    def put(self, network: NetworkId, facts: NetworkFacts) -> KnownNetworks:
        """With `facts` and no others of `network`, and that as the one met last."""
        others = tuple(entry for entry in self.entries if entry[0] != network)
        return KnownNetworks((*others, (network, facts))[-MAX_NETWORKS:])

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
        _network(entry): replace(entry.facts, leases=entry.facts.leases[-MAX_LEASES:])
        for entry in read.networks[-MAX_NETWORKS:]
    }
    shifted = ((network, facts.shifted(-wall_offset, latest)) for network, facts in entries.items())
    return KnownNetworks(tuple(shifted)).at(now)


def _network(entry: _Entry) -> NetworkId:
    hardware = bytes.fromhex(entry.hardware.replace(":", ""))
    if not 0 < len(hardware) <= MAX_HARDWARE:
        raise ValueError(f"a link-layer address of {len(hardware)} octets")
    return NetworkId(ip_address(entry.router), hardware, ip_network(entry.prefix))


def _from_text(kind: type[Any], value: object) -> Any:
    if kind not in (IPv4Address, IPv6Address) or not isinstance(value, str):
        raise ValueError(f"{kind.__name__} is not written like that")
    return kind(value)
