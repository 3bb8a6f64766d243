"""Does the home agent answer over ways that are not in use, and what does it see of them?

Pure. The question is a Binding Update without the H flag: a home agent that has a binding refuses it with
status 139 (RFC 6275 section 9.5.1), one that has none ignores it, so neither ever moves a binding. It is
authenticated and protected from replay like any other update, and the refusal says, as every answer does,
whether there is a NAT and what it made of the address (RFC 5555 section 4.1). Asked only when a person wants
to know.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address

from mn_agent.actions import Action, SendControl
from mn_agent.associations import Associations
from mn_agent.binding_update_list import HomeAgent, Target, places
from mn_agent.messages import nat_seen
from movement.policy import Attachment
from runtime.node import Deadline
from tunnel.envelope import ControlPacket
from wire.mobility import BindingAck, BindingUpdate, UpdateFlag
from wire.options import AlternateCareOfAddress, Ipv4CareOfAddress, NatDetection, Option, first
from wire.vendor import observed_in

MOST = 6
"""Ways that are asked about in one round."""
TRIES = 2
PACE = 1.0
EACH_TIME = 2
"""Questions every PACE seconds. RFC 6275 permits three updates a second, and another one may be due."""
LEAST_INTERVAL = 5.0
"""Seconds between two rounds, whoever asks: anybody on this host may. Ours."""
FAR_AHEAD = 0x1000
"""From sequence numbers of registrations to those of questions: no answer is taken for another one."""
LIFETIME = 4

Place = tuple[str, IPv4Address | IPv6Address, int]


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back over a way. `round_trip` in seconds; of an IPv6 way no more is known."""

    round_trip: float
    nat: bool | None
    observed: str | None


@dataclass(slots=True)
class _Way:
    """`sent` holds when each sequence number left."""

    target: Target
    sent: dict[int, float] = field(default_factory=dict)
    answer: Answer | None = None


class WayCheck:
    """Rounds of questions. Between them nothing is open, and nothing due."""

    def __init__(self, home_address: IPv6Address) -> None:
        self._home_address = home_address
        self._ways: dict[Place, _Way] = {}
        self._started_at: float | None = None
        self._next_at: float | None = None
        """When more is asked, or the round is over; None between rounds."""
        self._asked = 0

    @property
    def is_on(self) -> bool:
        """Whether answers are still to be waited for."""
        return self._next_at is not None

    @property
    def asking_from(self) -> tuple[Attachment, ...]:
        """Whose sockets have to be open."""
        return tuple(way.target.attachment for way in self._ways.values()) if self.is_on else ()

    def start(self, attachments: Iterable[Attachment], home_agent: HomeAgent, now: float) -> None:
        """Ask over `attachments`, unless that was done a moment ago."""
        if self._started_at is not None and now < self._started_at + LEAST_INTERVAL:
            return
        served = [a for a in attachments if home_agent.serves(a.care_of)][:MOST]
        ways = (_Way(Target(attachment, home_agent)) for attachment in served)
        self._ways = dict(zip(places(served), ways, strict=True))
        self._started_at = now
        self._next_at = now if served else None

    def stop(self) -> None:
        """The node has better things to do. What is known stays."""
        self._next_at = None

    def due(self, next_sequence: int, associations: Associations, now: float) -> list[Action]:
        """The questions to ask now; `next_sequence` is that of the next registration."""
        if self._next_at is None or now < self._next_at:
            return []
        open_ways = [way for way in self._ways.values() if way.answer is None and len(way.sent) < TRIES]
        asked = sorted(open_ways, key=lambda way: len(way.sent))[:EACH_TIME]
        self._next_at = now + PACE if asked else None
        actions: list[Action] = []
        for way in asked:
            self._asked = (self._asked + 1) % FAR_AHEAD
            sequence = next_sequence + FAR_AHEAD + self._asked & 0xFFFF
            sealed = associations.seal(question(self._home_address, way.target, sequence), now)
            way.sent[sequence] = now
            if isinstance(sealed, bytes):
                target = way.target
                port = target.home_agent.port
                actions.append(SendControl(target.care_of, target.outer_destination, port, sealed))
        return actions

    def answered(self, ack: BindingAck, now: float) -> bool:
        """Whether `ack`, which is authentic, answers a question; then it means nothing else."""
        way = next((way for way in self._ways.values() if ack.sequence in way.sent), None)
        if way is None or ack.accepted:
            return False
        if way.answer is None:
            way.answer = _read(way.target, ack, now - way.sent[ack.sequence])
        if all(way.answer is not None for way in self._ways.values()):
            self._next_at = None
        return True

    def deadline(self) -> Deadline | None:
        return None if self._next_at is None else Deadline(self._next_at, "check of ways")

    def about(self, attachment: Attachment) -> Answer | None:
        """What came back over this way in the last round."""
        way = self._ways.get(places([attachment])[0])
        return None if way is None else way.answer

    def is_silent(self, attachment: Attachment) -> bool:
        """It was asked, often enough, and nothing came back."""
        way = self._ways.get(places([attachment])[0])
        return way is not None and way.answer is None and len(way.sent) >= TRIES and not self.is_on


def question(home_address: IPv6Address, target: Target, sequence: int) -> ControlPacket:
    """A Binding Update that is no home registration, from the care-of address of `target`."""
    home_agent, care_of = target.home_agent.ipv6, target.care_of
    assert home_agent is not None
    options: tuple[Option, ...]
    if isinstance(care_of, IPv6Address):
        options = (AlternateCareOfAddress(care_of),)
        update = BindingUpdate(sequence, LIFETIME, UpdateFlag.ACKNOWLEDGE, options)
        return ControlPacket(care_of, home_agent, update, home_address_option=home_address)
    options = (Ipv4CareOfAddress(care_of),)
    return ControlPacket(
        home_address, home_agent, BindingUpdate(sequence, LIFETIME, UpdateFlag.ACKNOWLEDGE, options)
    )


def _read(target: Target, ack: BindingAck, round_trip: float) -> Answer:
    if target.care_of.version == 6:
        return Answer(round_trip, None, None)
    seen = observed_in(ack.options)
    observed = None if seen is None else f"{seen[0]}:{seen[1]}"
    return Answer(round_trip, nat_seen(first(ack.options, NatDetection)), observed)
