"""The security associations with the home agent: seals what leaves, believes only what is authentic.

Pure (the initialisation vectors are random). RFC 3776, RFC 4877 section 3, RFC 6275 section 11.7.3.
"""

from __future__ import annotations

from ipaddress import IPv6Address

from mn_agent.binding_update_list import Target
from tunnel.envelope import ControlPacket, open_control, seal_control
from tunnel.path import Drop
from tunnel.replay import ReplayWindow
from tunnel.security import KeyPair, Opener, Sealer, SequenceExhausted
from wire.mobility import Message
from wire.profile import Profile

UNPROTECTED = Drop("control-unprotected")
NOT_FROM_HOME_AGENT = Drop("control-not-from-home-agent")
NOT_FOR_US = Drop("control-not-for-us")
EXHAUSTED = Drop("control-sequence-exhausted")


class Associations:
    """One association for each direction, both tied to `home_address`."""

    def __init__(
        self,
        keys: KeyPair,
        profile: Profile,
        home_address: IPv6Address,
        next_sequence: int,
        window: ReplayWindow,
    ) -> None:
        self._profile = profile
        self._home_address = home_address
        self._sealer = Sealer(keys.update, next_sequence)
        self._opener = Opener(keys.ack, window)

    @property
    def next_sequence(self) -> int:
        """The ESP sequence number of the next message that leaves."""
        return self._sealer.next_sequence

    @property
    def window(self) -> ReplayWindow:
        return self._opener.window

    def seal(self, packet: ControlPacket) -> bytes | Drop:
        """The whole IPv6 packet; a drop when the association has used up its sequence numbers."""
        try:
            return seal_control(packet, self._sealer, self._profile)
        except SequenceExhausted:
            return EXHAUSTED

    def size(self, packet: ControlPacket) -> int:
        """Octets of the sealed packet; no sequence number is consumed."""
        return len(seal_control(packet, Sealer(self._sealer.association, 1), self._profile))

    def open(self, octets: bytes, target: Target | None) -> Message | Drop:
        """A message that the home agent of `target` wrote for our home address, and not before now."""
        opened = open_control(octets, {self._opener.association.spi: self._opener}, self._profile)
        if isinstance(opened, Drop):
            return opened
        if opened.spi is None:
            return UNPROTECTED
        if target is None or opened.packet.source != target.home_agent.ipv6:
            return NOT_FROM_HOME_AGENT
        if opened.packet.final_destination != self._home_address:
            return NOT_FOR_US
        return opened.packet.message
