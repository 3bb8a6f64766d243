"""The forwarding table as programs see it: maps from home addresses to routes, and what went by each path.

Performs I/O (maps). A handover replaces one element, which programs see before or after, never in between.
"""

from __future__ import annotations

import errno
from dataclasses import replace

from tunnel.bpf import layout
from tunnel.bpf.layout import Exit, KernelPeer, encode_route, key_of, network_key_of
from tunnel.bpf.system import Map, MapFlag, MapType
from tunnel.bpf.ways import Ways
from tunnel.carriers import Carriers
from tunnel.forwarding import ForwardingTable, Network, Way
from tunnel.path import HELD, TunnelPath
from tunnel.plane import Carrier

_Seen = tuple[Exit | None, tuple[KernelPeer, ...]]
"""Of a way: how packets leave by it, and whose are taken in."""
_NO_LANE = 0
"""Of routes by which nothing leaves, and of those for which no lane is left."""


class Lanes:
    """One tally for each path in use: an array that programs write and user space reads."""

    def __init__(self, capacity: int) -> None:
        self._map = Map(MapType.ARRAY, "mip_tallies", 4, layout.TALLY_SIZE, capacity + 1, MapFlag.MMAPABLE)
        self._memory = self._map.memory((capacity + 1) * layout.TALLY_SIZE)
        self._numbers = memoryview(self._memory).cast("Q")
        self._lanes: dict[TunnelPath, int] = {}
        self._users: dict[TunnelPath, int] = {}
        self._free = list(range(capacity, 0, -1))
        self._most = 0

    @property
    def descriptor(self) -> int:
        return self._map.descriptor

    def take(self, path: TunnelPath) -> int:
        """The lane of `path`, for one more route."""
        lane = self._lanes.get(path)
        if lane is None:
            if not self._free:
                return _NO_LANE
            lane = self._lanes[path] = self._free.pop()
            self._most = max(self._most, lane)
            for fresh in (layout.SENT_AT, layout.ASKED_AT):
                self._numbers[self._place(lane, fresh)] = 0
        self._users[path] = self._users.get(path, 0) + 1
        return lane

    def give_back(self, path: TunnelPath) -> None:
        """One route less uses `path`. Counts stay: they are summed over all paths there ever were."""
        users = self._users.get(path, 0)
        if users > 1:
            self._users[path] = users - 1
        elif users:
            del self._users[path]
            self._free.insert(0, self._lanes.pop(path))  # last used, last taken: a program may still count

    def at(self, lane: int, field: int) -> int:
        """A field of a tally, in its own unit."""
        return self._numbers[self._place(lane, field)]

    def sent_at(self, path: TunnelPath) -> float:
        lane = self._lanes.get(path)
        return 0.0 if lane is None else self.at(lane, layout.SENT_AT) / 1e9

    def total(self, field: int) -> int:
        return sum(self._column(field))

    def latest(self, field: int) -> float:
        """The latest of a kind of times, in seconds."""
        return max(self._column(field)) / 1e9

    def close(self) -> None:
        self._numbers.release()
        self._memory.close()
        self._map.close()

    def _column(self, field: int) -> memoryview:
        return self._numbers[field // 8 :: layout.TALLY_SIZE // 8]

    def _place(self, lane: int, field: int) -> int:
        return (lane * layout.TALLY_SIZE + field) // 8


class KernelRoutes:
    """What `ForwardingTable` says, as far as programs can do it; the rest they leave to user space."""

    def __init__(self, capacity: int, ways: Ways) -> None:
        self.ways = ways
        size, flags = layout.ROUTE_SIZE, MapFlag.NO_PREALLOC
        self.lanes = Lanes(capacity)
        self.homes = Map(MapType.HASH, "mip_homes", layout.KEY_SIZE, size, capacity, flags)
        self.networks = Map(MapType.LPM_TRIE, "mip_networks", layout.NETWORK_KEY_SIZE, size, capacity, flags)
        self._table = ForwardingTable()
        self._paths: dict[bytes, TunnelPath] = {}
        """By key, of either map: with thousands of routes, prefixes as objects would take most memory."""
        self.turned_away = 0
        """Routes for which the maps had no room; user space has them."""

    def install(self, table: ForwardingTable, carriers: Carriers) -> None:
        """Change what is not as in `table`."""
        older, self._table = self._table, table
        seen: dict[int, _Seen] = {}  # all destinations of a mobile node share one way
        for prefix, way in table.changed_since(older):
            if way is None:
                self._remove(prefix)
                continue
            known = seen.get(id(way))
            if known is None:
                known = seen[id(way)] = self._seen(way, carriers)
            self._put(prefix, way.path, known)

    def resolve(self, carriers: Carriers) -> None:
        """The carriers are others than before: so are own ports and links."""
        for route in self._table.routes:
            self._put(route.prefix, route.path, self._seen(route.way, carriers))

    def close(self) -> None:
        self.lanes.close()
        self.homes.close()
        self.networks.close()

    def _seen(self, way: Way, carriers: Carriers) -> _Seen:
        """What programs can do of `way`."""
        found = (_peer(path, carriers) for path in (way.path, *way.accept))
        peers = tuple(dict.fromkeys(peer for peer in found if peer is not None))
        return self._exit(way.path, carriers), peers

    def _put(self, prefix: Network, path: TunnelPath, seen: _Seen) -> None:
        leaving, peers = seen
        if leaving is None and not peers:
            self._remove(prefix)
            return
        value = encode_route(self.lanes.take(path), leaving, peers)
        if self._write(prefix, value):
            _, key = self._element(prefix)
            self._release(key)
            self._paths[key] = path
        else:
            self.lanes.give_back(path)

    def _exit(self, path: TunnelPath, carriers: Carriers) -> Exit | None:
        """How a program sends by `path`; None if it cannot, or if there is no way at the moment."""
        resolved = _resolved(path, carriers)
        if resolved is None:
            return None
        if not resolved.interface:
            return Exit(resolved, 0)
        link = self.ways.index_of(resolved.interface)
        if link is None or not self.ways.lead_there(resolved, link):
            return None
        return Exit(resolved, link)

    def _write(self, prefix: Network, value: bytes) -> bool:
        where, key = self._element(prefix)
        try:
            where.update(key, value)
        except OSError as error:
            if error.errno not in (errno.E2BIG, errno.ENOMEM, errno.ENOSPC):
                raise
            self.turned_away += 1
            self._remove(prefix)  # rather no route than the one of before
            return False
        return True

    def _remove(self, prefix: Network) -> None:
        where, key = self._element(prefix)
        where.delete(key)
        self._release(key)

    def _release(self, key: bytes) -> None:
        if (path := self._paths.pop(key, None)) is not None:
            self.lanes.give_back(path)

    def _element(self, prefix: Network) -> tuple[Map, bytes]:
        if prefix.prefixlen == prefix.max_prefixlen:
            return self.homes, key_of(prefix.network_address)
        return self.networks, network_key_of(prefix)


def _carrier(path: TunnelPath, carriers: Carriers) -> Carrier | None:
    """What carries `path`; None if programs cannot send by it."""
    if path.encapsulation.protected or path.translated or path.interface == HELD:
        return None
    return carriers.of(path)


def _resolved(path: TunnelPath, carriers: Carriers) -> TunnelPath | None:
    """`path` with the link and the port that its carrier has."""
    carrier = _carrier(path, carriers)
    if carrier is None:
        return None
    port = carrier.port if path.encapsulation.in_udp else 0
    return replace(path, local_port=port, interface=path.interface or carrier.interface)


def _peer(path: TunnelPath, carriers: Carriers) -> KernelPeer | None:
    carrier = _carrier(path, carriers)
    if carrier is None:
        return None
    port = carrier.port if path.encapsulation.in_udp else 0
    return KernelPeer(path.remote, path.local, path.remote_port, port)
