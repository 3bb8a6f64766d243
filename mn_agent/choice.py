"""Which target to register now: by what has just failed, by what the user asked, by policy and opinions.

Pure. RFC 5555 section 4.4.1 (family fallback), RFC 6275 section 11.8 (next home agent).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv6Address, ip_address

from mn_agent.binding_update_list import HomeAgent, Target
from mn_agent.config import Configuration
from movement.opinion import Opinion, Verdict
from movement.policy import Attachment, Policy
from movement.weighing import Candidate, Weighed, weigh
from runtime.node import Deadline

SET_ASIDE = 300.0
"""Seconds for which a target that did not answer is not chosen while another one is there. Ours."""
MAX_SET_ASIDE = 64

Key = tuple[str, IPv4Address | IPv6Address, HomeAgent]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the user asked for by `mnctl roam`; None means any."""

    interface: str | None = None
    family: int | None = None
    care_of: IPv4Address | IPv6Address | None = None

    @classmethod
    def named(cls, to: str | None, family: int | None) -> Wanted:
        """`to` is a care-of address if it reads like one, else an interface."""
        try:
            return cls(None, family, None if to is None else ip_address(to))
        except ValueError:
            return cls(to, family)

    def matches(self, attachment: Attachment) -> bool:
        return self.covers(attachment.interface, attachment.care_of)

    def covers(self, interface: str, care_of: IPv4Address | IPv6Address) -> bool:
        return (
            self.interface in (None, interface)
            and self.family in (None, care_of.version)
            and self.care_of in (None, care_of)
        )

    @property
    def text(self) -> str | None:
        """In words; None when anything will do."""
        family = None if self.family is None else f"IPv{self.family}"
        care_of = None if self.care_of is None else str(self.care_of)
        words = [word for word in (self.interface, care_of, family) if word is not None]
        return ", ".join(words) or None


ANY = Wanted()


@dataclass(frozen=True, slots=True)
class Ranked:
    """A target and its score."""

    target: Target
    weighed: Weighed


