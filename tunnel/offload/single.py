"""What a packet with a virtio header stands for, one packet at a time and without arrays.

Pure. Virtual I/O Device (VIRTIO) version 1.2, section 5.1.6. For the few packets that are sent a second time:
`bulk` is faster by far, and costs 16 MiB to have. Both make the same packets of the same super-packet.
"""

from __future__ import annotations

from collections.abc import Iterator

from tunnel.offload.vnet import (
    KIND,
    NEEDS_CHECKSUM,
    TCP_CHECKSUM,
    UDP_CHECKSUM,
    VNET,
    Kind,
    SuperPacket,
    complete_checksum,
)
from wire.checksum import internet_checksum

_FIN_PSH, _CWR, _FLAGS = 0x09, 0x80, 13


def single_packets(header: bytes, packet: bytes) -> tuple[bytes, ...]:
    """The packets behind `header`, checksums finished; none if the two contradict each other."""
    flags, kind, _, size, start, offset = VNET.unpack_from(header)
    if not kind & KIND:
        whole = bytearray(packet)
        if flags & NEEDS_CHECKSUM and not complete_checksum(whole, start, offset):
            return ()
        return (bytes(whole),)
    described = SuperPacket.of(kind & KIND, size, start, packet, len(packet))
    return () if described is None else tuple(_segments(packet, described))


def _segments(packet: bytes, how: SuperPacket) -> Iterator[bytes]:
    transport, is_udp = how.transport, how.kind is Kind.UDP
    place = transport + (UDP_CHECKSUM if is_udp else TCP_CHECKSUM)
    begun = int.from_bytes(packet[place : place + 2], "big")
    for number in range(how.segments):
        at = how.headers + number * how.size
        segment = bytearray(packet[: how.headers] + packet[at : at + how.size])
        _renumber(segment, how, number)
        # The kernel has begun the checksum with the pseudo-header of the whole, whose length was another.
        pseudo = (begun - (how.length - len(segment))) % 0xFFFF
        segment[place : place + 2] = bytes(2)
        checksum = internet_checksum(segment[transport:], pseudo)
        if is_udp:
            checksum = checksum or 0xFFFF  # zero would mean that there is none
        segment[place : place + 2] = checksum.to_bytes(2, "big")
        yield bytes(segment)


def _renumber(segment: bytearray, how: SuperPacket, number: int) -> None:
    """Lengths, identification, sequence number and flags of segment `number`."""
    transport, last = how.transport, number == how.segments - 1
    if segment[0] >> 4 == 4:
        identification = int.from_bytes(segment[4:6], "big") + number
        segment[2:4] = len(segment).to_bytes(2, "big")
        segment[4:6] = (identification & 0xFFFF).to_bytes(2, "big")
        segment[10:12] = bytes(2)
        segment[10:12] = internet_checksum(segment[:transport]).to_bytes(2, "big")
    else:
        segment[4:6] = (len(segment) - 40).to_bytes(2, "big")
    if how.kind is Kind.UDP:
        segment[transport + 4 : transport + 6] = (len(segment) - transport).to_bytes(2, "big")
        return
    sequence = int.from_bytes(segment[transport + 4 : transport + 8], "big") + number * how.size
    segment[transport + 4 : transport + 8] = (sequence & 0xFFFFFFFF).to_bytes(4, "big")
    if number:
        segment[transport + _FLAGS] &= ~_CWR
    if not last:
        segment[transport + _FLAGS] &= ~_FIN_PSH
