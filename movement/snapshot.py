"""A frozen picture of the host's links: their addresses and their default routers.

Pure. RFC 4862 section 5.5 (address states), RFC 4429 (optimistic addresses).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from wire.prefix import prefix_of

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network


@dataclass(frozen=True, slots=True)
class LinkAddress:
    """An address of a link. `tentative`: must not be used yet, or never (duplicate found).

    An optimistic address (RFC 4429) is not tentative here: it may be used while its uniqueness is tested.
    `valid_until` is in seconds of CLOCK_BOOTTIME, None for ever; it makes no difference between addresses,
    as it moves with every advertisement. `protocol` is the number of whoever set the address, 0 if unknown.
    """

    address: Address
    prefix_length: int
    tentative: bool = False
    deprecated: bool = False
    temporary: bool = False
    valid_until: float | None = field(default=None, compare=False)
    protocol: int = 0

    @property
    def network(self) -> Network:
        """The prefix that the address is in."""
        return prefix_of(self.address, self.prefix_length)


@dataclass(frozen=True, slots=True)
class DefaultRouter:
    """A default route of the main table. `gateway` None: the route says that everybody is on-link.

    `metric` is the kernel's; an IPv4 route (family 4) may have an IPv6 gateway (RFC 5549). `hardware` is the
    gateway's link-layer address, None while the kernel has not resolved it. `silent`: the gateway did not
    answer the kernel lately (neighbour unreachability detection, RFC 4861 section 7.3). `protocol` is the
    number of whoever set the route, which makes no difference between routers.
    """

    family: int
    gateway: Address | None
    metric: int
    hardware: bytes | None = None
    silent: bool = False
    protocol: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Link:
    """A physical interface. `up` is the administrator's will and the carrier's presence together.

    `carrier_losses` counts how often the carrier went, also between two snapshots: whatever was plugged in
    may then have been replaced. `hardware` is the link's own link-layer address.
    """

    index: int
    name: str
    up: bool
    mtu: int
    addresses: tuple[LinkAddress, ...] = ()
    routers: tuple[DefaultRouter, ...] = ()
    carrier_losses: int = 0
    hardware: bytes = b""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All links but the loopback and the TUN device, in the order of their indices."""

    links: tuple[Link, ...] = ()

    def link(self, name: str) -> Link | None:
        return next((link for link in self.links if link.name == name), None)

    def connected(self) -> tuple[tuple[str, LinkAddress], ...]:
        """Interface and address of every prefix that a link which is up has neighbours in."""
        return tuple(
            (link.name, address)
            for link in self.links
            if link.up
            for address in link.addresses
            if not address.tentative and address.prefix_length < address.address.max_prefixlen
        )
