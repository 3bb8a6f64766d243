"""Which network this is: the identity of what a link is attached to, by the router that is there.

Pure. RFC 4436 section 2.1 (test nodes), RFC 6059 section 3 (a router is its link-local and its link-layer
address). Nobody proves an identity: it helps to remember what worked where, and decides nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass

from movement.snapshot import Address, DefaultRouter, LinkAddress, Network

MAX_HARDWARE = 32
"""Octets of the longest link-layer address in use (InfiniBand has 20)."""


@dataclass(frozen=True, slots=True)
class NetworkId:
    """The router's address and link-layer address, and the prefix of our own address there.

    The same private prefix behind the same router address is another network if the link-layer address
    differs. A link with both families has one identity for each.
    """

    router: Address
    hardware: bytes
    prefix: Network

    def __str__(self) -> str:
        return f"{self.prefix} behind {self.router} ({self.hardware.hex(':')})"


def network_of(router: DefaultRouter, address: LinkAddress) -> NetworkId | None:
    """The network in which `address` is used with `router`; None while that is not known."""
    if router.gateway is None or not router.hardware:
        return None
    return NetworkId(router.gateway, router.hardware, address.network)
