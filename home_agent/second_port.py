"""A second UDP port that answers, so that a mobile node sees whether its NAT maps it anew for every port.

Performs I/O. RFC 4787 section 4.1, RFC 5780 section 4.3. Only questions count here: an update that would move
a binding is ignored (home_agent.requests.astray), and payload never gets this far. Whoever has not proven who
he is gets no answer.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from ipaddress import IPv4Address

from home_agent.door import Door
from runtime.clock import boottime
from tunnel.kernel import MARK
from tunnel.path import Arrival
from tunnel.underlay import send_or_say
from tunnel.underlay_sockets import Ways, open_socket

LARGEST = 2048
"""Octets; what is longer is cut, and then not authentic."""
SLICE, PAUSE = 16, 0.05
"""Datagrams that are read at once, and seconds until more are: this port never takes the time of others."""
ROOM = 16384
"""Octets of datagrams that wait; the kernel drops what comes on top."""


class SecondPort:
    """One UDP socket at `local`. OSError if it cannot be opened; `port` 0 lets the kernel choose.

    `door` belongs to this port alone, because that of the others is asked by another thread.
    """

    def __init__(
        self, local: IPv4Address, port: int, door: Door, received: Callable[[bytes, Arrival], None]
    ) -> None:
        self._local = local
        self._door = door
        self._received = received
        self._timer: asyncio.TimerHandle | None = None
        self._socket = open_socket(
            socket.AF_INET, socket.SOCK_DGRAM, 0, Ways("", MARK, believe_routers=True), (str(local), port)
        )
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, ROOM)
        self.port = int(self._socket.getsockname()[1])
        self._listen()

    def send(self, packet: bytes, via: Arrival) -> str | None:
        """Back to where a question came from. The reason in words if the kernel does not take it."""
        return send_or_say(self._socket, packet, (str(via.remote), via.remote_port))

    def close(self) -> None:
        """Closing twice does nothing."""
        if self._socket.fileno() < 0:
            return
        if self._timer is not None:
            self._timer.cancel()
        asyncio.get_running_loop().remove_reader(self._socket)
        self._socket.close()

    def _listen(self) -> None:
        self._timer = None
        asyncio.get_running_loop().add_reader(self._socket, self._read)

    def _read(self) -> None:
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._socket)
        self._timer = loop.call_later(PAUSE, self._listen)
        for _ in range(SLICE):
            try:
                packet, (host, port) = self._socket.recvfrom(LARGEST)
            except OSError:
                return  # read empty; or an ICMP error about an answer, which nobody waits for
            arrival = Arrival(self._local, IPv4Address(host), self.port, port)
            if self._door.admits(packet, arrival, boottime()):
                self._received(packet, arrival)
