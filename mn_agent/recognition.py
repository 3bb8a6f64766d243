"""The thinker that recognises networks: it asks known routers when a link comes up, and doubts what is left.

Pure. RFC 4436, RFC 6059, see movement.visit. What it finds gives addresses back and orders the choice;
nothing is trusted for it, and nobody is at home for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from mn_agent.actions import Action, ListenOnLinks, ProbeLink, Report
from mn_agent.desired import ConfirmedLease, Surroundings
from mn_agent.events import Event, NeighbourAnswered, NetworkChanged
from mn_agent.network_memory import NetworkMemory
from movement.opinion import Opinion, Verdict
from movement.policy import Policy
from movement.visit import Ask, Confirmation, Visit
from runtime.node import Deadline
from tunnel.kernel import PROTOCOL

BY = "recognition"


@dataclass(frozen=True, slots=True)
class Recognised:
    """For `mnctl status`: what is known of the network of a link, how, and since when."""

    interface: str
    confirmation: Confirmation


class Recognition:
    """`owns_addresses`: the agent sets what ARP has confirmed. Links that `policy` forbids are left alone."""

    def __init__(self, policy: Policy, networks: NetworkMemory, owns_addresses: bool) -> None:
        self._policy = policy
        self._networks = networks
        self._owns_addresses = owns_addresses
        self._visits: dict[str, Visit] = {}
        self._listening: tuple[str, ...] = ()
        self._signs: tuple[Opinion, ...] = ()

    @property
    def leases(self) -> tuple[ConfirmedLease, ...]:
        """Addresses that the agent sets until the DHCP client has an answer of its own."""
        found = ((name, visit.lease) for name, visit in self._visits.items() if self._owns_addresses)
        return tuple(ConfirmedLease(name, lease) for name, lease in found if lease is not None)

    @property
    def recognised(self) -> tuple[Recognised, ...]:
        visits = self._visits.items()
        return tuple(Recognised(name, confirmed) for name, v in visits for confirmed in v.confirmations)

    def handle(self, event: Event, around: Surroundings, now: float) -> list[Action]:
        match event:
            case NetworkChanged():
                return self._in_order(self._look(around, now))
            case NeighbourAnswered(interface=interface, answer=answer) if interface in self._visits:
                visit = self._visits[interface]
                news = visit.heard(answer, now)
                return self._in_order([_told(interface, visit.confirmations[-1])] if news else [])
            case _:
                return []

    def tick(self, around: Surroundings, now: float) -> list[Action]:
        return self._in_order(_asked((name, visit.tick(now)) for name, visit in self._visits.items()))

    def deadline(self) -> Deadline | None:
        times = (visit.deadline() for visit in self._visits.values())
        at = min((at for at in times if at is not None), default=None)
        return None if at is None else Deadline(at, "see whether routers answer")

    def opinions(self) -> Iterable[Opinion]:
        yield from self._signs
        for name, visit in self._visits.items():
            verdict = Verdict.UNSTEADY if visit.asking else Verdict.POOR
            for address in visit.doubtful:
                yield Opinion(name, address, verdict, BY, "it may be left over from another network")
            for address in visit.unheard:
                yield Opinion(name, address, verdict, BY, "its router has stopped advertising")

    def _look(self, around: Surroundings, now: float) -> list[Action]:
        links = {link.name: link for link in around.snapshot.links if self._policy.permits(link.name)}
        self._visits = {name: self._visits.get(name) or Visit(PROTOCOL) for name in links}
        self._signs = tuple(_signs(around))
        known = self._networks.known
        return _asked([(name, visit.seen(links[name], known, now)) for name, visit in self._visits.items()])

    def _in_order(self, actions: list[Action]) -> list[Action]:
        """Who asks listens first; who has the answer, or asks no more, listens no longer."""
        listening = tuple(name for name, visit in self._visits.items() if visit.listening)
        if listening == self._listening:
            return actions
        self._listening = listening
        return [ListenOnLinks(listening), *actions]


def _asked(asks: Iterable[tuple[str, Ask]]) -> list[Action]:
    return [ProbeLink(name, ask) for name, ask in asks if ask.gateways or ask.routers or ask.solicit]


def _told(interface: str, confirmation: Confirmation) -> Report:
    fields = {"interface": interface, "network": confirmation.what, "by": confirmation.by}
    return Report("network", fields)


def _signs(around: Surroundings) -> Iterator[Opinion]:
    """RFC 6275 section 11.5.1: a default router that is not reachable, a prefix that is being given up."""
    for attachment in around.attachments:
        link, care_of = around.snapshot.link(attachment.interface), attachment.care_of
        routers, addresses = ((), ()) if link is None else (link.routers, link.addresses)
        if any(r.silent and r.gateway == attachment.router for r in routers):
            why = f"its router {attachment.router} does not answer"
            yield Opinion(attachment.interface, care_of, Verdict.POOR, BY, why)
        if any(a.deprecated and a.address == care_of for a in addresses):
            yield Opinion(attachment.interface, care_of, Verdict.POOR, BY, "its prefix is being given up")
