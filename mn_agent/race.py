"""The race: every way to the home agent is asked at once whether it answers, and a silent favourite loses.

Pure. RFC 5555 section 4.4.1 with the patience of RFC 8305. The Binding Update to the favourite never waits
for the race; an answer is a hint, which anybody on the way could have made, and only orders what is tried.
A network in which a way was silent is remembered: at the next visit another way is the favourite.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address
from random import Random

from mn_agent.actions import Action, SendEcho
from mn_agent.binding_update_list import HomeAgent
from mn_agent.desired import Surroundings
from mn_agent.events import Check, EchoHeard, Event, PathSilent
from mn_agent.network_memory import NetworkMemory
from movement.known_networks import Learnt
from movement.opinion import Opinion, Verdict
from movement.policy import Attachment
from runtime.node import Deadline, earliest

HEAD_START = 0.25
"""Seconds of silence after which whoever has answered is preferred (RFC 8305 section 5)."""
AGAIN_AT = (0.0, 0.1, 0.6)
"""When a runner is asked, in seconds from the start: an echo is lost as easily as anything."""
KEPT = 86400.0
"""Seconds for which a network is remembered in which a way was silent: there it starts as the loser. Ours."""
RECHECK = 300.0
"""Seconds after which a silent runner is asked again; doubles up to MAX_RECHECK. Ours."""
MAX_RECHECK = 3600.0
MOST = 8
TOKEN = 16
"""Octets of random data in an echo, beside its random identifier."""

Place = tuple[str, IPv4Address | IPv6Address, int]


@dataclass(slots=True)
class _Runner:
    """One way to the home agent. `echoes` holds when each sequence number was sent."""

    attachment: Attachment
    remote: IPv4Address | IPv6Address
    identifier: int
    token: bytes
    started_at: float
    recheck: float = RECHECK
    echoes: dict[int, float] = field(default_factory=dict)
    answered_at: float | None = None
    round_trip: float | None = None
    silent: bool = False
    """Judged: it had its head start, and some other way has answered. Until it answers itself."""
    remembered: bool = False
    """That was on an earlier visit."""

    def answered(self, round_trip: float, now: float) -> None:
        self.answered_at, self.silent, self.remembered = now, False, False
        self.recheck = RECHECK
        self.round_trip = round_trip if self.round_trip is None else min(self.round_trip, round_trip)

    @property
    def next_at(self) -> float | None:
        """When it is asked next; None when it has answered, or was asked often enough."""
        if self.answered_at is not None or len(self.echoes) >= len(AGAIN_AT):
            return None
        return self.started_at + AGAIN_AT[len(self.echoes)]


class Race:
    """Runs whenever there is another choice, or the present path falls silent. Between races it sleeps."""

    def __init__(self, networks: NetworkMemory, rng: Random) -> None:
        self._networks = networks
        self._rng = rng
        self._runners: dict[Place, _Runner] = {}
        self._now = 0.0
        self._checked_at = -math.inf
        """When the user has asked for a race last, if only of one."""

    def handle(self, event: Event, around: Surroundings, now: float) -> list[Action]:
        match event:
            case EchoHeard():
                self._heard(event, now)
            case PathSilent():
                self._start(list(self._runners.values()), now)
            case Check():
                self._checked_at = now
                self._start(list(self._runners.values()), now)
            case _:
                pass
        return self.tick(around, now)

    def tick(self, around: Surroundings, now: float) -> list[Action]:
        self._now = now
        self._follow(around, now)
        self._judge(now)
        for runner in self._runners.values():
            self._remember(runner, now)
        for runner in [r for r in self._runners.values() if r.silent and r.started_at + r.recheck <= now]:
            runner.recheck = min(2 * runner.recheck, MAX_RECHECK)
            self._start([runner], now)
        return list(self._due(now))

    def deadline(self) -> Deadline | None:
        return earliest(due for runner in self._runners.values() for due in self._deadlines(runner))

    def _deadlines(self, runner: _Runner) -> Iterator[Deadline]:
        if not self._is_on(self._now):
            return
        if (at := runner.next_at) is not None:
            yield Deadline(at, "ask the home agent for an echo")
        judged_at = runner.started_at + HEAD_START
        if runner.answered_at is None and judged_at > self._now:
            yield Deadline(judged_at, "head start in the race")
        if runner.silent:
            yield Deadline(runner.started_at + runner.recheck, "ask a silent path again")

    def opinions(self) -> Iterator[Opinion]:
        for runner in self._runners.values():
            place = runner.attachment
            if runner.answered_at is not None:
                why = f"answered in {(runner.round_trip or 0.0) * 1000:.0f} ms"
                yield Opinion(place.interface, place.care_of, Verdict.GOOD, "race", why, runner.round_trip)
            elif runner.silent and runner.remembered:
                why = "no answer on an earlier visit, where another path answered"
                yield Opinion(place.interface, place.care_of, Verdict.POOR, "race", why)
            elif runner.silent:
                why = f"no answer within {HEAD_START * 1000:.0f} ms, where another path answered"
                yield Opinion(place.interface, place.care_of, Verdict.POOR, "race", why)

    # ---- who runs --------------------------------------------------------------------------
    def _follow(self, around: Surroundings, now: float) -> None:
        """The runners are the ways to the home agent that there are; a new one starts a race of all."""
        agent = _agent(around)
        home = around.configuration.home.ipv6
        places = {
            _place(a): a
            for a in around.attachments
            if agent is not None and a.care_of != home and agent.serves(a.care_of)
        }
        for place in [
            p for p, r in self._runners.items() if p not in places or r.remote != _remote(agent, p)
        ]:
            del self._runners[place]
        for place, runner in self._runners.items():
            runner.attachment = places[place]  # which network it is may be known by now
        new = [place for place in places if place not in self._runners][: MOST - len(self._runners)]
        for place in new:
            remote = _remote(agent, place)
            assert remote is not None
            self._runners[place] = _Runner(places[place], remote, 0, b"", now)
        if new:
            self._start(list(self._runners.values()), now)
        self._learn_from_binding(around)

    def _learn_from_binding(self, around: Surroundings) -> None:
        """An acknowledgement is an answer, and a better one than any echo."""
        binding = around.binding
        runner = None if binding is None else self._runners.get(_place(binding.target.attachment))
        if binding is not None and runner is not None and binding.accepted_at >= runner.started_at:
            runner.answered(binding.accepted_at - binding.sent_at, binding.accepted_at)

    def _remember(self, runner: _Runner, now: float) -> None:
        """What a network has shown holds for the next visit, and what it has shown before for this one."""
        network = runner.attachment.network
        if network is None:
            return
        known = self._networks.about(network, now).silent is not None
        if runner.answered_at is not None and known:
            self._networks.learn(network, silent=None)
        elif runner.silent and not known:
            self._networks.learn(network, silent=Learnt(True, now + KEPT))
        elif known and runner.answered_at is None and not runner.silent:
            runner.silent = runner.remembered = True

    def _start(self, runners: list[_Runner], now: float) -> None:
        for runner in runners:
            runner.identifier = self._rng.getrandbits(16)
            runner.token = self._rng.randbytes(TOKEN)
            runner.started_at = now
            runner.echoes = {}
            runner.answered_at = None

    # ---- asking and judging ----------------------------------------------------------------
    def _due(self, now: float) -> Iterator[Action]:
        if not self._is_on(now):
            return  # nothing to choose between: the Binding Update itself asks
        for runner in self._runners.values():
            at = runner.next_at
            if at is not None and at <= now:
                sequence = len(runner.echoes)
                runner.echoes[sequence] = now
                place = runner.attachment
                yield SendEcho(place, runner.remote, runner.identifier, sequence, runner.token)

    def _is_on(self, now: float) -> bool:
        return len(self._runners) > 1 or now <= self._checked_at + AGAIN_AT[-1]

    def _heard(self, echo: EchoHeard, now: float) -> None:
        for runner in self._runners.values():
            asked = (runner.attachment.interface, runner.attachment.care_of, runner.remote)
            if asked != (echo.interface, echo.care_of, echo.remote):
                continue
            sent_at = runner.echoes.get(echo.sequence)
            if sent_at is not None and (echo.identifier, echo.data) == (runner.identifier, runner.token):
                runner.answered(now - sent_at, now)

    def _judge(self, now: float) -> None:
        answered = any(runner.answered_at is not None for runner in self._runners.values())
        for runner in self._runners.values():
            waited = runner.answered_at is None and now >= runner.started_at + HEAD_START
            runner.silent = runner.silent or (waited and answered and bool(runner.echoes))


def _agent(around: Surroundings) -> HomeAgent | None:
    if around.target is not None:
        return around.target.home_agent
    return around.home_agents[0] if around.home_agents else None


def _place(attachment: Attachment) -> Place:
    return attachment.interface, attachment.care_of, attachment.carrier_losses


def _remote(agent: HomeAgent | None, place: Place) -> IPv4Address | IPv6Address | None:
    if agent is None:
        return None
    return agent.ipv6 if place[1].version == 6 else agent.ipv4
