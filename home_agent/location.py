"""Where the mobile node is and which tunnel leads there: care-of address, NAT, encapsulation.

Pure. Draft sections 4.1, 4.2 and 4.5, RFC 5555 sections 4.1 and 4.5, RFC 6275 section 9.5.1.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address

from home_agent.binding_cache import Network
from home_agent.config import is_usable_ipv4
from home_agent.requests import Address, Books, Request
from tunnel.path import Encapsulation
from wire.mobility import BindingStatus, UpdateFlag
from wire.options import (
    NO_KEEPALIVE,
    AlternateCareOfAddress,
    Ipv4CareOfAddress,
    NatDetection,
    Option,
    first,
)
from wire.profile import Profile, TlvLayout
from wire.vendor import observed_option, second_port_option


@dataclass(frozen=True, slots=True)
class Location:
    """The care-of address as claimed; behind a NAT the outer source of the Binding Update counts instead."""

    care_of: Address
    nat: bool
    remark: str = ""
    """Something odd that was read with good will."""


def locate(request: Request, books: Books) -> Location | BindingStatus:
    """The claimed care-of address, if a mobile node can be there."""
    location = _claimed(request, books.configuration.wire.strict)
    if isinstance(location, BindingStatus):
        return location
    reached_at = request.arrival.remote if request.in_udp else location.care_of
    if not is_unicast(location.care_of) or not is_unicast(reached_at):
        return BindingStatus.INVALID_CARE_OF_ADDRESS
    if reached_at in books.home_addresses or _is_behind_itself(request, reached_at, books):
        return BindingStatus.INVALID_CARE_OF_ADDRESS  # a tunnel into a tunnel of this home agent never ends
    return location


def _claimed(request: Request, strict: bool) -> Location | BindingStatus:
    if not request.in_udp:
        return Location(request.ipv6_care_of, nat=False)
    option = first(request.update.options, Ipv4CareOfAddress)
    alternate = first(request.update.options, AlternateCareOfAddress)
    if option is None:  # draft section 4.5 compares with it, and does not say what if it is missing
        if strict:
            return BindingStatus.UNSPECIFIED
        remark = "no IPv4 care-of address option, taken as NAT"
        return Location(request.arrival.remote, nat=True, remark=remark)
    if alternate is not None and strict:  # RFC 6275 wants it in every update; here the other one counts
        return BindingStatus.INVALID_CARE_OF_ADDRESS
    remark = "alternate care-of address ignored over IPv4" if alternate is not None else ""
    if option.address == request.arrival.remote:
        return Location(request.arrival.remote, nat=False, remark=remark)  # one object instead of two
    return Location(option.address, nat=True, remark=remark)


def is_unicast(address: Address) -> bool:
    """Whether packets can be sent to a single host beyond the link with this address."""
    if isinstance(address, IPv4Address):
        return is_usable_ipv4(address) or address.is_link_local
    mapped = address.ipv4_mapped is not None
    special = address.is_multicast or address.is_loopback or address.is_unspecified
    return not (mapped or special or address.is_link_local)


def _is_behind_itself(request: Request, address: Address, books: Books) -> bool:
    """Whether `address` lies in what is routed to this very mobile node."""
    binding = books.cache.get(request.home_address)
    behind: tuple[Network, ...] = (*request.node.prefixes, *request.node.ipv4_prefixes)
    if binding is not None:
        if address in (binding.home_address, binding.ipv4_home_address):
            return True
        behind += binding.prefixes
    return any(address in network for network in behind if network.version == address.version)


def encapsulation_for(request: Request, nat: bool, books: Books) -> Encapsulation | BindingStatus:
    """How payload travels: plain IP in IP, or in UDP for a NAT or because one side wants it."""
    configuration, wanted = books.configuration, UpdateFlag.FORCE_UDP in request.update.flags
    policy = configuration.force_udp(request.node)
    if wanted and (policy == "deny" or not request.in_udp):
        return BindingStatus.CANNOT_FORCE_UDP  # never UDP on an IPv6 link (draft section 4.5)
    if configuration.protects_payload(request.node):
        return Encapsulation.ESP_UDP if request.in_udp else Encapsulation.ESP
    if not request.in_udp or not (nat or wanted or policy == "require"):
        return Encapsulation.IP_IN_IP
    tlv = tlv_encapsulation(configuration.profile)
    return tlv if tlv is not None and agrees_to_tlv(request, books) else Encapsulation.UDP


def agrees_to_tlv(request: Request, books: Books) -> bool:
    """Only where the mobile node asked for it (draft section 4.1)."""
    return UpdateFlag.TLV in request.update.flags and books.configuration.tlv(request.node)


def tlv_encapsulation(profile: Profile) -> Encapsulation | None:
    match profile.tlv:
        case None:
            return None
        case TlvLayout.DRAFT:
            return Encapsulation.UDP_TLV_DRAFT
        case TlvLayout.RFC5845:
            return Encapsulation.UDP_TLV


def about_the_way(request: Request, books: Books, second_port: int | None) -> tuple[Option, ...]:
    """What an answer to a proven Binding Update says of the way that it came.

    A question is told the `second_port` as well, if there is one.
    """
    arrival, nat = request.arrival, nat_detection(request, books)
    if nat is None or not isinstance(arrival.remote, IPv4Address):
        return ()
    seen = (nat, observed_option(arrival.remote, arrival.remote_port))
    if second_port is None or not request.is_question:
        return seen
    return (*seen, second_port_option(second_port))


def nat_detection(request: Request, books: Books) -> NatDetection | None:
    """What every answer to a Binding Update in UDP says about the path, also a refusal (draft section 4.2).

    `force_udp` tells the mobile node that UDP was agreed to or is demanded, NAT or not; nothing else would.
    """
    if not request.in_udp:
        return None
    configuration = books.configuration
    option = first(request.update.options, Ipv4CareOfAddress)
    nat = option is None or option.address != request.arrival.remote
    policy = configuration.force_udp(request.node)
    forced = policy == "require" or (policy == "accept" and UpdateFlag.FORCE_UDP in request.update.flags)
    return NatDetection(forced, configuration.nat_refresh(request.node) if nat else NO_KEEPALIVE)
