"""Addresses of either family -> sockets.

Performs I/O.
"""

from __future__ import annotations

import contextlib
import socket
import time
from ipaddress import ip_address

_PATIENCE = 5.0


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
