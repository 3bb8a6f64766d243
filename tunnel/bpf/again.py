"""Packets of the egress program's memory, sent a second time through the TUN device.

Performs I/O (a packet socket). The kernel gets a packet back as it was, segments and checksum still to be
made (linux/virtio_net.h), and the egress program wraps it for the path of today.
"""

from __future__ import annotations

import socket
import struct

from tunnel.bpf.memory import Remembered
from wire.ip import PROTOCOL_UDP

_SOL_PACKET, _PACKET_VNET_HDR = 263, 15
_VNET_HEADER = struct.Struct("=BBHHHH")
_NEEDS_CHECKSUM = 1
_TCPV4, _TCPV6, _UDP_L4, _ECN = 1, 4, 5, 0x80
_PROTOCOL_TCP = 6
_CONGESTION_WINDOW_REDUCED = 0x80
_CHECKSUM_AT = {_PROTOCOL_TCP: 16, PROTOCOL_UDP: 6}
_ETHERTYPES = {4: 0x0800, 6: 0x86DD}


class SecondSender:
    """A packet socket of this network namespace."""

    def __init__(self, mark: int) -> None:
        """`mark`: by which the egress program knows that it has sent these before."""
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, 0)
        self._socket.setsockopt(_SOL_PACKET, _PACKET_VNET_HDR, 1)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark)

    def send(self, device: str, again: Remembered) -> None:
        """OSError if the device does not take it."""
        packet = again.packet
        described = offload_header(packet, again.segment)
        self._socket.sendto(described + packet, (device, _ETHERTYPES[packet[0] >> 4]))

    def close(self) -> None:
        self._socket.close()


def offload_header(packet: bytes, segment: int) -> bytes:
    """What a virtio_net_hdr says of `packet`, which has no IPv4 options and, if segmented, no extensions."""
    version6 = packet[0] >> 4 == 6
    start = 40 if version6 else 20
    protocol = packet[6 if version6 else 9] if len(packet) >= start else 0
    at = _CHECKSUM_AT.get(protocol)
    if at is None or len(packet) < start + at + 2:
        return _VNET_HEADER.pack(0, 0, 0, 0, 0, 0)
    # The checksum of a packet of this host is left to the device: until then only the addresses are summed.
    unfinished = int.from_bytes(packet[start + at : start + at + 2], "big") == _address_sum(packet, protocol)
    flags = _NEEDS_CHECKSUM if unfinished else 0
    if not segment:
        return _VNET_HEADER.pack(flags, 0, 0, 0, start if flags else 0, at if flags else 0)
    if protocol == PROTOCOL_UDP:
        kind, headers = _UDP_L4, start + 8
    else:
        kind, headers = (_TCPV6 if version6 else _TCPV4), start + (packet[start + 12] >> 4) * 4
        if packet[start + 13] & _CONGESTION_WINDOW_REDUCED:
            kind |= _ECN
    return _VNET_HEADER.pack(_NEEDS_CHECKSUM, kind, headers, segment, start, at)


def _address_sum(packet: bytes, protocol: int) -> int:
    """The sum over the pseudo-header, as the kernel leaves it in the checksum field."""
    version6 = packet[0] >> 4 == 6
    addresses, start = (packet[8:40], 40) if version6 else (packet[12:20], 20)
    total: int = sum(struct.unpack(f"!{len(addresses) // 2}H", addresses)) + protocol + len(packet) - start
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return total
