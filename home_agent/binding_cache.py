"""The binding cache: which mobile node is reached where, and until when.

Pure. RFC 6275 sections 9.1 and 10.3, draft sections 2.3 and 4.5, RFC 5555 section 4.5.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from enum import Enum, auto
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from home_agent.agenda import Agenda
from runtime.node import Deadline
from tunnel.forwarding import Destination, ForwardingTable, Way
from tunnel.path import Arrival, Encapsulation, TunnelPath
from tunnel.prefixes import as_network
from wire.esp import UDP_PORT_NAT_TRAVERSAL
from wire.nat64 import STANCES

MAX_DELETE_BCE_TIMEOUT = 10.0
"""Seconds during which a released entry still catches delayed Binding Updates (RFC 6275 section 10.3.2)."""
OLD_PATH_GRACE = 2.0
"""Seconds during which packets that were under way on the old path are still taken in."""
REFRESH_REQUEST_LEAD = 0.1
"""A Binding Refresh Request goes out when this part of the lifetime is left."""
REFRESH_REQUESTS_PER_SECOND = 100.0
"""To those for whom that time had come before this home agent started: not to all of them at once."""

Network = IPv4Network | IPv6Network


@dataclass(frozen=True, slots=True)
class Binding:
    """One mobile node, all of its home addresses and prefixes, and the one care-of address they share.

    The draft keeps an entry per home address. Here `home_networks` lists those entries; that they live in
    one value is why two of them can never disagree (draft section 2.3.1: never both families registered).
    """

    home_address: IPv6Address
    care_of: IPv4Address | IPv6Address
    """As the mobile node claims it."""
    arrival: Arrival
    """As the last accepted Binding Update came in: behind a NAT, this is where the mobile node is."""
    nat: bool
    encapsulation: Encapsulation
    sequence: int
    lifetime: int
    since: float
    """When this mobile node was first bound without interruption."""
    updated_at: float
    expires_at: float
    ipv4_home_address: IPv4Address | None = None
    prefixes: tuple[Network, ...] = ()
    router: bool = False
    defends_link_local: bool = False
    path_mtu: int | None = None
    """Octets of the largest outer packet that passes, as the mobile node says; None if it does not say."""

    @property
    def destinations(self) -> tuple[Destination, ...]:
        """Everything that is delivered to this mobile node: home addresses, and the prefixes behind it."""
        own: tuple[Destination, ...] = (self.home_address,)
        if self.ipv4_home_address is not None:
            own += (self.ipv4_home_address,)
        return own + self.prefixes

    @property
    def home_networks(self) -> tuple[Network, ...]:
        """The same as prefixes."""
        return tuple(map(as_network, self.destinations))

    @property
    def in_udp(self) -> bool:
        """Whether the last Binding Update came in UDP, that is over IPv4."""
        return self.arrival.local_port != 0

    @property
    def link_local(self) -> IPv6Address:
        return link_local_of(self.home_address)


def renewed(binding: Binding, sequence: int, now: float) -> Binding:
    """`binding` after one more update that says the same. In full: `replace` takes three times as long."""
    return Binding(
        binding.home_address,
        binding.care_of,
        binding.arrival,
        binding.nat,
        binding.encapsulation,
        sequence,
        binding.lifetime,
        binding.since,
        now,
        now + binding.lifetime,
        binding.ipv4_home_address,
        binding.prefixes,
        binding.router,
        binding.defends_link_local,
        binding.path_mtu,
    )


def link_local_of(home_address: IPv6Address) -> IPv6Address:
    """The link-local address with the interface identifier of the home address."""
    return IPv6Address((0xFE80 << 112) | (int(home_address) & 0xFFFFFFFFFFFFFFFF))


def path_of(binding: Binding, encapsulation: Encapsulation, link_mtu: int) -> TunnelPath:
    """How packets travel between this home agent and the care-of address of `binding`.

    `link_mtu` is that of the home agent's own link.
    """
    arrival = binding.arrival
    in_udp, translated = encapsulation.in_udp, binding.care_of in STANCES
    if binding.path_mtu is not None:
        link_mtu = min(link_mtu, binding.path_mtu)
    if encapsulation.protected:
        # Where port 4500 of the mobile node really is, the data plane hears from the mobile node.
        remote = arrival.remote if in_udp else binding.care_of
        port = UDP_PORT_NAT_TRAVERSAL if in_udp else 0
        return TunnelPath(
            arrival.local, remote, encapsulation, 0, port, link_mtu=link_mtu, translated=translated
        )
    return TunnelPath(
        local=arrival.local,
        # An IPv6 care-of address is the one that the authenticated option names, not the outer source.
        remote=arrival.remote if binding.in_udp else binding.care_of,
        encapsulation=encapsulation,
        local_port=arrival.local_port if in_udp else 0,
        remote_port=arrival.remote_port if in_udp else 0,
        link_mtu=link_mtu,
        translated=translated,
    )


def accepted_paths(binding: Binding, link_mtu: int, tlv: Encapsulation | None) -> tuple[TunnelPath, ...]:
    """The other formats that `binding` may use, since a lost acknowledgement leaves the ends in doubt.

    Behind a NAT only UDP from exactly the observed port: anybody else behind the same
    NAT could otherwise send for this home address with protocol 4 or 41.
    """
    if not binding.in_udp or binding.encapsulation.protected:
        return ()
    formats = [Encapsulation.UDP]
    if tlv is not None:
        formats.append(tlv)
    if not binding.nat:
        formats.append(Encapsulation.IP_IN_IP)
    return tuple(path_of(binding, kind, link_mtu) for kind in formats if kind is not binding.encapsulation)


def is_where(old: Binding, new: Binding) -> bool:
    """Whether `new` says nothing of its mobile node's place and addresses but what `old` said."""
    return (
        old.arrival == new.arrival
        and old.care_of == new.care_of
        and old.encapsulation is new.encapsulation
        and old.nat is new.nat
        and old.path_mtu == new.path_mtu
        and old.ipv4_home_address == new.ipv4_home_address
        and old.prefixes == new.prefixes
    )


