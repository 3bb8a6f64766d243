"""IPv4 home addresses and prefixes given out on request: who has which, until when.

Pure. RFC 5555 section 3.1.1, draft sections 2.5 and 4.5.
"""

from __future__ import annotations

import bisect
import ipaddress
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Address


@dataclass(frozen=True, slots=True)
class Lease:
    """`network` (a single address is a /32) belongs to the mobile node until `until` (CLOCK_BOOTTIME)."""

    home_address: IPv6Address
    network: IPv4Network
    until: float


class AddressPool:
    """Part of the IPv4 space, with at most one lease for each mobile node.

    `offer` only looks; `keep` makes it so. A lease that has run out stays with its mobile node until
    another one needs the space, so that a mobile node that comes back finds its old address.
    """

    def __init__(self, space: IPv4Network | None, excluded: Iterable[IPv4Network] = ()) -> None:
        self.space = space
        self._leases: dict[IPv6Address, Lease] = {}
        apart = ipaddress.collapse_addresses(excluded)
        self._excluded = sorted((_first(network), _last(network)) for network in apart)
        self._taken: list[tuple[int, int]] = []
        """The leased ranges in order."""
        self._holders: dict[tuple[int, int], IPv6Address] = {}
        self._low: dict[int, int] = {}
        """By prefix length: nothing below this number is free, so that no search walks over it again."""
        self._shunned: dict[IPv4Network, float] = {}

    @property
    def leases(self) -> tuple[Lease, ...]:
        return tuple(self._leases.values())

    def lease_of(self, home_address: IPv6Address) -> Lease | None:
        return self._leases.get(home_address)

    def offer(self, home_address: IPv6Address, length: int, now: float) -> IPv4Network | None:
        """What `home_address` would get as a prefix of `length`: its own lease, else what is free.

        Its own lease is offered whatever its length: a mobile node never holds two (draft section 3.1.1).
        """
        own = self._leases.get(home_address)
        if own is not None and not self._is_shunned(own.network, now):
            return own.network
        if self.space is None or not self.space.prefixlen <= length <= 32:
            return None
        return self._fresh(length, now) or self._abandoned(length, now)

    def keep(self, lease: Lease) -> None:
        """Record `lease`, and end whatever stands against it."""
        own = self._leases.get(lease.home_address)
        if own is None or own.network != lease.network:
            if own is not None:
                self._remove(own)
            first, last = _first(lease.network), _last(lease.network)
            while (blocker := _blocking(self._taken, first, last)) is not None:
                self._remove(self._leases[self._holders[blocker]])
            bisect.insort(self._taken, (first, last))
            self._holders[first, last] = lease.home_address
        self._leases[lease.home_address] = lease

    def shun(self, network: IPv4Network, until: float) -> None:
        """Somebody else uses `network`: do not offer it before `until`."""
        self._shunned[network] = until

    def _remove(self, lease: Lease) -> None:
        del self._leases[lease.home_address]
        taken = (_first(lease.network), _last(lease.network))
        del self._taken[bisect.bisect_left(self._taken, taken)]
        del self._holders[taken]
        self._low.clear()

    def _is_shunned(self, network: IPv4Network, now: float) -> bool:
        return any(until > now and bad.overlaps(network) for bad, until in self._shunned.items())

    def _fresh(self, length: int, now: float) -> IPv4Network | None:
        for candidate in self._free(length):
            if not self._is_shunned(candidate, now):
                return candidate
        return None

    def _free(self, length: int) -> Iterator[IPv4Network]:
        assert self.space is not None
        step = 1 << (32 - length)
        start, end = self._low.get(length, _first(self.space)), _last(self.space)
        lowest: int | None = None
        while start + step - 1 <= end:
            last = start + step - 1
            found = (_blocking(self._taken, start, last), _blocking(self._excluded, start, last))
            blocker = max((taken[1] for taken in found if taken is not None), default=-1)
            if blocker < 0:
                if lowest is None:
                    lowest = self._low[length] = start
                yield IPv4Network((start, length))
                start += step
            else:
                start = (blocker // step + 1) * step

    def _abandoned(self, length: int, now: float) -> IPv4Network | None:
        ended = [
            held for held in self._leases.values() if held.until <= now and held.network.prefixlen == length
        ]
        usable = [held for held in ended if not self._is_shunned(held.network, now)]
        return min(usable, key=lambda held: held.until).network if usable else None


def _first(network: IPv4Network) -> int:
    return int(network.network_address)


def _last(network: IPv4Network) -> int:
    return int(network.broadcast_address)


def _blocking(ranges: list[tuple[int, int]], start: int, end: int) -> tuple[int, int] | None:
    """The last range that overlaps start..end. Ranges are in order and do not overlap."""
    index = bisect.bisect_right(ranges, (end, 1 << 32)) - 1
    return ranges[index] if index >= 0 and ranges[index][1] >= start else None
