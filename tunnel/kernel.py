"""What either end of the tunnel wants of the kernel: one desired state, built from values.

Pure. RFC 5555 sections 4.4 and 5.2, RFC 6275 section 10.4.1 (intercepting packets), RFC 7359 (leaks).

A mobile node captures traffic with policy rules, not with routes in the main table: whatever a visited
network puts there (DHCP option 121, router advertisements) is longer than any prefix of ours, but is
looked up later.

    5190 marked                  main           the agent's own sockets
    5191 marked                  unreachable    ... which never end up inside the tunnel
    5191 to mobile networks      TABLE_INGRESS  (mobile router) see tunnel.mobile_network
    5192 from home addresses     TABLE_TUNNEL   a session bound to home stays at home
    5192 from mobile networks    TABLE_TUNNEL   (mobile router)
    5192 to home prefixes        TABLE_TUNNEL   also when the visited network claims them
    5193 from care-of addresses  main           (mode lan) see `outside_rules`
    5194 out of an uplink        main           (mode lan; out of an ingress interface: in every mode)
    5200 all                     TABLE_LOCAL    (mode lan) connected private prefixes
    5210 all                     TABLE_TUNNEL   (not in mode home-only)

TABLE_TUNNEL ends in unreachable defaults: without the TUN device nothing leaves in the clear.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network
from typing import TypeVar, assert_never

from tunnel.guard import Guard, guard_of
from tunnel.guests import NO_GUESTS, Guests
from tunnel.prefixes import as_network

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
T = TypeVar("T")

MARK = 0x4D4E
"""SO_MARK of every socket the agent sends through."""
PROTOCOL = 191
"""Routing protocol number on every route, rule and neighbour of ours; iproute2 gives it to nobody."""
TABLE_MAIN = 254
TABLE_TUNNEL = 4191
TABLE_LOCAL = 4192
TABLE_INGRESS = 4193

_MARKED, _NEVER_INSIDE, TO_MOBILE_NETWORK, FROM_HOME, _TO_HOME = 5190, 5191, 5191, 5192, 5192
_FROM_CARE_OF, OUT_OF_LINK, ALL_LOCAL, _ALL = 5193, 5194, 5200, 5210
_TUNNEL_METRIC = 100
WORST_METRIC = 0xFFFFFFFF
_IPV6_MINIMUM_MTU = 1280
_FAMILIES = (4, 6)
_EVERYTHING: dict[int, IPv4Network | IPv6Network] = {4: IPv4Network("0.0.0.0/0"), 6: IPv6Network("::/0")}
_PRIVATE = tuple(
    ip_network(text)
    for text in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16", "fc00::/7", "fe80::/10")
)


class KernelError(Exception):
    """The kernel does not do what we want: what was tried, why it failed, what a person can do."""

    def __init__(self, what: str, why: str, fix: str) -> None:
        super().__init__(f"cannot {what}: {why} ({fix})")
        self.what = what
        self.why = why
        self.fix = fix


class RoutingMode(Enum):
    """How much of the host's traffic goes home."""

    LAN = "lan"
    """Everything but connected private prefixes and what is bound to the visited network on purpose."""
    STRICT = "strict"
    """Everything."""
    HOME_ONLY = "home-only"
    """Only what comes from a home address or goes to a home prefix."""


class Owner(Enum):
    """Which role an object in the kernel belongs to. The value is the name of its nft table."""

    MOBILE_NODE = "mn_agent"
    HOME_AGENT = "home_agent"

    @property
    def tables(self) -> frozenset[int]:
        """Routing tables in which routes of protocol PROTOCOL are ours."""
        match self:
            case Owner.MOBILE_NODE:
                return frozenset({TABLE_TUNNEL, TABLE_LOCAL, TABLE_INGRESS})
            case Owner.HOME_AGENT:
                return frozenset({TABLE_MAIN})
            case _:
                assert_never(self)

    def has(self, route: KernelRoute) -> bool:
        """Whether a route of protocol PROTOCOL is ours. In the main table a mobile node has routes by the
        gateways of networks that it recognised, and a home agent has routes without any.
        """
        if route.table == TABLE_MAIN:
            return (route.gateway is None) is (self is Owner.HOME_AGENT)
        return route.table in self.tables

    @property
    def priorities(self) -> range:
        """Priorities at which rules of protocol PROTOCOL are ours."""
        return range(_MARKED, _ALL + 1) if self is Owner.MOBILE_NODE else range(0)


