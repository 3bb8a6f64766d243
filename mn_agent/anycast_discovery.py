"""Dynamic home agent address discovery: ask the anycast address of the home agents, from an IPv6 link.

Pure. RFC 6275 sections 11.4.1 and 10.5.1, draft section 2.1: there is no such address in IPv4, so on links
without IPv6 nothing is asked (R008), and DNS is the way.

What is answered is believed by nobody: it only says where a Binding Update may go, and nobody but the home
agent can answer that. Addresses outside the home prefix are not even tried.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv6Address, IPv6Network
from random import Random
from typing import assert_never

from movement.policy import Attachment
from runtime.node import Deadline
from wire.icmp import HomeAgentDiscoveryReply, HomeAgentDiscoveryRequest, home_agents_anycast

INITIAL_TIMEOUT = 3.0
TRIES = 4
"""INITIAL_DHAAD_TIMEOUT, doubled after each request, and DHAAD_RETRIES (RFC 6275 section 12)."""
PAUSE = 60.0
"""Seconds to the next attempt after one that nobody answered. Ours."""
RECHECK = 3600.0
MAX_HOME_AGENTS = 8


@dataclass(frozen=True, slots=True)
class Asleep:
    """No IPv6 link to ask from, or nothing to ask."""


@dataclass(frozen=True, slots=True)
class Asking:
    """`tries` requests have left from `attachment`; the next is due at `retry_at`."""

    attachment: Attachment
    identifier: int
    tries: int
    retry_at: float


@dataclass(frozen=True, slots=True)
class Resting:
    """Nothing is asked until `until`: there was an answer, or for too long there was none."""

    until: float
    answered: bool


State = Asleep | Asking | Resting


@dataclass(frozen=True, slots=True)
class Question:
    """Send `request` from `attachment` to the anycast address `destination`."""

    attachment: Attachment
    destination: IPv6Address
    request: HomeAgentDiscoveryRequest


class AnycastDiscovery:
    """Asks from the best IPv6 link there is, and again after a move as long as nobody has answered."""

    def __init__(
        self, prefix: IPv6Network, home_address: IPv6Address, mobile_router: bool, rng: Random
    ) -> None:
        self._prefix = prefix
        self._home_address = home_address
        self._mobile_router = mobile_router
        self._rng = rng
        self._attachment: Attachment | None = None
        self.state: State = Asleep()

    @property
    def asking_from(self) -> Attachment | None:
        """Whose sockets have to be open for the answer."""
        return self.state.attachment if isinstance(self.state, Asking) else None

    @property
    def problem(self) -> str | None:
        """Why there is no answer."""
        unanswered = isinstance(self.state, Resting) and not self.state.answered
        return f"no home agent answers at {home_agents_anycast(self._prefix)}" if unanswered else None

    def network_changed(self, attachments: tuple[Attachment, ...], now: float) -> None:
        """These are the links now, best first."""
        ours = (a for a in attachments if a.care_of.version == 6 and a.care_of != self._home_address)
        best = next(ours, None)
        if best == self._attachment:
            return
        self._attachment = best
        match self.state:
            case Resting(answered=True):
                return
            case Asleep() | Asking() | Resting():
                self._begin(now)
            case _:
                assert_never(self.state)

    def doubt(self, now: float) -> None:
        """The home agents that answered do not serve: ask for others, but not all the time."""
        if isinstance(self.state, Resting) and self.state.answered and self.state.until - now > PAUSE:
            self.state = Resting(now + PAUSE, answered=True)

    def tick(self, now: float) -> list[Question]:
        """What is to be asked now."""
        match self.state:
            case Resting(until=until) if until <= now:
                self._begin(now)
            case _:
                pass
        match self.state:
            case Asking(retry_at=retry_at) as state if retry_at <= now:
                return self._ask(state, now)
            case _:
                return []

    def deadline(self) -> Deadline | None:
        """The next timer."""
        match self.state:
            case Asking(retry_at=at):
                return Deadline(at, "home agent discovery")
            case Resting(until=at) if self._attachment is not None:
                return Deadline(at, "home agent discovery again")
            case Asleep() | Resting():
                return None
            case _:
                assert_never(self.state)

    def answered(
        self, reply: HomeAgentDiscoveryReply, destination: IPv6Address, now: float
    ) -> tuple[IPv6Address, ...]:
        """The home agents that `reply`, sent to `destination`, names; none if it answers nothing of ours."""
        state = self.state
        if not isinstance(state, Asking):
            return ()
        if reply.identifier != state.identifier or destination != state.attachment.care_of:
            return ()
        known = dict.fromkeys(address for address in reply.home_agents if self._plausible(address))
        found = tuple(known)[:MAX_HOME_AGENTS]
        if found:
            self.state = Resting(now + RECHECK, answered=True)
        return found

    def _plausible(self, address: IPv6Address) -> bool:
        anycast = home_agents_anycast(self._prefix)
        return address in self._prefix and address not in (self._home_address, anycast)

    def _begin(self, now: float) -> None:
        if self._attachment is None:
            self.state = Asleep()
        else:
            self.state = Asking(self._attachment, self._rng.getrandbits(16), 0, now)

    def _ask(self, state: Asking, now: float) -> list[Question]:
        if state.tries >= TRIES:
            self.state = Resting(now + PAUSE, answered=False)
            return []
        timeout = INITIAL_TIMEOUT * 2**state.tries
        self.state = Asking(state.attachment, state.identifier, state.tries + 1, now + timeout)
        request = HomeAgentDiscoveryRequest(state.identifier, self._mobile_router)
        return [Question(state.attachment, home_agents_anycast(self._prefix), request)]
