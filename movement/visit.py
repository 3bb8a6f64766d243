"""One link since its carrier came: which network is this, and may the addresses that it still has be used?

Pure. RFC 4436, RFC 6059, RFC 6275 section 11.5.1. Linux keeps addresses while the carrier is away, so after
it has come back they may belong to another network. Whoever owns them finds out in time; a router that
answers says it within a millisecond.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv6Address
from typing import assert_never

from movement.dna4 import AddressTest, Candidate, candidates
from movement.dna6 import KnownRouter, Questions, RouterTest, routers
from movement.heartbeat import Heartbeat
from movement.known_networks import NOTHING, KnownNetworks
from movement.learning import client_id
from movement.network import network_of
from movement.policy import usable
from movement.snapshot import Address, Link, LinkAddress
from wire.router_probes import ArpReply, NeighbourAdvertisement, NeighbourAnswer, RouterAdvertisement

RENEWED = 1.0
"""Seconds by which the end of an address must move to be a renewal: the kernel counts whole ones."""


@dataclass(frozen=True, slots=True)
class Ask:
    """Whom to ask on a link now: gateways by ARP, routers by neighbour solicitation, `solicit`: everybody."""

    gateways: tuple[Candidate, ...] = ()
    routers: tuple[KnownRouter, ...] = ()
    solicit: bool = False
    source: IPv6Address | None = None
    """Our link-local address, without which IPv6 routers cannot be asked."""


@dataclass(frozen=True, slots=True)
class Confirmation:
    """What an answer has shown, and when."""

    what: str
    by: str
    at: float


class Visit:
    """`ours` is the protocol number of addresses and routes that this agent sets."""

    __slots__ = (
        "_asked_routers", "_doubts", "_heartbeat", "_known", "_ours", "_test4", "_test6", "confirmations",
        "lease", "link", "unheard",
    )  # fmt: skip

    def __init__(self, ours: int) -> None:
        self._ours = ours
        self._known = KnownNetworks()
        self._heartbeat = Heartbeat()
        self._test4 = AddressTest()
        self._test6 = RouterTest()
        self._doubts: dict[Address, float] = {}
        self._asked_routers = False
        self.link: Link | None = None
        self.lease: Candidate | None = None
        """What ARP has confirmed, until the DHCP client has an answer of its own."""
        self.confirmations: tuple[Confirmation, ...] = ()
        self.unheard: tuple[Address, ...] = ()
        """Addresses whose router has stopped advertising, and has not answered since."""

    @property
    def asking(self) -> bool:
        return self._test4.running or self._test6.running

    @property
    def listening(self) -> bool:
        """Whether anything that is heard on the link matters now."""
        return self.asking or self._heartbeat.watched

    @property
    def doubtful(self) -> tuple[Address, ...]:
        """Addresses of which nobody has shown yet that they belong to this network."""
        return tuple(self._doubts)

    def seen(self, link: Link, known: KnownNetworks, now: float) -> Ask:
        """The newest snapshot shows `link` like this; whom to ask now."""
        before, self.link, self._known = self.link, link, known
        if not link.up:
            self._leave()
            return Ask()
        if before is None or not before.up or before.carrier_losses != link.carrier_losses:
            self._leave()
            # What it has when the agent starts was there before, and is not doubted.
            self._doubts = {} if before is None else dict(_kept(before, link))
            return self._arrive(link, now)
        self._look(link)
        return self._ask((), self._ask_routers(link, now))

    def heard(self, answer: NeighbourAnswer, now: float) -> bool:
        """Whether the answer confirms something."""
        match answer:
            case ArpReply():
                candidate = self._test4.heard(answer)
                if candidate is None:
                    return False
                there = self.link.addresses if self.link is not None else ()
                if all(a.address != candidate.address or a.protocol == self._ours for a in there):
                    self.lease = candidate
                self._doubts.pop(candidate.address, None)
                self._confirm(f"{candidate.address} in {candidate.network}", "arp", now)
            case NeighbourAdvertisement() | RouterAdvertisement():
                if isinstance(answer, RouterAdvertisement):
                    self._heartbeat.heard(answer, self._own6(), now)
                if not self._test6.running or not self._test6.heard(answer):
                    return False
                prefixes = self._test6.confirmed
                shown = {a for a in self._own6() if any(a in prefix for prefix in prefixes)}
                self.unheard = tuple(a for a in self.unheard if a not in shown)
                for address in shown & self._doubts.keys():
                    del self._doubts[address]
                by = "na" if isinstance(answer, NeighbourAdvertisement) else "ra"
                self._confirm(", ".join(map(str, sorted(prefixes, key=str))), by, now)
            case _:
                assert_never(answer)
        return True

    def tick(self, now: float) -> Ask:
        """Whom to ask now."""
        if self.lease is not None and self.lease.lease.until <= now:
            self.lease = None
        if self.link is not None and self._heartbeat.missed(now):
            self.unheard = self._own6()
            return self._ask(self._test4.tick(now), self._test6.begin(routers(self._known, self.link), now))
        return self._ask(self._test4.tick(now), self._test6.tick(now))

    def deadline(self) -> float | None:
        lease_end = None if self.lease is None else self.lease.lease.until
        times = (self._test4.deadline(), self._test6.deadline(), self._heartbeat.deadline(), lease_end)
        return min((at for at in times if at is not None), default=None)

    def _arrive(self, link: Link, now: float) -> Ask:
        """Where an address is there that is not doubted, there is nothing to ask for (RFC 4436 section 1)."""
        leased = () if any(self._good4(link)) else candidates(self._known, client_id(link), now)
        return self._ask(self._test4.begin(leased, now), self._ask_routers(link, now))

    def _ask_routers(self, link: Link, now: float) -> Questions:
        """Once, as soon as there is a link-local address to ask from: it may come after the carrier."""
        if self._asked_routers or _link_local(link) is None:
            return Questions()
        self._asked_routers = True
        return self._test6.begin(routers(self._known, link), now)

    def _look(self, link: Link) -> None:
        """Others find out as well: a lifetime that was renewed, a router that the kernel has resolved."""
        ends = {a.address: a.valid_until for a in link.addresses if usable(a)}
        for address, before in tuple(self._doubts.items()):
            end = ends.get(address, before)
            renewed = address not in ends or end is None or end > before + RENEWED
            if renewed or _resolved(link, address, self._known):
                del self._doubts[address]
        self.unheard = tuple(address for address in self.unheard if address in ends)
        if any(address.protocol != self._ours for address in self._good4(link)):
            self._test4.end()
            self.lease = None

    def _good4(self, link: Link) -> Iterator[LinkAddress]:
        """Its IPv4 addresses that nobody doubts."""
        found = (a for a in link.addresses if a.address.version == 4 and usable(a))
        return (a for a in found if a.address not in self._doubts)

    def _own6(self) -> tuple[IPv6Address, ...]:
        """Its IPv6 addresses in networks."""
        found = (a.address for a in (self.link.addresses if self.link is not None else ()) if usable(a))
        return tuple(address for address in found if isinstance(address, IPv6Address))

    def _leave(self) -> None:
        self._test4.end()
        self._test6.end()
        self._heartbeat.end()
        self._doubts, self._asked_routers = {}, False
        self.lease, self.confirmations, self.unheard = None, (), ()

    def _confirm(self, what: str, by: str, now: float) -> None:
        others = tuple(known for known in self.confirmations if known.by != by)
        self.confirmations = (*others, Confirmation(what, by, now))

    def _ask(self, gateways: tuple[Candidate, ...], questions: Questions) -> Ask:
        source = None if self.link is None else _link_local(self.link)
        return Ask(gateways, questions.routers, questions.solicit, source)


def _kept(before: Link, link: Link) -> Iterator[tuple[Address, float]]:
    """Addresses that came with a network, and that the link still has; those given by hand stay good."""
    had = {address.address for address in before.addresses}
    left_over = (a for a in link.addresses if a.address in had and usable(a))
    return ((a.address, a.valid_until) for a in left_over if a.valid_until is not None)


def _resolved(link: Link, address: Address, known: KnownNetworks) -> bool:
    """Whether the kernel has met a router behind which this address is known."""
    own = next(a for a in link.addresses if a.address == address)
    behind = (network_of(r, own) for r in link.routers if r.family == address.version)
    return any(known.about(network) != NOTHING for network in behind)


def _link_local(link: Link) -> IPv6Address | None:
    def is_source(address: LinkAddress) -> bool:
        return address.address.version == 6 and address.address.is_link_local and not address.tentative

    found = (a.address for a in link.addresses if is_source(a))
    return next((address for address in found if isinstance(address, IPv6Address)), None)
