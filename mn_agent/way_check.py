"""Does the home agent answer over this way and that, and what does it see of them?

Pure. The question is a Binding Update without the H flag: a home agent that has a binding refuses it with
status 139 (RFC 6275 section 9.5.1), one that has none ignores it, so neither ever moves a binding. It is
authenticated and protected from replay like any other update, and the refusal says, as every answer does,
whether there is a NAT and what it made of the address (RFC 5555 section 4.1). Behind a NAT the same is asked
of the second port that a home agent of ours names (mn_agent.nat_kind), from the same port of this host. Asked
only when a person wants to know.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address

from mn_agent.actions import Action, SendControl
from mn_agent.associations import Associations
from mn_agent.binding_update_list import HomeAgent, Target, places
from mn_agent.messages import nat_seen
from mn_agent.nat_kind import Mapping, Unknown, compared
from movement.policy import Attachment
from runtime.node import Deadline
from tunnel.envelope import ControlPacket
from wire.mobility import BindingAck, BindingUpdate, UpdateFlag
from wire.options import AlternateCareOfAddress, Ipv4CareOfAddress, NatDetection, Option, first
from wire.vendor import observed_in, second_port_in

MOST = 6
"""Ways that are asked about in one round."""
TRIES = 2
PACE = 1.0
EACH_TIME = 2
"""Questions within PACE seconds. RFC 6275 permits three updates a second, and another one may be due."""
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
    second_port: int | None


@dataclass(slots=True)
class _Question:
    """What is asked of one port of the home agent. `sent` holds when each sequence number left."""

    target: Target
    port: int
    sent: dict[int, float] = field(default_factory=dict)
    answer: Answer | None = None

    @property
    def is_over(self) -> bool:
        return self.answer is not None or len(self.sent) >= TRIES

    @property
    def again_at(self) -> float:
        """When it may be asked once more, or has been waited for long enough; at once if it never was."""
        return max(self.sent.values(), default=-PACE) + PACE


@dataclass(slots=True)
class _Way:
    """The first question, and behind a NAT the same one to the home agent's second port."""

    first: _Question
    second: _Question | None = None

    def questions(self) -> Iterator[_Question]:
        yield self.first
        if self.second is not None:
            yield self.second


class WayCheck:
    """Rounds of questions. Between them nothing is open, and nothing due."""

    def __init__(self, home_address: IPv6Address) -> None:
        self._home_address = home_address
        self._ways: dict[Place, _Way] = {}
        self._started_at: float | None = None
        self._next_at: float | None = None
        """When more is asked, or the round is over; None between rounds."""
        self._asked = 0
        self._left_at: deque[float] = deque(maxlen=EACH_TIME)

    @property
    def is_on(self) -> bool:
        """Whether answers are still to be waited for."""
        return self._next_at is not None

    @property
    def asking_from(self) -> tuple[Attachment, ...]:
        """Whose sockets have to be open."""
        return tuple(way.first.target.attachment for way in self._ways.values()) if self.is_on else ()

    def start(self, attachments: Iterable[Attachment], home_agent: HomeAgent, now: float) -> None:
        """Ask over `attachments`, unless that was done a moment ago."""
        if self._started_at is not None and now < self._started_at + LEAST_INTERVAL:
            return
        served = [a for a in attachments if home_agent.serves(a.care_of)][:MOST]
        ways = (_Way(_Question(Target(a, home_agent), home_agent.port)) for a in served)
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
        actions: list[Action] = []
        ready = [one for one in self._questions() if not one.is_over and one.again_at <= now]
        for question in sorted(ready, key=lambda one: len(one.sent)):
            if now < self._may_ask_at:
                break
            actions += self._ask(question, next_sequence, associations, now)
        self._next_at = self._when_next(now)
        return actions

    def answered(self, ack: BindingAck, now: float) -> bool:
        """Whether `ack`, which is authentic, answers a question; then it means nothing else."""
        way, question = next(
            ((w, q) for w in self._ways.values() for q in w.questions() if ack.sequence in q.sent),
            (None, None),
        )
        if way is None or question is None or ack.accepted:
            return False
        if question.answer is None:
            answer = _read(question.target, ack, now - question.sent[ack.sequence])
            question.answer = answer
            if question is way.first and answer.nat and answer.second_port is not None:
                way.second = _Question(question.target, answer.second_port)
        if self.is_on:
            self._next_at = self._when_next(now)
        return True

    def deadline(self) -> Deadline | None:
        return None if self._next_at is None else Deadline(self._next_at, "check of ways")

    def about(self, attachment: Attachment) -> Answer | None:
        """What came back over this way in the last round."""
        way = self._way(attachment)
        return None if way is None else way.first.answer

    def mapping(self, attachment: Attachment) -> Mapping | Unknown:
        """How the NAT of this way maps, as far as the last round has shown."""
        way = self._way(attachment)
        if way is None or way.first.answer is None:
            return Unknown.NOT_ASKED
        if way.second is None:
            return Unknown.NO_SECOND_PORT
        second = way.second.answer
        if second is None:
            return Unknown.NOT_ASKED if self.is_on else Unknown.SECOND_PORT_SILENT
        return compared(way.first.answer.observed, second.observed)

    def is_silent(self, attachment: Attachment) -> bool:
        """It was asked, often enough, and nothing came back."""
        way = self._way(attachment)
        return way is not None and way.first.is_over and way.first.answer is None and not self.is_on

    def _way(self, attachment: Attachment) -> _Way | None:
        return self._ways.get(places([attachment])[0])

    def _questions(self) -> Iterator[_Question]:
        return (question for way in self._ways.values() for question in way.questions())

    @property
    def _may_ask_at(self) -> float:
        return self._left_at[0] + PACE if len(self._left_at) == EACH_TIME else 0.0

    def _when_next(self, now: float) -> float | None:
        """None once everything is answered, or has been waited for."""
        waiting = [one for one in self._questions() if one.answer is None]
        asking = [max(one.again_at, self._may_ask_at) for one in waiting if not one.is_over]
        latest = max((one.again_at for one in waiting), default=now)
        return min(asking) if asking else latest if latest > now else None

    def _ask(
        self, question: _Question, next_sequence: int, associations: Associations, now: float
    ) -> list[Action]:
        self._asked = (self._asked + 1) % FAR_AHEAD
        sequence = next_sequence + FAR_AHEAD + self._asked & 0xFFFF
        target = question.target
        sealed = associations.seal(question_packet(self._home_address, target, sequence), now)
        question.sent[sequence] = now
        self._left_at.append(now)
        if not isinstance(sealed, bytes):
            return []
        return [SendControl(target.care_of, target.outer_destination, question.port, sealed)]


def question_packet(home_address: IPv6Address, target: Target, sequence: int) -> ControlPacket:
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
        return Answer(round_trip, None, None, None)
    seen = observed_in(ack.options)
    observed = None if seen is None else f"{seen[0]}:{seen[1]}"
    nat = nat_seen(first(ack.options, NatDetection))
    return Answer(round_trip, nat, observed, second_port_in(ack.options))
