"""Detecting network attachment in IPv4: is this a network that we know, and is our address there still ours?

Pure. RFC 4436. Each router that may be here is asked by unicast ARP. Nothing of this is secure: an answer
may give an address back, and never decides whether anything is trusted.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address

from movement.known_networks import KnownNetworks, Learnt, Lease
from movement.network import NetworkId
from movement.rounds import Rounds
from wire.router_probes import HARDWARE_SIZE, ArpReply

MAX_CANDIDATES = 6


@dataclass(frozen=True, slots=True)
class Candidate:
    """A network that may be this one, and the lease that we have there."""

    network: NetworkId
    lease: Learnt[Lease]

    @property
    def address(self) -> IPv4Address:
        return self.lease.value.address


def candidates(known: KnownNetworks, client_id: str, now: float) -> tuple[Candidate, ...]:
    """Those in which this client has an address that is still leased; the one met last comes first.

    Left out, as RFC 4436 section 2.1 says: link-local addresses, and leases of another client identifier.
    """
    found = (
        Candidate(network, lease)
        for network, facts in reversed(known.entries)
        if network.router.version == 4 and len(network.hardware) == HARDWARE_SIZE
        for lease in facts.at(now).leases
        if lease.value.client_id == client_id and not lease.value.address.is_link_local
    )
    return tuple(found)[:MAX_CANDIDATES]


class AddressTest:
    """One link. The first valid answer ends the test; several candidates are asked at once."""

    __slots__ = ("_candidates", "_rounds")

    def __init__(self) -> None:
        self._candidates: tuple[Candidate, ...] = ()
        self._rounds = Rounds()

    @property
    def running(self) -> bool:
        return self._rounds.running

    def begin(self, among: tuple[Candidate, ...], now: float) -> tuple[Candidate, ...]:
        """The link came up: whom to ask now."""
        self._candidates = among
        if not among:
            self._rounds.end()
            return ()
        self._rounds.begin(now)
        return self.tick(now)

    def tick(self, now: float) -> tuple[Candidate, ...]:
        """Whom to ask now."""
        return () if self._rounds.due(now) is None else self._candidates

    def heard(self, reply: ArpReply) -> Candidate | None:
        """The network that this is, if `reply` proves as much as it can: both addresses are the router's.

        With the right address and other hardware it is another network that happens to look alike.
        """
        if not self._rounds.running:
            return None
        for candidate in self._candidates:
            network = candidate.network
            if reply.sender == network.router and reply.hardware == network.hardware:
                self._rounds.end()
                return candidate
        return None

    def end(self) -> None:
        """The link went down, or an address is there by other means."""
        self._rounds.end()

    def deadline(self) -> float | None:
        return self._rounds.deadline()
