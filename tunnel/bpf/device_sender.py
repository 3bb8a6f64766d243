"""Packets put back into the TUN device, as the kernel gave them, so that the egress program sees them.

Performs I/O (a packet socket). Each has a header of linux/virtio_net.h before it.
"""

from __future__ import annotations

import socket

from wire.ip import ETHERTYPES

_SOL_PACKET, _PACKET_VNET_HDR = 263, 15


class DeviceSender:
    """A packet socket of this network namespace."""

    def __init__(self, mark: int = 0) -> None:
        """`mark`: by which the egress program may know what comes from here."""
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, 0)
        self._socket.setsockopt(_SOL_PACKET, _PACKET_VNET_HDR, 1)
        if mark:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark)

    def send(self, device: str, version: int, *pieces: bytes | memoryview) -> None:
        """A packet of this IP version, in pieces. OSError if the device does not take it."""
        self._socket.sendmsg(pieces, (), 0, (device, ETHERTYPES[version]))

    def close(self) -> None:
        self._socket.close()
