"""What the bindings mean for this host and for the home link.

Pure. RFC 6275 section 10.4.1, RFC 3963 section 6.3, draft section 4.5 (R115, R130).
"""

from __future__ import annotations

from collections.abc import Mapping

from home_agent.binding_cache import Binding
from home_agent.requests import Address, Books
from tunnel.kernel import KernelConfig, home_agent_kernel


def desired_kernel(books: Books, link_mtu: int) -> KernelConfig:
    """Everything bound is routed into the TUN device; what is on the home link is proxied there."""
    agent, bindings = books.configuration.home_agent, tuple(books.cache)
    ipv4 = (b.ipv4_home_address for b in bindings if b.ipv4_home_address is not None)
    return home_agent_kernel(
        books.configuration.tunnel.device,
        link_mtu,
        agent.interface,
        bound=(*(binding.home_address for binding in bindings), *ipv4),
        own_addresses=(agent.ipv6, agent.ipv4),
        proxied=tuple(desired_defence(books)),
        prefixes=tuple(prefix for binding in bindings for prefix in binding.prefixes),
    )


def desired_defence(books: Books) -> Mapping[Address, bool]:
    """The addresses to defend on the home link, and whether each is a mobile router's."""
    return {address: binding.router for binding in books.cache for address in books.defended(binding)}


def claims(binding: Binding) -> tuple[object, ...]:
    """What of a binding matters here: while it stays the same, so do the desired states."""
    return binding.home_networks, binding.router, binding.defends_link_local
