"""Watches the kernel: hints by rtnetlink, a snapshot after each, and word of what others removed of ours.

Performs I/O (asyncio, rtnetlink, nfnetlink). RFC 6275 section 11.5.1.

An event is only a hint. It is never applied: it makes the truth be read again, once for all hints of a
moment. So an event that was lost (ENOBUFS), doubled or overtaken cannot leave a wrong picture, and a
host on which nothing changes is never woken up.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import errno
import socket
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from movement.links import LinkReader
from movement.neighbours import Place, filter_for, neighbour_in
from movement.snapshot import Snapshot
from wire import nfnetlink, rtnetlink
from wire.netlink import Message, attributes, number_in, split, text_in
from wire.rtnetlink import Kind, RuleAttribute

_LINKS, _IPV4_ADDRESSES, _IPV4_ROUTES, _IPV4_RULES = 1, 5, 7, 8
_IPV6_ADDRESSES, _IPV6_ROUTES, _IPV6_RULES = 9, 11, 19
_GROUPS = (_LINKS, _IPV4_ADDRESSES, _IPV4_ROUTES, _IPV4_RULES, _IPV6_ADDRESSES, _IPV6_ROUTES, _IPV6_RULES)
_NEIGHBOURS = 3
_SO_ATTACH_FILTER = 26
_SOL_NETLINK, _ADD_MEMBERSHIP, _SO_RCVBUFFORCE = 270, 1, 33
_MAIN_TABLE = 254
_UP = 0x1

REST = 4.0
"""A reading is paid for with this many times its processor time, in which nothing is read ..."""
CREDIT = 0.02
"""... once more than so many seconds are owed: a handover takes a few readings, and waits for none."""
_RECEIVE_BUFFER = 1 << 20
_READS_AT_ONCE = 64
RETRY = 0.1
"""Seconds to the next try when the kernel could not be read."""


@dataclass(frozen=True, slots=True)
class Ours:
    """How to recognise what belongs to this agent, and which netlink port makes its own changes.

    `device` is the TUN device, `protocol` the routing protocol number on our routes and rules.
    """

    device: str = ""
    protocol: int = 0
    nft_table: str = ""
    port: int = 0


class Watcher:
    """Calls `on_snapshot(snapshot, hinted_at)` after hints and `on_foreign_change(what)` after interference.

    `hinted_at` is when the first hint came, in seconds of CLOCK_BOOTTIME. A foreign change is something
    of ours that somebody else removed. `on_loss()` follows when nobody is to blame, yet something of ours
    may be gone: the kernel drops routes over a link that goes down, and events can be lost. In both cases
    applying the desired state again repairs it. Everything runs in the event loop's thread; a snapshot
    takes about half a millisecond.
    """

    def __init__(
        self,
        on_snapshot: Callable[[Snapshot, float], None],
        ours: Ours | None = None,
        on_foreign_change: Callable[[str], None] | None = None,
        on_loss: Callable[[], None] | None = None,
    ) -> None:
        self._on_snapshot = on_snapshot
        self._on_foreign_change = on_foreign_change
        self._on_loss = on_loss
        self._ours = ours or Ours()
        self._device_index = 0
        self._reader = LinkReader(frozenset({self._ours.device}), self._hear_of)
        self._routers: dict[Place, tuple[bytes | None, bool]] = {}
        self._neighbours: socket.socket | None = None
        self._sockets: list[socket.socket] = []
        self._timer: asyncio.Handle | None = None
        self._hinted_at: float | None = None
        self._foreign: list[str] = []
        self._lost = False
        self._quiet_until = 0.0

    def start(self) -> None:
        """Begin to listen, in the running event loop, and report the first snapshot."""
        self._listen(socket.NETLINK_ROUTE, _GROUPS, self._route_message)
        if self._ours.nft_table and self._on_foreign_change is not None:
            self._listen(nfnetlink.PROTOCOL, (nfnetlink.NOTIFICATIONS,), self._nftables_message)
        self._neighbours = self._listen(
            socket.NETLINK_ROUTE, (_NEIGHBOURS,), self._neighbour_message, filter_for(())
        )
        self._device_index = _index(self._ours.device)
        self._hinted_at = _now()
        self._report()

    def read(self) -> Snapshot:
        """The links as they are now, whatever was hinted."""
        return self._reader.read()

    def close(self) -> None:
        loop = asyncio.get_running_loop()
        for listener in self._sockets:
            loop.remove_reader(listener)
            listener.close()
        self._sockets.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._reader.close()

    def _listen(
        self, family: int, groups: tuple[int, ...], handle: Callable[[Message], None], passing: bytes = b""
    ) -> socket.socket:
        """`passing` is a filter for what arrives."""
        listener = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, family
        )
        self._sockets.append(listener)
        listener.bind((0, 0))
        with contextlib.suppress(OSError):  # a smaller buffer overruns sooner, which is harmless
            listener.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _RECEIVE_BUFFER)
        if passing:
            _attach(listener, passing)
        for group in groups:
            listener.setsockopt(_SOL_NETLINK, _ADD_MEMBERSHIP, group)
        asyncio.get_running_loop().add_reader(listener, self._drain, listener, handle)
        return listener

    def _hear_of(self, routers: tuple[Place, ...]) -> None:
        """The kernel wakes us for word of these neighbours only: a LAN has many, and they come and go."""
        if self._neighbours is not None and routers != tuple(self._routers):
            _attach(self._neighbours, filter_for(routers))
        self._routers = {place: self._routers.get(place, (None, False)) for place in routers}

    def _neighbour_message(self, message: Message) -> None:
        """Traffic makes the kernel ask its neighbours again and again: only another answer is a hint."""
        neighbour = neighbour_in(message.body) if message.kind == Kind.NEW_NEIGHBOUR else None
        if neighbour is None or (neighbour.undecided and neighbour.hardware is None):
            return
        known = self._routers.get(neighbour.place)
        if known is not None and known != (neighbour.hardware, neighbour.silent):
            self._hint()

    def _drain(self, listener: socket.socket, handle: Callable[[Message], None]) -> None:
        for _ in range(_READS_AT_ONCE):
            try:
                buffer = listener.recv(65536)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                self._lost = True
                self._hint()
                continue
            for message in split(buffer):
                handle(message)

    def _route_message(self, message: Message) -> None:
        match message.kind:
            case Kind.NEW_LINK | Kind.DELETE_LINK:
                self._link_message(message)
            case Kind.NEW_ADDRESS | Kind.DELETE_ADDRESS:
                index = rtnetlink.ADDRESS.unpack_from(message.body)[-1]
                if index != self._device_index:
                    self._hint()
                elif message.kind == Kind.DELETE_ADDRESS:
                    self._removed(f"an address of {self._ours.device}", message.port)
            case Kind.NEW_ROUTE | Kind.DELETE_ROUTE:
                destination_length, table, protocol = (message.body[i] for i in (1, 4, 5))
                if protocol == self._ours.protocol:
                    if message.kind == Kind.DELETE_ROUTE:
                        self._removed("a route of ours", message.port)
                elif destination_length == 0 and table == _MAIN_TABLE:
                    self._hint()
            case Kind.DELETE_RULE:
                found = attributes(message.body, rtnetlink.RULE.size)
                if number_in(found.get(RuleAttribute.PROTOCOL)) == self._ours.protocol:
                    priority = number_in(found.get(RuleAttribute.PRIORITY)) or 0
                    self._removed(f"rule {priority}", message.port)
            case _:
                return

    def _link_message(self, message: Message) -> None:
        _, _, index, flags, _ = rtnetlink.LINK.unpack_from(message.body)
        if self._ours.device and message.kind == Kind.NEW_LINK and index != self._device_index:
            self._device_index = _index(self._ours.device)
        if index != self._device_index:
            self._hint()
            self._lost = self._lost or not flags & _UP
        elif message.kind == Kind.DELETE_LINK or not flags & _UP:
            self._interference(f"the device {self._ours.device} was taken by {_culprit(message.port)}")

    def _nftables_message(self, message: Message) -> None:
        """Our own replacement of the table removes and creates it: only the last word counts."""
        name = text_in(attributes(message.body, nfnetlink.FIXED_SIZE).get(nfnetlink.TABLE_NAME))
        if message.kind >> 8 != nfnetlink.NF_TABLES or name != self._ours.nft_table:
            return
        gone = f"the nft table {self._ours.nft_table} was changed"
        if message.kind & 0xFF in nfnetlink.DELETIONS:
            self._interference(gone)
        elif gone in self._foreign:
            self._foreign.remove(gone)

    def _removed(self, what: str, port: int) -> None:
        """The kernel gives its own port, zero, to what follows from something else: that has its own event.

        It also does so for all IPv6 addresses, our own removals included.
        """
        if not port:
            self._lost = True
            self._schedule()
        elif port != self._ours.port:
            self._interference(f"{what} was removed by {_culprit(port)}")

    def _interference(self, what: str) -> None:
        if self._on_foreign_change is not None and what not in self._foreign:
            self._foreign.append(what)
            self._schedule()

    def _hint(self) -> None:
        if self._hinted_at is None:
            self._hinted_at = _now()
        self._schedule()

    def _schedule(self) -> None:
        """After all events that are there already. In a storm of them, reading takes a fifth of the time."""
        if self._timer is None:
            delay = self._quiet_until - time.monotonic() - CREDIT
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(delay, self._report) if delay > 0 else loop.call_soon(self._report)

    def _report(self) -> None:
        self._timer = None
        hinted_at, self._hinted_at = self._hinted_at, None
        foreign, self._foreign = self._foreign, []
        lost, self._lost = self._lost, False
        snapshot = self._read(hinted_at) if hinted_at is not None else None
        try:
            if snapshot is not None and hinted_at is not None:
                self._on_snapshot(snapshot, hinted_at)
        finally:
            if foreign and self._on_foreign_change is not None:
                self._on_foreign_change("; ".join(foreign))
            elif lost and self._on_loss is not None:
                self._on_loss()

    def _read(self, hinted_at: float) -> Snapshot | None:
        """None, and another try soon, if the kernel cannot be read."""
        worked = time.thread_time()
        try:
            snapshot = self._reader.read()
        except OSError:
            self._hinted_at = hinted_at
            self._quiet_until = time.monotonic() + CREDIT + RETRY
            self._schedule()
            return None
        for link in snapshot.links:
            for router in link.routers:
                if router.gateway is not None and (link.index, router.gateway) in self._routers:
                    self._routers[link.index, router.gateway] = router.hardware, router.silent
        # By processor time: where others keep the machine busy, a reading that had to wait is not dear.
        owed = max(self._quiet_until, time.monotonic())
        self._quiet_until = owed + REST * (time.thread_time() - worked)
        return snapshot


async def watch(
    on_snapshot: Callable[[Snapshot, float], None],
    ours: Ours | None = None,
    on_foreign_change: Callable[[str], None] | None = None,
    on_loss: Callable[[], None] | None = None,
) -> None:
    """Run a Watcher until cancelled."""
    watcher = Watcher(on_snapshot, ours, on_foreign_change, on_loss)
    try:
        watcher.start()
        await asyncio.get_running_loop().create_future()
    finally:
        watcher.close()


def _now() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def _attach(listener: socket.socket, program: bytes) -> None:
    """Put a classic BPF program in front of a socket, in the place of the one before."""
    held = ctypes.create_string_buffer(program, len(program))
    described = struct.pack("HP", len(program) // 8, ctypes.addressof(held))
    listener.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, described)


def _index(name: str) -> int:
    try:
        return socket.if_nametoindex(name)
    except OSError:
        return 0


def _culprit(port: int) -> str:
    """A netlink port is usually the id of the process that opened it; the kernel's is zero."""
    if not port:
        return "the kernel"
    try:
        return f"{Path(f'/proc/{port}/comm').read_text().strip()} (process {port})"
    except OSError:
        return f"process {port}"
