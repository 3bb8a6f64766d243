"""NAT64: on a link with IPv6 only, the way to an IPv4 home agent is found, and stands as an attachment.

Pure. RFC 8781 (routers say the prefix), RFC 7050 (else DNS shows it), RFC 6052. The attachment has an IPv4
care-of address that stands for the IPv6 one (RFC 7335); the home agent sees another, and so a NAT.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv6Address, IPv6Network

from mn_agent.actions import Action, AskNat64
from mn_agent.desired import Surroundings
from mn_agent.events import Event
from movement.opinion import Opinion
from movement.policy import Attachment
from movement.translation import EXTRA_HEADER, Translation
from runtime.node import Deadline
from wire.nat64 import STANCES

ASK_AGAIN = 30.0
"""Seconds between two questions to DNS, which are asked only while the home agent does not answer. Ours."""
MOST = 8


@dataclass(slots=True)
class _Link:
    """A link with IPv6 only, as long as it is in one network."""

    attachment: Attachment
    prefix: IPv6Network | None = None
    asked_at: float | None = None


class Nat64:
    """Knows the prefix of each link, and adds to attachments what it makes possible."""

    def __init__(self) -> None:
        self._links: dict[str, _Link] = {}
        self._stances: dict[tuple[str, Translation], IPv4Address] = {}
        self._given = 0

    # ---- what is known ---------------------------------------------------------------------
    def learnt(self, interface: str, prefixes: tuple[IPv6Network, ...]) -> None:
        """Routers, or DNS, have told of these, the best first. What was told first stays."""
        link = self._links.get(interface)
        if link is not None and link.prefix is None and prefixes:
            link.prefix = prefixes[0]

    def extended(self, attachments: tuple[Attachment, ...], home: IPv6Address) -> tuple[Attachment, ...]:
        """`attachments`, and after each that has no IPv4 beside it the one through its NAT64."""
        self._follow(attachments, home)
        found: list[Attachment] = []
        for attachment in attachments:
            found.append(attachment)
            link = self._links.get(attachment.interface)
            if link is not None and link.prefix is not None and link.attachment is attachment:
                found.append(self._through(attachment, link.prefix))
        return tuple(found)

    def _follow(self, attachments: Iterable[Attachment], home: IPv6Address) -> None:
        with_ipv4 = {a.interface for a in attachments if a.care_of.version == 4}
        links: dict[str, _Link] = {}
        for attachment in attachments:
            if attachment.interface in with_ipv4 or attachment.care_of == home or len(links) >= MOST:
                continue
            known = self._links.get(attachment.interface)
            if known is None or not _same_network(known.attachment, attachment):
                known = _Link(attachment)
            known.attachment = attachment
            links[attachment.interface] = known
        self._links = links

    def _through(self, attachment: Attachment, prefix: IPv6Network) -> Attachment:
        assert isinstance(attachment.care_of, IPv6Address), "links here have no other addresses"
        translation = Translation(attachment.care_of, prefix)
        return replace(
            attachment,
            care_of=self._stance(attachment.interface, translation),
            prefix_length=32,
            mtu=attachment.mtu - EXTRA_HEADER,
            network=None,  # what is remembered of the network is true of its IPv6
            through=translation,
        )

    def _stance(self, interface: str, translation: Translation) -> IPv4Address:
        """Another one for each address that it stands for, so that a change of that is a movement."""
        known = self._stances.get((interface, translation))
        if known is not None:
            return known
        in_use = set(self._stances.values())
        hosts = [IPv4Address(address) for address in STANCES][1:-1]
        for _ in hosts:
            self._given += 1
            stance = hosts[self._given % len(hosts)]
            if stance not in in_use:
                break
        self._stances = {key: value for key, value in self._stances.items() if value != stance}
        self._stances[interface, translation] = stance
        return stance

    # ---- the shape of a thinker ------------------------------------------------------------
    def handle(self, event: Event, around: Surroundings, now: float) -> list[Action]:
        return self.tick(around, now)

    def tick(self, around: Surroundings, now: float) -> list[Action]:
        """DNS shows the prefix of the network that it is asked through, so there must be only one."""
        interfaces = {attachment.interface for attachment in around.attachments}
        if len(interfaces) != 1 or not around.unanswered:
            return []
        link = self._links.get(next(iter(interfaces)))
        serves = any(agent.ipv4 is not None for agent in around.home_agents)
        if link is None or link.prefix is not None or not serves:
            return []
        if link.asked_at is not None and now < link.asked_at + ASK_AGAIN:
            return []
        link.asked_at = now
        return [AskNat64(link.attachment.interface)]

    def deadline(self) -> Deadline | None:
        return None  # unanswered updates have timers of their own

    def opinions(self) -> Iterable[Opinion]:
        return ()


def _same_network(before: Attachment, after: Attachment) -> bool:
    if before.carrier_losses != after.carrier_losses:
        return False
    return before.care_of == after.care_of or (before.network is not None and before.network == after.network)
