"""What the bindings mean for this host and for the home link.

Pure. RFC 6275 section 10.4.1, RFC 3963 section 6.3, draft section 4.5 (R115, R130).
"""

from __future__ import annotations

import dataclasses
from ipaddress import IPv6Address

from home_agent.binding_cache import Binding
from home_agent.config import Configuration
from home_agent.requests import Address, Books
from tunnel.endpoint import EndpointConfig
from tunnel.guests import NO_GUESTS, Guest
from tunnel.kernel import KernelConfig, home_agent_kernel
from tunnel.keyring import Keyring
from tunnel.persistent import PersistentMap

Defended = PersistentMap[Address, bool]
"""Addresses to defend on the home link, and whether each is a mobile router's."""


class DesiredHost:
    """The whole desired states. Each is a value that shares with the one before it what has not changed."""

    def __init__(self, books: Books, link_mtu: int) -> None:
        agent = books.configuration.home_agent
        self._books = books
        self._own = (agent.ipv6, agent.ipv4)
        self._base = home_agent_kernel(books.configuration.tunnel.device, link_mtu, agent.interface)
        self._guests = NO_GUESTS.changed((), {one.home_address: self._guest(one) for one in books.cache})
        self._defended: Defended = PersistentMap(
            (address, one.router) for one in books.cache for address in self._books.defended(one)
        )

    def note(self, home_address: IPv6Address) -> bool:
        """Look again at the binding of `home_address`; whether the desired states are others now."""
        binding, old = self._books.cache.get(home_address), self._guests.get(home_address)
        new = self._guest(binding) if binding is not None else None
        guarded = self._defended_by(binding)
        lost = set(old.defended if old is not None else ()) - guarded.keys()
        same = all(self._defended.get(address) is router for address, router in guarded.items())
        if new == old and same:
            return False
        self._guests = self._guests.changed((home_address,), {} if new is None else {home_address: new})
        self._defended = self._defended.changed(lost, guarded)
        return True

    def kernel(self) -> KernelConfig:
        """Everything bound is routed into the TUN device; what is on the home link is proxied there."""
        return dataclasses.replace(self._base, guests=self._guests)

    def defence(self) -> Defended:
        return self._defended

    def _guest(self, binding: Binding) -> Guest:
        return Guest.of(binding.destinations, self._books.defended(binding), self._own)

    def _defended_by(self, binding: Binding | None) -> dict[Address, bool]:
        if binding is None:
            return {}
        return dict.fromkeys(self._books.defended(binding), binding.router)


def endpoint(configuration: Configuration, keyring: Keyring) -> EndpointConfig:
    """What is not payload: messages for this home agent, and tunnels inside the tunnel."""
    own = configuration.home_agent
    return EndpointConfig(
        control_local=frozenset({own.ipv6}),
        home_agent=frozenset({own.ipv4, own.ipv6}),
        tlv=configuration.profile.tlv,
        keyring=keyring,
    )


def claims(binding: Binding) -> tuple[object, ...]:
    """What of a binding matters here: while it stays the same, so do the desired states."""
    return binding.ipv4_home_address, binding.prefixes, binding.router, binding.defends_link_local