def change_between(old: Binding | None, new: Binding) -> str:
    """What happened, as `hactl events` calls it."""
    if old is None:
        return "new"
    before = (old.care_of, old.arrival, old.encapsulation)
    return "refreshed" if before == (new.care_of, new.arrival, new.encapsulation) else "moved"


class Due(Enum):
    """Why the binding cache wants to be woken."""

    EXPIRY = auto()
    REFRESH_REQUEST = auto()
    OLD_PATH_ENDS = auto()
    CLOSED = auto()


_REASONS = {
    Due.EXPIRY: "binding expires",
    Due.REFRESH_REQUEST: "binding refresh request",
    Due.OLD_PATH_ENDS: "old path ends",
    Due.CLOSED: "released binding is forgotten",
}


class BindingCache:
    """All bindings of this home agent, and what is left of those that ended a moment ago."""

    def __init__(
        self,
        link_mtu: int,
        tlv: Encapsulation | None,
        spis: Callable[[IPv6Address], tuple[int, ...]] = lambda home_address: (),
        *,
        refresh_requests: bool = True,
    ) -> None:
        """`spis`: the sessions of a mobile node whose payload is protected, latest first."""
        self._link_mtu = link_mtu
        self._tlv = tlv
        self._spis = spis
        self._refresh_requests = refresh_requests
        self.table = ForwardingTable()
        """The whole desired state of the data plane, always in step with the bindings."""
        self._bindings: dict[IPv6Address, Binding] = {}
        self._old_paths: dict[IPv6Address, tuple[float, TunnelPath]] = {}
        """With the instant at which each of them ends."""
        self._ends: deque[tuple[float, IPv6Address]] = deque()
        """Those instants in their order, which is that of the moves: each path has the same grace."""
        self._released: dict[IPv6Address, tuple[float, int]] = {}
        """The last sequence number, and until when it stands."""
        self._asked: set[IPv6Address] = set()
        """Who has had its Binding Refresh Request."""
        self._turns: dict[IPv6Address, float] = {}
        """Who has to wait for its turn to be asked, and until when."""
        self._next_turn = 0.0
        self._agenda = Agenda()

    def __len__(self) -> int:
        return len(self._bindings)

    def __iter__(self) -> Iterator[Binding]:
        return iter(self._bindings.values())

    def get(self, home_address: IPv6Address) -> Binding | None:
        return self._bindings.get(home_address)

    def last_sequence(self, home_address: IPv6Address) -> int | None:
        """The last accepted sequence number, also of a binding that was released a moment ago."""
        binding, released = self._bindings.get(home_address), self._released.get(home_address)
        if binding is not None:
            return binding.sequence
        return released[1] if released is not None else None

    def was_just_released(self, home_address: IPv6Address) -> bool:
        return home_address in self._released

    def put(self, binding: Binding, now: float) -> None:
        """Record an accepted binding; packets on the path it replaces are taken in for a moment longer.

        That is safe because the old path, too, came from an authenticated Binding Update of this very
        mobile node, and nothing is ever sent there.
        """
        home = binding.home_address
        old = self._bindings.get(home)
        stays = old is not None and is_where(old, binding)
        if old is not None and not stays:
            self._retire(old, binding, now)
        self._bindings[home] = binding
        self._released.pop(home, None)
        self._asked.discard(home)
        self._turns.pop(home, None)
        if _request_at(binding) < now:
            self._turns[home] = self._next_turn = max(now, self._next_turn + 1 / REFRESH_REQUESTS_PER_SECOND)
        if not stays or binding.encapsulation.protected:  # the keys may be others in the same place
            self._route(old, binding)
        self._plan(home)

    def release(self, home_address: IPv6Address, sequence: int, now: float) -> Binding | None:
        """End a binding at its owner's wish; for a while its sequence number still stands."""
        binding = self._remove(home_address)
        self._released[home_address] = (now + MAX_DELETE_BCE_TIMEOUT, sequence)
        self._plan(home_address)
        return binding

    def due(self, now: float) -> tuple[Due, IPv6Address, Binding | None] | None:
        """The next thing that is due at `now`, already applied to the cache."""
        first = self._first()
        if first is None or first[0] > now:
            return None
        _, home, due = first
        binding = self._bindings.get(home)
        if due is Due.OLD_PATH_ENDS:
            del self._old_paths[home]
            self._route(binding, binding)
            return due, home, binding
        self._agenda.pop_due(now)
        match due:
            case Due.EXPIRY:
                self._remove(home)
            case Due.REFRESH_REQUEST:
                self._asked.add(home)
            case Due.CLOSED:
                del self._released[home]
        self._plan(home)
        return due, home, binding

    def deadline(self) -> Deadline | None:
        first = self._first()
        return None if first is None else Deadline(first[0], _REASONS[first[2]])

    def _first(self) -> tuple[float, IPv6Address, Due] | None:
        """What is to happen first of all: when, to whom, and what."""
        while self._ends:
            at, home = self._ends[0]
            old = self._old_paths.get(home)
            if old is not None and old[0] == at:
                break
            self._ends.popleft()  # the binding has ended before, or moved again
        first = self._agenda.first()
        if self._ends and (first is None or self._ends[0][0] < first[0]):
            return *self._ends[0], Due.OLD_PATH_ENDS
        return None if first is None else (*first, self._next(first[1])[1])

    def _plan(self, home: IPv6Address) -> None:
        """Have the next thing that is to happen to `home`, if any, in the agenda."""
        at, _ = self._next(home)
        if at < math.inf:
            self._agenda.set(home, at)
        else:
            self._agenda.cancel(home)

    def _next(self, home: IPv6Address) -> tuple[float, Due]:
        """What is to happen next to `home` in the agenda, and when; never, if nothing is known of it."""
        binding, never = self._bindings.get(home), (math.inf, Due.CLOSED)
        if binding is None:
            released = self._released.get(home)
            return never if released is None else (released[0], Due.CLOSED)
        at, due = binding.expires_at, Due.EXPIRY
        if self._refresh_requests and home not in self._asked:
            turn = self._turns.get(home) if self._turns else None
            request_at = _request_at(binding) if turn is None else turn
            if request_at < at:
                at, due = request_at, Due.REFRESH_REQUEST
        return at, due

    def _route(self, old: Binding | None, new: Binding | None) -> None:
        wanted = new.destinations if new is not None else ()
        gone = set(old.destinations if old is not None else ()).difference(wanted)
        if gone:
            self.table = self.table.without(*gone)
        if new is None:
            return
        path, accept = self._paths_of(new)
        present = map(self.table.way_to, wanted)
        if any(way is None or way.path != path or way.accept != accept for way in present):
            self.table = self.table.with_way(Way(path, accept), wanted)

    def _paths_of(self, binding: Binding) -> tuple[TunnelPath, tuple[TunnelPath, ...]]:
        """The path of `binding`, and those by which its packets are accepted besides."""
        path = path_of(binding, binding.encapsulation, self._link_mtu)
        accept = accepted_paths(binding, self._link_mtu, self._tlv)
        if path.encapsulation.protected:
            path, *others = (replace(path, spi=spi) for spi in self._spis(binding.home_address) or (0,))
            accept = tuple(others)
        old = self._old_paths.get(binding.home_address)
        return path, accept if old is None else (*accept, old[1])

    def _retire(self, old: Binding, new: Binding, now: float) -> None:
        if old.encapsulation.protected:
            return  # the keys say who sends, and from where does not matter
        path = path_of(old, old.encapsulation, self._link_mtu)
        live = path_of(new, new.encapsulation, self._link_mtu)
        if path.remote == live.remote:
            if replace(path, link_mtu=live.link_mtu) == live:
                return  # the same way, with another MTU
            if path in accepted_paths(new, self._link_mtu, self._tlv):
                return
        self._old_paths[new.home_address] = (now + OLD_PATH_GRACE, path)
        self._ends.append((now + OLD_PATH_GRACE, new.home_address))

    def _remove(self, home: IPv6Address) -> Binding | None:
        binding = self._bindings.pop(home, None)
        self._old_paths.pop(home, None)
        self._turns.pop(home, None)
        self._asked.discard(home)
        self._route(binding, None)
        return binding


def _request_at(binding: Binding) -> float:
    """When a mobile node that has not refreshed its binding by itself is asked to."""
    return binding.expires_at - max(REFRESH_REQUEST_LEAD * binding.lifetime, 2.0)
