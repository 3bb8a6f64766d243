"""Packets of the egress program's memory, sent a second time through the TUN device.

Performs I/O. The kernel gets a packet back as it was, segments and checksum still to be
made (linux/virtio_net.h), and the egress program wraps it for the path of today.
"""

from __future__ import annotations

import struct

from tunnel.bpf.device_sender import DeviceSender
from tunnel.bpf.memory import Remembered
from tunnel.offload.vnet import NEEDS_CHECKSUM, TCP_CHECKSUM, UDP_CHECKSUM, UDP_HEADER, VNET, Kind
from wire.ip import PROTOCOL_TCP, PROTOCOL_UDP

_ECN = 0x80
_CONGESTION_WINDOW_REDUCED = 0x80
_CHECKSUM_AT = {PROTOCOL_TCP: TCP_CHECKSUM, PROTOCOL_UDP: UDP_CHECKSUM}


class SecondSender:
    """Of this network namespace."""

    def __init__(self, mark: int) -> None:
        """`mark`: by which the egress program knows that it has sent these before."""
        self._sender = DeviceSender(mark)

    def send(self, device: str, again: Remembered) -> None:
        """OSError if the device does not take it."""
        packet = again.packet
        self._sender.send(device, packet[0] >> 4, offload_header(packet, again.segment), packet)

    def close(self) -> None:
        self._sender.close()


def offload_header(packet: bytes, segment: int) -> bytes:
    """What a virtio_net_hdr says of `packet`, which has no IPv4 options and, if segmented, no extensions."""
    version6 = packet[0] >> 4 == 6
    start = 40 if version6 else 20
    protocol = packet[6 if version6 else 9] if len(packet) >= start else 0
    at = _CHECKSUM_AT.get(protocol)
    if at is None or len(packet) < start + at + 2:
        return VNET.pack(0, 0, 0, 0, 0, 0)
    # The checksum of a packet of this host is left to the device: until then only the addresses are summed.
    unfinished = int.from_bytes(packet[start + at : start + at + 2], "big") == _address_sum(packet, protocol)
    flags = NEEDS_CHECKSUM if unfinished else 0
    if not segment:
        return VNET.pack(flags, 0, 0, 0, start if flags else 0, at if flags else 0)
    if protocol == PROTOCOL_UDP:
        kind, headers = int(Kind.UDP), start + UDP_HEADER
    else:
        kind, headers = int(Kind.TCP6 if version6 else Kind.TCP4), start + (packet[start + 12] >> 4) * 4
        if packet[start + 13] & _CONGESTION_WINDOW_REDUCED:
            kind |= _ECN
    return VNET.pack(NEEDS_CHECKSUM, kind, headers, segment, start, at)


def _address_sum(packet: bytes, protocol: int) -> int:
    """The sum over the pseudo-header, as the kernel leaves it in the checksum field."""
    version6 = packet[0] >> 4 == 6
    addresses, start = (packet[8:40], 40) if version6 else (packet[12:20], 20)
    total: int = sum(struct.unpack(f"!{len(addresses) // 2}H", addresses)) + protocol + len(packet) - start
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return total
