"""Reads a snapshot of the links from the kernel: the truth behind every hint.

Performs I/O (rtnetlink dumps). RFC 3549. The only module here that knows pyroute2, as codec of messages.
"""

from __future__ import annotations

import os
import socket
import struct
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from errno import EAFNOSUPPORT, ENOENT, EOPNOTSUPP
from ipaddress import ip_address
from typing import Any, TypeVar

from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.rtmsg import rtmsg

from movement.snapshot import Address, DefaultRouter, Link, LinkAddress, Snapshot

T = TypeVar("T")

_HEADER = struct.Struct("=IHHII")
_ERROR, _DONE = 2, 3
_REQUEST_DUMP, _INTERRUPTED = 0x301, 0x10
_GET_LINK, _GET_ADDRESS, _GET_ROUTE = 18, 22, 26
_SOL_NETLINK, _STRICT_CHECK = 270, 12
_MAIN_TABLE, _UNICAST = 254, 1
_LINK_QUERY = struct.pack("=BxHiII", 0, 0, 0, 0, 0) + struct.pack("=HHI", 8, 29, 1 << 3)
"""All links, without statistics (IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS)."""
_ADDRESS_QUERY = bytes(8)
_ABSENT = frozenset({ENOENT, EAFNOSUPPORT, EOPNOTSUPP})
_TRIES = 3
_TIMEOUT = 2.0

_UP, _LOOPBACK, _LOWER_UP = 0x1, 0x8, 0x10000
_RUNNING_STATES = frozenset({"UP", "UNKNOWN"})
_OPTIMISTIC, _DUPLICATE, _DEPRECATED, _TENTATIVE, _TEMPORARY = 0x4, 0x8, 0x20, 0x40, 0x1
_DEAD, _LINK_DOWN = 0x1, 0x10


class LinkReader:
    """Dumps links, addresses and the default routes of the main table of this network namespace."""

    __slots__ = ("_excluded", "_fresh", "_known", "_sequence", "_socket")

    def __init__(self, excluded: frozenset[str] = frozenset()) -> None:
        """`excluded`: names of links that are no way to the network, such as the TUN device."""
        self._excluded = excluded
        self._sequence = 0
        self._known: dict[bytes, Any] = {}
        self._fresh: dict[bytes, Any] = {}
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0)
        self._socket.bind((0, 0))
        self._socket.settimeout(_TIMEOUT)
        self._socket.setsockopt(_SOL_NETLINK, _STRICT_CHECK, 1)

    def close(self) -> None:
        self._socket.close()

    def read(self) -> Snapshot:
        """The links as they are now. OSError if the kernel does not answer.

        Three dumps are not one instant; whatever changes in between comes with a hint of its own.
        """
        self._fresh = {}
        addresses: dict[int, list[LinkAddress]] = defaultdict(list)
        for data in self._dump(_GET_ADDRESS, _ADDRESS_QUERY):
            index, address = self._meaning(data, _address)
            addresses[index].append(address)
        routers: dict[int, list[DefaultRouter]] = defaultdict(list)
        for family in (socket.AF_INET, socket.AF_INET6):
            for data in self._dump(_GET_ROUTE, _route_query(family)):
                if data[_HEADER.size + 1] == 0:  # destination length: only default routes are decoded
                    for index, router in self._meaning(data, _routers):
                        routers[index].append(router)
        links = (self._meaning(data, _link) for data in self._dump(_GET_LINK, _LINK_QUERY))
        self._known = self._fresh
        return Snapshot(
            tuple(
                replace(link, addresses=tuple(addresses[link.index]), routers=tuple(routers[link.index]))
                for link in sorted(filter(None, links), key=lambda link: link.index)
                if link.name not in self._excluded
            )
        )

    def _meaning(self, data: bytes, decode: Callable[[bytes], T]) -> T:
        """Decoding costs more than dumping, and most objects are as they were in the last snapshot."""
        body = data[4:6] + data[_HEADER.size :]
        if body not in self._fresh:
            self._fresh[body] = self._known[body] if body in self._known else decode(data)
        meaning: T = self._fresh[body]
        return meaning

    def _dump(self, request: int, body: bytes) -> list[bytes]:
        """The messages of one dump, asked for again if a change interrupted it."""
        for _ in range(_TRIES):
            answer, whole = self._ask(request, body)
            if whole:
                break
        return answer

    def _ask(self, request: int, body: bytes) -> tuple[list[bytes], bool]:
        self._sequence += 1
        header = _HEADER.pack(_HEADER.size + len(body), request, _REQUEST_DUMP, self._sequence, 0)
        self._socket.send(header + body)
        answer: list[bytes] = []
        whole = True
        while True:
            for message in split(self._socket.recv(65536)):
                if message.sequence != self._sequence:
                    continue
                whole = whole and not message.flags & _INTERRUPTED
                if message.kind not in (_ERROR, _DONE):
                    answer.append(message.data)
                elif (number := message.error) and number not in _ABSENT:
                    raise OSError(number, os.strerror(number))
                else:
                    return answer, whole


