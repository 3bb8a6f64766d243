"""Home agent discovery: which home agents there are, asked of DNS, remembered while DNS is silent.

Pure. Draft section 2.1, RFC 5026 section 5.1.2, RFC 5555 section 2.1.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import assert_never

from mn_agent.binding_update_list import HomeAgent
from mn_agent.config import Configuration
from runtime.node import Deadline

FIRST_RETRY = 1.0
MAX_RETRY = 32.0
RECHECK = 3600.0
"""Seconds after which a good answer is asked for again; it stays in use meanwhile. Ours."""
ANSWER_TIMEOUT = 10.0
MAX_HOME_AGENTS = 8


@dataclass(frozen=True, slots=True)
class ByName:
    """A and AAAA of one name."""

    name: str
    port: int


@dataclass(frozen=True, slots=True)
class ByService:
    """SRV under `domain`, tried by each of `services` in turn, then A and AAAA of the targets."""

    domain: str
    services: tuple[str, ...]
    port: int


Query = ByName | ByService


# ---- states --------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Configured:
    """The addresses stand in the configuration; DNS is never asked."""


@dataclass(frozen=True, slots=True)
class Asleep:
    """No network to ask through."""


@dataclass(frozen=True, slots=True)
class Asking:
    """A question is on its way."""

    give_up_at: float
    retry: float


@dataclass(frozen=True, slots=True)
class Waiting:
    """The last question failed; the next is asked at `at`."""

    at: float
    retry: float
    problem: str


@dataclass(frozen=True, slots=True)
class Answered:
    """The answer is good until `recheck_at`."""

    recheck_at: float


State = Configured | Asleep | Asking | Waiting | Answered


class Discovery:
    """Asks when there is a network, keeps the last good answer, never blocks a handover.

    `remembered` are the home agents of the last run, used until DNS answers.
    """

    def __init__(self, query: Query | None, remembered: tuple[HomeAgent, ...]) -> None:
        self._query = query
        self.home_agents = remembered
        self.source = "configuration" if query is None else "remembered"
        self.state: State = Configured() if query is None else Asleep()
        self._doubt_at = 0.0
        self._doubt_pause = FIRST_RETRY

    @property
    def question(self) -> str:
        """What is being done to find a home agent."""
        if self.source == "anycast":
            return "asking for home agents by anycast, from IPv6 links"
        return "asking DNS for the home agent"

    @property
    def problem(self) -> str | None:
        """Why the last question failed, if it did."""
        return self.state.problem if isinstance(self.state, Waiting) else None

    def network_changed(self, usable: bool, now: float) -> list[Query]:
        """There is a network now, another one, or none any more."""
        match self.state:
            case Configured() | Answered():
                return []
            case Asleep() | Asking() | Waiting():
                if not usable:
                    self.state = Asleep()
                    return []
                return self._ask(FIRST_RETRY, now)
            case _:
                assert_never(self.state)

    def answered(self, home_agents: tuple[HomeAgent, ...], now: float) -> bool:
        """DNS named these, best first; returns whether that changes anything."""
        if self._query is None or not home_agents:
            return False
        known = home_agents[:MAX_HOME_AGENTS]
        changed = known != self.home_agents
        if changed:
            self._doubt_pause = FIRST_RETRY
        self.home_agents, self.source = known, "dns"
        self.state = Answered(now + RECHECK)
        return changed

    def learnt(self, addresses: tuple[IPv6Address, ...], port: int) -> None:
        """These answered at their anycast address. What DNS names comes first: it knows IPv4 addresses."""
        known = {agent.ipv6 for agent in self.home_agents}
        others = tuple(HomeAgent(str(a), a, None, port) for a in addresses if a not in known)
        self.home_agents = (*self.home_agents, *others)[:MAX_HOME_AGENTS]
        if self.source != "dns":
            self.source = "anycast"

    def failed(self, problem: str, now: float) -> None:
        """DNS gave no usable answer; what was known stays known."""
        if isinstance(self.state, Asking):
            retry = self.state.retry
            self.state = Waiting(now + retry, min(2 * retry, MAX_RETRY), problem)

    def doubt(self, now: float) -> list[Query]:
        """What we know does not serve: ask again, without forgetting it, and ever more rarely."""
        if not isinstance(self.state, Answered):
            return []
        if now < self._doubt_at:
            self.state = Answered(min(self.state.recheck_at, self._doubt_at))
            return []
        return self._ask(FIRST_RETRY, now)

    def tick(self, now: float) -> list[Query]:
        """Run the timer if it is due."""
        due = self.deadline()
        if due is None or due.at > now:
            return []
        match self.state:
            case Asking():
                self.failed("no answer from DNS", now)
                return []
            case Waiting(retry=retry):
                return self._ask(retry, now)
            case Answered():
                return self._ask(FIRST_RETRY, now)
            case Configured() | Asleep():
                raise AssertionError("no deadline in this state")
            case _:
                assert_never(self.state)

    def deadline(self) -> Deadline | None:
        """The next timer."""
        match self.state:
            case Configured() | Asleep():
                return None
            case Asking(give_up_at=at):
                return Deadline(at, "DNS answer")
            case Waiting(at=at):
                return Deadline(at, "DNS retry")
            case Answered(recheck_at=at):
                return Deadline(at, "DNS recheck")
            case _:
                assert_never(self.state)

    def _ask(self, retry: float, now: float) -> list[Query]:
        assert self._query is not None
        self.state = Asking(now + ANSWER_TIMEOUT, retry)
        self._doubt_at = now + self._doubt_pause
        self._doubt_pause = min(2 * self._doubt_pause, MAX_RETRY)
        return [self._query]


def pair_addresses(
    name: str, ipv6: tuple[IPv6Address, ...], ipv4: tuple[IPv4Address, ...], port: int
) -> HomeAgent | None:
    """One home agent from the AAAA and A records of one name; None without any IPv6 address.

    Addresses of two names are never mixed (draft section 2.1: one name is one physical home agent).
    """
    usable6 = [
        a for a in ipv6 if not (a.is_multicast or a.is_link_local or a.is_unspecified or a.is_loopback)
    ]
    usable4 = [
        a for a in ipv4 if not (a.is_multicast or a.is_link_local or a.is_unspecified or a.is_loopback)
    ]
    if not usable6:
        return None
    return HomeAgent(name, min(usable6), min(usable4) if usable4 else None, port)


def discovery_for(configuration: Configuration, remembered: tuple[HomeAgent, ...]) -> Discovery:
    """The discovery that the configuration asks for; `remembered` is what the last run knew."""
    section = configuration.home_agent
    if section.name is not None:
        return Discovery(ByName(section.name, section.port), remembered)
    if section.service is not None:
        query = ByService(section.service, configuration.profile.srv_names, section.port)
        return Discovery(query, remembered)
    if section.prefix is not None:
        asked_by_anycast = Discovery(None, remembered)
        asked_by_anycast.source = "anycast"
        return asked_by_anycast
    assert section.ipv6 is not None, "the configuration has been checked"
    return Discovery(None, (HomeAgent(str(section.ipv6), section.ipv6, section.ipv4, section.port),))
