"""What a mobile node wants of the kernel on its home link, and while it asks whether it may settle there.

Pure. RFC 6275 section 11.5.5.

At home nothing is tunnelled: the home addresses are on the link, and what comes from them, or from a socket
that is bound to nothing, leaves by that link with a home address as its source. So a session that begins at
home goes on when the mobile node leaves.

    5190 marked                  main           the agent's own sockets
    5191 marked                  unreachable
    5192 from home addresses     TABLE_LOCAL    the home link, whatever other links there are
    5193 from other addresses    main           (mode lan)
    5194 out of an uplink        main           (mode lan)
    5200 all                     TABLE_LOCAL    (not in mode home-only)

TABLE_LOCAL has no unreachable default here: without a router on the home link the main table decides.

Beside each default route there is one into the TUN device that comes after it. When the home link loses its
carrier, the kernel itself leads payload there (`ignore_routes_with_linkdown`), long before an agent can: so
it is remembered until there is a way, and not dropped.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from ipaddress import IPv4Network, IPv6Network

from tunnel.guard import guard_of
from tunnel.kernel import (
    ALL_LOCAL,
    FROM_HOME,
    TABLE_LOCAL,
    Address,
    AddressOnLink,
    KernelConfig,
    KernelRoute,
    LocalPrefix,
    Network,
    Owner,
    RoutingMode,
    Rule,
    Sysctl,
    distinct,
    local_routes,
    outside_rules,
    own_rules,
    quiet_device,
    uplink_sysctls,
)
from tunnel.prefixes import as_network

_HOME_METRIC = 1
_DEFAULT_METRIC = 1000
_FALLBACK_METRIC = 2000
_DEFAULTS: dict[int, Network] = {4: IPv4Network("0.0.0.0/0"), 6: IPv6Network("::/0")}


def returning_kernel(away: KernelConfig, home_address: Address, interface: str) -> KernelConfig:
    """`away`, and the home address is known on what claims to be the home link.

    So the kernel answers the neighbour solicitations by which the home agent finds it there. Rules and guard
    are still those of a foreign link: until the home agent has answered, nothing is sent or taken in there.
    """
    return replace(away, on_link=(*away.on_link, AddressOnLink(home_address, interface)))


def at_home_kernel(
    device: str,
    home_addresses: Iterable[Address],
    mtu: int,
    interface: str,
    routers: Iterable[Address] = (),
    home_prefixes: Iterable[Network] = (),
    mode: RoutingMode = RoutingMode.LAN,
    care_of: Iterable[Address] = (),
    local_prefixes: Iterable[LocalPrefix] = (),
    uplinks: Iterable[str] = (),
) -> KernelConfig:
    """The kernel of a mobile node whose home link is `interface`.

    `routers` are the routers there, `home_prefixes` what is on-link there and holds a home address. The TUN
    device stays, without addresses, and the guard, without anything to guard. `care_of` are the other
    addresses of the links in use.
    """
    homes, prefixes, links = distinct(home_addresses), distinct(home_prefixes), distinct(uplinks)
    rules = [*own_rules()]
    rules += (Rule(home.version, FROM_HOME, TABLE_LOCAL, source=as_network(home)) for home in homes)
    routes = list(_home_routes(device, interface, homes, prefixes, distinct(routers)))
    if mode is RoutingMode.LAN:
        rules += outside_rules(distinct(care_of), links)
        routes += local_routes(local_prefixes, prefixes)
    if mode is not RoutingMode.HOME_ONLY:
        rules += (Rule(family, ALL_LOCAL, TABLE_LOCAL) for family in _DEFAULTS)
    return KernelConfig(
        device=device,
        mtu=mtu,
        rules=tuple(rules),
        routes=tuple(routes),
        guard=guard_of(Owner.MOBILE_NODE.value, (), (device,)),
        sysctls=(*quiet_device(device), *uplink_sysctls(links, mode), *_no_way_without_carrier(interface)),
        on_link=tuple(AddressOnLink(home, interface) for home in homes),
    )


def _no_way_without_carrier(interface: str) -> Iterable[Sysctl]:
    for family in ("ipv4", "ipv6"):
        yield Sysctl(f"net/{family}/conf/{interface}/ignore_routes_with_linkdown", "1")


def _home_routes(
    device: str,
    interface: str,
    homes: tuple[Address, ...],
    prefixes: tuple[Network, ...],
    routers: tuple[Address, ...],
) -> Iterable[KernelRoute]:
    for home in homes:
        for prefix in prefixes:
            if home in prefix:
                yield KernelRoute(prefix, interface, TABLE_LOCAL, metric=_HOME_METRIC, source=home)
    for version, everything in _DEFAULTS.items():
        router = next((router for router in routers if router.version == version), None)
        first = next((home for home in homes if home.version == version), None)
        reachable = first is not None and any(first in prefix for prefix in prefixes)
        if router is not None and first is not None and reachable:
            yield KernelRoute(
                everything,
                interface,
                TABLE_LOCAL,
                metric=_DEFAULT_METRIC,
                source=first,
                gateway=router,
            )
            yield KernelRoute(everything, device, TABLE_LOCAL, metric=_FALLBACK_METRIC)
