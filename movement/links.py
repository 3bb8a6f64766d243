"""Reads a snapshot of the links from the kernel: the truth behind every hint.

Performs I/O (rtnetlink dumps). RFC 3549.
"""

from __future__ import annotations

import os
import socket
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from errno import EAFNOSUPPORT, ENOENT, EOPNOTSUPP
from ipaddress import ip_address
from typing import Any, TypeVar

from movement.neighbours import MAX_ROUTERS, Neighbour, Place, neighbour_in
from movement.neighbours import query as neighbour_query
from movement.snapshot import Address, DefaultRouter, Link, LinkAddress, Snapshot
from wire import rtnetlink
from wire.netlink import (
    DONE,
    DUMP,
    DUMP_INTERRUPTED,
    ERROR,
    MULTI,
    REQUEST,
    Message,
    attributes,
    message,
    number_in,
    numbered,
    split,
    text_in,
    u32,
)
from wire.rtnetlink import AddressAttribute, Kind, LinkAttribute, RouteAttribute

T = TypeVar("T")

_SOL_NETLINK, _STRICT_CHECK = 270, 12
_MAIN_TABLE, _UNICAST = 254, 1
_SKIP_STATISTICS = 1 << 3  # RTEXT_FILTER_SKIP_STATS
_LINK_QUERY = message(
    Kind.GET_LINK,
    REQUEST | DUMP,
    rtnetlink.LINK.pack(0, 0, 0, 0, 0),
    [(LinkAttribute.EXTENSION_MASK, u32(_SKIP_STATISTICS))],
)
_ADDRESS_QUERY = message(Kind.GET_ADDRESS, REQUEST | DUMP, rtnetlink.ADDRESS.pack(0, 0, 0, 0, 0))
_ROUTE_QUERIES = tuple(
    message(Kind.GET_ROUTE, REQUEST | DUMP, rtnetlink.ROUTE.pack(family, 0, 0, 0, _MAIN_TABLE, 0, 0, 0, 0))
    for family in (socket.AF_INET, socket.AF_INET6)
)
_ABSENT = frozenset({ENOENT, EAFNOSUPPORT, EOPNOTSUPP})
_TRIES = 3
_TIMEOUT = 2.0

_UP, _LOOPBACK, _LOWER_UP = 0x1, 0x8, 0x10000
_UNKNOWN, _OPERATIONAL = 0, 6  # of a link that says nothing (a TUN device, say), and of one that works
_RUNNING_STATES = frozenset({_UNKNOWN, _OPERATIONAL})
_OPTIMISTIC, _DUPLICATE, _DEPRECATED, _TENTATIVE, _TEMPORARY = 0x4, 0x8, 0x20, 0x40, 0x1
_DEAD, _LINK_DOWN = 0x1, 0x10


class LinkReader:
    """Dumps links, addresses and the default routes of the main table of this network namespace."""

    __slots__ = ("_excluded", "_fresh", "_known", "_on_routers", "_sequence", "_socket")

    def __init__(
        self,
        excluded: frozenset[str] = frozenset(),
        on_routers: Callable[[tuple[Place, ...]], None] = lambda _: None,
    ) -> None:
        """`excluded`: names of links that are no way to the network, such as the TUN device.

        `on_routers` is told the routers of a snapshot before the kernel is asked who they are.
        """
        self._excluded = excluded
        self._on_routers = on_routers
        self._sequence = 0
        self._known: dict[tuple[int, bytes], Any] = {}
        self._fresh: dict[tuple[int, bytes], Any] = {}
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
        for answer in self._dump(_ADDRESS_QUERY):
            index, address = self._meaning(answer, _address)
            addresses[index].append(address)
        routers: dict[int, list[DefaultRouter]] = defaultdict(list)
        for query in _ROUTE_QUERIES:
            for answer in self._dump(query):
                if answer.body[1] == 0:  # destination length: only default routes are decoded
                    for index, router in self._meaning(answer, _routers):
                        routers[index].append(router)
        known = self._neighbours((i, r.gateway) for i, found in routers.items() for r in found if r.gateway)
        links = (self._meaning(answer, _link) for answer in self._dump(_LINK_QUERY))
        self._known = self._fresh
        return Snapshot(
            tuple(
                replace(
                    link,
                    addresses=tuple(addresses[link.index]),
                    routers=tuple(_resolved(router, link.index, known) for router in routers[link.index]),
                )
                for link in sorted(filter(None, links), key=lambda link: link.index)
                if link.name not in self._excluded
            )
        )

    def _meaning(self, answer: Message, decode: Callable[[bytes], T]) -> T:
        """Decoding costs more than dumping, and most objects are as they were in the last snapshot."""
        key = answer.kind, answer.body
        if key not in self._fresh:
            self._fresh[key] = self._known[key] if key in self._known else decode(answer.body)
        meaning: T = self._fresh[key]
        return meaning

    def _neighbours(self, places: Iterable[Place]) -> dict[Place, Neighbour]:
        """What the kernel knows of these routers; asked one by one, as neighbours can be thousands.

        They are named before, so that whatever changes after the question comes as a hint.
        """
        wanted = tuple(sorted(set(places), key=str))[:MAX_ROUTERS]
        self._on_routers(wanted)
        answers = (answer for place in wanted for answer in self._ask(neighbour_query(place))[0])
        found = (neighbour_in(answer.body) for answer in answers)
        return {neighbour.place: neighbour for neighbour in found if neighbour is not None}

    def _dump(self, query: bytes) -> list[Message]:
        """The messages of one dump, asked for again if a change interrupted it."""
        for _ in range(_TRIES):
            answers, whole = self._ask(query)
            if whole:
                break
        return answers

    def _ask(self, query: bytes) -> tuple[list[Message], bool]:
        """The messages of the answer, and whether nothing changed while they were gathered."""
        self._sequence += 1
        self._socket.send(numbered([query], self._sequence))
        answers: list[Message] = []
        whole = True
        while True:
            for answer in split(self._socket.recv(65536)):
                if answer.sequence != self._sequence:
                    continue
                whole = whole and not answer.flags & DUMP_INTERRUPTED
                if answer.kind not in (ERROR, DONE):
                    answers.append(answer)
                    if not answer.flags & MULTI:
                        return answers, whole
                elif answer.error and answer.error not in _ABSENT:
                    raise OSError(answer.error, os.strerror(answer.error))
                else:
                    return answers, whole


