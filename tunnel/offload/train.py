"""Rows waiting to leave together: packets of one length by one lane, the last perhaps shorter.

Pure.
"""

from __future__ import annotations

from tunnel.encapsulation import tos_of
from tunnel.framing import Frame, Framing
from tunnel.lane import Lane

_BUFFER = 196_608  # three super-packets: what is left of one leaves with the next; more outgrows the caches


class Train:
    """One buffer, used again and again. Rows are written by whoever adds them, at `end`."""

    __slots__ = (
        "begin",
        "closed",
        "end",
        "framing",
        "inner",
        "lane",
        "last",
        "octets",
        "rows",
        "tos",
        "version",
        "view",
        "width",
    )

    def __init__(self) -> None:
        self.octets = bytearray(_BUFFER)
        self.view = memoryview(self.octets)
        self.lane: Lane | None = None
        self.framing: Framing | None = None
        self.begin = self.end = 0
        self.rows = 0
        self.width = self.inner = self.last = self.tos = self.version = 0
        self.closed = False
        """A shorter row is the last of its train."""

    def fits(self, lane: Lane, version: int, tos: int, width: int) -> bool:
        """Whether rows of `width` octets with packets of this version and TOS may follow those that wait."""
        if self.lane is not lane or self.closed or width != self.width:
            return False
        return self.tos == tos and self.version == version

    def start(self, lane: Lane, framing: Framing, head: bytes, inner: int) -> None:
        """Begin a train of packets of `inner` octets that begin like `head`. The last one has left."""
        self.lane, self.framing, self.inner = lane, framing, inner
        self.version, self.tos = head[0] >> 4, tos_of(head)
        self.width = inner + framing(self.version, inner).size
        self.begin = self.end = self.rows = 0
        self.closed = False

    def room(self) -> int:
        """How many rows can be added. Makes what room there is."""
        if self.begin and (_BUFFER - self.end) < _BUFFER // 2:
            waiting = self.end - self.begin
            self.octets[:waiting] = self.octets[self.begin : self.end]
            self.begin, self.end = 0, waiting
        return (_BUFFER - self.end) // self.width

    def added(self, rows: int, octets: int, last: int) -> None:
        """`rows` rows are written, `octets` in all; the inner packet of the last has `last`."""
        self.rows += rows
        self.end += octets
        self.last = last
        self.closed = last < self.inner

    def add(self, packet: bytes, frame: Frame) -> None:
        """Write one row."""
        before, after = frame
        begin = self.end
        start = begin + len(before)
        end = start + len(packet)
        if before:
            self.octets[begin:start] = before
        self.octets[start:end] = packet
        if after:
            self.octets[end : end + len(after)] = after
        self.added(1, end + len(after) - begin, len(packet))

    def take(self, rows: int) -> int:
        """The first `rows` rows have left; how many octets of inner packets they had."""
        self.rows -= rows
        if self.rows:
            self.begin += rows * self.width
            return rows * self.inner
        self.clear()
        return (rows - 1) * self.inner + self.last

    def clear(self) -> None:
        """Forget what waits."""
        self.begin = self.end = self.rows = 0
        self.lane = None

    def packets(self) -> list[bytes]:
        """The inner packets of all rows that wait."""
        framing, found = self.framing, []
        assert framing is not None
        for number in range(self.rows):
            start = self.begin + number * self.width
            size = self.last if number == self.rows - 1 else self.inner
            start += len(framing(4, size).before)
            found.append(bytes(self.view[start : start + size]))
        return found
