"""The security associations with the home agent: seals what leaves, believes only what is authentic.

Pure (the initialisation vectors are random). RFC 3776, RFC 4877 section 3, RFC 4285, RFC 6275 section 11.7.3.
The keys decide between ESP and the authentication option; nobody else need know which it is.
"""

from __future__ import annotations

from ipaddress import IPv6Address
from random import Random
from typing import Protocol

from mn_agent.authentication import (
    NOT_FOR_US,
    NOT_FROM_HOME_AGENT,
    UNPROTECTED,
    AuthenticationOption,
    ClockCorrected,
)
from mn_agent.binding_update_list import Target
from mn_agent.discovery import MAX_HOME_AGENTS
from mn_agent.memory import Memory, Seen
from tunnel.authentication import AuthenticationAssociation, Keys
from tunnel.envelope import ControlMessage, ControlPacket, open_control, seal_control
from tunnel.path import Drop
from tunnel.replay import ReplayWindow
from tunnel.security import KeyPair, Opener, Sealer, SequenceExhausted
from wire.profile import Profile

EXHAUSTED = Drop("control-sequence-exhausted")


class Associations(Protocol):
    """What seals updates and opens answers, whichever way it does it."""

    @property
    def next_sequence(self) -> int | None:
        """The ESP sequence number of the next message that leaves; None without ESP."""

    @property
    def seen(self) -> tuple[Seen, ...] | None:
        """Which ESP sequence numbers of each home agent have been accepted; None without ESP."""

    @property
    def problem(self) -> str | None:
        """What a user should look at, if the home agent seems to have other keys."""

    def seal(self, packet: ControlPacket, now: float) -> bytes | Drop:
        """The whole IPv6 packet; a drop when the association has used up its sequence numbers."""

    def size(self, packet: ControlPacket) -> int:
        """Octets of the sealed packet; nothing is consumed."""

    def open(
        self, octets: bytes, target: Target | None, now: float
    ) -> ControlMessage | ClockCorrected | Drop:
        """A message that the home agent of `target` wrote for our home address, and not before now."""


def associations_for(
    keys: Keys,
    profile: Profile,
    home_address: IPv6Address,
    memory: Memory,
    wall_offset: float,
    rng: Random,
) -> Associations:
    """Tied to `home_address`. `wall_offset` and `rng` are for the timestamps of the authentication option."""
    if isinstance(keys, AuthenticationAssociation):
        return AuthenticationOption(keys, profile, home_address, wall_offset, rng)
    return EspAssociations(keys, profile, home_address, memory.next_esp_sequence, memory.seen)


class EspAssociations:
    """One association for each direction, both tied to `home_address`."""

    problem = None

    def __init__(
        self,
        keys: KeyPair,
        profile: Profile,
        home_address: IPv6Address,
        next_sequence: int,
        seen: tuple[Seen, ...],
    ) -> None:
        self._profile = profile
        self._home_address = home_address
        self._sealer = Sealer(keys.update, next_sequence)
        self._ack = keys.ack
        self._openers = {s.home_agent: Opener(keys.ack, s.window()) for s in seen}

    @property
    def next_sequence(self) -> int:
        return self._sealer.next_sequence

    @property
    def seen(self) -> tuple[Seen, ...]:
        windows = ((agent, opener.window) for agent, opener in self._openers.items())
        return tuple(Seen(agent, w.highest, w.bitmap) for agent, w in windows if w.highest)

    def seal(self, packet: ControlPacket, now: float) -> bytes | Drop:
        try:
            return seal_control(packet, self._sealer, self._profile)
        except SequenceExhausted:
            return EXHAUSTED

    def size(self, packet: ControlPacket) -> int:
        return len(seal_control(packet, Sealer(self._sealer.association, 1), self._profile))

    def open(self, octets: bytes, target: Target | None, now: float) -> ControlMessage | Drop:
        agent = None if target is None else target.home_agent.ipv6
        if agent is None:
            return NOT_FROM_HOME_AGENT
        opened = open_control(octets, {self._ack.spi: self._opener_for(agent)}, self._profile)
        if isinstance(opened, Drop):
            return opened
        if opened.spi is None:
            return UNPROTECTED
        if opened.packet.source != agent:
            return NOT_FROM_HOME_AGENT
        if opened.packet.final_destination != self._home_address:
            return NOT_FOR_US
        return opened.packet.message

    def _opener_for(self, agent: IPv6Address) -> Opener:
        """Home agents share the keys but not the counter: one that began earlier is far behind the others.

        That the packet comes from `agent` is proven by the checksum inside ESP, which covers the source.
        """
        opener = self._openers.pop(agent, None) or Opener(self._ack, ReplayWindow())
        while len(self._openers) >= MAX_HOME_AGENTS:
            del self._openers[next(iter(self._openers))]
        self._openers[agent] = opener
        return opener
