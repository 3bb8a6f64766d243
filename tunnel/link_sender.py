"""Whole IP packets sent on one link by the routes of this host, past the tunnel.

Performs I/O (raw sockets). For packets of home addresses whose owner is at home on that link.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable
from ipaddress import IPv6Address

from tunnel.carriers import reason_not_sent
from tunnel.path import Drop

_SO_SNDBUFFORCE = 32
_ROOM = 4 << 20
"""Octets that may wait while the neighbour is asked for."""


def send_on_link(packets: Iterable[bytes], interface: str) -> list[Drop]:
    """Send `packets` by `interface`; why some were not (too large for the link, say)."""
    sockets: dict[int, socket.socket] = {}
    refused: list[Drop] = []
    try:
        for packet in packets:
            version = packet[0] >> 4
            try:
                sending = sockets.get(version) or sockets.setdefault(version, _open(version, interface))
                sending.sendto(packet, _destination(packet))
            except OSError as error:
                refused.append(reason_not_sent(error))
    finally:
        for opened in sockets.values():
            opened.close()  # what waits in the kernel goes on waiting
    return refused


def _open(version: int, interface: str) -> socket.socket:
    family = socket.AF_INET6 if version == 6 else socket.AF_INET
    opened = socket.socket(family, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.IPPROTO_RAW)
    try:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode())
        opened.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, _ROOM)
    except OSError:
        opened.close()
        raise
    return opened


def _destination(packet: bytes) -> tuple[str, int]:
    if packet[0] >> 4 == 6:
        return str(IPv6Address(packet[24:40])), 0
    return socket.inet_ntoa(packet[16:20]), 0
