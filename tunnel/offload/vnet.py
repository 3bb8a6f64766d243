"""The header that a TUN device with offloads puts before each packet: is it one packet, or many in one?

Pure. Virtual I/O Device (VIRTIO) version 1.2, section 5.1.6; linux/virtio_net.h. A *super-packet* is a packet
of TCP or UDP, larger than any link takes, that its sender or the kernel left whole for the device to cut.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from typing import Self

from wire.checksum import internet_checksum
from wire.ip import IPV4_HEADER, IPV6_HEADER

VNET_HEADER = 10
"""Octets. Numbers are in the order of the host."""
ONE_PACKET = bytes(VNET_HEADER)
"""Before a packet that is just that."""

VNET = struct.Struct("=BBHHHH")
"""Flags, kind, octets of headers, payload of a segment; where a checksum begins, where in that it goes."""
NEEDS_CHECKSUM = 1
"""A flag: the checksum covers the pseudo-header only."""
KIND = 0x7F
"""The bits of the kind; the one beside them says that only the first segment has CWR, which is so anyhow."""
TCP_HEADER, UDP_HEADER = 20, 8
TCP_CHECKSUM, UDP_CHECKSUM = 16, 6
"""Where in the header of the transport the checksum is."""


class Offload(IntFlag):
    """What a TUN device may leave to us: linux/if_tun.h, TUN_F_*."""

    CHECKSUM = 0x01
    TCP4 = 0x02
    TCP6 = 0x04
    UDP4 = 0x20
    UDP6 = 0x40


class Kind(IntEnum):
    """What a super-packet is cut into."""

    NONE = 0
    TCP4 = 1
    TCP6 = 4
    UDP = 5
    """Datagrams, each with a header of its own; not the fragments that an earlier kind 3 meant."""


_KINDS = frozenset((Kind.TCP4, Kind.TCP6, Kind.UDP))


@dataclass(frozen=True, slots=True)
class SuperPacket:
    """How to cut a super-packet. All in octets, but `segments`; every segment repeats `headers` octets."""

    kind: Kind
    transport: int
    """Where the header of TCP or UDP begins."""
    headers: int
    """Where the payload begins."""
    size: int
    """Payload of every segment but the last."""
    length: int
    """Of the whole."""

    @classmethod
    def of(cls, kind: int, size: int, transport: int, head: bytes, length: int) -> Self | None:
        """What the headers in `head` and the words of the kernel amount to; None if they contradict."""
        if kind not in _KINDS:
            return None
        version = head[0] >> 4 if head else 0
        version4, kind = version == 4, Kind(kind)
        if (kind is Kind.TCP4 and not version4) or (kind is Kind.TCP6 and version4) or not size:
            return None
        if version not in (4, 6) or transport % 2 or transport < (IPV4_HEADER if version4 else IPV6_HEADER):
            return None
        if kind is Kind.UDP:
            headers = transport + UDP_HEADER
        else:
            if len(head) < transport + TCP_HEADER:
                return None
            headers = transport + (head[transport + 12] >> 4) * 4
            if headers < transport + TCP_HEADER:
                return None
        if headers >= length or len(head) < headers:
            return None
        return cls(kind, transport, headers, size, length)

    @property
    def segments(self) -> int:
        return -(-(self.length - self.headers) // self.size)

    @property
    def last(self) -> int:
        """Payload of the last segment."""
        return (self.length - self.headers - 1) % self.size + 1


def super_header(packet: SuperPacket) -> bytes:
    """What to write before a super-packet whose checksum covers the pseudo-header only."""
    offset = UDP_CHECKSUM if packet.kind is Kind.UDP else TCP_CHECKSUM
    return VNET.pack(
        NEEDS_CHECKSUM, packet.kind, packet.headers, packet.size, packet.transport, offset
    )


def moved(header: bytes, octets: int) -> bytes:
    """The header for a packet before which there are so many octets more: what it counts begins there."""
    flags, kind, headers, size, start, offset = VNET.unpack_from(header)
    begins = start + octets if flags & NEEDS_CHECKSUM else 0
    return VNET.pack(flags, kind, max(0, headers + octets), size, max(0, begins), offset)


def complete_checksum(packet: bytearray | memoryview, start: int, offset: int) -> bool:
    """Finish, in place, a checksum that the kernel has begun with the pseudo-header.

    False, and nothing changed, if there is no such place in the packet. Zero is written as all ones, which
    means the same to TCP, and to UDP that there is a checksum (as the kernel does it).
    """
    place = start + offset
    if place + 2 > len(packet):
        return False
    packet[place : place + 2] = (internet_checksum(packet[start:]) or 0xFFFF).to_bytes(2, "big")
    return True
