"""Taking back what was remembered, as far as the configuration still allows it.

Pure.
"""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network

from home_agent.binding_cache import Binding
from home_agent.config import MobileNode
from home_agent.records import Record
from home_agent.requests import Books


def recall(record: Record, node: MobileNode, books: Books, now: float) -> None:
    """Put the leases and the binding of `node` back into the books."""
    for lease in record.leases:
        for pool in (books.addresses, books.prefixes):
            if pool.space is not None and lease.network.subnet_of(pool.space):
                pool.keep(lease)
    binding = record.binding
    if binding is not None and binding.expires_at > now and _is_allowed(binding, node, books):
        books.cache.put(binding, now)


def _is_allowed(binding: Binding, node: MobileNode, books: Books) -> bool:
    agent = books.configuration.home_agent
    lease, held = (pool.lease_of(binding.home_address) for pool in (books.addresses, books.prefixes))
    leased = lease.network.network_address if lease is not None and node.ipv4 == "dynamic" else None
    routed = (*node.prefixes, *node.ipv4_prefixes, *((held.network,) if held is not None else ()))
    return (
        node.enabled
        and binding.encapsulation.protected == books.configuration.protects_payload(node)
        and binding.arrival.local in (agent.ipv4, agent.ipv6)
        and binding.ipv4_home_address in (None, node.ipv4, leased)
        and all(any(_within(prefix, own) for own in routed) for prefix in binding.prefixes)
    )


def _within(inner: IPv4Network | IPv6Network, outer: IPv4Network | IPv6Network) -> bool:
    if isinstance(inner, IPv4Network):
        return isinstance(outer, IPv4Network) and inner.subnet_of(outer)
    return isinstance(outer, IPv6Network) and inner.subnet_of(outer)
