"""The authentication option of one mobile node at the home agent: prove, judge the time, sign.

Pure. RFC 4285 sections 5 and 6, RFC 6275 section 9.5.1; docs/security.md: binding-replay, reflection.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from tunnel.authentication import (
    CLOSE_ENOUGH,
    Authenticated,
    AuthenticationAssociation,
    as_care_of,
    claimed_care_of,
    evidence_in,
    names_its_sender,
    sign,
    timestamp_in,
)
from tunnel.envelope import ControlPacket, OpenedControl
from tunnel.path import Drop
from wire import ntp
from wire.mobility import BindingStatus, BindingUpdate
from wire.profile import Profile

UNPROTECTED = Drop("control-unprotected")
UNKNOWN_ASSOCIATION = Drop("authentication-unknown-spi")
NOT_COVERED = Drop("authentication-not-covered")

_WINDOW = int(CLOSE_ENOUGH * ntp.SECOND)
_FRACTION = ntp.SECOND - 1


@dataclass(frozen=True, slots=True)
class Refusal:
    """An update that gets an answer although nobody looks at what it asks for.

    `timestamp` is what the answer says about the time. Nothing about an update that failed with
    AUTHENTICATION_FAILED is proven, its sender least of all.
    """

    packet: ControlPacket
    status: BindingStatus
    timestamp: int | None

    @property
    def update(self) -> BindingUpdate:
        assert isinstance(self.packet.message, BindingUpdate)
        return self.packet.message


About = ControlPacket | Refusal | IPv4Address | IPv6Address
"""What a message is sent for: the update that it answers, or else the care-of address of a binding."""


class AuthenticationOption:
    """One association, and the last timestamp that was accepted under it.

    `wall_offset` is the wall clock less CLOCK_BOOTTIME, both in seconds. A timestamp is good if it is later
    than `last` and close to the clock. Where the clock stands before `last` it has been set back, so `last`
    is taken for the time: no old update gets a second chance, and the mobile node, which is told that time
    together with its refusal, can still register.
    """

    def __init__(
        self, association: AuthenticationAssociation, last: int | None, profile: Profile, wall_offset: float
    ) -> None:
        self.last = last
        self._association = association
        self._profile = profile
        self._wall_offset = wall_offset

    def open(self, opened: OpenedControl, now: float) -> OpenedControl | Refusal | Drop:
        """Believe the sender, or refuse with a status that RFC 4285 wants, or keep silent."""
        packet, message = opened.packet, opened.packet.message
        evidence = evidence_in(opened, self._profile)
        if evidence is None or not isinstance(message, BindingUpdate):
            return UNPROTECTED
        if evidence.spi != self._association.spi:
            return UNKNOWN_ASSOCIATION
        timestamp = timestamp_in(message)
        proven = evidence.proves(self._association, claimed_care_of(packet), packet.home_side_source)
        if not proven or not names_its_sender(message, self._association):
            return Refusal(packet, BindingStatus.AUTHENTICATION_FAILED, timestamp)
        if timestamp is None:
            return Refusal(packet, BindingStatus.MESSAGE_ID_REQUIRED, None)
        if not self._accepts(timestamp, now):
            return Refusal(packet, BindingStatus.ID_MISMATCH, self._clock_for(timestamp, now))
        self.last = timestamp
        return opened

    def seal(self, packet: ControlPacket, about: About, now: float) -> bytes | Drop:
        """The octets of `packet`, a whole IPv6 packet; a drop for a message that the option cannot be in."""
        if not isinstance(packet.message, Authenticated):
            return NOT_COVERED
        match about:
            case ControlPacket():
                care_of, timestamp = claimed_care_of(about), timestamp_in(about.message)
            case Refusal():
                care_of, timestamp = claimed_care_of(about.packet), about.timestamp
            case IPv4Address() | IPv6Address():
                care_of, timestamp = as_care_of(about), self._clock(now)
        return sign(packet, self._association, care_of, timestamp, self._profile)

    def _clock(self, now: float) -> int:
        """The time, or the last accepted one if that is later."""
        clock = ntp.timestamp(now + self._wall_offset)
        return clock if self.last is None or ntp.distance(clock, self.last) > 0 else self.last

    def _accepts(self, timestamp: int, now: float) -> bool:
        newer = self.last is None or ntp.distance(timestamp, self.last) > 0
        return newer and abs(ntp.distance(timestamp, self._clock(now))) <= _WINDOW

    def _clock_for(self, timestamp: int, now: float) -> int:
        """What a refused timestamp is answered with: its fraction, and seconds that would have been good."""
        told = self._clock(now) & ~_FRACTION | timestamp & _FRACTION
        too_old = self.last is not None and ntp.distance(told, self.last) <= 0
        return ntp.later(told, ntp.SECOND) if too_old else told
