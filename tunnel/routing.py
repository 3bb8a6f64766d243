"""Makes the kernel equal to a desired state, and puts everything back afterwards.

Performs I/O (rtnetlink, nft, /proc/sys). RFC 6275 section 10.4.1, RFC 7359.

Ours is what carries our protocol number in our tables and at our priorities, the nft table of our name,
every address on the TUN device, and addresses on other links that carry our protocol number. Nothing else
is touched. Every `apply` compares with what the kernel really has, which costs less than a millisecond, so
that no event that was missed can do harm.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from functools import cache, partial
from pathlib import Path

from tunnel import nftables, rtmessages
from tunnel.census import Census
from tunnel.forwarding import Destination
from tunnel.guard import Guard
from tunnel.journal import Journal
from tunnel.kernel import (
    Address,
    AddressOnLink,
    KernelConfig,
    KernelError,
    KernelRoute,
    Owner,
    ProxyNeighbour,
)
from tunnel.rtmessages import Change, Device
from tunnel.rtnetlink import Rtnetlink, interface_index

STATE_FILE = "kernel.json"


class KernelState:
    """The kernel configuration of one role in this network namespace.

    `path` is a small file, best on a tmpfs, that outlives this process. Calls block for about a
    millisecond, and for ten when there is another guard (nft runs). They raise KernelError after doing
    all that could be done.
    """

    __slots__ = (
        "_config",
        "_guard",
        "_guard_listing",
        "_journal",
        "_netlink",
        "_owner",
        "_reader",
        "_settled",
        "guard_changed_at",
    )

    def __init__(self, path: Path, owner: Owner = Owner.MOBILE_NODE) -> None:
        self._owner = owner
        self._netlink = Rtnetlink()
        self._journal = Journal(path, self._netlink.namespace)
        self._config: KernelConfig | None = None
        self._settled: KernelConfig | None = None
        """What the kernel was made equal to without a problem: only guests may differ for a short way."""
        self._guard: Guard | None = None
        self._guard_listing: Future[str] | None = None
        """The guard as nft shows it. Nobody waits for that while something moves."""
        self._reader = ThreadPoolExecutor(1, "guard-listing")
        self.guard_changed_at = 0.0
        """Since when the present guard decides what comes in (seconds of CLOCK_BOOTTIME)."""

    @property
    def port(self) -> int:
        """The netlink port id in notifications about changes that we made ourselves."""
        return self._netlink.port

    def apply(self, config: KernelConfig) -> int:
        """Make the kernel equal to `config`; how many objects had to change.

        The guard comes first, so that no home address is ever there without it; rules come last, so
        that nothing is led to a route that is not there yet. If only guests have come or gone since the
        last time, that alone is changed: with thousands of them, asking what the kernel has takes longer
        than all else that a Binding Update needs. `repair` asks.
        """
        before, settled = self._config, self._settled
        self._config, self._settled = config, None
        if settled is not None and _only_guests_differ(config, settled):
            changed = self._netlink.execute(_guest_changes(config, settled))
            self._settled = config
            return changed
        changed = self._apply_guard(config.guard)
        problem: KernelError | None = None
        device = self._netlink.device(config.device)
        in_vain: frozenset[tuple[Address, int]] = frozenset()
        try:
            if device is not None:
                self._journal.remember_device(config.device, device)
            changed += self._journal.apply(config.sysctls)
            # Packets that wait for neighbours of a way that was left: as long as one waits in this host, TCP
            # takes it for sent and does not send it again. What waits only after coming home is of home.
            if _comes_home(config, before):
                in_vain = self._netlink.unresolved_neighbours()
        except KernelError as error:
            problem = error
        changed += self._netlink.execute(self._differences(config, device))
        if before is not None and (left := _links(before) - _links(config)):
            in_vain |= self._on_links(left)
        self._netlink.execute(rtmessages.forget_neighbour(*neighbour) for neighbour in in_vain)
        if device is None:
            raise KernelError(
                f"use the device {config.device}", "there is no such device", "it must be created again"
            )
        if problem is not None:
            raise problem
        self._settled = config
        return changed

    def repair(self) -> int:
        """Apply the last configuration again, the guard included; how many objects had been changed."""
        if self._config is None:
            return 0
        self._settled = None
        if self._guard is not None and not self._guard_is_there(self._guard):
            self._guard = None
        return self.apply(self._config)

    def clear(self) -> None:
        """Remove everything of ours and restore what we changed. Needs nothing but the state file."""
        self._config = self._settled = None
        with ExitStack() as steps:  # run in reverse, each whatever happens to the others
            steps.callback(self._remove_guard)
            steps.callback(self._journal.restore)
            name, before = self._journal.device_name, self._journal.device
            device = self._netlink.device(name) if name else None
            self._netlink.execute(self._differences(KernelConfig(name, mtu=0), device))
            if device is not None and before is not None and device.index == before.index:
                self._netlink.execute([rtmessages.set_device(before)])

    def close(self) -> None:
        """Leave the kernel as it is."""
        self._reader.shutdown()
        self._netlink.close()

    def _differences(self, config: KernelConfig, device: Device | None) -> Iterator[Change]:
        """What to change, in an order in which traffic is never led past the tunnel."""
        rules, census = self._netlink.rules(self._owner), Census(config)
        stale_routes = frozenset(filter(census.is_stale_route, self._netlink.routes(self._owner)))
        proxies = self._netlink.proxies() if self._owner is Owner.HOME_AGENT else ()
        stale_proxies = frozenset(filter(census.is_stale_proxy, proxies))
        placed = self._netlink.addresses_on_links() if self._owner is Owner.MOBILE_NODE else frozenset()
        addresses = self._netlink.addresses(device.index) if device is not None else frozenset()
        wanted_addresses = frozenset((address, int(address.max_prefixlen)) for address in config.addresses)
        missing_routes = tuple(census.missing_routes())
        replaced = {_slot(route) for route in missing_routes if route.destination.version == 6}
        in_the_way = frozenset(route for route in stale_routes if _slot(route) in replaced)
        # With its last IPv4 address a device loses its IPv4 routes.
        late = frozenset(r for r in missing_routes if r.device == config.device and not config.addresses)

        if device is not None:
            target = Device(device.index, config.mtu or device.mtu, up=device.up or bool(config.mtu))
            if target != device:
                yield rtmessages.set_device(target)
            for address, prefix in sorted(wanted_addresses - addresses, key=str):
                yield rtmessages.add_address(address, prefix, device.index)
        add_on_link = partial(rtmessages.add_on_link, now=time.clock_gettime(time.CLOCK_BOOTTIME))
        yield from _each_on_link(add_on_link, (a for a in config.on_link if a not in placed))
        yield from _each(rtmessages.delete_route, in_the_way)
        yield from _each(rtmessages.add_route, (route for route in missing_routes if route not in late))
        yield from _each_proxy(rtmessages.add_proxy, census.missing_proxies())
        for rule in config.rules:
            if rule not in rules:
                yield rtmessages.add_rule(rule)
        for rule in sorted(rules.difference(config.rules), key=lambda rule: -rule.priority):
            yield rtmessages.delete_rule(rule)
        yield from _each_proxy(rtmessages.delete_proxy, stale_proxies)
        yield from _each(rtmessages.delete_route, stale_routes - in_the_way)
        if device is not None:
            for address, prefix in sorted(addresses - wanted_addresses, key=str):
                yield rtmessages.delete_address(address, prefix, device.index)
        yield from _each(rtmessages.add_route, late)
        yield from _each_on_link(rtmessages.delete_on_link, placed.difference(config.on_link))

    def _on_links(self, interfaces: Iterable[str]) -> frozenset[tuple[Address, int]]:
        """The neighbours there that are asked for."""
        indexes = {interface_index(interface) for interface in interfaces}
        return frozenset(one for one in self._netlink.unresolved_neighbours() if one[1] in indexes)

    def _apply_guard(self, guard: Guard | None) -> int:
        """Replace the nft table in one transaction, if its text is new."""
        if guard == self._guard:
            return 0
        if guard is None:
            return self._remove_guard()
        nftables.install(guard.table, guard.text)
        self.guard_changed_at = time.clock_gettime(time.CLOCK_BOOTTIME)
        self._guard, self._guard_listing = guard, self._reader.submit(nftables.listed, guard.table)
        return 1

    def _guard_is_there(self, guard: Guard) -> bool:
        listing = self._guard_listing
        return listing is not None and nftables.listed(guard.table) == listing.result()

    def _remove_guard(self) -> int:
        self._guard = self._guard_listing = None
        return int(nftables.remove(self._owner.value))


def cleanup(state_dir: Path, owner: Owner = Owner.MOBILE_NODE) -> None:
    """Undo what a process left behind that was killed. Harmless when there is nothing."""
    state = KernelState(state_dir / STATE_FILE, owner)
    try:
        state.clear()
    finally:
        state.close()


def _comes_home(config: KernelConfig, before: KernelConfig | None) -> bool:
    """Whether the tunnel carries nothing any more, because its addresses are on a link."""
    return before is not None and bool(before.addresses) and bool(config.on_link) and not config.addresses


def _links(config: KernelConfig) -> frozenset[str]:
    return frozenset(placed.interface for placed in config.on_link)


def _only_guests_differ(config: KernelConfig, settled: KernelConfig) -> bool:
    return config.guests is not settled.guests and replace(config, guests=settled.guests) == settled


def _guest_changes(config: KernelConfig, settled: KernelConfig) -> Iterator[Change]:
    """From one set of guests to another; what one has lost another may have got."""
    routed, defended, lost, bare = set[Destination](), set[Address](), set[Destination](), set[Address]()
    for _, old, new in config.guests.differences(settled.guests):
        if new is not None:
            routed.update(new.destinations)
            defended.update(new.defended)
        if old is not None:
            lost.update(old.destinations)
            bare.update(old.defended)
    yield from _each(rtmessages.add_route, map(config.guest_route, routed - lost))
    yield from _each_proxy(rtmessages.add_proxy, map(config.guest_proxy, defended - bare))
    yield from _each_proxy(rtmessages.delete_proxy, map(config.guest_proxy, bare - defended))
    yield from _each(rtmessages.delete_route, map(config.guest_route, lost - routed))


def _slot(route: KernelRoute) -> tuple[object, ...]:
    """IPv6 has one route for these, whatever its source address: the old one leaves before the new one."""
    return route.destination, route.table, route.metric, route.device


def _each(
    make: Callable[[KernelRoute, int | None], Change], routes: Iterable[KernelRoute]
) -> Iterator[Change]:
    """A route over a link that vanished is left out: the event of its return brings a new configuration."""
    index_of = cache(interface_index)
    for route in routes:
        index = None if route.device is None else index_of(route.device)
        if index is not None or route.device is None:
            yield make(route, index)


def _each_on_link(
    make: Callable[[AddressOnLink, int], Change], placed: Iterable[AddressOnLink]
) -> Iterator[Change]:
    for address in placed:
        index = interface_index(address.interface)
        if index is not None:
            yield make(address, index)


def _each_proxy(
    make: Callable[[ProxyNeighbour, int], Change], proxies: Iterable[ProxyNeighbour]
) -> Iterator[Change]:
    index_of = cache(interface_index)
    for proxy in proxies:
        index = index_of(proxy.device)
        if index is not None:
            yield make(proxy, index)
