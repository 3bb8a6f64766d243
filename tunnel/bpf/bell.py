"""The bell: by it the egress program tells that packets leave and nothing comes back.

Performs I/O (shared memory). linux/bpf.h, BPF_MAP_TYPE_RINGBUF.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator

from tunnel.bpf.system import Map, MapType

_SIZE = mmap.PAGESIZE
_POSITION = struct.Struct("=Q")
_ENTRY_HEADER = 8
_NOT_YET, _DISCARDED = 1 << 31, 1 << 30


class Bell:
    """A ring buffer of lanes. Its descriptor is readable when one was rung for."""

    def __init__(self) -> None:
        self._map = Map(MapType.RINGBUF, "mip_bell", 0, 0, _SIZE)
        self._taken = mmap.mmap(self._map.descriptor, mmap.PAGESIZE)
        # What was given, then the entries, twice in a row so that none of them is ever broken in two.
        self._given = mmap.mmap(
            self._map.descriptor, mmap.PAGESIZE + 2 * _SIZE, prot=mmap.PROT_READ, offset=mmap.PAGESIZE
        )

    @property
    def descriptor(self) -> int:
        return self._map.descriptor

    def rung(self) -> Iterator[int]:
        """The lanes that it was rung for, each once."""
        (taken,) = _POSITION.unpack_from(self._taken)
        (given,) = _POSITION.unpack_from(self._given)
        while taken < given:
            at = mmap.PAGESIZE + taken % _SIZE
            header, _, lane = struct.unpack_from("=IIQ", self._given, at)
            if header & _NOT_YET:
                return
            length = header & ~_DISCARDED
            taken += _ENTRY_HEADER + (length + 7 & ~7)
            _POSITION.pack_into(self._taken, 0, taken)
            if not header & _DISCARDED:
                yield lane

    def close(self) -> None:
        """Closing twice does nothing."""
        self._taken.close()
        self._given.close()
        self._map.close()
