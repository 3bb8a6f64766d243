"""What a mobile router wants of the kernel besides what every mobile node wants.

Pure. RFC 3963 sections 5.5 and 5.6 (tunnel and forwarding), RFC 2827 (ingress filtering), RFC 7359 (leaks).

    5191 to mobile networks      TABLE_INGRESS  their links, and unreachable where there is none: what the
                                                home agent sends for nobody must not go back to it
    5192 from mobile networks    TABLE_TUNNEL   whatever the routing mode says of this host's own traffic
    5194 out of an ingress link  main           DHCP and neighbours there

The guard keeps others out: on any other link, nothing comes from or goes to a mobile network. And TCP
sessions are told by their SYN what fits through every kind of tunnel, since they outlive the path they began
on.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv4Network, IPv6Network

from tunnel.guard import FAMILY_KEYWORD, Chain, Guard, interface_set
from tunnel.kernel import (
    FROM_HOME,
    OUT_OF_LINK,
    TABLE_INGRESS,
    TABLE_LOCAL,
    TABLE_MAIN,
    TABLE_TUNNEL,
    TO_MOBILE_NETWORK,
    WORST_METRIC,
    Address,
    AddressOnLink,
    KernelConfig,
    KernelRoute,
    LocalPrefix,
    Network,
    RouteType,
    Rule,
    Sysctl,
    distinct,
    ipv6_forwarding,
    within,
)
from wire.prefix import prefix_of

LEAST_INNER_MTU = 1460
"""What fits through the tunnel with the largest header, IPv6 in IPv6, on a link of 1500 octets."""
_TCP_AND_IP = {4: 40, 6: 60}
_EVERYTHING: dict[int, Network] = {4: IPv4Network("0.0.0.0/0"), 6: IPv6Network("::/0")}


@dataclass(frozen=True, slots=True)
class MobileNetwork:
    """The networks behind a mobile router.

    `interfaces` are the ingress interfaces that exist, `links` those of them that are up. `connected`: what
    they have neighbours in. The router itself is the first host of each of the `allocated` prefixes.
    `care_of` are the addresses on other links: a visited network may use the same private prefix.
    """

    prefixes: tuple[Network, ...]
    interfaces: tuple[str, ...]
    links: tuple[str, ...] = ()
    connected: tuple[LocalPrefix, ...] = ()
    allocated: tuple[IPv4Network, ...] = ()
    care_of: tuple[Address, ...] = ()

    @property
    def assigned(self) -> tuple[AddressOnLink, ...]:
        """One allocated prefix to each ingress interface; what is left over to the last one."""
        if not self.interfaces:
            return ()
        last = len(self.interfaces) - 1
        return tuple(
            AddressOnLink(_first_host(prefix), self.interfaces[min(index, last)], prefix.prefixlen)
            for index, prefix in enumerate(self.allocated)
        )

    @property
    def subnets(self) -> tuple[LocalPrefix, ...]:
        """The parts of the prefixes that are on links which are up, with this router's address there."""
        placed = (
            LocalPrefix(prefix_of(one.address, one.length), one.interface, one.address)
            for one in self.assigned
            if one.interface in self.links
        )
        here = (one for one in self.connected if one.interface in self.links)
        return distinct(
            one for one in (*placed, *here) if any(within(one.network, prefix) for prefix in self.prefixes)
        )


def with_mobile_network(away: KernelConfig, network: MobileNetwork) -> KernelConfig:
    """`away`, and this host is the router of `network`."""
    rules = sorted((*away.rules, *_rules(network)), key=lambda rule: rule.priority)
    kept = (route for route in away.routes if not _is_ours(route, network))
    assert away.guard is not None
    return replace(
        away,
        rules=tuple(rules),
        routes=(*kept, *_default_routes(away, network), *_ingress_routes(network)),
        guard=_guard(away.guard, away.device, away.addresses, network),
        sysctls=(*away.sysctls, *_sysctls(away.device, network)),
        on_link=(*away.on_link, *network.assigned),
    )


def _rules(network: MobileNetwork) -> Iterable[Rule]:
    for prefix in network.prefixes:
        yield Rule(prefix.version, TO_MOBILE_NETWORK, TABLE_INGRESS, destination=prefix)
        yield Rule(prefix.version, FROM_HOME, TABLE_TUNNEL, source=prefix)
    for interface in network.interfaces:
        for family in _EVERYTHING:
            yield Rule(family, OUT_OF_LINK, TABLE_MAIN, out_interface=interface)


