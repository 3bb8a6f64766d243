"""What becomes of an authenticated Binding Update: the checks, in the order in which they stand in the RFC.

Pure. RFC 6275 sections 9.5.1, 10.3.1 and 10.3.2, RFC 3963 section 6, RFC 5555 section 4.5.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network

from home_agent.address_pool import Lease
from home_agent.binding_cache import Binding, link_local_of
from home_agent.config import is_mobile_prefix
from home_agent.ipv4_homes import Ipv4Homes, asks_for_prefix, farewell_ipv4, grant_ipv4
from home_agent.location import Location, agrees_to_tlv, encapsulation_for, locate
from home_agent.protection import offers_protection
from home_agent.requests import Address, Books, Probes, Request
from tunnel.path import Encapsulation
from wire.dialect import in_update
from wire.mobility import BindingStatus, UpdateFlag
from wire.options import Ipv4AddressAck, MobileNetworkPrefix, every
from wire.serial import is_newer16
from wire.vendor import path_mtu_in

UNPROTECTED = "its payload must be protected, and it does not offer that (protect_payload)"
LEAST_PATH_MTU = 1280
"""Octets: no mobile node is believed that asks for less. Ours."""
LIFETIME_UNIT = 4
"""Seconds: lifetimes cross the wire in this unit, so nothing else is ever granted."""


@dataclass(frozen=True, slots=True)
class Refused:
    """Answer with `status`; nothing changes. `sequence` replaces the request's own in the answer."""

    status: BindingStatus
    sequence: int | None = None
    remark: str = ""


@dataclass(frozen=True, slots=True)
class Ignored:
    """Not answered at all."""

    reason: str


@dataclass(frozen=True, slots=True)
class Released:
    """The binding ends."""

    acks: tuple[Ipv4AddressAck, ...]


@dataclass(frozen=True, slots=True)
class ProbeFirst:
    """Nobody has yet asked the home link whether these addresses are free."""

    addresses: frozenset[Address]


@dataclass(frozen=True, slots=True)
class Accepted:
    """The binding that now holds, and what is told about it."""

    binding: Binding
    address_lease: Lease | None
    prefix_lease: Lease | None
    acks: tuple[Ipv4AddressAck, ...]
    tlv: bool
    remark: str


Verdict = Refused | Ignored | Released | ProbeFirst | Accepted


def judge(request: Request, books: Books, probes: Probes, now: float) -> Verdict:
    """Decide, and change nothing. Runs again, with `probes` filled in, after a ProbeFirst."""
    refusal = _sequence(request, books) or _registration_type(request, books) or _service(request, books)
    if refusal is not None:
        return refusal
    if request.is_leaving:
        return _leave(request, books)
    unprotected = _payload(request, books)
    if unprotected is not None:
        return unprotected
    location = locate(request, books)
    if isinstance(location, BindingStatus):
        return Refused(location)
    encapsulation = encapsulation_for(request, location.nat, books)
    if isinstance(encapsulation, BindingStatus):
        return Refused(encapsulation)
    if request.home_address in probes.in_use or _link_local(request) in probes.in_use:
        return Refused(BindingStatus.DUPLICATE_ADDRESS)
    prefixes = _mobile_prefixes(request)
    if isinstance(prefixes, BindingStatus):
        return Refused(prefixes)
    ipv4 = grant_ipv4(request, books, probes, now)
    binding = _binding(request, books, location, encapsulation, prefixes, ipv4, now)
    unproven = _unproven(binding, books, probes)
    if unproven:
        return ProbeFirst(unproven)
    return Accepted(
        binding,
        ipv4.address_lease,
        ipv4.prefix_lease,
        tuple(ipv4.acks),
        agrees_to_tlv(request, books),
        location.remark or _dialect(request, books),
    )


def _sequence(request: Request, books: Books) -> Refused | None:
    """Without an entry any number is good (RFC 6275 section 9.5.1)."""
    last = books.cache.last_sequence(request.home_address)
    if last is not None and not is_newer16(request.update.sequence, last):
        return Refused(BindingStatus.SEQUENCE_OUT_OF_WINDOW, last)
    return None


def _registration_type(request: Request, books: Books) -> Refused | Ignored | None:
    binding = books.cache.get(request.home_address)
    if request.is_question:
        if binding is not None:
            return Refused(BindingStatus.TYPE_CHANGE_DISALLOWED)
        if request.as_router:
            return Refused(BindingStatus.ROUTER_NOT_PERMITTED)
        return Ignored("update-not-for-home-registration")
    if binding is not None and binding.router != request.as_router and not request.is_leaving:
        return Refused(BindingStatus.TYPE_CHANGE_DISALLOWED)
    return None


