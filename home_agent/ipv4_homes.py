"""IPv4 home addresses and prefixes asked for in a Binding Update: what becomes of each request.

Pure. RFC 5555 sections 3.1.1, 3.2.1 and 4.5, draft sections 2.5, 3.1.1, 3.2.1 and 4.5.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network

from home_agent.address_pool import Lease
from home_agent.config import is_usable_ipv4
from home_agent.requests import Books, Probes, Request
from wire.options import Ipv4AckStatus, Ipv4AddressAck, Ipv4HomeAddress, every

MAX_REQUESTS = 8
"""IPv4 Home Address options that are looked at; the rest is not answered."""
LONGEST_SUBSTITUTE = 30
"""The smallest prefix that is given in place of a larger one: it holds a router and a host."""


@dataclass(slots=True)
class Ipv4Homes:
    """The IPv4 side of a binding, and one acknowledgement for each request, in their order."""

    address: IPv4Address | None = None
    prefixes: tuple[IPv4Network, ...] = ()
    address_lease: Lease | None = None
    prefix_lease: Lease | None = None
    acks: list[Ipv4AddressAck] = field(default_factory=list)

    @property
    def leased(self) -> bool:
        return self.address_lease is not None or self.prefix_lease is not None


def grant_ipv4(request: Request, books: Books, probes: Probes, now: float) -> Ipv4Homes:
    """Decide on every IPv4 Home Address option. A refusal here never refuses the IPv6 binding."""
    homes = Ipv4Homes()
    for asked in every(request.update.options, Ipv4HomeAddress)[:MAX_REQUESTS]:
        result = _grant(asked, request, books, probes, homes, now)
        if isinstance(result, Ipv4AckStatus):
            # Draft section 3.2.1: on failure, too, the address is the one asked for, and the length is zero.
            homes.acks.append(Ipv4AddressAck(result, asked.address, 0))
        else:
            homes.acks.append(
                Ipv4AddressAck(Ipv4AckStatus.ACCEPTED, result.network_address, result.prefixlen)
            )
    return homes


def farewell_ipv4(request: Request) -> tuple[Ipv4AddressAck, ...]:
    """Acknowledge that what a deregistration names is no longer bound."""
    return tuple(
        Ipv4AddressAck(Ipv4AckStatus.ACCEPTED, asked.address, asked.prefix_length)
        if _is_possible(asked)
        else Ipv4AddressAck(Ipv4AckStatus.INVALID_ADDRESS, asked.address, 0)
        for asked in every(request.update.options, Ipv4HomeAddress)[:MAX_REQUESTS]
    )


def asks_for_prefix(request: Request) -> bool:
    """Whether it asks for an IPv4 prefix out of the pool, and may."""
    asked = every(request.update.options, Ipv4HomeAddress)[:MAX_REQUESTS]
    wanted = any(one.prefix_request or one.prefix_length < 32 for one in asked)
    return wanted and request.node.ipv4_prefix_requests


def _is_possible(asked: Ipv4HomeAddress) -> bool:
    """R062: a prefix length of zero is an error, and so is one that no address has."""
    return 1 <= asked.prefix_length <= 32


def _grant(
    asked: Ipv4HomeAddress, request: Request, books: Books, probes: Probes, homes: Ipv4Homes, now: float
) -> IPv4Network | Ipv4AckStatus:
    if not _is_possible(asked):
        return Ipv4AckStatus.INVALID_ADDRESS
    if request.node.ipv4 == "none" and not request.node.may_route and not request.node.ipv4_prefix_requests:
        return Ipv4AckStatus.PROHIBITED
    if not asked.address.is_unspecified and not is_usable_ipv4(asked.address):
        return Ipv4AckStatus.INVALID_ADDRESS
    if asked.prefix_request or asked.prefix_length < 32:
        return _grant_prefix(asked, request, books, homes, now)
    return _grant_address(asked.address, request, books, probes, homes, now)


def _grant_address(
    asked: IPv4Address, request: Request, books: Books, probes: Probes, homes: Ipv4Homes, now: float
) -> IPv4Network | Ipv4AckStatus:
    """A static address is the configured one, a dynamic one the leased one; asking for another is 130."""
    configured = request.node.ipv4
    if configured == "none":
        return Ipv4AckStatus.PROHIBITED
    if isinstance(configured, IPv4Address):
        own, lease = configured, None
        if own in probes.in_use:
            return Ipv4AckStatus.UNSPECIFIED
    else:
        held = books.addresses.lease_of(request.home_address)
        if held is None and not asked.is_unspecified:
            return Ipv4AckStatus.INCORRECT_HOME_ADDRESS
        network = books.addresses.offer(request.home_address, 32, now)
        if network is None:
            return Ipv4AckStatus.DYNAMIC_NOT_AVAILABLE
        own = network.network_address
        lease = Lease(request.home_address, network, now + books.configuration.binding.lease_lifetime)
    if asked not in (own, IPv4Address(0)):
        return Ipv4AckStatus.INCORRECT_HOME_ADDRESS
    homes.address, homes.address_lease = own, lease
    return IPv4Network((int(own), 32))


def _grant_prefix(
    asked: Ipv4HomeAddress, request: Request, books: Books, homes: Ipv4Homes, now: float
) -> IPv4Network | Ipv4AckStatus:
    wanted = None
    if not asked.address.is_unspecified:
        wanted = IPv4Network((asked.address, asked.prefix_length), strict=False)
    for own in request.node.ipv4_prefixes:
        if wanted is not None and wanted.subnet_of(own):
            return _bind_prefix(homes, wanted)
        if wanted is None and own.prefixlen == asked.prefix_length and own not in homes.prefixes:
            return _bind_prefix(homes, own)
    if not request.node.ipv4_prefix_requests:
        return Ipv4AckStatus.PREFIX_NOT_AUTHORISED
    held = books.prefixes.lease_of(request.home_address)
    if wanted is not None and (held is None or wanted != held.network):
        return Ipv4AckStatus.PREFIX_NOT_AUTHORISED  # R122: only a prefix that was allocated to it
    if homes.prefix_lease is not None:
        return Ipv4AckStatus.UNSPECIFIED  # the pool gives one prefix to each mobile node
    network = _from_pool(request, asked.prefix_length, books, now)
    if network is None:
        return Ipv4AckStatus.UNSPECIFIED
    homes.prefix_lease = Lease(
        request.home_address, network, now + books.configuration.binding.lease_lifetime
    )
    return _bind_prefix(homes, network)


def _from_pool(request: Request, length: int, books: Books, now: float) -> IPv4Network | None:
    """A prefix of that length. RFC 5555 allows a smaller one when there is none; the draft does not."""
    shortest = max(length, books.configuration.home_link.shortest_ipv4_prefix)
    if books.configuration.wire.profile == "draft-00":
        offer = books.prefixes.offer(request.home_address, length, now) if length == shortest else None
        return offer if offer is not None and offer.prefixlen == length else None
    for candidate in range(shortest, max(shortest, LONGEST_SUBSTITUTE) + 1):
        network = books.prefixes.offer(request.home_address, candidate, now)
        if network is not None:
            return network
    return None


def _bind_prefix(homes: Ipv4Homes, prefix: IPv4Network) -> IPv4Network:
    if prefix not in homes.prefixes:
        homes.prefixes += (prefix,)
    return prefix
