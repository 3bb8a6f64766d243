"""Whether the kernel, asked by a program, finds a path's next hop on the link that the path names.

Performs I/O (rtnetlink). For IPv4 it does, if there is one. For IPv6 it takes the best route of all links,
unless a socket is bound to one of them; a path by another link is then left to user space.
"""

from __future__ import annotations

import contextlib
import fcntl
import socket
import struct
from ipaddress import IPv6Address

from tunnel.path import TunnelPath
from wire.netlink import REQUEST, attributes, message, number_in, numbered, split, u32
from wire.rtnetlink import ROUTE, Kind, RouteAttribute

_IPV6_ROUTES = 1 << 10  # RTMGRP_IPV6_ROUTE
_SOURCE, _MARK = 2, 16  # RTA_SRC, RTA_MARK
_SIOCGIFINDEX = 0x8933
_TIMEOUT = 0.5
_LARGEST = 65536

Question = tuple[IPv6Address, IPv6Address, int]


class Ways:
    """Of this network namespace. `descriptor` is readable when routes of IPv6 have changed."""

    def __init__(self, mark: int) -> None:
        self._mark = mark
        self._known: dict[Question, bool] = {}
        self._questions = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0)
        self._changes = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, 0
        )
        self._questions.settimeout(_TIMEOUT)
        self._changes.bind((0, _IPV6_ROUTES))

    @property
    def descriptor(self) -> int:
        return self._changes.fileno()

    def changed(self) -> bool:
        """Whether something that was said may not be true any more. It is asked for anew then."""
        with contextlib.suppress(OSError):  # BlockingIOError at last, ENOBUFS if more changed than fits
            while True:
                self._changes.recv(_LARGEST)
        had = bool(self._known)
        self._known.clear()
        return had

    def index_of(self, interface: str) -> int | None:
        """The index of a link of this namespace, whichever the calling thread is in; None if it is gone."""
        try:
            told = fcntl.ioctl(self._questions, _SIOCGIFINDEX, struct.pack("16s24x", interface.encode()))
        except OSError:
            return None
        index: int = struct.unpack_from("=i", told, 16)[0]
        return index

    def lead_there(self, path: TunnelPath, link: int) -> bool:
        """Whether packets of `path` that are sent to the link of this index arrive at its next hop."""
        local, remote = path.local, path.remote
        if not isinstance(local, IPv6Address) or not isinstance(remote, IPv6Address):
            return True
        question = (local, remote, link)
        if question not in self._known:
            self._known[question] = self._ask(local, remote, link) == link
        return self._known[question]

    def close(self) -> None:
        self._questions.close()
        self._changes.close()

    def _ask(self, local: IPv6Address, remote: IPv6Address, link: int) -> int | None:
        """The link that is taken for marked packets from here to there; None if there is no way."""
        fixed = ROUTE.pack(socket.AF_INET6, 128, 128, 0, 0, 0, 0, 0, 0)
        asked = (
            (RouteAttribute.DESTINATION, remote.packed),
            (_SOURCE, local.packed),
            (RouteAttribute.OUT_INTERFACE, u32(link)),
            (_MARK, u32(self._mark)),
        )
        question = numbered((message(Kind.GET_ROUTE, REQUEST, fixed, asked),), 1)
        try:
            self._questions.send(question)
            answers = split(self._questions.recv(_LARGEST))
        except OSError:
            return None
        for answer in answers:
            if answer.kind == Kind.NEW_ROUTE:
                found = attributes(answer.body, ROUTE.size)
                return number_in(found.get(RouteAttribute.OUT_INTERFACE))
        return None
