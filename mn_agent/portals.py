"""Captive portals: a network that wants a login first is told to the user, and is not used until then.

Pure. RFC 8910 (the network says where to ask, by advertisements or DHCP), RFC 8908 (it answers), and a page
known to us, if one is configured, for networks that say nothing. All of it is hearsay of that very network,
and holds only that.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, ip_address

from mn_agent.actions import Action, AskDhcp, AskRouters, FetchPage, Report
from mn_agent.config import PortalSection
from mn_agent.desired import Surroundings
from mn_agent.events import Check, DhcpSaid, Event, NetworkChanged, Refresh, Roam, RouterSaid, WebAnswered
from movement.captive import NOTHING, Portal, from_api, from_probe
from movement.opinion import Opinion, Verdict
from movement.policy import Attachment
from runtime.node import Deadline, earliest
from wire.http import Answer, Page, page_of

SOLICIT_AT = (0.0, 1.0, 4.0)
"""Seconds after a network appeared at which routers, and DHCP servers, are asked, until one has answered."""
PACES = ((600.0, 1.0), (3600.0, 10.0), (math.inf, 60.0))
"""(Seconds of being captive up to which it holds, seconds between looks whether somebody has logged in)."""
UNSURE = 15.0
"""Seconds between looks at a network that is not known to be captive, while the home agent is silent."""
ANSWER_WITHIN = 4.0
FAILURES = 5
"""Looks without an answer after which a portal is believed to be gone."""
MOST = 8


@dataclass(slots=True)
class _Network:
    """One link as long as it is in one network. `captive` None: not known."""

    attachments: tuple[Attachment, ...]
    since: float
    solicited: int = 0
    answered: bool = False
    informed: int = 0
    """How often DHCP servers have been asked."""
    informed_enough: bool = False
    api: Page | None = None
    captive: bool | None = None
    url: str | None = None
    captive_since: float = 0.0
    looked_at: float = -math.inf
    pending: int | None = None
    failures: int = 0
    hurry: bool = False

    def has_portal(self, url: str | None) -> None:
        """Somebody there says so; whoever comes first is asked."""
        if url and self.api is None:
            self.api = _page(url)
            self.hurry = True

    @property
    def solicit_at(self) -> float:
        if self.answered or self.solicited >= len(SOLICIT_AT):
            return math.inf
        return self.since + SOLICIT_AT[self.solicited]

    @property
    def ipv4(self) -> IPv4Address | None:
        """From where DHCP servers can be asked."""
        own = (place.care_of for place in self.attachments if place.through is None)
        return next((address for address in own if isinstance(address, IPv4Address)), None)

    @property
    def inform_at(self) -> float:
        """Not once the home agent has answered from there: then nobody wants a login."""
        if self.ipv4 is None or self.informed_enough or self.api is not None:
            return math.inf
        return self.since + SOLICIT_AT[self.informed] if self.informed < len(SOLICIT_AT) else math.inf


class Portals:
    """Looks when a network says that it has a portal, or the home agent is silent; then until it is open."""

    def __init__(self, section: PortalSection) -> None:
        self._probe = page_of(section.probe_url) if section.probe_url else None
        self._expected = section.probe_expect
        self._networks: dict[str, _Network] = {}
        self._silent = ""
        """The interface through which the home agent does not answer."""
        self._number = 0

    # ---- the shape of a thinker ------------------------------------------------------------
    def handle(self, event: Event, around: Surroundings, now: float) -> list[Action]:
        actions: list[Action] = []
        match event:
            case RouterSaid(interface=interface, way_out=way_out) if interface in self._networks:
                network = self._networks[interface]
                network.answered = True
                network.has_portal(way_out.portal)
            case DhcpSaid(interface=interface, portal=portal) if interface in self._networks:
                network = self._networks[interface]
                network.informed_enough = True
                network.has_portal(portal)
            case WebAnswered(number=number, answer=answer):
                actions += self._answered(number, answer, now)
            case Check():
                for network in self._networks.values():
                    network.hurry = True
            case NetworkChanged() | Refresh() | Roam():
                for network in self._networks.values():
                    network.hurry = network.hurry or bool(network.captive)
            case _:
                pass
        return actions + self.tick(around, now)

    def tick(self, around: Surroundings, now: float) -> list[Action]:
        self._follow(around, now)
        actions: list[Action] = []
        for interface, network in self._networks.items():
            if network.solicit_at <= now:
                network.solicited += 1
                actions.append(AskRouters(interface))
            if network.inform_at <= now and network.ipv4 is not None:
                network.informed += 1
                actions.append(AskDhcp(interface, network.ipv4))
            if network.pending is not None and network.looked_at + ANSWER_WITHIN <= now:
                actions += self._learnt(interface, network, NOTHING, now)
            if self._look_at(interface, network) <= now:
                actions += self._look(network, now)
        return actions

    def deadline(self) -> Deadline | None:
        every = (due for each in self._networks.items() for due in self._deadlines(*each))
        return earliest(due for due in every if due.at < math.inf)

    def opinions(self) -> Iterator[Opinion]:
        for network in self._networks.values():
            if network.captive:
                why = f"a captive portal wants a login: {network.url or 'open any web page there'}"
                for place in network.attachments:
                    yield Opinion(place.interface, place.care_of, Verdict.HELD, "portal", why)

    def standing(self) -> Iterator[tuple[str, str | None, float]]:
        """(interface, where to log in, since when) of every network that lets nobody out."""
        for interface, network in self._networks.items():
            if network.captive:
                yield interface, network.url, network.captive_since

    def state(self, interface: str) -> str:
        """In one word, for `mnctl netcheck`: captive, open or unknown."""
        network = self._networks.get(interface)
        if network is None or network.captive is None:
            return "unknown"
        return "captive" if network.captive else "open"

    # ---- which networks there are ----------------------------------------------------------
    def _follow(self, around: Surroundings, now: float) -> None:
        present: dict[str, list[Attachment]] = {}
        for attachment in around.attachments:
            present.setdefault(attachment.interface, []).append(attachment)
        known: dict[str, _Network] = {}
        for interface, attachments in list(present.items())[:MOST]:
            network = self._networks.get(interface)
            if network is None or not _same_network(network.attachments, attachments):
                network = _Network((), now)
            network.attachments = tuple(attachments)
            known[interface] = network
        self._networks = known
        target, binding = around.target, around.binding
        silent = target is not None and around.unanswered > 0
        self._silent = target.attachment.interface if silent and target is not None else ""
        reached = binding.target if binding is not None else target if around.at_home else None
        if reached is not None and not silent and reached.attachment.interface in known:
            # Whatever its portal says, the home agent answers from there.
            network = known[reached.attachment.interface]
            network.captive, network.informed_enough = None, True

    # ---- looking ---------------------------------------------------------------------------
    def _look_at(self, interface: str, network: _Network) -> float:
        if network.pending is not None or self._question(network) is None:
            return math.inf
        if network.hurry:
            return network.looked_at + PACES[0][1] / 2
        if network.captive:
            waited = network.looked_at - network.captive_since
            return network.looked_at + next(pace for until, pace in PACES if waited < until)
        return network.looked_at + UNSURE if interface == self._silent else math.inf

    def _question(self, network: _Network) -> tuple[Page, Attachment] | None:
        """What to ask for and from where; None if there is no page, or no address to ask from."""
        page = network.api or self._probe
        if page is None:
            return None
        plain = (a for a in network.attachments if a.through is None)
        places = (a for a in plain if _version(page) in (None, a.care_of.version))
        place = next(places, None)
        return None if place is None else (page, place)

    def _look(self, network: _Network, now: float) -> list[Action]:
        question = self._question(network)
        assert question is not None, "there is an instant to look only with a question"
        self._number += 1
        network.pending, network.looked_at, network.hurry = self._number, now, False
        page, place = question
        return [FetchPage(place, page, self._number, "application/captive+json" if network.api else "*/*")]

    def _answered(self, number: int, answer: Answer | None, now: float) -> list[Action]:
        for interface, network in self._networks.items():
            if network.pending == number:
                return self._learnt(interface, network, self._read(network, answer), now)
        return []

    def _read(self, network: _Network, answer: Answer | None) -> Portal:
        if answer is None:
            return NOTHING
        return from_api(answer) if network.api is not None else from_probe(answer, self._expected)

    def _learnt(self, interface: str, network: _Network, portal: Portal, now: float) -> list[Action]:
        network.pending = None
        before = network.captive
        if portal.captive is None:
            network.failures += 1
            if network.captive and network.failures >= FAILURES:
                network.captive = None
        else:
            network.failures = 0
            network.captive, network.url = portal.captive, portal.url or network.url
        if network.captive and not before:
            network.captive_since = now
        if bool(network.captive) == bool(before):
            return []
        fields = {"interface": interface, "captive": bool(network.captive), "url": network.url}
        return [Report("portal", fields)]

    def _deadlines(self, interface: str, network: _Network) -> Iterator[Deadline]:
        yield Deadline(network.solicit_at, "ask routers for a way out")
        yield Deadline(network.inform_at, "ask DHCP servers for a way out")
        yield Deadline(self._look_at(interface, network), "look whether a portal is open")
        if network.pending is not None:
            yield Deadline(network.looked_at + ANSWER_WITHIN, "answer of a web server")


def _same_network(before: tuple[Attachment, ...], after: list[Attachment]) -> bool:
    """The carrier has never gone, and an address has stayed."""
    stayed = {a.care_of for a in before} & {a.care_of for a in after}
    return bool(stayed) and before[0].carrier_losses == after[0].carrier_losses


def _page(url: str) -> Page | None:
    try:
        return page_of(url)
    except ValueError:
        return None


def _version(page: Page) -> int | None:
    """Of the address that is the host of the page; None if that is a name."""
    try:
        return ip_address(page.host).version
    except ValueError:
        return None
