"""What the offload tier does with arrays. Loaded with the first super-packet: NumPy alone takes 20 MiB.

Pure. Between a slot and a train (out), and between the rows of a train and the TUN device (in).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from tunnel.framing import framing_of
from tunnel.offload.headers import Octets
from tunnel.offload.join import LARGEST, continues, joined, run_length
from tunnel.offload.segment import cut, row_width
from tunnel.offload.shape import Shape, shape_of
from tunnel.offload.slots import PACKET, Slot
from tunnel.offload.train import Train
from tunnel.offload.vnet import VNET_HEADER, SuperPacket
from tunnel.path import TLV_HEADER, Encapsulation

__all__ = ["Joiner", "Run", "add_segments", "row_width", "runs", "segments"]

_FEW = 3
"""So many segments, or less, are delivered one by one sooner than joined."""
_BARE = framing_of(Encapsulation.UDP)


def add_segments(
    train: Train, slot: Slot, head: bytes, packet: SuperPacket, first: int, count: int
) -> None:
    """Add segments of the super-packet in `slot` to a train that has the room for them."""
    assert train.framing is not None
    source = np.frombuffer(slot.octets, np.uint8, offset=PACKET)
    target = np.frombuffer(train.octets, np.uint8, offset=train.end)
    octets = cut(source, head, packet, train.framing, target, first, count)
    last = packet.last if first + count == packet.segments else packet.size
    train.added(count, octets, packet.headers + last)


def segments(slot: Slot, head: bytes, packet: SuperPacket) -> Sequence[bytes]:
    """The packets that the super-packet in `slot` stands for."""
    width, count = row_width(packet, _BARE, head[0] >> 4), packet.segments
    target = np.empty(count * width, np.uint8)
    source = np.frombuffer(slot.octets, np.uint8, offset=PACKET)
    octets = target[: cut(source, head, packet, _BARE, target, 0, count)].tobytes()
    return [octets[start : start + width] for start in range(0, len(octets), width)]


@dataclass(frozen=True, slots=True)
class Run:
    """Datagrams on which there is one verdict. More than one: segments that can be joined.

    `before` counts the octets of a TLV header, `tail` is the inner packet of a shorter last datagram.
    """

    first: bytes
    rows: Octets
    before: int
    size: int
    shape: Shape | None
    tail: bytes = b""

    @property
    def count(self) -> int:
        return len(self.rows) + bool(self.tail)

    @property
    def octets(self) -> int:
        """Of all inner packets."""
        return len(self.rows) * self.size + len(self.tail)

    def others(self) -> Iterator[bytes]:
        """All datagrams but the first, as they came."""
        for row in self.rows[1:]:
            yield row.tobytes()
        if self.tail:
            yield self.tail  # after a TLV header, whose length is another, it would not be here


class Joiner:
    """Finds runs among datagrams of one length from one peer, and joins them."""

    __slots__ = ("_target", "_view")

    def __init__(self) -> None:
        self._target = bytearray(VNET_HEADER + LARGEST)
        self._view = memoryview(self._target)

    def join(self, run: Run) -> memoryview:
        """A run of more than one as the TUN device takes it, until the next call."""
        assert run.shape is not None
        end = joined(run.rows, run.before, run.size, run.shape, run.tail, self._target)
        return self._view[:end]


def runs(
    octets: bytearray | memoryview, begin: int, stride: int, size: int, count: int, tail: bytes
) -> Iterator[Run]:
    """The runs among `count` datagrams of `size` octets, one every `stride`, and a shorter last one.

    Each flow keeps its order; flows may overtake each other, as they may between any two routers.
    """
    rows: Octets = np.ndarray((count, size), np.uint8, octets, begin, (stride, 1))
    at, sorted_by_flow = 0, False
    while at < count:
        first = rows[at].tobytes()
        before = 0 if first[0] >> 4 else TLV_HEADER
        inner = first[before:] if before else first
        shape = shape_of(inner) if count - at > _FEW else None
        length = 1
        if shape is not None:
            length = run_length(rows[at:], before, size - before, shape, inner)
            if length == 1 and not sorted_by_flow:
                sorted_by_flow = True
                rows = _by_flow(rows[at:])
                at, count = 0, len(rows)
                continue
        run = Run(first, rows[at : at + length], before, size - before, shape)
        at += length
        may_continue = at == count and tail and shape is not None and not before
        if may_continue and shape is not None and continues(run.rows, before, run.size, shape, tail):
            run = Run(first, run.rows, before, run.size, shape, tail)
            tail = b""
        yield run
    if tail:
        yield Run(tail, np.frombuffer(tail, np.uint8).reshape(1, -1), 0, len(tail), None)


def _by_flow(rows: Octets) -> Octets:
    """The rows with those of one flow next to each other. What is no flow may be taken for one here."""
    flows: dict[bytes, list[int]] = {}
    for number, row in enumerate(rows):
        head = row[: TLV_HEADER + 44].tobytes()
        inner = head if head[0] >> 4 else head[TLV_HEADER:]
        key = inner[9:10] + inner[12:24] if inner[0] >> 4 == 4 else inner[6:7] + inner[8:44]
        flows.setdefault(key, []).append(number)
    order = [number for numbers in flows.values() for number in numbers]
    return rows[order]