@dataclass(frozen=True, slots=True)
class Message:
    """A netlink message: fields of its header, and all its bytes."""

    kind: int
    flags: int
    sequence: int
    port: int
    data: bytes

    @property
    def body(self) -> bytes:
        """What follows the netlink header."""
        return self.data[_HEADER.size :]

    @property
    def error(self) -> int:
        """The errno that an error or the end of a dump carries, 0 for success."""
        number: int = -struct.unpack_from("=i", self.data, _HEADER.size)[0]
        return number


def split(buffer: bytes) -> Iterator[Message]:
    """The messages in a received buffer."""
    at = 0
    while at + _HEADER.size <= len(buffer):
        length, kind, flags, sequence, port = _HEADER.unpack_from(buffer, at)
        yield Message(kind, flags, sequence, port, buffer[at : at + length])
        at += (max(length, _HEADER.size) + 3) & ~3


def _route_query(family: int) -> bytes:
    return struct.pack("=BBBBBBBBI", family, 0, 0, 0, _MAIN_TABLE, 0, 0, 0, 0)


def _link(data: bytes) -> Link | None:
    """None for the loopback. Up means: the administrator's will, a carrier, and not waiting (dormant)."""
    message = _decoded(ifinfmsg, data)
    flags = message["flags"]
    if flags & _LOOPBACK:
        return None
    running = message.get_attr("IFLA_OPERSTATE") in _RUNNING_STATES
    up = bool(flags & _UP) and bool(flags & _LOWER_UP) and running
    name, mtu = message.get_attr("IFLA_IFNAME"), message.get_attr("IFLA_MTU")
    losses = message.get_attr("IFLA_CARRIER_DOWN_COUNT") or 0
    return Link(message["index"], name, up, mtu, carrier_losses=losses)


def _address(data: bytes) -> tuple[int, LinkAddress]:
    message = _decoded(ifaddrmsg, data)
    ipv6 = message["family"] == socket.AF_INET6
    flags = message.get_attr("IFA_FLAGS") or message["flags"]
    duplicate = bool(flags & _DUPLICATE)
    tentative = bool(flags & _TENTATIVE) and not flags & _OPTIMISTIC
    address = LinkAddress(
        address=ip_address(message.get_attr("IFA_LOCAL") or message.get_attr("IFA_ADDRESS")),
        prefix_length=message["prefixlen"],
        tentative=tentative or duplicate,
        deprecated=bool(flags & _DEPRECATED),
        temporary=ipv6 and bool(flags & _TEMPORARY),  # the same bit says "secondary" for IPv4
    )
    return message["index"], address


def _routers(data: bytes) -> tuple[tuple[int, DefaultRouter], ...]:
    """Interface index and router of each next hop of a default route; none if it leads nowhere."""
    message = _decoded(rtmsg, data)
    table = message.get_attr("RTA_TABLE") or message["table"]
    if message["type"] != _UNICAST or table != _MAIN_TABLE:
        return ()
    family = 4 if message["family"] == socket.AF_INET else 6
    metric = message.get_attr("RTA_PRIORITY") or 0
    hops = [(hop["oif"], hop["flags"], hop) for hop in message.get_attr("RTA_MULTIPATH") or ()]
    if not hops:
        hops = [(message.get_attr("RTA_OIF"), message["flags"], message)]
    return tuple(
        (index, DefaultRouter(family, _gateway(hop), metric))
        for index, flags, hop in hops
        if index and not flags & (_DEAD | _LINK_DOWN)
    )


def _gateway(hop: Any) -> Address | None:
    """An IPv4 route may have an IPv6 gateway (RTA_VIA)."""
    gateway = hop.get_attr("RTA_GATEWAY")
    if gateway is None and (via := hop.get_attr("RTA_VIA")) is not None:
        gateway = via["addr"]
    return None if gateway is None else ip_address(gateway)


def _decoded(codec: Any, data: bytes) -> Any:
    message = codec(data)
    message.decode()
    return message
