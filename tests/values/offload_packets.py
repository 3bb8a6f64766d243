"""Super-packets as the kernel hands them over, and the packets that they stand for."""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv6Address

import numpy as np

from tunnel.framing import Framing, framing_of
from tunnel.offload.segment import cut, row_width
from tunnel.offload.vnet import Kind, SuperPacket
from tunnel.path import Encapsulation
from wire.checksum import internet_checksum, pseudo_header4, pseudo_header6, word_sum

SOURCE4, DESTINATION4 = IPv4Address("203.0.113.77"), IPv4Address("192.0.2.9")
SOURCE6, DESTINATION6 = IPv6Address("2001:db8:99::77"), IPv6Address("2001:db8:9::9")
BARE = framing_of(Encapsulation.UDP)
CWR, ECE, PSH_FIN, PSH, ACK = 0x80, 0x40, 0x09, 0x08, 0x10


def super_packet(
    version: int,
    payload: bytes,
    size: int,
    *,
    udp: bool = False,
    options: bytes = b"",
    sequence: int = 1000,
    flags: int = ACK,
    identification: int = 7,
    network: bytes = b"",
) -> tuple[bytes, SuperPacket]:
    """As the kernel hands it over: lengths of the whole, and the checksum begun with the pseudo-header."""
    protocol = 17 if udp else 6
    if udp:
        length = 8 + len(payload)
        layer4 = bytearray(struct.pack("!HHHH", 5000, 6000, length, 0))
    else:
        length = 20 + len(options) + len(payload)
        offset_flags = (5 + len(options) // 4) << 12 | flags
        layer4 = bytearray(
            struct.pack("!HHIIHHHH", 5000, 6000, sequence, 99, offset_flags, 512, 0, 0) + options
        )
    if version == 4:
        pseudo = pseudo_header4(SOURCE4, DESTINATION4, length, protocol)
        total = 20 + len(network) + length
        header = bytearray(
            bytes([0x45 + len(network) // 4, 0x2A])
            + struct.pack("!HHHBBH", total, identification, 0x4000, 64, protocol, 0)
            + SOURCE4.packed + DESTINATION4.packed + network
        )  # fmt: skip
        header[10:12] = internet_checksum(header).to_bytes(2, "big")
    else:
        pseudo = pseudo_header6(SOURCE6, DESTINATION6, length, protocol)
        following = 60 if network else protocol
        header = bytearray(
            struct.pack("!IHBB", 0x62A00042, len(network) + length, following, 64)
            + SOURCE6.packed + DESTINATION6.packed
        )  # fmt: skip
        header += bytes([protocol]) + network[1:] if network else b""
    place = 6 if udp else 16
    layer4[place : place + 2] = (word_sum(pseudo) % 0xFFFF).to_bytes(2, "big")
    whole = bytes(header) + bytes(layer4) + payload
    kind = Kind.UDP if udp else (Kind.TCP4 if version == 4 else Kind.TCP6)
    described = SuperPacket.of(int(kind), size, len(header), whole[:256], len(whole))
    assert described is not None
    return whole, described


def segments(whole: bytes, packet: SuperPacket, framing: Framing = BARE, step: int = 0) -> list[bytes]:
    """All rows as they lie in the buffer, cut `step` at a time (0: all at once)."""
    width = row_width(packet, framing, whole[0] >> 4)
    step = step or packet.segments
    rows = []
    for first in range(0, packet.segments, step):
        count = min(step, packet.segments - first)
        target = np.zeros(count * width + 64, np.uint8)
        end = cut(
            np.frombuffer(whole, np.uint8), whole[: packet.headers], packet, framing, target, first, count
        )
        octets = target[:end].tobytes()
        rows += [octets[at : at + width] for at in range(0, end, width)]
    return rows
