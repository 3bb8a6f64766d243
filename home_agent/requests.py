"""An authenticated Binding Update on its way through the checks, and the books it is checked against.

Pure. RFC 6275 section 10.3.1.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address

from home_agent.address_pool import AddressPool
from home_agent.binding_cache import Binding, BindingCache
from home_agent.config import Configuration, MobileNode
from tunnel.envelope import ControlPacket
from tunnel.path import Arrival
from wire.icmp import MobilePrefixSolicitation
from wire.mobility import BindingUpdate, UpdateFlag
from wire.options import AlternateCareOfAddress, first

Address = IPv4Address | IPv6Address


@dataclass(frozen=True, slots=True)
class Request:
    """What `node` asks for. That it is `node` who asks has been proven."""

    node: MobileNode
    packet: ControlPacket
    update: BindingUpdate
    octets: bytes
    """The mobility header of `update` as it was received."""
    arrival: Arrival
    received_at: float
    """Seconds of CLOCK_BOOTTIME."""

    @property
    def home_address(self) -> IPv6Address:
        return self.node.home_address

    @property
    def in_udp(self) -> bool:
        """Over IPv4; otherwise it came as a plain IPv6 packet."""
        return self.arrival.local_port != 0

    @property
    def ipv6_care_of(self) -> IPv6Address:
        """Of a native packet: the Alternate Care-of Address, which ESP protects, before the source."""
        alternate = first(self.update.options, AlternateCareOfAddress)
        return alternate.address if alternate is not None else self.packet.source

    @property
    def is_leaving(self) -> bool:
        """A deregistration: lifetime 0, or the care-of address is the home address."""
        return self.update.lifetime == 0 or self.is_home

    @property
    def is_home(self) -> bool:
        """It comes from the home link."""
        return not self.in_udp and self.ipv6_care_of == self.home_address

    @property
    def is_question(self) -> bool:
        """No home registration: it moves nothing, and is refused or ignored."""
        return UpdateFlag.HOME not in self.update.flags

    @property
    def as_router(self) -> bool:
        return UpdateFlag.ROUTER in self.update.flags


def astray(packet: ControlPacket, arrival: Arrival, own: IPv6Address, second_port: int | None = None) -> str:
    """Why an authentic packet is not for the home agent at `own` in the way it came, or ""."""
    message = packet.message
    if arrival.local_port and arrival.local_port == second_port:
        question = isinstance(message, BindingUpdate) and UpdateFlag.HOME not in message.flags
        if not question:
            return "control-at-second-port"
    if packet.destination != own:
        return "control-not-for-us"
    if packet.routing_home_address is not None:
        return "control-routing-header"
    if arrival.local_port:
        inside_out = packet.home_address_option not in (None, packet.source)
        return "control-home-address-option" if inside_out else ""
    if arrival.local.version == 4:
        # Updates are always in UDP; a solicitation goes as packets of the tunnel do (RFC 5555 section 2.2).
        return "" if isinstance(packet.message, MobilePrefixSolicitation) else "control-outside-udp"
    return "" if packet.source == arrival.remote else "control-tunnelled"


@dataclass(frozen=True, slots=True)
class Probes:
    """What has been learnt on the home link for one request."""

    free: frozenset[Address] = frozenset()
    in_use: frozenset[Address] = frozenset()

    def with_answer(self, asked: frozenset[Address], in_use: frozenset[Address]) -> Probes:
        return Probes(self.free | (asked - in_use), self.in_use | in_use)


@dataclass(frozen=True, slots=True)
class Pending:
    """A new binding that waits until the home link has been asked about its addresses."""

    request: Request
    probes: Probes
    asked: frozenset[Address]
    give_up_at: float


@dataclass(frozen=True, slots=True)
class Books:
    """What a decision may look up: configuration, bindings, and who has which IPv4 addresses."""

    configuration: Configuration
    cache: BindingCache
    addresses: AddressPool
    prefixes: AddressPool
    home_addresses: frozenset[Address]
    """Every configured home address and the home agent's own: none of them can be a care-of address."""

    def on_home_link(self, address: Address) -> bool:
        """Whether neighbours on the home link look for `address` there, so that it must be defended."""
        link = self.configuration.home_link
        if isinstance(address, IPv6Address):
            return address in link.ipv6_prefix or address.is_link_local
        return link.ipv4_prefix is not None and address in link.ipv4_prefix

    def defended(self, binding: Binding) -> Iterable[Address]:
        """The addresses of `binding` that this home agent answers for on the home link."""
        candidates: tuple[Address, ...] = (binding.home_address,)
        if binding.defends_link_local:
            candidates += (binding.link_local,)
        if binding.ipv4_home_address is not None:
            candidates += (binding.ipv4_home_address,)
        return (address for address in candidates if self.on_home_link(address))


def open_books(configuration: Configuration, cache: BindingCache) -> Books:
    """Books with empty pools."""
    link, agent = configuration.home_link, configuration.home_agent
    statics = [node.ipv4 for node in configuration.mobile_node if isinstance(node.ipv4, IPv4Address)]
    reserved = [IPv4Network(address) for address in (agent.ipv4, *statics)]
    if link.ipv4_prefix is not None and link.ipv4_prefix.prefixlen < 31:
        reserved += [
            IPv4Network(link.ipv4_prefix.network_address),
            IPv4Network(link.ipv4_prefix.broadcast_address),
        ]
    routed = [prefix for node in configuration.mobile_node for prefix in node.ipv4_prefixes]
    return Books(
        configuration,
        cache,
        AddressPool(link.ipv4_pool, reserved + routed),
        AddressPool(link.ipv4_prefix_pool, reserved + routed),
        frozenset(
            (agent.ipv6, agent.ipv4, *statics, *(node.home_address for node in configuration.mobile_node))
        ),
    )
