"""Addresses of either family -> sockets.

Performs I/O.
"""

from __future__ import annotations

import contextlib
import socket
import time
from ipaddress import ip_address
from struct import Struct
from typing import NamedTuple

from lab.streams.journal import realtime_minus_boottime_ns

_PATIENCE = 5.0
_SO_TIMESTAMPNS, _SO_RCVBUFFORCE = 35, 33
"""Linux, asm-generic/socket.h; Python has no names for them."""
_TIMESPEC = Struct("@ll")
_STAMP_SPACE = socket.CMSG_SPACE(_TIMESPEC.size)
_LARGEST = 2048
_QUEUE = 8 << 20
"""Octets that may wait in a socket that is read now and then: seconds of the densest stream."""


def family_of(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ip_address(address).version == 6 else socket.AF_INET


def listener(address: str, port: int) -> socket.socket:
    """A listening TCP socket."""
    listening = socket.socket(family_of(address), socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.bind((address, port))
    listening.listen()
    return listening


def connection(source: str, destination: str, port: int) -> socket.socket:
    """A TCP connection from one of our addresses; tries again while nobody listens yet."""
    deadline = time.monotonic() + _PATIENCE
    while True:
        connecting = socket.socket(family_of(destination), socket.SOCK_STREAM)
        connecting.bind((source, 0))
        with contextlib.suppress(ConnectionRefusedError):
            connecting.connect((destination, port))
            connecting.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return connecting
        connecting.close()
        if time.monotonic() > deadline:
            raise ConnectionRefusedError(f"{destination} port {port} refuses")
        time.sleep(0.05)


def datagram_socket(address: str, port: int) -> socket.socket:
    """A UDP socket bound to an address of ours."""
    bound = socket.socket(family_of(address), socket.SOCK_DGRAM)
    bound.bind((address, port))
    return bound


class Received(NamedTuple):
    """A datagram, nanoseconds of CLOCK_BOOTTIME when the kernel received it, and who sent it."""

    octets: bytes
    at_ns: int
    whence: tuple[str, int]


class StampedSocket:
    """A UDP socket whose datagrams carry the instant at which the kernel received them.

    So its reader may sleep: it need not be there, and disturb nobody, when a datagram arrives.
    """

    def __init__(self, receiving: socket.socket) -> None:
        """`receiving` is bound, and is read by nobody else from now on."""
        receiving.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        with contextlib.suppress(PermissionError):  # then it has the queue that everybody has
            receiving.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _QUEUE)
        self._socket = receiving
        self._latest = 0

    def receive(self) -> Received | None:
        """The next datagram that waits, if any. Its instant is never before that of the one before."""
        try:
            octets, stamps, _, whence = self._socket.recvmsg(_LARGEST, _STAMP_SPACE, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return None
        ahead = realtime_minus_boottime_ns()
        for _, kind, stamp in stamps:
            if kind == _SO_TIMESTAMPNS:
                seconds, nanoseconds = _TIMESPEC.unpack(stamp)
                self._latest = max(self._latest, seconds * 10**9 + nanoseconds - ahead)
        return Received(octets, self._latest, whence[:2])