class RouteType(Enum):
    UNICAST = "unicast"
    UNREACHABLE = "unreachable"


@dataclass(frozen=True, slots=True)
class Rule:
    """A policy rule. `family` is 4 or 6; `table` None answers "unreachable" instead of looking up."""

    family: int
    priority: int
    table: int | None
    mark: int | None = None
    source: Network | None = None
    destination: Network | None = None
    out_interface: str = ""


@dataclass(frozen=True, slots=True)
class KernelRoute:
    """A route. `source` is what unbound sockets get; `device` None if unreachable, `gateway` None on-link."""

    destination: Network
    device: str | None
    table: int
    type: RouteType = RouteType.UNICAST
    metric: int = _TUNNEL_METRIC
    source: Address | None = None
    gateway: Address | None = None


@dataclass(frozen=True, slots=True)
class AddressOnLink:
    """An address of ours on a physical interface, with all of its bits unless `prefix_length` is another.

    A home address there means that the mobile node is at home, or about to be. On an ingress interface of a
    mobile router it is the router's own in an allocated prefix.
    """

    address: Address
    interface: str
    prefix_length: int = -1
    valid_until: float | None = field(default=None, compare=False)
    """The end of a lease, in seconds of CLOCK_BOOTTIME; None for ever."""

    @property
    def length(self) -> int:
        return int(self.address.max_prefixlen) if self.prefix_length < 0 else self.prefix_length


@dataclass(frozen=True, slots=True)
class ProxyNeighbour:
    """An address for which the kernel answers ARP requests or neighbour solicitations on `device`."""

    address: Address
    device: str


@dataclass(frozen=True, slots=True)
class Sysctl:
    """A value below /proc/sys, restored when it is no longer wanted. One that does not exist is left out.

    `when`: only these present values are replaced (empty: any). `spreads`: patterns of the values which
    the kernel rewrites together with this one, so that they can be restored too. `beforehand`: patterns
    to set first, if and only if this value is about to change. `unless`: another value whose existence
    makes this one unnecessary.
    """

    path: str
    value: str
    when: tuple[str, ...] = ()
    spreads: tuple[str, ...] = ()
    beforehand: tuple[Sysctl, ...] = ()
    unless: str = ""


@dataclass(frozen=True, slots=True)
class KernelConfig:
    """All that one role wants of the kernel. Every address on `device` is ours.

    `on_link` are addresses on other interfaces; they carry our protocol number (Linux 5.18), by which they
    are known from everybody else's.
    """

    device: str
    mtu: int
    addresses: tuple[Address, ...] = ()
    rules: tuple[Rule, ...] = ()
    routes: tuple[KernelRoute, ...] = ()
    proxies: tuple[ProxyNeighbour, ...] = ()
    guard: Guard | None = None
    sysctls: tuple[Sysctl, ...] = ()
    on_link: tuple[AddressOnLink, ...] = ()
    guests: Guests = NO_GUESTS
    home_link: str = ""
    """Where the addresses of guests are defended."""

    def guest_route(self, destination: Address | Network) -> KernelRoute:
        """What leads to an address or prefix of a guest."""
        return KernelRoute(as_network(destination), self.device, TABLE_MAIN)

    def guest_proxy(self, address: Address) -> ProxyNeighbour:
        return ProxyNeighbour(address, self.home_link)


@dataclass(frozen=True, slots=True)
class LocalPrefix:
    """A prefix directly connected to a physical interface, and our address in it."""

    network: Network
    interface: str
    source: Address | None = None


def mobile_node_kernel(
    device: str,
    home_addresses: Iterable[Address],
    mtu: int,
    mode: RoutingMode = RoutingMode.LAN,
    care_of: Iterable[Address] = (),
    local_prefixes: Iterable[LocalPrefix] = (),
    home_prefixes: Iterable[Network] = (),
    uplinks: Iterable[str] = (),
    leak_ok: bool = False,
    ingress: Iterable[str] = (),
) -> KernelConfig:
    """The kernel of a mobile node away from home.

    `care_of`: the addresses of the uplinks that local sockets may be bound to. `uplinks`: the physical
    interfaces in use. `ingress`: those whose neighbours may talk to the home addresses. Both families are
    captured even if there is a home address of one only, since the other would leave in the clear
    (RFC 7359); `leak_ok` permits that.
    """
    return _mobile_node_kernel(
        device,
        distinct(home_addresses),
        mtu,
        mode,
        distinct(care_of),
        tuple(local_prefixes),
        distinct(home_prefixes),
        distinct(uplinks),
        leak_ok,
        distinct(ingress),
    )