def _link(body: bytes) -> Link | None:
    """None for the loopback. Up means: the administrator's will, a carrier, and not waiting (dormant)."""
    _, _, index, flags, _ = rtnetlink.LINK.unpack_from(body)
    if flags & _LOOPBACK:
        return None
    found = attributes(body, rtnetlink.LINK.size)
    running = number_in(found.get(LinkAttribute.OPERATIONAL_STATE)) in _RUNNING_STATES
    up = bool(flags & _UP) and bool(flags & _LOWER_UP) and running
    name, mtu = text_in(found.get(LinkAttribute.NAME)), number_in(found.get(LinkAttribute.MTU)) or 0
    losses = number_in(found.get(LinkAttribute.CARRIER_DOWN_COUNT)) or 0
    hardware = found.get(LinkAttribute.HARDWARE, b"")
    return Link(index, name, up, mtu, carrier_losses=losses, hardware=hardware)


def _address(body: bytes) -> tuple[int, LinkAddress]:
    family, length, short_flags, _, index = rtnetlink.ADDRESS.unpack_from(body)
    found = attributes(body, rtnetlink.ADDRESS.size)
    flags = number_in(found.get(AddressAttribute.FLAGS)) or short_flags
    duplicate = bool(flags & _DUPLICATE)
    tentative = bool(flags & _TENTATIVE) and not flags & _OPTIMISTIC
    preferred, valid_until = _lifetimes(found.get(AddressAttribute.LIFETIMES, b""))
    address = LinkAddress(
        address=ip_address(found.get(AddressAttribute.LOCAL) or found[AddressAttribute.ADDRESS]),
        prefix_length=length,
        tentative=tentative or duplicate,
        # The flag can be two minutes late (another advertisement within milliseconds); the lifetime never is.
        deprecated=bool(flags & _DEPRECATED) or not preferred,
        # The same bit says "secondary" for IPv4.
        temporary=family == socket.AF_INET6 and bool(flags & _TEMPORARY),
        protocol=number_in(found.get(AddressAttribute.PROTOCOL)) or 0,
        valid_until=valid_until,
    )
    return index, address


def _lifetimes(attribute: bytes) -> tuple[bool, float | None]:
    """Whether the address is still preferred, and when it ends in seconds of CLOCK_BOOTTIME; None: never."""
    if len(attribute) < rtnetlink.LIFETIMES.size:
        return True, None
    preferred, seconds, _, _ = rtnetlink.LIFETIMES.unpack_from(attribute)
    forever = seconds == rtnetlink.FOREVER
    return preferred > 0, None if forever else time.clock_gettime(time.CLOCK_BOOTTIME) + float(seconds)


def _routers(body: bytes) -> tuple[tuple[int, DefaultRouter], ...]:
    """Interface index and router of each next hop of a default route; none if it leads nowhere."""
    family, _, _, _, table, protocol, _, kind, flags = rtnetlink.ROUTE.unpack_from(body)
    found = attributes(body, rtnetlink.ROUTE.size)
    if kind != _UNICAST or (number_in(found.get(RouteAttribute.TABLE)) or table) != _MAIN_TABLE:
        return ()
    version = 4 if family == socket.AF_INET else 6
    metric = number_in(found.get(RouteAttribute.PRIORITY)) or 0
    hops = list(_hops(found.get(RouteAttribute.MULTIPATH, b"")))
    if not hops:
        hops = [(number_in(found.get(RouteAttribute.OUT_INTERFACE)) or 0, flags, found)]
    return tuple(
        (index, DefaultRouter(version, _gateway(hop), metric, protocol=protocol))
        for index, flags, hop in hops
        if index and not flags & (_DEAD | _LINK_DOWN)
    )


def _resolved(router: DefaultRouter, index: int, known: Mapping[Place, Neighbour]) -> DefaultRouter:
    neighbour = None if router.gateway is None else known.get((index, router.gateway))
    if neighbour is None:
        return router
    return replace(router, hardware=neighbour.hardware, silent=neighbour.silent)


def _hops(multipath: bytes) -> Iterator[tuple[int, int, Mapping[int, bytes]]]:
    """Interface index, flags and attributes of each next hop."""
    at = 0
    while at + rtnetlink.NEXT_HOP.size <= len(multipath):
        length, flags, _, index = rtnetlink.NEXT_HOP.unpack_from(multipath, at)
        if length < rtnetlink.NEXT_HOP.size:
            return
        yield index, flags, attributes(multipath[at : at + length], rtnetlink.NEXT_HOP.size)
        at += (length + 3) & ~3


def _gateway(hop: Mapping[int, bytes]) -> Address | None:
    """An IPv4 route may have an IPv6 gateway (RTA_VIA: its family, then its address)."""
    gateway = hop.get(RouteAttribute.GATEWAY) or hop.get(RouteAttribute.VIA, b"")[2:]
    return ip_address(gateway) if gateway else None
