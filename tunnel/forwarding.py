"""Which path reaches a home address or mobile network prefix, and from where its packets are accepted.

Pure. RFC 6275 sections 10.4 and 11.3, RFC 3963 section 6.4; threats.md C.1 rows 5 and 13.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from tunnel.path import TunnelPath

Peer = tuple[str, int] | tuple[str, int, int, int]
"""The other end of the outer header as the socket layer names it: address text and UDP port (0: no UDP)."""
ASSOCIATION = "association"
"""In place of an address: whoever has the keys of the SPI that stands in place of the port."""


def peer_of(address: IPv4Address | IPv6Address, port: int = 0) -> Peer:
    """The name by which `recvfrom` will call that address and port."""
    return (str(address), port) if address.version == 4 else (str(address), port, 0, 0)


def _peer_by(path: TunnelPath) -> Peer:
    """Who may send by `path`: with protection the keys decide, wherever the outer header comes from."""
    if path.encapsulation.protected:
        return (ASSOCIATION, path.spi)
    return peer_of(path.remote, path.remote_port)


@dataclass(frozen=True, slots=True)
class Route:
    """A home address or prefix is reached by `path`; its packets are also accepted as of `accept`.

    `accept` holds the old path of a handover, or the second encapsulation of a care-of address without NAT.
    """

    prefix: IPv4Network | IPv6Network
    path: TunnelPath
    accept: tuple[TunnelPath, ...] = ()
    peers: frozenset[Peer] = field(init=False, repr=False, compare=False)
    """Outer sources, or security associations, that may send for this prefix."""

    def __post_init__(self) -> None:
        paths = (self.path, *self.accept)
        object.__setattr__(self, "peers", frozenset(map(_peer_by, paths)))


class ForwardingTable:
    """An immutable set of routes. The data plane reads one at a time; a handover is assigning another."""

    __slots__ = ("_hosts", "_lengths", "_prefixes")

    def __init__(self, routes: Iterable[Route] = ()) -> None:
        self._hosts: dict[bytes, Route] = {}
        """Whole addresses by their octets: the common case, one lookup."""
        self._prefixes: dict[tuple[int, int], Route] = {}
        """(bits behind the prefix, the prefix's own bits with a leading one per family) -> route."""
        for route in routes:
            self._add(route)
        self._lengths = self._shifts()

    @property
    def routes(self) -> tuple[Route, ...]:
        return (*self._hosts.values(), *self._prefixes.values())

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ForwardingTable):
            return NotImplemented
        return self._hosts == other._hosts and self._prefixes == other._prefixes

    __hash__ = None  # type: ignore[assignment]  # a table is compared by its routes, which is too dear to hash

    def __repr__(self) -> str:
        return f"ForwardingTable({self.routes!r})"

    def __len__(self) -> int:
        return len(self._hosts) + len(self._prefixes)

    def find(self, address: bytes) -> Route | None:
        """The route of the longest prefix that holds `address` (4 or 16 octets)."""
        route = self._hosts.get(address)
        if route is not None or not self._lengths:
            return route
        family = 1 << 8 * len(address)
        number = family | int.from_bytes(address, "big")
        for shift in self._lengths:
            route = self._prefixes.get((shift, number >> shift))
            if route is not None:
                return route
        return None

    def with_routes(self, *routes: Route) -> ForwardingTable:
        """This table with `routes` added, each replacing the one of the same prefix."""
        table = self._copy()
        for route in routes:
            table._add(route)
        table._lengths = table._shifts()
        return table

    def without(self, *prefixes: IPv4Network | IPv6Network) -> ForwardingTable:
        """This table less the routes of exactly these prefixes."""
        table = self._copy()
        for prefix in prefixes:
            if _is_host(prefix):
                table._hosts.pop(prefix.network_address.packed, None)
            else:
                table._prefixes.pop(_key(prefix), None)
        table._lengths = table._shifts()
        return table

    def _copy(self) -> ForwardingTable:
        table = ForwardingTable()
        table._hosts = self._hosts.copy()
        table._prefixes = self._prefixes.copy()
        return table

    def _add(self, route: Route) -> None:
        if _is_host(route.prefix):
            self._hosts[route.prefix.network_address.packed] = route
        else:
            self._prefixes[_key(route.prefix)] = route

    def _shifts(self) -> tuple[int, ...]:
        """Longest prefix first. The leading one keeps equal shifts of the two families apart."""
        return tuple(sorted({shift for shift, _ in self._prefixes}))


def _is_host(prefix: IPv4Network | IPv6Network) -> bool:
    return prefix.prefixlen == prefix.max_prefixlen


def _key(prefix: IPv4Network | IPv6Network) -> tuple[int, int]:
    shift = prefix.max_prefixlen - prefix.prefixlen
    return shift, (1 << prefix.max_prefixlen | int(prefix.network_address)) >> shift
