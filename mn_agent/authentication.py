"""The authentication option at the mobile node: sign with the time, believe what answers one of ours.

Pure (the fraction of a timestamp is filled up from the given randomness). RFC 4285 sections 5 and 6;
docs/security.md: binding-replay.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from ipaddress import IPv6Address
from random import Random

from mn_agent.binding_update_list import Target
from tunnel.authentication import (
    CLOSE_ENOUGH,
    AuthenticationAssociation,
    claimed_care_of,
    evidence_in,
    sign,
    timestamp_in,
)
from tunnel.envelope import ControlMessage, ControlPacket, OpenedControl, open_control
from tunnel.path import Drop
from wire import ntp
from wire.mobility import BindingAck, BindingStatus, BindingUpdate, Message, UpdateFlag
from wire.profile import Profile

UNPROTECTED = Drop("control-unprotected")
NOT_FROM_HOME_AGENT = Drop("control-not-from-home-agent")
NOT_FOR_US = Drop("control-not-for-us")
WRONG_AUTHENTICATOR = Drop("authentication-failed")
NOT_AN_ANSWER = Drop("authentication-not-an-answer")
WRONG_TIME = Drop("authentication-wrong-time")
NOT_COVERED = Drop("authentication-not-covered")

KEPT = 8
"""Updates whose answers are recognised; as many as the registration keeps outstanding."""
MAX_CORRECTIONS = 3
"""Times in a row that an update is said again at once; then a status 144 is a refusal, and time passes."""

_WINDOW = int(CLOSE_ENOUGH * ntp.SECOND)
_FRACTION = ntp.SECOND - 1
_DUST = 12
"""Lowest bits of a timestamp, which no clock here resolves; random ones make it hard to guess."""


@dataclass(frozen=True, slots=True)
class ClockCorrected:
    """The home agent did not look at an update for its time, and has told us its own: say it again."""

    seconds: int


@dataclass(frozen=True, slots=True)
class _Sent:
    sequence: int
    timestamp: int
    care_of: IPv6Address
    forced_udp: bool


class AuthenticationOption:
    """The association with the home agent, tied to `home_address`.

    `wall_offset` is the wall clock less CLOCK_BOOTTIME when the agent started, in seconds; a wall clock that
    is set later changes nothing. Timestamps grow as long as the agent runs. After a restart they go on with
    the wall clock, and if that was set back, the home agent says so and is believed.
    """

    next_sequence = None
    seen = None

    def __init__(
        self,
        association: AuthenticationAssociation,
        profile: Profile,
        home_address: IPv6Address,
        wall_offset: float,
        rng: Random,
    ) -> None:
        self.problem: str | None = None
        self._association = association
        self._profile = profile
        self._home_address = home_address
        self._wall_offset = wall_offset
        self._rng = rng
        self._sent: deque[_Sent] = deque(maxlen=KEPT)
        """Not answered yet, the oldest first."""
        self._bound: IPv6Address | None = None
        """The care-of address of the last update that was accepted."""
        self._last: int | None = None
        self._heard: int | None = None
        self._corrections = 0

    def seal(self, packet: ControlPacket, now: float) -> bytes | Drop:
        """The whole IPv6 packet with a timestamp that no other has; a drop for all but Binding Updates."""
        update = packet.message
        if not isinstance(update, BindingUpdate):
            return NOT_COVERED
        timestamp, care_of = self._next_timestamp(now), claimed_care_of(packet)
        self._sent.append(_Sent(update.sequence, timestamp, care_of, UpdateFlag.FORCE_UDP in update.flags))
        return sign(packet, self._association, care_of, timestamp, self._profile)

    def size(self, packet: ControlPacket) -> int:
        """Octets of the sealed packet."""
        return len(sign(packet, self._association, claimed_care_of(packet), 0, self._profile))

    def open(
        self, octets: bytes, target: Target | None, now: float
    ) -> ControlMessage | ClockCorrected | Drop:
        """A message that the home agent of `target` wrote for our home address, and not before now."""
        opened = open_control(octets, {}, self._profile)
        if isinstance(opened, Drop):
            return opened
        if target is None or opened.packet.source != target.home_agent.ipv6:
            return NOT_FROM_HOME_AGENT
        if opened.packet.final_destination != self._home_address:
            return NOT_FOR_US
        message = opened.packet.message
        if isinstance(message, BindingAck):
            return self._answer(opened, message, now)
        return self._unasked(opened, now)

    # ---- the answer to an update -----------------------------------------------------------
    def _answer(self, opened: OpenedControl, ack: BindingAck, now: float) -> Message | ClockCorrected | Drop:
        """First which update it answers, as its timestamp tells, then the authenticator for that one.

        An update is answered once: a recorded answer says nothing the second time.
        """
        told = timestamp_in(ack)
        sent = self._answered(ack, told)
        if sent is None:
            return NOT_AN_ANSWER
        if not self._proves(opened, sent.care_of):
            return self._unproven(opened, ack)
        self.problem = None
        if ack.status == BindingStatus.ID_MISMATCH and told is not None:
            return self._mismatch(ack, sent, told, now)
        while self._sent and self._sent.popleft() is not sent:
            pass
        self._corrections = 0
        if ack.accepted:
            self._bound = sent.care_of
        return ack

    def _answered(self, ack: BindingAck, told: int | None) -> _Sent | None:
        """An answer repeats the whole timestamp; one that corrects our clock, its fraction.

        MESSAGE_ID_REQUIRED comes without one from whoever cannot read ours.
        """
        if told is None:
            matching = [s for s in self._sent if ack.status == BindingStatus.MESSAGE_ID_REQUIRED]
        elif ack.status == BindingStatus.ID_MISMATCH:
            matching = [s for s in self._sent if s.timestamp & _FRACTION == told & _FRACTION]
        else:
            matching = [s for s in self._sent if s.timestamp == told]
        if ack.status != BindingStatus.SEQUENCE_OUT_OF_WINDOW:  # which names another number
            matching = [s for s in matching if s.sequence == ack.sequence]
        return matching[0] if matching else None

    def _proves(self, opened: OpenedControl, care_of: IPv6Address) -> bool:
        evidence = evidence_in(opened, self._profile)
        return (
            evidence is not None
            and evidence.spi == self._association.spi
            and evidence.proves(self._association, care_of, self._home_address)
        )

    def _unproven(self, opened: OpenedControl, ack: BindingAck) -> Drop:
        """Not believed, but worth a hint: with different keys at both ends this is all that arrives."""
        if ack.status == BindingStatus.AUTHENTICATION_FAILED:
            self.problem = "an answer that cannot be verified says that our updates cannot be verified"
        return UNPROTECTED if evidence_in(opened, self._profile) is None else WRONG_AUTHENTICATOR

    def _mismatch(self, ack: BindingAck, sent: _Sent, told: int, now: float) -> Message | ClockCorrected:
        """Status 144: a wrong clock, unless the home agent's is the same and UDP was to be forced."""
        since_sent, since_now = ntp.distance(told, sent.timestamp), ntp.distance(told, self._clock(now))
        self._sent.clear()
        if since_sent == 0 and sent.forced_udp:
            return ack
        # The home agent wrote its time after the update had left and before now. Update or answer may have
        # been held up for long, so of the corrections that would explain it all the smallest is made.
        seconds = round((max(since_now, 0) or min(since_sent, 0)) / ntp.SECOND)
        self._wall_offset += seconds
        self._last = self._last if seconds == 0 else None
        self._corrections += 1
        if self._corrections <= MAX_CORRECTIONS:
            return ClockCorrected(seconds)
        self._corrections = 0
        return ack

    # ---- a message that answers nothing ----------------------------------------------------
    def _unasked(self, opened: OpenedControl, now: float) -> ControlMessage | Drop:
        """RFC 4285 leaves these unprotected. Ours are signed for the care-of address that is bound."""
        if self._bound is None or not self._proves(opened, self._bound):
            return UNPROTECTED
        message = opened.packet.message
        told = timestamp_in(message)
        if told is None or abs(ntp.distance(told, self._clock(now))) > _WINDOW:
            return WRONG_TIME
        if self._heard is not None and ntp.distance(told, self._heard) <= 0:
            return WRONG_TIME
        self._heard = told
        return message

    # ---- time ------------------------------------------------------------------------------
    def _clock(self, now: float) -> int:
        return ntp.timestamp(now + self._wall_offset)

    def _next_timestamp(self, now: float) -> int:
        timestamp = self._clock(now) >> _DUST << _DUST | self._rng.getrandbits(_DUST)
        if self._last is not None and ntp.distance(timestamp, self._last) <= 0:
            timestamp = ntp.later(self._last, 1)
        self._last = timestamp
        return timestamp
