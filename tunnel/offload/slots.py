"""Where packets from the TUN device are read to, and where super-packets stay in mind for a while.

Pure. Keeping a super-packet costs nothing but that the next one is read elsewhere; how many are kept is
bounded by the memory that they lie in.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tunnel.offload.vnet import VNET_HEADER, SuperPacket

PACKET = 16
"""Where the packet begins in a slot, so that words in it are aligned as in the kernel."""
HEADER = PACKET - VNET_HEADER
_ROOM = PACKET + 65536
KEPT = 32
"""Super-packets, hence at most 2 MiB."""


class Slot:
    """Room for one read. `readable` is what the device is read into; `uses` counts its super-packets."""

    __slots__ = ("octets", "readable", "uses", "view")

    def __init__(self) -> None:
        self.octets = bytearray(_ROOM)
        self.view = memoryview(self.octets)
        self.readable = [self.view[HEADER:]]
        self.uses = 0


Cut = Callable[[Slot, bytes, SuperPacket], Sequence[bytes]]


@dataclass(frozen=True, slots=True)
class Kept:
    """A super-packet in a slot, until the slot is used for another one."""

    slot: Slot
    uses: int
    head: bytes
    packet: SuperPacket
    cut: Cut

    def packets(self) -> Sequence[bytes]:
        """The segments; none if the slot has another packet by now."""
        return self.cut(self.slot, self.head, self.packet) if self.slot.uses == self.uses else ()


class Slots:
    """Slots in turn: a super-packet stays until all others were used, other packets only until the next."""

    __slots__ = ("_next", "_slots", "current")

    def __init__(self) -> None:
        self.current = Slot()
        self._slots = [self.current]
        self._next = 0

    def keep(self, head: bytes, packet: SuperPacket, cut: Cut) -> Kept:
        """Keep the super-packet in `current`, and have another `current` from now on."""
        slot = self.current
        kept = Kept(slot, slot.uses, head, packet, cut)
        self._next = (self._next + 1) % KEPT
        if self._next == len(self._slots):
            self._slots.append(Slot())
        self.current = self._slots[self._next]
        self.current.uses += 1
        return kept
