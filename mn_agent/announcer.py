"""Tells the neighbours on the home link that the home addresses are here now.

Performs I/O (a packet socket). RFC 6275 section 11.5.5, RFC 5227 section 2.3. While the mobile node was away
they learnt the home agent's link-layer address in its place.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address

from tunnel.closing import close_aside
from wire.neighbours import announcement

ANNOUNCEMENTS = (0.0, 1.0, 3.0)
"""Seconds at which an address is announced; RFC 6275 allows three times (MAX_NEIGHBOR_ADVERTISEMENT)."""


class Announcer:
    """`on_problem` gets in words what the kernel refused."""

    def __init__(self, on_problem: Callable[[str], None]) -> None:
        self._on_problem = on_problem
        self._timers: list[asyncio.TimerHandle] = []

    def announce(self, interface: str, addresses: tuple[IPv4Address | IPv6Address, ...]) -> None:
        """Begin to announce `addresses` on `interface`, and stop announcing anything else."""
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()
        if not addresses:
            return
        self._tell(interface, addresses)
        loop = asyncio.get_running_loop()
        self._timers = [
            loop.call_later(delay, self._tell, interface, addresses) for delay in ANNOUNCEMENTS[1:]
        ]

    def close(self) -> None:
        self.announce("", ())

    def _tell(self, interface: str, addresses: tuple[IPv4Address | IPv6Address, ...]) -> None:
        home = next((address for address in addresses if isinstance(address, IPv6Address)), IPv6Address(0))
        try:
            with contextlib.ExitStack() as stack:
                opened = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, 0)
                stack.callback(close_aside, opened)
                opened.bind((interface, 0))
                hardware: bytes = opened.getsockname()[4]
                for address in addresses:
                    source = address if isinstance(address, IPv6Address) else home
                    opened.send(announcement(address, hardware, source, router=False))
        except OSError as error:
            self._on_problem(f"cannot announce the home addresses on {interface}: {error.strerror}")
