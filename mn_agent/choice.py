"""Which target to register now: by rank, by what has just failed, by what the user asked.

Pure. RFC 5555 section 4.4.1 (family fallback), RFC 6275 section 11.8 (next home agent).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv6Address

from mn_agent.binding_update_list import HomeAgent, Target
from mn_agent.config import Configuration
from movement.opinion import Opinion, Verdict
from movement.policy import Attachment, Policy
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

    def matches(self, attachment: Attachment) -> bool:
        return (self.interface is None or attachment.interface == self.interface) and (
            self.family is None or attachment.care_of.version == self.family
        )


ANY = Wanted()


class Choice:
    """Remembers what failed lately and what the user wants; chooses by that and by rank."""

    def __init__(self, home_address: IPv6Address | None = None) -> None:
        self.wanted = ANY
        self.opinions: Sequence[Opinion] = ()
        self._home_address = home_address
        self._aside: dict[Key, float] = {}

    def best(
        self,
        attachments: tuple[Attachment, ...],
        home_agents: tuple[HomeAgent, ...],
        present: Target | None,
        now: float,
    ) -> Target | None:
        """The first target of the ranking that has not just failed, and that nobody has a bad opinion of.

        If all have failed, the present one goes on trying; if that is gone, the one that failed longest ago.
        None when there is nothing to choose from, or nothing that may be used.
        """
        judged = [
            (self.verdict(target.attachment), target)
            for target in self.candidates(attachments, _present_first(home_agents, present))
        ]
        candidates = [t for verdict, t in sorted(judged, key=lambda j: j[0]) if verdict is not Verdict.HELD]
        fresh = next((t for t in candidates if self._aside.get(_key(t), 0.0) <= now), None)
        if fresh is not None or not candidates:
            return fresh
        kept = next((t for t in candidates if present is not None and _key(t) == _key(present)), None)
        return kept or min(candidates, key=lambda t: self._aside[_key(t)])

    def verdict(self, attachment: Attachment) -> Verdict:
        """The worst that is thought of it."""
        heard = (opinion.verdict for opinion in self.opinions if opinion.concerns(attachment))
        return max(heard, default=Verdict.GOOD)

    def candidates(
        self, attachments: tuple[Attachment, ...], home_agents: tuple[HomeAgent, ...]
    ) -> list[Target]:
        """Every target, best first. What the user wants comes first while it is there."""
        wanted = [a for a in attachments if self.wanted.matches(a)]
        others = [a for a in attachments if not self.wanted.matches(a)]
        return [
            Target(attachment, home_agent, attachment.care_of == self._home_address)
            for home_agent in home_agents
            for attachment in (*wanted, *others)
            if home_agent.serves(attachment.care_of)
        ]

    def set_aside(self, target: Target, seconds: float, now: float) -> None:
        """Do not choose `target` for a while."""
        if len(self._aside) >= MAX_SET_ASIDE:
            self._aside.pop(min(self._aside, key=lambda key: self._aside[key]))
        self._aside[_key(target)] = now + seconds

    def forget_absent(self, attachments: Iterable[Attachment]) -> None:
        """A network that was left starts afresh when it is met again; so does a wish for it."""
        present = {(a.interface, a.care_of) for a in attachments}
        self._aside = {key: at for key, at in self._aside.items() if key[:2] in present}
        if self.wanted.interface is not None and self.wanted.interface not in {i for i, _ in present}:
            self.wanted = replace(self.wanted, interface=None)

    def expire(self, now: float) -> None:
        """Allow again what has been set aside long enough."""
        self._aside = {key: at for key, at in self._aside.items() if at > now}

    def deadline(self) -> Deadline | None:
        """When something that was set aside may be chosen again."""
        return Deadline(min(self._aside.values()), "try again what failed") if self._aside else None


def policy_of(configuration: Configuration) -> Policy:
    """Which links may be used: never those to the networks behind this node."""
    wanted = configuration.movement
    denied = (*wanted.deny, *configuration.ingress)
    return Policy(wanted.interfaces, denied, wanted.prefer_ipv6, wanted.interfaces)


def _present_first(home_agents: tuple[HomeAgent, ...], present: Target | None) -> tuple[HomeAgent, ...]:
    """A home agent that serves us is not left for a better one: it would go on defending our addresses."""
    if present is None or present.home_agent not in home_agents:
        return home_agents
    return (present.home_agent, *(agent for agent in home_agents if agent != present.home_agent))


def _key(target: Target) -> Key:
    return (target.attachment.interface, target.care_of, target.home_agent)
