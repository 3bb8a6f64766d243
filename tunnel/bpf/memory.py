"""What the egress program keeps of the packets it sends, so that they can be sent again after a break.

Pure. See tunnel.recent; the place is shared memory that nobody reads until then.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from tunnel.bpf import layout
from tunnel.bpf.assembler import R0, R1, R2, R3, R4, R6, R7, R8, R10, Assembler, Helper, If, Op
from tunnel.bpf.inspection import SKB_SEGMENT_SIZE

_NANOSECONDS_PER_OCTET = 4
"""250 MB a second are copied at most, which costs a small part of a core; of faster flows it is a sample."""
_NEVER = 1e9
"""Seconds of CLOCK_BOOTTIME that no host reaches."""
_BURST = 10_000_000
"""Nanoseconds by which a burst may be ahead of that."""


@dataclass(frozen=True, slots=True)
class Remembered:
    """A packet as it left: `segment` is the size of its segments (0: it is one), `at` in CLOCK_BOOTTIME."""

    at: float
    packet: bytes
    segment: int


def remember(a: Assembler, recent: int, link_header: int, spare: int, skip: str) -> None:
    """Copy the packet of R6, R7 octets without link header. R8 is lost, eight octets at `spare` are used."""
    a.call(Helper.KTIME_GET_BOOT_NS)
    a.store(8, R10, spare, R0)
    a.map_value(R1, recent)
    a.load(8, R2, R1, layout.FULL_UNTIL)
    behind = a.fresh("behind")
    a.jump_if(If.AT_LEAST, R0, R2, behind)
    a.move(R3, R0)
    a.alu(Op.ADD, R3, _BURST)
    a.jump_if(If.ABOVE, R2, R3, skip)
    a.move(R0, R2)
    a.label(behind)
    a.move(R2, R7)
    a.alu(Op.MUL, R2, _NANOSECONDS_PER_OCTET)
    a.alu(Op.ADD, R0, R2)
    a.store(8, R1, layout.FULL_UNTIL, R0)

    a.move(R2, 1)
    a.atomic_add(R1, layout.NEXT_ENTRY, R2, fetch=True)
    a.alu(Op.AND, R2, layout.ENTRIES - 1)
    a.alu(Op.MUL, R2, layout.ENTRY.size)
    a.move(R3, R7)
    a.atomic_add(R1, layout.NEXT_POSITION, R3, fetch=True)
    a.map_value(R8, recent, layout.FIRST_ENTRY)
    a.alu(Op.ADD, R8, R2)
    a.store(8, R8, layout.ENTRY_AT, 0)
    a.store(8, R8, layout.ENTRY_POSITION, R3)
    a.store(4, R8, layout.ENTRY_LENGTH, R7)
    a.load(4, R2, R6, SKB_SEGMENT_SIZE)
    a.store(4, R8, layout.ENTRY_SEGMENT, R2)

    a.jump_if(If.BELOW, R7, 1, skip)  # for the verifier, which wants to see it
    a.alu(Op.AND, R3, layout.OCTETS - 1)
    a.move(R4, R3)
    a.map_value(R3, recent, layout.FIRST_OCTET)
    a.alu(Op.ADD, R3, R4)
    a.move(R1, R6)
    a.move(R2, link_header)
    a.move(R4, R7)
    a.call(Helper.SKB_LOAD_BYTES)
    a.jump_if(If.NOT_EQUAL, R0, 0, skip)
    a.load(8, R1, R10, spare)
    a.store(8, R8, layout.ENTRY_AT, R1)


def recall(memory: memoryview, since: float, until: float = math.inf) -> Iterator[Remembered]:
    """The packets of that time (seconds of CLOCK_BOOTTIME) that are still whole, oldest first.

    Each is copied when its turn comes, so that the first need not wait for the last.
    """
    table = memory[layout.FIRST_ENTRY : layout.FIRST_ENTRY + layout.ENTRIES * layout.ENTRY.size]
    first, last = max(int(since * 1e9), 1), int(min(until, _NEVER) * 1e9)
    found = sorted(entry for entry in layout.ENTRY.iter_unpack(table) if first <= entry[0] <= last)
    table.release()
    for at, position, length, segment in found:
        begin = layout.FIRST_OCTET + position % layout.OCTETS
        packet = bytes(memory[begin : begin + length])
        _, end, _ = struct.unpack_from("=QQQ", memory)
        if position + layout.OCTETS >= end:  # else it has been written over by now
            yield Remembered(at / 1e9, packet, segment)