def _is_ours(route: KernelRoute, network: MobileNetwork) -> bool:
    """A connected prefix that TABLE_INGRESS leads to already."""
    return route.table == TABLE_LOCAL and any(within(route.destination, p) for p in network.prefixes)


def _default_routes(away: KernelConfig, network: MobileNetwork) -> Iterable[KernelRoute]:
    """A family in which this host has no home address is still routed for the networks behind it.

    Its own packets then come from its address there: a home address formed from the prefix (R066).
    """
    for family, everything in _EVERYTHING.items():
        routed = any(prefix.version == family for prefix in network.prefixes)
        if routed and not any(home.version == family for home in away.addresses):
            own = (one.source for one in network.subnets if one.source is not None)
            source = next((address for address in own if address.version == family), None)
            yield KernelRoute(everything, away.device, TABLE_TUNNEL, source=source)


def _ingress_routes(network: MobileNetwork) -> Iterable[KernelRoute]:
    """Where no part of a prefix is on a link, all of it is taken to be on the first one."""
    subnets = network.subnets
    for subnet in subnets:
        yield KernelRoute(subnet.network, subnet.interface, TABLE_INGRESS, source=subnet.source)
    for prefix in network.prefixes:
        placed = any(within(subnet.network, prefix) for subnet in subnets)
        if not placed and network.links:
            yield KernelRoute(prefix, network.links[0], TABLE_INGRESS)
        yield KernelRoute(prefix, None, TABLE_INGRESS, RouteType.UNREACHABLE, WORST_METRIC)


def _guard(guard: Guard, device: str, homes: tuple[Address, ...], network: MobileNetwork) -> Guard:
    inside = interface_set("lo", device, *network.interfaces)
    rules = [line for prefix in network.prefixes for line in _strangers(prefix, inside, network.care_of)]
    if network.interfaces:
        behind = f"iifname {interface_set(*network.interfaces)}"
        rules += (f"{behind} {FAMILY_KEYWORD[home.version]} saddr {home} counter drop" for home in homes)
    first, *others = guard.chains
    prerouting = replace(first, rules=(*first.rules, *rules))
    forward = Chain("forward", "type filter hook forward priority filter", tuple(_forward(device, network)))
    return replace(guard, chains=(prerouting, *others, forward))


def _strangers(prefix: Network, inside: str, care_of: tuple[Address, ...]) -> Iterable[str]:
    """Packets on other links which claim to come from a mobile network, or look for it there."""
    keyword = FAMILY_KEYWORD[prefix.version]
    except_for = "".join(f" {keyword} daddr != {address}" for address in care_of if address in prefix)
    for side in ("saddr", "daddr"):
        yield f"iifname != {inside} {keyword} {side} {prefix}{except_for} counter drop"


def _forward(device: str, network: MobileNetwork) -> Iterable[str]:
    if network.interfaces:
        behind, allowed = interface_set(*network.interfaces), interface_set(device, *network.interfaces)
        yield f"iifname {behind} oifname != {allowed} counter drop"
    for direction in ("iifname", "oifname"):
        syn = f'{direction} "{device}" tcp flags syn'
        for family, headers in _TCP_AND_IP.items():
            fitting = LEAST_INNER_MTU - headers
            yield f"{syn} meta nfproto ipv{family} tcp option maxseg size set {fitting}"
        # What the routes of both directions know is less where a link is smaller; nft never raises it.
        yield f"{syn} tcp option maxseg size set rt mtu"


def _sysctls(device: str, network: MobileNetwork) -> Iterable[Sysctl]:
    """Forwarding for what comes from the tunnel or an ingress interface, and for nothing else where possible.

    On the ingress interfaces this host is a router also to its IPv6 neighbours.
    """
    for interface in (device, *network.interfaces):
        yield Sysctl(f"net/ipv4/conf/{interface}/forwarding", "1")
        yield Sysctl(f"net/ipv6/conf/{interface}/force_forwarding", "1")
    for interface in network.interfaces:
        yield Sysctl(f"net/ipv6/conf/{interface}/forwarding", "1")
    yield ipv6_forwarding(unless="net/ipv6/conf/all/force_forwarding")


def _first_host(prefix: IPv4Network) -> IPv4Address:
    return prefix.network_address if prefix.prefixlen >= 31 else prefix[1]