def _service(request: Request, books: Books) -> Refused | None:
    """Whether this home agent serves this mobile node at all. Whoever has a binding may always end it."""
    configuration, bound = books.configuration, books.cache.get(request.home_address) is not None
    if request.is_leaving and bound:
        return None
    if not configuration.home_agent.accepting:
        return Refused(BindingStatus.HOME_REGISTRATION_NOT_SUPPORTED)
    if request.home_address not in configuration.home_link.ipv6_prefix:
        return Refused(BindingStatus.NOT_HOME_SUBNET)
    if not request.node.enabled:
        return Refused(BindingStatus.PROHIBITED)
    if not bound and not request.is_leaving and len(books.cache) >= configuration.binding.max_bindings:
        return Refused(BindingStatus.INSUFFICIENT_RESOURCES)
    return None


def _payload(request: Request, books: Books) -> Refused | None:
    """Whoever must protect its payload has to say how, or could not be reached but in the clear."""
    must = books.configuration.protects_payload(request.node)
    if not must or offers_protection(request.update.options):
        return None
    return Refused(BindingStatus.PROHIBITED, remark=UNPROTECTED)


def _leave(request: Request, books: Books) -> Verdict:
    """A deregistration whose answer was lost is repeated: the second one is granted as well."""
    home = request.home_address
    if books.cache.get(home) is None and not books.cache.was_just_released(home):
        return Refused(BindingStatus.NOT_HOME_AGENT)
    return Released(farewell_ipv4(request))


def _mobile_prefixes(request: Request) -> tuple[IPv6Network, ...] | BindingStatus:
    """Those of a mobile router: the ones it names, all or nothing, else the configured ones."""
    if not request.as_router:
        return ()
    if not request.node.may_route:
        return BindingStatus.ROUTER_NOT_PERMITTED
    explicit = tuple(option.prefix for option in every(request.update.options, MobileNetworkPrefix))
    if not explicit:
        node = request.node
        some = node.prefixes or node.ipv4_prefixes or asks_for_prefix(request)
        return node.prefixes if some else BindingStatus.FORWARDING_SETUP_FAILED
    if not all(is_mobile_prefix(prefix) for prefix in explicit):
        return BindingStatus.INVALID_PREFIX
    if not all(any(prefix.subnet_of(own) for own in request.node.prefixes) for prefix in explicit):
        return BindingStatus.NOT_AUTHORISED_FOR_PREFIX
    return tuple(dict.fromkeys(explicit))


def _binding(
    request: Request,
    books: Books,
    location: Location,
    encapsulation: Encapsulation,
    prefixes: tuple[IPv6Network, ...],
    ipv4: Ipv4Homes,
    now: float,
) -> Binding:
    old = books.cache.get(request.home_address)
    lifetime = _lifetime(request, books, ipv4)
    networks: tuple[IPv4Network | IPv6Network, ...] = (*prefixes, *ipv4.prefixes)
    told = path_mtu_in(request.update.options)
    return Binding(
        home_address=request.home_address,
        care_of=location.care_of,
        arrival=request.arrival,
        nat=location.nat,
        encapsulation=encapsulation,
        sequence=request.update.sequence,
        lifetime=lifetime,
        since=old.since if old is not None else now,
        updated_at=now,
        expires_at=now + lifetime,
        ipv4_home_address=ipv4.address,
        prefixes=networks,
        router=request.as_router,
        defends_link_local=UpdateFlag.LINK_LOCAL in request.update.flags,
        path_mtu=None if told is None else max(told, LEAST_PATH_MTU),
    )


def _lifetime(request: Request, books: Books, ipv4: Ipv4Homes) -> int:
    """Seconds: not more than asked for, than is allowed, than the prefix is valid, or than the IPv4 lease
    lasts (draft section 2.5).
    """
    limits = books.configuration.binding
    valid = books.configuration.home_link.prefix_valid_lifetime
    granted = min(request.update.lifetime, limits.max_lifetime, valid)
    if ipv4.leased:
        granted = min(granted, limits.lease_lifetime)
    return max(granted - granted % LIFETIME_UNIT, LIFETIME_UNIT)


def _link_local(request: Request) -> Address | None:
    if UpdateFlag.LINK_LOCAL not in request.update.flags:
        return None
    return link_local_of(request.home_address)


def _unproven(binding: Binding, books: Books, probes: Probes) -> frozenset[Address]:
    """Addresses that this home agent would begin to defend without knowing that they are free."""
    home = binding.home_address
    if not books.configuration.home_link.duplicate_address_detection or books.cache.was_just_released(home):
        return frozenset()
    wanted = frozenset(books.defended(binding))
    old = books.cache.get(home)
    return wanted - probes.free - frozenset(books.defended(old) if old is not None else ())


def _dialect(request: Request, books: Books) -> str:
    found = in_update(request.update, books.configuration.profile, not request.in_udp)
    return f"the mobile node seems to have {found}" if found else ""
