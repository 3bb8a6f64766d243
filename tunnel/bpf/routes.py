"""The forwarding table as programs see it: maps from home addresses to routes, and what went by each path.

Performs I/O (maps). A handover replaces one element, which programs see before or after, never in between.
"""

from __future__ import annotations

import errno
from array import array
from collections import deque
from dataclasses import replace

from tunnel.bpf import layout
from tunnel.bpf.layout import Exit, KernelPeer, encode_route, network_key_of
from tunnel.bpf.system import Map, MapFlag, MapType
from tunnel.bpf.ways import Ways
from tunnel.carriers import Carriers
from tunnel.forwarding import ForwardingTable, Key, Way, network_of
from tunnel.path import HELD, TunnelPath
from tunnel.plane import Carrier

_RESTING = 1024
"""Lanes that wait before one of them is used again."""
_SEEN = 255
"""Lanes that are looked at in the beginning; more when more are used."""
_NO_LANE = 0
"""Of routes by which nothing leaves, and of those for which no lane is left."""


class Lanes:
    """One tally for each path in use: an array that programs write and user space reads."""

    def __init__(self, capacity: int) -> None:
        self._map = Map(MapType.ARRAY, "mip_tallies", 4, layout.TALLY_SIZE, capacity + 1, MapFlag.MMAPABLE)
        self._numbers = memoryview(b"")
        self._see(min(_SEEN, capacity))
        self._capacity = capacity
        self._used: dict[TunnelPath, int] = {}
        """The lane of each path."""
        self._users = array("I", [0])
        """How many routes use each lane that was ever used: pairs in `_used` would take far more memory."""
        self._rested: deque[int] = deque()
        """Lanes that were given back, the first first."""
        self._most = 0

    @property
    def descriptor(self) -> int:
        return self._map.descriptor

    def take(self, path: TunnelPath) -> None:
        """One more route uses `path`, which has a lane from now on, if one is left."""
        lane = self.of(path)
        if lane == _NO_LANE:
            lane = self._free()
            if lane == _NO_LANE:
                return
            self._used[path] = lane
            for fresh in (layout.SENT_AT, layout.ASKED_AT):
                self._numbers[self._place(lane, fresh)] = 0
        self._users[lane] += 1

    def of(self, path: TunnelPath) -> int:
        return self._used.get(path, _NO_LANE)

    def give_back(self, path: TunnelPath) -> None:
        """One route less uses `path`. Counts stay: they are summed over all paths there ever were."""
        lane = self.of(path)
        if lane == _NO_LANE:
            return
        self._users[lane] -= 1
        if not self._users[lane]:
            del self._used[path]
            self._rested.append(lane)

    def at(self, lane: int, field: int) -> int:
        """A field of a tally, in its own unit."""
        return self._numbers[self._place(lane, field)]

    def sent_at(self, path: TunnelPath) -> float:
        lane = self.of(path)
        return 0.0 if lane == _NO_LANE else self.at(lane, layout.SENT_AT) / 1e9

    def total(self, field: int) -> int:
        return sum(self._column(field))

    def latest(self, field: int) -> float:
        """The latest of a kind of times, in seconds."""
        return max(self._column(field)) / 1e9

    def close(self) -> None:
        self._numbers = memoryview(b"")
        self._map.close()

    def _free(self) -> int:
        """A lane that nobody uses, _NO_LANE if there is none.

        One that was given back rests for a while, since a program may still count there; but it is taken
        before one that was never used, which would be another page of memory in the long run.
        """
        fresh = self._most < self._capacity
        if self._rested and (len(self._rested) > _RESTING or not fresh):
            return self._rested.popleft()
        if not fresh:
            return _NO_LANE
        self._most += 1
        self._users.append(0)
        if self._place(self._most + 1, 0) > len(self._numbers):
            self._see(min(2 * self._most, self._capacity))
        return self._most

    def _see(self, most: int) -> None:
        """Map the tallies up to lane `most`: every page that is mapped counts as memory of this process.

        The view of before goes when no thread looks at it any more.
        """
        self._numbers = memoryview(self._map.memory((most + 1) * layout.TALLY_SIZE)).cast("Q")

    def _column(self, field: int) -> memoryview:
        """Of the lanes that were ever used: what was never looked at takes no memory."""
        return self._numbers[field // 8 : self._place(self._most + 1, 0) : layout.TALLY_SIZE // 8]

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
        self.turned_away = 0
        """Routes for which the maps had no room; user space has them."""

    def install(self, table: ForwardingTable, carriers: Carriers) -> None:
        """Change what is not as in `table`."""
        older, self._table = self._table, table
        values: dict[int, bytes] = {}  # all destinations of a mobile node share one way
        for key, old, new in table.changes_since(older):
            same = old is not None and new is not None and old.path == new.path
            if new is None:
                self._remove(key)
            else:
                if not same:
                    self.lanes.take(new.path)
                self._put(key, new, carriers, values)
            if old is not None and not same:
                self.lanes.give_back(old.path)

    def resolve(self, carriers: Carriers) -> None:
        """The carriers are others than before: so are own ports and links."""
        for key, _, way in self._table.changes_since(ForwardingTable()):
            if way is not None:
                self._put(key, way, carriers, {})

    def close(self) -> None:
        self.lanes.close()
        self.homes.close()
        self.networks.close()

    def _put(self, key: Key, way: Way, carriers: Carriers, values: dict[int, bytes]) -> None:
        """`values` has those of the ways that were put by the same installation."""
        value = values.get(id(way))
        if value is None:
            value = values[id(way)] = self._value(way, carriers)
        if not value or not self._write(key, value):
            self._remove(key)  # rather no route than the one of before

    def _value(self, way: Way, carriers: Carriers) -> bytes:
        """What programs can do of `way`; empty if that is nothing."""
        found = (_peer(path, carriers) for path in (way.path, *way.accept))
        peers = tuple(dict.fromkeys(peer for peer in found if peer is not None))
        leaving = self._exit(way.path, carriers)
        if leaving is None and not peers:
            return b""
        return encode_route(self.lanes.of(way.path), leaving, peers)

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

    def _write(self, key: Key, value: bytes) -> bool:
        where, octets = self._element(key)
        try:
            where.update(octets, value)
        except OSError as error:
            if error.errno not in (errno.E2BIG, errno.ENOMEM, errno.ENOSPC):
                raise
            self.turned_away += 1
            return False
        return True

    def _remove(self, key: Key) -> None:
        where, octets = self._element(key)
        where.delete(octets)

    def _element(self, key: Key) -> tuple[Map, bytes]:
        if isinstance(key, bytes):
            return self.homes, layout.key_of_octets(key)
        return self.networks, network_key_of(network_of(key))


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
