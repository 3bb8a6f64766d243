"""What the bindings mean for this host and for the home link.

Pure. RFC 6275 section 10.4.1, RFC 3963 section 6.3, draft section 4.5 (R115, R130).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from ipaddress import IPv6Address
from itertools import chain

from home_agent.binding_cache import Binding
from home_agent.config import Configuration
from home_agent.requests import Address, Books
from tunnel.endpoint import EndpointConfig
from tunnel.kernel import KernelConfig, home_agent_kernel
from tunnel.keyring import Keyring


@dataclasses.dataclass(frozen=True, slots=True)
class _Share:
    """One binding's part of the whole."""

    kernel: KernelConfig
    defended: tuple[tuple[Address, bool], ...]


class DesiredHost:
    """The whole desired states, put together from one share for each binding.

    The shares are kept, since with thousands of bindings it is their making that costs.
    """

    def __init__(self, books: Books, link_mtu: int) -> None:
        self._books = books
        self._link_mtu = link_mtu
        self._shares: dict[IPv6Address, _Share] = {}
        self._base = self._kernel_for(None)
        for binding in books.cache:
            self._shares[binding.home_address] = self._share(binding)

    def note(self, home_address: IPv6Address) -> bool:
        """Look again at the binding of `home_address`; whether the desired states are others now."""
        binding, old = self._books.cache.get(home_address), self._shares.get(home_address)
        if binding is None:
            return self._shares.pop(home_address, None) is not None
        share = self._shares[home_address] = self._share(binding)
        return share != old

    def kernel(self) -> KernelConfig:
        """Everything bound is routed into the TUN device; what is on the home link is proxied there."""
        shares = self._shares.values()
        return dataclasses.replace(
            self._base,
            routes=tuple(chain.from_iterable(share.kernel.routes for share in shares)),
            proxies=tuple(chain.from_iterable(share.kernel.proxies for share in shares)),
        )

    def defence(self) -> Mapping[Address, bool]:
        """The addresses to defend on the home link, and whether each is a mobile router's."""
        return dict(chain.from_iterable(share.defended for share in self._shares.values()))

    def _share(self, binding: Binding) -> _Share:
        defended = tuple((address, binding.router) for address in self._books.defended(binding))
        return _Share(self._kernel_for(binding), defended)

    def _kernel_for(self, binding: Binding | None) -> KernelConfig:
        agent = self._books.configuration.home_agent
        bound: tuple[Address | None, ...] = ()
        proxied: tuple[Address, ...] = ()
        if binding is not None:
            bound = (binding.home_address, binding.ipv4_home_address)
            proxied = tuple(self._books.defended(binding))
        return home_agent_kernel(
            self._books.configuration.tunnel.device,
            self._link_mtu,
            agent.interface,
            bound=[address for address in bound if address is not None],
            own_addresses=(agent.ipv6, agent.ipv4),
            proxied=proxied,
            prefixes=binding.prefixes if binding is not None else (),
        )


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