@lru_cache(16)  # asked for after every event, and seldom another one than before
def _mobile_node_kernel(
    device: str,
    homes: tuple[Address, ...],
    mtu: int,
    mode: RoutingMode,
    care_of: tuple[Address, ...],
    local_prefixes: tuple[LocalPrefix, ...],
    prefixes: tuple[Network, ...],
    links: tuple[str, ...],
    leak_ok: bool,
    ingress: tuple[str, ...],
) -> KernelConfig:
    captured = tuple(f for f in _FAMILIES if not leak_ok or any(home.version == f for home in homes))
    rules = [*own_rules(), *_home_rules(homes, prefixes)]
    routes = list(_tunnel_routes(device, homes))
    match mode:
        case RoutingMode.LAN:
            rules += outside_rules(care_of, links)
            rules += (Rule(family, ALL_LOCAL, TABLE_LOCAL) for family in captured)
            rules += (Rule(family, _ALL, TABLE_TUNNEL) for family in captured)
            routes += local_routes(local_prefixes, prefixes)
        case RoutingMode.STRICT:
            rules += (Rule(family, _ALL, TABLE_TUNNEL) for family in captured)
        case RoutingMode.HOME_ONLY:
            pass
        case _:
            assert_never(mode)
    return KernelConfig(
        device=device,
        mtu=_device_mtu(mtu, homes),
        addresses=homes,
        rules=tuple(rules),
        routes=tuple(routes),
        guard=guard_of(Owner.MOBILE_NODE.value, homes, (device, *ingress)),
        sysctls=(*quiet_device(device), *uplink_sysctls(links, mode)),
    )


def home_agent_kernel(device: str, mtu: int, home_link: str, guests: Guests = NO_GUESTS) -> KernelConfig:
    """The kernel of a home agent whose home link is the interface `home_link`."""
    return KernelConfig(
        device=device,
        mtu=max(mtu, _IPV6_MINIMUM_MTU),
        guard=guard_of(Owner.HOME_AGENT.value, (), (device,)),
        sysctls=(*quiet_device(device), *_home_link_sysctls(home_link)),
        guests=guests,
        home_link=home_link,
    )


def is_private(network: Network) -> bool:
    """RFC 1918, unique local or link-local: the only prefixes that may be reached past the tunnel."""
    return any(within(network, private) for private in _PRIVATE)


def own_rules() -> Iterable[Rule]:
    """A lookup that finds nothing goes on to the next rule: the second stops it before the tunnel."""
    for family in _FAMILIES:
        yield Rule(family, _MARKED, TABLE_MAIN, mark=MARK)
        yield Rule(family, _NEVER_INSIDE, None, mark=MARK)


def _home_rules(homes: tuple[Address, ...], prefixes: tuple[Network, ...]) -> Iterable[Rule]:
    for home in homes:
        yield Rule(home.version, FROM_HOME, TABLE_TUNNEL, source=as_network(home))
    for prefix in prefixes:
        yield Rule(prefix.version, _TO_HOME, TABLE_TUNNEL, destination=prefix)


def outside_rules(care_of: tuple[Address, ...], uplinks: tuple[str, ...]) -> Iterable[Rule]:
    """Whoever names the visited network gets it.

    A socket bound to a care-of address (a DHCP client renewing its lease by unicast, the answer to a
    connection that came in from the LAN, a ping reply) would otherwise enter the tunnel with a source
    that the home agent refuses. The reverse path filter asks the same question for packets that arrive
    for the care-of address: without these rules a strict one drops the tunnel's own outer packets.
    A socket bound to an uplink (connectivity checks of network managers) chose just as plainly; if it
    found the unreachable default, IPv4 would take every destination for a neighbour on that link.
    Neither catches a socket that is bound to nothing, which is what an attacker's routes aim at.
    """
    for address in care_of:
        yield Rule(address.version, _FROM_CARE_OF, TABLE_MAIN, source=as_network(address))
    for uplink in uplinks:
        for family in _FAMILIES:
            yield Rule(family, OUT_OF_LINK, TABLE_MAIN, out_interface=uplink)


