"""Detecting network attachment in IPv6: are the routers behind which our addresses are valid on this link?

Pure. RFC 6059 ("Simple DNA"). Known routers are asked by unicast neighbour solicitations while one router
solicitation asks who else is there. Nothing of this is secure, nor decides whether anything is trusted.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv6Address, IPv6Network

from movement.known_networks import KnownNetworks
from movement.rounds import Rounds
from movement.snapshot import Link
from wire.router_probes import HARDWARE_SIZE, NeighbourAdvertisement, RouterAdvertisement

MAX_ROUTERS = 6
MAX_ADVERTISERS = 16


@dataclass(frozen=True, slots=True)
class KnownRouter:
    """A router is its link-local address together with its hardware: either of them occurs on many links."""

    address: IPv6Address
    hardware: bytes
    prefixes: tuple[IPv6Network, ...]
    """Those in which we have an address on this link."""


@dataclass(frozen=True, slots=True)
class Questions:
    """Whom to ask now. `solicit`: also everybody."""

    routers: tuple[KnownRouter, ...] = ()
    solicit: bool = False


def routers(known: KnownNetworks, link: Link) -> tuple[KnownRouter, ...]:
    """Those that are known for a prefix in which the link has an address; the one met last comes first."""
    prefixes: dict[tuple[IPv6Address, bytes], tuple[IPv6Network, ...]] = {}
    ours = {address.network for address in link.addresses if not address.address.is_link_local}
    for network, _ in reversed(known.entries):
        if not isinstance(network.router, IPv6Address) or not isinstance(network.prefix, IPv6Network):
            continue
        if network.router.is_link_local and network.prefix in ours and len(network.hardware) == HARDWARE_SIZE:
            key = network.router, network.hardware
            prefixes[key] = (*prefixes.get(key, ()), network.prefix)
    found = (KnownRouter(address, hardware, those) for (address, hardware), those in prefixes.items())
    return tuple(found)[:MAX_ROUTERS]


class RouterTest:
    """One link. What routers themselves advertise overrides what their neighbour advertisements suggest."""

    __slots__ = ("_advertised", "_reached", "_rounds", "_routers")

    def __init__(self) -> None:
        self._routers: tuple[KnownRouter, ...] = ()
        self._rounds = Rounds()
        self._reached: dict[tuple[IPv6Address, bytes], tuple[IPv6Network, ...]] = {}
        self._advertised: set[tuple[IPv6Address, bytes]] = set()

    @property
    def running(self) -> bool:
        return self._rounds.running

    @property
    def confirmed(self) -> frozenset[IPv6Network]:
        """The prefixes whose addresses may be used here, as far as this test has shown."""
        return frozenset(prefix for prefixes in self._reached.values() for prefix in prefixes)

    def begin(self, among: Iterable[KnownRouter], now: float) -> Questions:
        """The link came up: whom to ask now."""
        self._routers = tuple(among)
        self._reached, self._advertised = {}, set()
        self._rounds.begin(now)
        return self.tick(now)

    def tick(self, now: float) -> Questions:
        """Whom to ask now. Everybody is asked once; those that have answered are not asked again."""
        number = self._rounds.due(now)
        if number is None:
            return Questions()
        waiting = (r for r in self._routers if (r.address, r.hardware) not in self._reached)
        return Questions(tuple(waiting), solicit=number == 0)

    def heard(self, answer: NeighbourAdvertisement | RouterAdvertisement) -> bool:
        """Whether this says anything new about our prefixes."""
        before = self.confirmed
        match answer:
            case NeighbourAdvertisement(target=address, hardware=hardware, solicited=True):
                asked = (router for router in self._routers if router.address == address)
                router = next((router for router in asked if router.hardware == hardware), None)
                if router is not None and (address, hardware) not in self._advertised:
                    self._reached[address, hardware] = router.prefixes
            case RouterAdvertisement(source=address, hardware=hardware, prefixes=prefixes):
                if len(self._advertised) < MAX_ADVERTISERS:
                    self._advertised.add((address, hardware))
                    self._reached[address, hardware] = prefixes
        return self.confirmed != before

    def end(self) -> None:
        """The link went down."""
        self._rounds.end()

    def deadline(self) -> float | None:
        return self._rounds.deadline()
