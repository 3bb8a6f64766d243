"""Security associations of all mobile nodes: who a packet is from, and how an answer is sealed.

Pure. RFC 6275 section 5.1, RFC 3776, RFC 4877 sections 3 and 4, RFC 4285; docs/security.md: binding-replay,
forged-message, false-claim.
Each mobile node has either a pair for ESP or the authentication option; nobody else need know which.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from ipaddress import IPv6Address

from home_agent.authentication import UNPROTECTED, About, AuthenticationOption, Refusal
from tunnel.authentication import AuthenticationAssociation, Keys
from tunnel.envelope import (
    ControlPacket,
    OpenedControl,
    Unsealed,
    encode_control,
    read_control,
    seal_control,
    seal_encoded,
    unseal_control,
)
from tunnel.path import Drop
from tunnel.replay import ReplayWindow
from tunnel.security import Opener, Sealer
from wire.ip import PROTOCOL_MOBILITY
from wire.profile import Profile

BLOCK = 256
"""Outbound sequence numbers that are reserved at a time, so that not every answer needs a write."""

WRONG_HOME_ADDRESS = Drop("control-wrong-home-address")


@dataclass(frozen=True, slots=True)
class Memory:
    """What of one mobile node's associations must survive a restart.

    `reserved` is the last outbound sequence number that may have been used. Without the window an old
    Binding Update could be replayed, without the counter the mobile node would take answers for replays.
    `timestamp` is the last one accepted in an authentication option's company, and does what the window does.
    """

    highest: int = 0
    bitmap: int = 0
    reserved: int = 0
    timestamp: int | None = None


class Associations:
    """The associations with all mobile nodes, by home address, and the way back from SPI to owner."""

    def __init__(
        self,
        keys: Mapping[IPv6Address, Keys],
        memories: Mapping[IPv6Address, Memory],
        profile: Profile,
        first_sequence: int,
        iv_source: Callable[[int], bytes] = os.urandom,
        wall_offset: float = 0.0,
    ) -> None:
        """`first_sequence` is a number that grows with time: outbound counters start there at least, so
        that they never run backwards even when the memory of them was lost. `wall_offset` is explained at
        `AuthenticationOption`.
        """
        self._profile = profile
        self._memories = {home: memories.get(home, Memory()) for home in keys}
        self._owners: dict[int, IPv6Address] = {}
        self._openers: dict[int, Opener] = {}
        self._spis: dict[IPv6Address, int] = {}
        self._sealers: dict[IPv6Address, Sealer] = {}
        self._options: dict[IPv6Address, AuthenticationOption] = {}
        for home, secret in keys.items():
            memory = self._memories[home]
            if isinstance(secret, AuthenticationAssociation):
                self._options[home] = AuthenticationOption(secret, memory.timestamp, profile, wall_offset)
                continue
            spi = self._spis[home] = secret.update.spi
            if self._owners.setdefault(spi, home) != home:
                raise ValueError("two mobile nodes share an SPI")
            self._openers[spi] = Opener(secret.update, ReplayWindow(memory.highest, memory.bitmap))
            first = max(memory.reserved + 1, first_sequence, 1)
            self._sealers[home] = Sealer(secret.ack, first, iv_source)

    def unseal(self, data: bytes) -> Unsealed | Drop:
        """Headers read and ESP opened, where there is any: then `owner` says whose keys have opened it."""
        return unseal_control(data, self._openers)

    def owner(self, spi: int | None) -> IPv6Address | None:
        """The home address for which alone a message may speak that came under `spi`."""
        return None if spi is None else self._owners[spi]

    def read(self, unsealed: Unsealed, now: float) -> OpenedControl | Refusal | Drop:
        """A mobility message whose sender is who it claims to be, as the association proves."""
        opened = read_control(unsealed, self._profile)
        if isinstance(opened, Drop):
            return opened
        claimed = opened.packet.home_side_source
        if opened.spi is None:
            option = self._options.get(claimed)
            return UNPROTECTED if option is None else option.open(opened, now)
        return opened if self._owners[opened.spi] == claimed else WRONG_HOME_ADDRESS

    def encode(self, home_address: IPv6Address, packet: ControlPacket) -> bytes:
        """The message of `packet` as ESP protects it; nothing where its octets depend on what it answers."""
        return b"" if home_address in self._options else encode_control(packet, self._profile)[1]

    def seal(
        self, home_address: IPv6Address, packet: ControlPacket, about: About, now: float, octets: bytes = b""
    ) -> bytes | Drop:
        """The octets of `packet`, a whole IPv6 packet; a drop if it cannot be protected.

        SequenceExhausted after 2**32 - 1 of them. `octets` may be what `encode` has given.
        """
        option = self._options.get(home_address)
        if option is not None:
            return option.seal(packet, about, now)
        sealer = self._sealers[home_address]
        if octets:
            return seal_encoded(packet, PROTOCOL_MOBILITY, octets, sealer)
        return seal_control(packet, sealer, self._profile)

    def reserve(self, home_address: IPv6Address) -> bool:
        """Make sure that the next sequence number is reserved; True when `memory` must be written first."""
        sealer, memory = self._sealers.get(home_address), self._memories[home_address]
        if sealer is None or sealer.next_sequence <= memory.reserved:
            return False
        self._memories[home_address] = replace(memory, reserved=sealer.next_sequence + BLOCK - 1)
        return True

    def memory(self, home_address: IPv6Address) -> Memory:
        """What is to be written down. What the way that is not in use has written stays as it was."""
        memory, option = self._memories[home_address], self._options.get(home_address)
        if option is not None:
            return Memory(memory.highest, memory.bitmap, memory.reserved, option.last)
        window = self._openers[self._spis[home_address]].window
        return Memory(window.highest, window.bitmap, memory.reserved, memory.timestamp)
