"""Which path reaches a home address or mobile network prefix, and from where its packets are accepted.

Pure. RFC 6275 sections 10.4 and 11.3, RFC 3963 section 6.4; docs/security.md: open-tunnel, false-claim.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from itertools import chain

from tunnel.path import TunnelPath
from tunnel.persistent import BITS, MASK, PersistentMap
from wire.text import text_of

Network = IPv4Network | IPv6Network
Destination = IPv4Address | IPv6Address | Network
Peer = tuple[str, int] | tuple[str, int, int, int]
"""The other end of the outer header as the socket layer names it: address text and UDP port (0: no UDP)."""
ASSOCIATION = "association"
"""In place of an address: whoever has the keys of the SPI that stands in place of the port."""


def peer_of(address: IPv4Address | IPv6Address, port: int = 0) -> Peer:
    """The name by which `recvfrom` will call that address and port."""
    return _named(text_of(address), address.version, port)


def _named(text: str, version: int, port: int) -> Peer:
    return (text, port) if version == 4 else (text, port, 0, 0)


def _peers_by(paths: Iterable[TunnelPath]) -> Iterator[Peer]:
    """Who may send by `paths`: with protection the keys decide, wherever the outer header comes from."""
    last, text = None, ""
    for path in paths:
        if path.encapsulation.protected:
            yield (ASSOCIATION, path.spi)
            continue
        if path.remote is not last:  # most paths of a mobile node differ in format and port alone
            last, text = path.remote, text_of(path.remote)
        yield _named(text, path.remote.version, path.remote_port)


@dataclass(frozen=True, slots=True)
class Way:
    """How packets of a home address or prefix travel: by `path`, and also accepted as of `accept`.

    `accept` holds the old path of a handover, or the second encapsulation of a care-of address without NAT.
    One mobile node has one way, whatever it has of addresses and prefixes.
    """

    path: TunnelPath
    accept: tuple[TunnelPath, ...] = ()
    peers: tuple[Peer, ...] = field(init=False, repr=False, compare=False)
    """Outer sources, or security associations, that may send by it. A set would take the memory of four.

    Worked out for the first packet that asks: where programs carry payload, hardly any does.
    """

    def __getattr__(self, name: str) -> tuple[Peer, ...]:
        """Python asks here for what is not set yet."""
        if name != "peers":
            raise AttributeError(name)
        peers = tuple(dict.fromkeys(_peers_by((self.path, *self.accept))))
        object.__setattr__(self, "peers", peers)
        return peers


@dataclass(frozen=True, slots=True)
class Route:
    """A home address or prefix, and the way there."""

    prefix: Network
    path: TunnelPath
    accept: tuple[TunnelPath, ...] = ()

    @property
    def way(self) -> Way:
        return Way(self.path, self.accept)


class ForwardingTable:
    """An immutable set of routes. The data plane reads one at a time; a handover is assigning another.

    Another table with a few other routes costs the same, however many there are.
    """

    __slots__ = ("_hosts", "_lengths", "_prefixes")

    def __init__(self, routes: Iterable[Route] = ()) -> None:
        self._hosts: PersistentMap[bytes, Way] = PersistentMap()
        """Whole addresses by their octets: the common case, one lookup."""
        self._prefixes: PersistentMap[_PrefixKey, Way] = PersistentMap()
        self._lengths: Mapping[int, int] = {}
        """How many bits are behind a prefix -> how many prefixes are like that; the longest prefix first."""
        self._change((), {_key(route.prefix): route.way for route in routes})

    @property
    def routes(self) -> tuple[Route, ...]:
        return tuple(self._routes())

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ForwardingTable):
            return NotImplemented
        return self._hosts == other._hosts and self._prefixes == other._prefixes

    __hash__ = None  # type: ignore[assignment]  # a table is compared by its routes, which is too dear to hash

    def __repr__(self) -> str:
        return f"ForwardingTable({self.routes!r})"

    def __len__(self) -> int:
        return len(self._hosts) + len(self._prefixes)

    def find(self, address: bytes) -> Way | None:
        """The way to the longest prefix that holds `address` (4 or 16 octets)."""
        at = hash(address)  # as PersistentMap.get, which would be one more call for each packet
        way = self._hosts.root[at & MASK][at >> BITS & MASK].get(address)
        if way is not None or not self._lengths:
            return way
        family = 1 << 8 * len(address)
        number = family | int.from_bytes(address, "big")
        for shift in self._lengths:
            way = self._prefixes.get((shift, number >> shift))
            if way is not None:
                return way
        return None

    def way_to(self, destination: Destination) -> Way | None:
        """The way of exactly this prefix or address."""
        key = _key(destination)
        return self._hosts.get(key) if isinstance(key, bytes) else self._prefixes.get(key)

    def ways(self) -> Iterator[Way]:
        """The way of each route."""
        return chain(self._hosts.values(), self._prefixes.values())

    def with_routes(self, *routes: Route) -> ForwardingTable:
        """This table with `routes` added, each replacing the one of the same prefix."""
        return self._changed((), {_key(route.prefix): route.way for route in routes})

    def with_way(self, way: Way, destinations: Iterable[Destination]) -> ForwardingTable:
        """This table with `way` leading to all of `destinations`, whatever led there before."""
        return self._changed((), {_key(destination): way for destination in destinations})

    def without(self, *destinations: Destination) -> ForwardingTable:
        """This table less the routes of exactly these prefixes and addresses."""
        return self._changed(map(_key, destinations), {})

    def changed_since(self, older: ForwardingTable) -> Iterator[tuple[Network, Way | None, Way | None]]:
        """The prefixes whose way is another one than in `older`: that one, and the present one."""
        for address, old, new in self._hosts.differences(older._hosts):
            yield _host(address), old, new
        for key, old, new in self._prefixes.differences(older._prefixes):
            yield _prefix(key), old, new

    def changes_since(self, older: ForwardingTable) -> Iterator[tuple[Key, Way | None, Way | None]]:
        """The same by key: thousands of moves a second have no time for values of networks."""
        yield from self._hosts.differences(older._hosts)
        yield from self._prefixes.differences(older._prefixes)

    def _changed(self, without: Iterable[Key], also: Mapping[Key, Way]) -> ForwardingTable:
        table = ForwardingTable.__new__(ForwardingTable)
        table._hosts, table._prefixes, table._lengths = self._hosts, self._prefixes, self._lengths
        table._change(tuple(without), also)
        return table

    def _change(self, without: tuple[Key, ...], also: Mapping[Key, Way]) -> None:
        hosts = {key: way for key, way in also.items() if isinstance(key, bytes)}
        self._hosts = self._hosts.changed((key for key in without if isinstance(key, bytes)), hosts)
        if len(hosts) < len(also) or any(not isinstance(key, bytes) for key in without):
            self._change_prefixes(
                {key for key in without if not isinstance(key, bytes) and key in self._prefixes},
                {key: way for key, way in also.items() if not isinstance(key, bytes)},
            )

    def _change_prefixes(self, gone: set[_PrefixKey], also: Mapping[_PrefixKey, Way]) -> None:
        numbers = Counter(self._lengths)
        numbers.subtract(shift for shift, _ in gone)
        numbers.update(key[0] for key in also if key in gone or key not in self._prefixes)
        self._lengths = {shift: numbers[shift] for shift in sorted(numbers) if numbers[shift]}
        self._prefixes = self._prefixes.changed(gone, also)

    def _routes(self) -> Iterator[Route]:
        for address, way in self._hosts.items():
            yield Route(_host(address), way.path, way.accept)
        for key, way in self._prefixes.items():
            yield Route(_prefix(key), way.path, way.accept)


_PrefixKey = tuple[int, int]
"""Bits behind the prefix, and the prefix's own bits with a leading one, which keeps the families apart."""
Key = bytes | _PrefixKey
"""Of a whole address its octets."""


def _key(destination: Destination) -> Key:
    if isinstance(destination, IPv4Address | IPv6Address):
        return destination.packed
    shift = destination.max_prefixlen - destination.prefixlen
    if not shift:
        return destination.network_address.packed
    return shift, (1 << destination.max_prefixlen | int(destination.network_address)) >> shift


def _host(address: bytes) -> Network:
    number = int.from_bytes(address, "big")
    return IPv4Network((number, 32)) if len(address) == 4 else IPv6Network((number, 128))


def network_of(key: Key) -> Network:
    """The prefix that has this key."""
    return _host(key) if isinstance(key, bytes) else _prefix(key)


def _prefix(key: _PrefixKey) -> Network:
    shift, bits = key
    length = bits.bit_length() - 1
    address = (bits << shift) & ((1 << length + shift) - 1)
    return IPv4Network((address, length)) if length + shift == 32 else IPv6Network((address, length))
