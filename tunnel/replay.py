"""The anti-replay window of one inbound security association.

Pure. RFC 4303 section 3.4.3.
"""

from __future__ import annotations

SMALLEST_WINDOW = 32
MAX_SEQUENCE = 0xFFFFFFFF


class ReplayWindow:
    """Which of the last `size` sequence numbers have been accepted.

    Bit i of `bitmap` stands for `highest - i`; both are plain integers, so that a daemon can write them
    down and go on after a restart without accepting an old packet.
    """

    __slots__ = ("_mask", "bitmap", "highest", "size")

    def __init__(self, highest: int = 0, bitmap: int = 0, size: int = 64) -> None:
        if size < SMALLEST_WINDOW:
            raise ValueError(f"a replay window holds at least {SMALLEST_WINDOW} numbers")
        self.highest = highest
        self.size = size
        self._mask = (1 << size) - 1
        self.bitmap = bitmap & self._mask

    def check(self, sequence: int) -> bool:
        """Whether a packet with `sequence` may be new. Says nothing about its authenticity."""
        if not 0 < sequence <= MAX_SEQUENCE:
            return False
        age = self.highest - sequence
        if age < 0:
            return True
        return age < self.size and not self.bitmap >> age & 1

    def accept(self, sequence: int) -> None:
        """Record a packet whose ICV has been verified; call only after `check` said yes."""
        age = self.highest - sequence
        if age >= 0:
            self.bitmap |= 1 << age
        elif -age < self.size:
            self.bitmap = (self.bitmap << -age | 1) & self._mask
            self.highest = sequence
        else:
            self.bitmap = 1
            self.highest = sequence

    def accept_run(self, first: int, last: int) -> None:
        """Record all numbers from `first`, which is above `highest`, to `last`."""
        self.bitmap = (self.bitmap << last - self.highest | (1 << last - first + 1) - 1) & self._mask
        self.highest = last
