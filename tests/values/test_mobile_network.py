"""The kernel of a mobile router as values: which rules, routes and guards the networks behind it need."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from itertools import pairwise

import pytest

from tunnel.kernel import (
    TABLE_INGRESS,
    TABLE_LOCAL,
    TABLE_MAIN,
    TABLE_TUNNEL,
    Address,
    AddressOnLink,
    KernelConfig,
    KernelRoute,
    LocalPrefix,
    RouteType,
    RoutingMode,
    Rule,
    mobile_node_kernel,
)
from tunnel.mobile_network import MobileNetwork, with_mobile_network

HOME4, HOME6 = IPv4Address("203.0.113.77"), IPv6Address("2001:db8:99::77")
CARE_OF = IPv4Address("192.168.7.2")
PREFIX6, PREFIX4 = IPv6Network("2001:db8:77::/56"), IPv4Network("10.77.0.0/24")
ON_LAN6 = LocalPrefix(IPv6Network("2001:db8:77::/64"), "lan0", IPv6Address("2001:db8:77::1"))
ON_LAN4 = LocalPrefix(IPv4Network("10.77.0.0/24"), "lan0", IPv4Address("10.77.0.1"))
NETWORK = MobileNetwork(
    prefixes=(PREFIX6, PREFIX4), interfaces=("lan0",), links=("lan0",), connected=(ON_LAN6, ON_LAN4)
)


def config(
    network: MobileNetwork = NETWORK,
    mode: RoutingMode = RoutingMode.LAN,
    homes: tuple[Address, ...] = (HOME6, HOME4),
) -> KernelConfig:
    away = mobile_node_kernel(
        "mip0",
        homes,
        1400,
        mode,
        care_of=(CARE_OF,),
        local_prefixes=(LocalPrefix(IPv4Network("192.168.7.0/24"), "wlan0", CARE_OF), ON_LAN4),
        home_prefixes=(IPv6Network("2001:db8:99::/64"),),
        uplinks=("wlan0",),
        ingress=network.interfaces,
    )
    return with_mobile_network(away, network)


def guard_text(wanted: KernelConfig) -> str:
    assert wanted.guard is not None
    return wanted.guard.text


def ingress(wanted: KernelConfig) -> set[KernelRoute]:
    return {route for route in wanted.routes if route.table == TABLE_INGRESS}


def unreachable(prefix: IPv4Network | IPv6Network) -> KernelRoute:
    return KernelRoute(prefix, None, TABLE_INGRESS, RouteType.UNREACHABLE, 0xFFFFFFFF)


@pytest.mark.parametrize("mode", RoutingMode)
def test_what_comes_from_a_mobile_network_goes_home_and_what_goes_to_it_stays_behind_the_router(
    mode: RoutingMode,
) -> None:
    rules = config(mode=mode).rules
    for prefix in (PREFIX6, PREFIX4):
        inward = Rule(prefix.version, 5191, TABLE_INGRESS, destination=prefix)
        outward = Rule(prefix.version, 5192, TABLE_TUNNEL, source=prefix)
        assert rules.index(inward) < rules.index(outward)
        from_home = Rule(4, 5192, TABLE_TUNNEL, source=IPv4Network(HOME4))
        assert rules.index(Rule(4, 5191, TABLE_INGRESS, destination=PREFIX4)) < rules.index(from_home)
    assert Rule(6, 5194, TABLE_MAIN, out_interface="lan0") in rules
    for family in (4, 6):
        ordered = [rule.priority for rule in rules if rule.family == family]
        assert all(before <= after for before, after in pairwise(ordered))


def test_the_parts_of_a_prefix_on_links_are_routed_there_and_the_rest_is_unreachable() -> None:
    assert ingress(config()) == {
        KernelRoute(ON_LAN6.network, "lan0", TABLE_INGRESS, source=ON_LAN6.source),
        KernelRoute(PREFIX4, "lan0", TABLE_INGRESS, source=ON_LAN4.source),
        unreachable(PREFIX6),
        unreachable(PREFIX4),
    }


def test_a_prefix_that_is_on_no_link_is_taken_to_be_on_the_first_one() -> None:
    bare = replace(NETWORK, connected=())
    assert ingress(config(bare)) == {
        KernelRoute(PREFIX6, "lan0", TABLE_INGRESS),
        KernelRoute(PREFIX4, "lan0", TABLE_INGRESS),
        unreachable(PREFIX6),
        unreachable(PREFIX4),
    }


def test_while_the_ingress_link_is_down_its_networks_are_unreachable_and_still_never_leak() -> None:
    down = replace(NETWORK, links=())
    assert ingress(config(down)) == {unreachable(PREFIX6), unreachable(PREFIX4)}
    assert Rule(4, 5192, TABLE_TUNNEL, source=PREFIX4) in config(down).rules


def test_a_mobile_network_is_no_local_prefix_of_the_routing_mode() -> None:
    local = {route.destination for route in config().routes if route.table == TABLE_LOCAL}
    assert local == {IPv4Network("192.168.7.0/24")}


@pytest.mark.requirement("R066")
def test_the_router_is_the_first_host_of_an_allocated_prefix_and_speaks_with_that_address() -> None:
    allocated = IPv4Network("10.64.0.64/26")
    network = MobileNetwork(
        (PREFIX6, allocated), ("lan0", "lan1"), ("lan0", "lan1"), (ON_LAN6,), allocated=(allocated,)
    )
    wanted = config(network, homes=(HOME6,))
    own = IPv4Address("10.64.0.65")
    assert wanted.on_link == (AddressOnLink(own, "lan0", 26),)
    assert KernelRoute(allocated, "lan0", TABLE_INGRESS, source=own) in wanted.routes
    assert KernelRoute(IPv4Network("0.0.0.0/0"), "mip0", TABLE_TUNNEL, source=own) in wanted.routes


def test_several_allocated_prefixes_are_dealt_out_to_the_ingress_interfaces() -> None:
    prefixes = tuple(IPv4Network(text) for text in ("10.64.0.0/26", "10.64.1.0/26", "10.64.2.0/31"))
    network = MobileNetwork(prefixes, ("lan0", "lan1"), ("lan0", "lan1"), allocated=prefixes)
    placed = [(str(one.address), one.interface) for one in config(network).on_link]
    assert placed == [("10.64.0.1", "lan0"), ("10.64.1.1", "lan1"), ("10.64.2.0", "lan1")]


def test_the_guard_lets_nobody_else_pretend_to_be_in_a_mobile_network_or_enter_it() -> None:
    text = guard_text(config())
    outside = 'iifname != { "lo", "mip0", "lan0" }'
    assert f"{outside} ip daddr {HOME4} counter drop" in text, "neighbours behind us may reach us"
    for side in ("saddr", "daddr"):
        assert f"{outside} ip {side} {PREFIX4} counter drop" in text
        assert f"{outside} ip6 {side} {PREFIX6} counter drop" in text
    assert f'iifname {{ "lan0" }} ip6 saddr {HOME6} counter drop' in text
    assert 'iifname { "lan0" } oifname != { "mip0", "lan0" } counter drop' in text


def test_a_visited_network_with_the_same_private_prefix_still_reaches_the_care_of_address() -> None:
    same = replace(NETWORK, prefixes=(IPv4Network("192.168.7.0/24"),), connected=(), care_of=(CARE_OF,))
    assert f"ip daddr 192.168.7.0/24 ip daddr != {CARE_OF} counter drop" in guard_text(config(same))
    other = replace(NETWORK, care_of=(CARE_OF,))
    assert guard_text(config(other)) == guard_text(config()), "else a handover does not change the guard"


def test_segments_are_clamped_in_both_directions_and_both_families() -> None:
    text = guard_text(config())
    for direction in ("iifname", "oifname"):
        syn = f'{direction} "mip0" tcp flags syn'
        assert f"{syn} meta nfproto ipv4 tcp option maxseg size set 1420" in text
        assert f"{syn} meta nfproto ipv6 tcp option maxseg size set 1400" in text
        assert f"{syn} tcp option maxseg size set rt mtu" in text


def test_only_the_tunnel_and_the_ingress_interfaces_forward() -> None:
    sysctls = {sysctl.path: sysctl for sysctl in config().sysctls}
    for interface in ("mip0", "lan0"):
        assert sysctls[f"net/ipv4/conf/{interface}/forwarding"].value == "1"
        assert sysctls[f"net/ipv6/conf/{interface}/force_forwarding"].value == "1"
    assert sysctls["net/ipv6/conf/lan0/forwarding"].value == "1"
    assert not any("wlan0/forwarding" in path for path in sysctls)
    assert "net/ipv4/conf/all/forwarding" not in sysctls
    assert sysctls["net/ipv6/conf/all/forwarding"].unless == "net/ipv6/conf/all/force_forwarding"
