"""A census of routes and proxied neighbours: what is wanted is ticked off as it is found in the kernel.

Pure. What is found and not wanted is stale, what is left is missing. Guests are counted without an object for
each of their routes, since there may be thousands.
"""

from __future__ import annotations

from collections.abc import Iterator

from tunnel.kernel import KernelConfig, KernelRoute, ProxyNeighbour
from tunnel.prefixes import as_destination


class Census:
    """Of one configuration, once."""

    __slots__ = ("_config", "_defended", "_destinations", "_proxies", "_routes")

    def __init__(self, config: KernelConfig) -> None:
        self._config = config
        self._routes = dict.fromkeys(config.routes)
        self._proxies = dict.fromkeys(config.proxies)
        self._destinations = {one for guest in config.guests.values() for one in guest.destinations}
        self._defended = {one for guest in config.guests.values() for one in guest.defended}

    def is_stale_route(self, route: KernelRoute) -> bool:
        """`route` is in the kernel: whether it should not be."""
        if route in self._routes:
            del self._routes[route]
            return False
        destination = as_destination(route.destination)
        if destination in self._destinations and route == self._config.guest_route(destination):
            self._destinations.discard(destination)
            return False
        return True

    def is_stale_proxy(self, proxy: ProxyNeighbour) -> bool:
        """The same for a proxied neighbour."""
        if proxy in self._proxies:
            del self._proxies[proxy]
            return False
        if proxy.address in self._defended and proxy.device == self._config.home_link:
            self._defended.discard(proxy.address)
            return False
        return True

    def missing_routes(self) -> Iterator[KernelRoute]:
        yield from self._routes
        yield from map(self._config.guest_route, self._destinations)

    def missing_proxies(self) -> Iterator[ProxyNeighbour]:
        yield from self._proxies
        yield from map(self._config.guest_proxy, self._defended)
