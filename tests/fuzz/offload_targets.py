"""The offload tier under fuzzing: what the kernel says of super-packets, and what arrives in numbers."""

from __future__ import annotations

import struct

from tests.fuzz.runner import Target
from tunnel.offload.bulk import Joiner, runs, segments
from tunnel.offload.single import single_packets
from tunnel.offload.slots import PACKET, Slot
from tunnel.offload.vnet import VNET, VNET_HEADER, Kind, SuperPacket, complete_checksum, moved

_ROWS = 5


class NothingToCutError(ValueError):
    """The headers and the kernel's words contradict each other."""


def _segment(number: int, payload: bytes) -> bytes:
    addresses = bytes.fromhex("cb00714dc0000209")
    network = struct.pack("!BBHHHBBH", 0x45, 0, 40 + len(payload), number, 0x4000, 64, 6, 0) + addresses
    return network + struct.pack("!HHIIBBHHH", 1, 2, number * len(payload), 9, 0x50, 0x10, 1, 0, 0) + payload


def _super_packet(kind: Kind) -> bytes:
    payload = bytes(range(100))
    data = _segment(7, payload)
    if kind is Kind.TCP6:
        data = struct.pack("!IHBB", 6 << 28, 120, 6, 64) + bytes(32) + data[20:]
    return VNET.pack(1, kind, 0, 30, 20 if kind is Kind.TCP4 else 40, 16) + data


def _cut(data: bytes) -> object:
    """As `OffloadPlane` reads it: header, headers, segments."""
    if len(data) <= VNET_HEADER:
        raise NothingToCutError
    _, kind, _, size, start, offset = VNET.unpack_from(data)
    slot = Slot()
    slot.octets[PACKET : PACKET + len(data) - VNET_HEADER] = data[VNET_HEADER:]
    packet = SuperPacket.of(kind, size, start, data[VNET_HEADER:][:512], len(data) - VNET_HEADER)
    if packet is None:
        complete_checksum(bytearray(data), start, offset)
        raise NothingToCutError
    pieces = segments(slot, data[VNET_HEADER:][:512], packet)
    assert len(pieces) == packet.segments
    assert sum(len(piece) - packet.headers for piece in pieces) == packet.length - packet.headers
    return pieces


def _finish(data: bytes) -> object:
    """As `LinkMemory` reads it, from a link that anybody can write on."""
    if len(data) <= VNET_HEADER:
        raise NothingToCutError
    pieces = single_packets(moved(data[:VNET_HEADER], -14), data[VNET_HEADER:])
    assert sum(map(len, pieces)) >= len(data) - VNET_HEADER or not pieces
    return pieces


def _join(data: bytes) -> object:
    """Rows as they arrive: nothing gets lost, and what is joined fits."""
    size = len(data) // _ROWS
    if not size:
        raise NothingToCutError
    found = list(runs(bytearray(data), 0, size, size, _ROWS, data[size * _ROWS :]))
    assert sum(run.count for run in found) == _ROWS + bool(data[size * _ROWS :])
    return [bytes(Joiner().join(run)) for run in found if run.count > 1]


OFFLOAD_TARGETS: tuple[Target, ...] = (
    Target("super-packets", (_super_packet(Kind.TCP4), _super_packet(Kind.TCP6)), _cut, (NothingToCutError,)),
    Target("kept-packets", (_super_packet(Kind.TCP4),), _finish, (NothingToCutError,)),
    Target("trains", (b"".join(_segment(n, bytes(50)) for n in range(_ROWS)),), _join, (NothingToCutError,)),
)
"""With arrays, hence slower than parsers of one packet: thousands are asked of them, not 100,000."""
