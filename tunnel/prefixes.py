"""An address as the prefix that holds nothing else, and back.

Pure.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from wire.prefix import prefix_of

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network


def as_network(destination: Address | Network) -> Network:
    """Prefixes stay what they are."""
    if isinstance(destination, IPv4Network | IPv6Network):
        return destination
    return prefix_of(destination, destination.max_prefixlen)


def as_destination(network: Network) -> Address | Network:
    """The inverse."""
    return network.network_address if network.prefixlen == network.max_prefixlen else network