class Choice:
    """Remembers what failed lately and what the user wants; chooses by that, by opinions and by policy."""

    def __init__(self, policy: Policy | None = None, home_address: IPv6Address | None = None) -> None:
        self.wanted = ANY
        self.opinions: Sequence[Opinion] = ()
        self._policy = policy or Policy()
        self._home_address = home_address
        self._aside: dict[Key, float] = {}

    def ranking(
        self,
        attachments: tuple[Attachment, ...],
        home_agents: tuple[HomeAgent, ...],
        present: Target | None,
        now: float,
        wanted: Wanted | None = None,
    ) -> tuple[Ranked, ...]:
        """Every target with its score, best first. `wanted` in place of what the user wants.

        If all have failed, the present one goes on trying; if that is gone, the one that failed longest ago.
        """
        agents = _present_first(home_agents, present)
        targets = self.candidates(attachments, agents)
        failed = sorted({at for t in targets if (at := self._aside.get(_key(t), 0.0)) > now})
        wish = self.wanted if wanted is None else wanted
        by_candidate = {self._candidate(t, agents, present, failed, wish): t for t in targets}
        weighed = weigh(tuple(by_candidate), self.opinions, self._policy)
        return tuple(Ranked(by_candidate[each.candidate], each) for each in weighed)

    def candidates(
        self, attachments: tuple[Attachment, ...], home_agents: tuple[HomeAgent, ...]
    ) -> list[Target]:
        """Every target there is, in the order of home agents and attachments."""
        return [
            Target(attachment, home_agent, attachment.care_of == self._home_address)
            for home_agent in home_agents
            for attachment in attachments
            if home_agent.serves(attachment.care_of)
        ]

    def round_trip(self, attachment: Attachment) -> float | None:
        """Seconds to the home agent and back, where it was measured."""
        known = (o.round_trip for o in self.opinions if o.concerns(attachment))
        return min((each for each in known if each is not None), default=None)

    def holds(self, target: Target) -> bool:
        """Whether nothing may be sent from there for now."""
        heard = (o for o in self.opinions if o.concerns(target.attachment))
        return any(opinion.verdict is Verdict.HELD for opinion in heard)

    @property
    def held(self) -> str | None:
        """Why nothing may be sent from some place, if there is such a place."""
        return next((o.why for o in self.opinions if o.verdict is Verdict.HELD), None)

    def reservation(self, attachment: Attachment) -> str | None:
        """What speaks against it, if anything does."""
        bad = (o.why for o in self.opinions if o.concerns(attachment) and o.verdict is not Verdict.GOOD)
        return next(bad, None)

    def _candidate(
        self,
        target: Target,
        agents: tuple[HomeAgent, ...],
        present: Target | None,
        failed: list[float],
        wish: Wanted,
    ) -> Candidate:
        is_present = present is not None and _key(target) == _key(present)
        at = self._aside.get(_key(target))
        count = 0 if at not in failed else 1 if is_present else 2 + failed.index(at)
        return Candidate(
            target.attachment,
            home_agent=agents.index(target.home_agent),
            failed=count,
            wanted=wish.matches(target.attachment),
            present=is_present,
            at_home=target.at_home,
        )

    def wish(self, wanted: Wanted) -> None:
        """The user asks for it: what failed there before is tried again."""
        self.wanted = wanted
        self._aside = {
            key: at for key, at in self._aside.items() if not wanted.covers(key[0], key[1])
        }

    def set_aside(self, target: Target, seconds: float, now: float) -> None:
        """Do not choose `target` for a while."""
        if len(self._aside) >= MAX_SET_ASIDE:
            self._aside.pop(min(self._aside, key=lambda key: self._aside[key]))
        self._aside[_key(target)] = now + seconds

    def is_aside(self, target: Target) -> bool:
        """Whether it is not chosen for a while already."""
        return _key(target) in self._aside

    def forget_absent(self, attachments: Iterable[Attachment]) -> None:
        """A network that was left starts afresh when it is met again; so does a wish for it."""
        present = {(a.interface, a.care_of) for a in attachments}
        self._aside = {key: at for key, at in self._aside.items() if key[:2] in present}
        if self.wanted.interface is not None and self.wanted.interface not in {i for i, _ in present}:
            self.wanted = replace(self.wanted, interface=None)
        if self.wanted.care_of is not None and self.wanted.care_of not in {c for _, c in present}:
            self.wanted = replace(self.wanted, care_of=None)

    def expire(self, now: float) -> None:
        """Allow again what has been set aside long enough."""
        self._aside = {key: at for key, at in self._aside.items() if at > now}

    def deadline(self) -> Deadline | None:
        """When something that was set aside may be chosen again."""
        return Deadline(min(self._aside.values()), "try again what failed") if self._aside else None


def chosen(ranking: tuple[Ranked, ...]) -> Target | None:
    """The target with the least score; None when there is nothing that may be used."""
    return ranking[0].target if ranking and ranking[0].weighed.held is None else None


def policy_of(configuration: Configuration) -> Policy:
    """Which links may be used: never those to the networks behind this node."""
    wanted = configuration.movement
    denied = (*wanted.deny, *configuration.ingress)
    return Policy(wanted.interfaces, denied, wanted.prefer_ipv6, wanted.interfaces, metered=wanted.metered)


def _present_first(home_agents: tuple[HomeAgent, ...], present: Target | None) -> tuple[HomeAgent, ...]:
    """A home agent that serves us is not left for a better one: it would go on defending our addresses."""
    if present is None or present.home_agent not in home_agents:
        return home_agents
    return (present.home_agent, *(agent for agent in home_agents if agent != present.home_agent))


def _key(target: Target) -> Key:
    return (target.attachment.interface, target.care_of, target.home_agent)
