"""A super-packet parted in two: all its full segments, and the shorter one that ends it.

Pure. Cutting the parts gives the same packets as cutting the whole. Each part is described as the kernel
would describe it (linux/virtio_net.h), its checksum begun with the pseudo-header.
"""

from __future__ import annotations

from dataclasses import replace

from tunnel.offload.vnet import TCP_CHECKSUM, UDP_CHECKSUM, Kind, SuperPacket, super_header
from wire.ip import IPV6_HEADER

_FIN_PSH, _CWR, _FLAGS, _SEQUENCE = 0x09, 0x80, 13, 4
_MODULUS = 0xFFFF


def parted(head: bytes, packet: SuperPacket) -> tuple[bytes, bytes]:
    """The headers of both parts, each behind the header that a device with offloads wants before it.

    `head` has the headers of `packet`, whose last segment is shorter than the others.
    """
    full = packet.segments - 1
    whole = replace(packet, length=packet.length - packet.last)
    rest = replace(packet, length=packet.headers + packet.last)
    first, last = _shortened(head, packet, whole), _shortened(head, packet, rest)
    if packet.kind is not Kind.UDP:
        flags, sequence = packet.transport + _FLAGS, packet.transport + _SEQUENCE
        first[flags] &= ~_FIN_PSH
        last[flags] &= ~_CWR
        number = int.from_bytes(head[sequence : sequence + 4], "big") + full * packet.size
        last[sequence : sequence + 4] = (number & 0xFFFFFFFF).to_bytes(4, "big")
    if head[0] >> 4 == 4:
        end = packet.transport
        number = int.from_bytes(head[4:6], "big") + full
        last[4:6] = (number & 0xFFFF).to_bytes(2, "big")
        for octets in (first, last):
            octets[10:12] = bytes(2)
            octets[10:12] = (-int.from_bytes(octets[:end], "big") % _MODULUS).to_bytes(2, "big")
    return _described(whole) + first, _described(rest) + last


def _shortened(head: bytes, packet: SuperPacket, part: SuperPacket) -> bytearray:
    """The headers with the lengths of a part in them, and in the sum of the pseudo-header."""
    octets, transport = bytearray(head[: packet.headers]), packet.transport
    if head[0] >> 4 == 4:
        octets[2:4] = part.length.to_bytes(2, "big")
    else:
        octets[4:6] = (part.length - IPV6_HEADER).to_bytes(2, "big")
    if packet.kind is Kind.UDP:
        octets[transport + 4 : transport + 6] = (part.length - transport).to_bytes(2, "big")
    place = transport + (UDP_CHECKSUM if packet.kind is Kind.UDP else TCP_CHECKSUM)
    pseudo = int.from_bytes(octets[place : place + 2], "big") - (packet.length - part.length)
    octets[place : place + 2] = (pseudo % _MODULUS).to_bytes(2, "big")
    return octets


def _described(part: SuperPacket) -> bytes:
    """One segment is no super-packet, but its checksum is still to be finished."""
    described = super_header(part)
    return described if part.segments > 1 else described[:1] + bytes((Kind.NONE,)) + described[2:]
