"""Security associations of all mobile nodes: who a packet is from, and how an answer is sealed.

Pure. RFC 6275 section 5.1, RFC 3776, RFC 4877 sections 3 and 4; threats.md C.1 rows 9, 10 and 13.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from ipaddress import IPv6Address

from tunnel.envelope import ControlPacket, OpenedControl, open_control, seal_control
from tunnel.path import Drop
from tunnel.replay import ReplayWindow
from tunnel.security import KeyPair, Opener, Sealer
from wire.profile import Profile

BLOCK = 256
"""Outbound sequence numbers that are reserved at a time, so that not every answer needs a write."""

UNPROTECTED = Drop("control-unprotected")
WRONG_HOME_ADDRESS = Drop("control-wrong-home-address")


@dataclass(frozen=True, slots=True)
class Memory:
    """What of one mobile node's associations must survive a restart.

    `reserved` is the last outbound sequence number that may have been used. Without the window an old
    Binding Update could be replayed, without the counter the mobile node would take answers for replays.
    """

    highest: int = 0
    bitmap: int = 0
    reserved: int = 0


class Associations:
    """The associations with all mobile nodes, by home address, and the way back from SPI to owner."""

    def __init__(
        self,
        keys: Mapping[IPv6Address, KeyPair],
        memories: Mapping[IPv6Address, Memory],
        profile: Profile,
        first_sequence: int,
        iv_source: Callable[[int], bytes] = os.urandom,
    ) -> None:
        """`first_sequence` is a number that grows with time: outbound counters start there at least, so
        that they never run backwards even when the memory of them was lost.
        """
        self._profile = profile
        self._owners = {pair.update.spi: home for home, pair in keys.items()}
        if len(self._owners) < len(keys):
            raise ValueError("two mobile nodes share an SPI")
        self._openers: dict[int, Opener] = {}
        self._sealers: dict[IPv6Address, Sealer] = {}
        self._reserved: dict[IPv6Address, int] = {}
        for home, pair in keys.items():
            memory = memories.get(home, Memory())
            self._openers[pair.update.spi] = Opener(pair.update, ReplayWindow(memory.highest, memory.bitmap))
            self._sealers[home] = Sealer(pair.ack, max(memory.reserved + 1, first_sequence, 1), iv_source)
            self._reserved[home] = memory.reserved
        self._spis = {home: pair.update.spi for home, pair in keys.items()}

    def open(self, data: bytes) -> OpenedControl | Drop:
        """A mobility message whose sender is who it claims to be, as the association proves."""
        opened = open_control(data, self._openers, self._profile)
        if isinstance(opened, Drop):
            return opened
        if opened.spi is None:
            return UNPROTECTED
        if self._owners[opened.spi] != opened.packet.home_side_source:
            return WRONG_HOME_ADDRESS
        return opened

    def seal(self, home_address: IPv6Address, packet: ControlPacket) -> bytes:
        """The octets of `packet`, a whole IPv6 packet. SequenceExhausted after 2**32 - 1 of them."""
        return seal_control(packet, self._sealers[home_address], self._profile)

    def reserve(self, home_address: IPv6Address) -> bool:
        """Make sure that the next sequence number is reserved; True when `memory` must be written first."""
        upcoming = self._sealers[home_address].next_sequence
        if upcoming <= self._reserved[home_address]:
            return False
        self._reserved[home_address] = upcoming + BLOCK - 1
        return True

    def memory(self, home_address: IPv6Address) -> Memory:
        window = self._openers[self._spis[home_address]].window
        return Memory(window.highest, window.bitmap, self._reserved[home_address])
