"""Asks the routers of one link for an advertisement and listens for a moment to what they say.

Performs I/O. RFC 4861 section 6.3.7. The socket carries the agent's mark, and is open only that long.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import sys
from collections.abc import Callable

from mn_agent.events import RouterSaid
from wire.advertisement import ROUTER_ADVERTISEMENT, SOLICITATION, decode_way_out
from wire.reader import DecodeError

LISTENS_FOR = 4.0
MOST_HEARD = 32
"""Advertisements that are looked at: anybody on the link can send them."""
MOST = 8
_ALL_ROUTERS = "ff02::2"
_ICMP6_FILTER = 1  # of linux/icmpv6.h; the socket module does not name it
_ONLY_ON_LINK = 255
_HOP_LIMIT = socket.IPV6_HOPLIMIT
_LONGEST = 4096


class RouterListener:
    """One socket for each interface that was asked about lately."""

    def __init__(self, mark: int, heard: Callable[[RouterSaid], None]) -> None:
        self._mark = mark
        self._heard = heard
        self._open: dict[str, tuple[socket.socket, asyncio.TimerHandle]] = {}
        self._left: dict[str, int] = {}

    def ask(self, interface: str) -> str | None:
        """Solicit; the reason in words if that is not possible now. It will be asked again."""
        loop = asyncio.get_running_loop()
        try:
            if interface not in self._open:
                if len(self._open) >= MOST:
                    self._close(next(iter(self._open)))
                opened = _opened(interface, self._mark)
                loop.add_reader(opened, self._drain, interface, opened)
            else:
                opened, timer = self._open[interface]
                timer.cancel()
            self._open[interface] = (opened, loop.call_later(LISTENS_FOR, self._close, interface))
            self._left[interface] = MOST_HEARD
            opened.sendto(SOLICITATION, (_ALL_ROUTERS, 0, 0, socket.if_nametoindex(interface)))
        except OSError as error:
            return error.strerror or str(error)
        return None

    def close(self) -> None:
        for interface in list(self._open):
            self._close(interface)

    def _close(self, interface: str) -> None:
        opened, timer = self._open.pop(interface)
        timer.cancel()
        asyncio.get_running_loop().remove_reader(opened)
        opened.close()

    def _drain(self, interface: str, opened: socket.socket) -> None:
        while self._left[interface] > 0:
            try:
                message, ancillary, _, source = opened.recvmsg(_LONGEST, 64)
            except OSError:
                return
            self._left[interface] -= 1
            hops = [int.from_bytes(data, sys.byteorder) for _, kind, data in ancillary if kind == _HOP_LIMIT]
            if hops != [_ONLY_ON_LINK] or not source[0].startswith("fe80:"):
                continue  # from beyond this link (RFC 4861 section 6.1.2)
            try:
                self._heard(RouterSaid(interface, decode_way_out(message)))
            except DecodeError:
                continue
        self._close(interface)


def _opened(interface: str, mark: int) -> socket.socket:
    kind = socket.SOCK_RAW | socket.SOCK_NONBLOCK
    opened = socket.socket(socket.AF_INET6, kind, socket.IPPROTO_ICMPV6)
    try:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode())
        blocked = bytearray(b"\xff" * 32)
        word, bit = divmod(ROUTER_ADVERTISEMENT, 32)
        struct.pack_into("=I", blocked, 4 * word, 0xFFFFFFFF ^ 1 << bit)
        opened.setsockopt(socket.IPPROTO_ICMPV6, _ICMP6_FILTER, bytes(blocked))
        opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVHOPLIMIT, 1)
        opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, _ONLY_ON_LINK)
    except OSError:
        opened.close()
        raise
    return opened