def _tunnel_routes(device: str, homes: tuple[Address, ...]) -> Iterable[KernelRoute]:
    for family, everything in _EVERYTHING.items():
        first = next((home for home in homes if home.version == family), None)
        if first is not None:
            yield KernelRoute(everything, device, TABLE_TUNNEL, source=first)
        yield KernelRoute(everything, None, TABLE_TUNNEL, RouteType.UNREACHABLE, WORST_METRIC)


def local_routes(prefixes: Iterable[LocalPrefix], home: tuple[Network, ...]) -> Iterable[KernelRoute]:
    """Connected private prefixes only, so that a network that declares public ranges on-link gets none.

    Two links may have the same prefix: the earlier one wins by its metric.
    """
    seen: set[tuple[Network, str]] = set()
    for prefix in prefixes:
        key = (prefix.network, prefix.interface)
        if key in seen or not is_private(prefix.network) or any(within(prefix.network, h) for h in home):
            continue
        seen.add(key)
        yield KernelRoute(
            prefix.network, prefix.interface, TABLE_LOCAL, metric=len(seen), source=prefix.source
        )


def quiet_device(device: str) -> Iterable[Sysctl]:
    """No link-local address, no router solicitations: only home addresses speak on the TUN device."""
    yield Sysctl(f"net/ipv6/conf/{device}/disable_ipv6", "0", when=("1",))
    yield Sysctl(f"net/ipv6/conf/{device}/addr_gen_mode", "1")
    yield Sysctl(f"net/ipv6/conf/{device}/accept_ra", "0")


def uplink_sysctls(uplinks: tuple[str, ...], mode: RoutingMode) -> Iterable[Sysctl]:
    """Linux answers ARP requests for the addresses of any interface; a home address is not told to a LAN.

    In mode strict no rule leads from a care-of address to the main table, which a strict reverse path
    filter would need to let the tunnel's outer packets in.
    """
    for uplink in uplinks:
        yield Sysctl(f"net/ipv4/conf/{uplink}/arp_ignore", "1", when=("0",))
    if mode is RoutingMode.STRICT:
        for name in ("all", *uplinks):
            yield Sysctl(f"net/ipv4/conf/{name}/rp_filter", "2", when=("1",))


def optimistic_addresses(links: Iterable[str]) -> Iterable[Sysctl]:
    """A new IPv6 address may be used while its uniqueness is still tested (RFC 4429, RFC 6059)."""
    for link in links:
        for name in ("optimistic_dad", "use_optimistic"):
            yield Sysctl(f"net/ipv6/conf/{link}/{name}", "1", when=("0",))


def ipv6_forwarding(unless: str = "") -> Sysctl:
    """Forwarding between all interfaces; before Linux 6.17 IPv6 has no other kind.

    Turning it on makes the kernel forget routers learnt from advertisements, unless accept_ra is 2. On a
    host that already forwards, its owner has made that choice.
    """
    return Sysctl(
        "net/ipv6/conf/all/forwarding",
        "1",
        spreads=("net/ipv6/conf/*/forwarding",),
        beforehand=(Sysctl("net/ipv6/conf/*/accept_ra", "2", when=("1",)),),
        unless=unless,
    )


def _home_link_sysctls(home_link: str) -> Iterable[Sysctl]:
    """Forwarding and proxying, at once (proxy_delay) instead of after up to 0.8 s."""
    yield Sysctl(
        "net/ipv4/conf/all/forwarding",
        "1",
        spreads=("net/ipv4/conf/*/forwarding", "net/ipv4/conf/*/accept_redirects"),
    )
    yield ipv6_forwarding()
    yield Sysctl(f"net/ipv6/conf/{home_link}/proxy_ndp", "1")
    yield Sysctl(f"net/ipv4/neigh/{home_link}/proxy_delay", "0")
    yield Sysctl(f"net/ipv6/neigh/{home_link}/proxy_delay", "0")


def _device_mtu(mtu: int, homes: tuple[Address, ...]) -> int:
    """Linux removes IPv6 from a device below 1280; the endpoint answers what is then too large."""
    return max(mtu, _IPV6_MINIMUM_MTU) if any(home.version == 6 for home in homes) else mtu


def within(inner: Network, outer: Network) -> bool:
    if isinstance(inner, IPv4Network):
        return isinstance(outer, IPv4Network) and inner.subnet_of(outer)
    return isinstance(outer, IPv6Network) and inner.subnet_of(outer)


def distinct(items: Iterable[T]) -> tuple[T, ...]:
    return tuple(dict.fromkeys(items))
