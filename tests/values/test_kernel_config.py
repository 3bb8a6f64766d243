"""The desired state of the kernel, as values: what is in it, in which order, and what never is."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network
from itertools import pairwise

import pytest

from tunnel.census import Census
from tunnel.guests import NO_GUESTS, Guest
from tunnel.kernel import (
    MARK,
    TABLE_LOCAL,
    TABLE_MAIN,
    TABLE_TUNNEL,
    Address,
    KernelConfig,
    KernelRoute,
    LocalPrefix,
    Network,
    Owner,
    ProxyNeighbour,
    RouteType,
    RoutingMode,
    Rule,
    Sysctl,
    home_agent_kernel,
    is_private,
    mobile_node_kernel,
)

HOME4, HOME6 = IPv4Address("203.0.113.77"), IPv6Address("2001:db8:99::77")
CARE_OF = IPv4Address("192.168.7.2")


def config(mode: RoutingMode = RoutingMode.LAN, homes: tuple[Address, ...] = (HOME4, HOME6)) -> KernelConfig:
    return mobile_node_kernel(
        "mip0",
        homes,
        1400,
        mode,
        care_of=(CARE_OF,),
        local_prefixes=(LocalPrefix(IPv4Network("192.168.7.0/24"), "wlan0", CARE_OF),),
        home_prefixes=(IPv6Network("2001:db8:99::/64"),),
        uplinks=("wlan0",),
    )


def priorities(wanted: KernelConfig, family: int = 4) -> list[int]:
    return [rule.priority for rule in wanted.rules if rule.family == family]


def test_the_agents_mark_comes_first_and_never_falls_through_into_the_tunnel() -> None:
    for mode in RoutingMode:
        for family in (4, 6):
            first, second, *_ = sorted(
                (r for r in config(mode).rules if r.family == family), key=lambda r: r.priority
            )
            assert first == Rule(family, 5190, TABLE_MAIN, mark=MARK)
            assert second == Rule(family, 5191, None, mark=MARK)


def test_rules_are_listed_in_the_order_of_their_priorities() -> None:
    for mode in RoutingMode:
        for family in (4, 6):
            assert all(a <= b for a, b in pairwise(priorities(config(mode), family)))


def test_each_mode_has_its_rules() -> None:
    assert priorities(config(RoutingMode.LAN)) == [5190, 5191, 5192, 5193, 5194, 5200, 5210]
    assert priorities(config(RoutingMode.STRICT)) == [5190, 5191, 5192, 5210]
    assert priorities(config(RoutingMode.HOME_ONLY)) == [5190, 5191, 5192]
    assert priorities(config(RoutingMode.HOME_ONLY), 6) == [5190, 5191, 5192, 5192]


def test_both_families_end_in_an_unreachable_default_of_worst_metric() -> None:
    for homes in ((HOME4,), (HOME6,), (HOME4, HOME6), ()):
        ends = {r.destination for r in config(homes=homes).routes if r.type is RouteType.UNREACHABLE}
        assert ends == {IPv4Network("0.0.0.0/0"), IPv6Network("::/0")}
        defaults = {r.destination.version for r in config(homes=homes).routes if r.device == "mip0"}
        assert defaults == {home.version for home in homes}
        unreachable = [r for r in config(homes=homes).routes if r.type is RouteType.UNREACHABLE]
        assert {(r.metric, r.table, r.device) for r in unreachable} == {(0xFFFFFFFF, TABLE_TUNNEL, None)}


@pytest.mark.parametrize(
    ("text", "private"),
    [
        ("10.1.0.0/16", True), ("172.31.0.0/24", True), ("192.168.7.0/24", True), ("169.254.0.0/16", True),
        ("fd12::/64", True), ("fe80::/64", True), ("172.32.0.0/24", False), ("192.168.0.0/15", False),
        ("100.64.0.0/10", False), ("198.51.100.0/24", False), ("2001:db8::/64", False), ("0.0.0.0/0", False),
        ("::/0", False), ("0.0.0.0/1", False), ("fe00::/7", False),
    ],
)  # fmt: skip
def test_only_private_prefixes_may_be_reached_past_the_tunnel(text: str, private: bool) -> None:
    network = ip_network(text)
    assert is_private(network) is private
    wanted = mobile_node_kernel("mip0", (HOME4,), 1400, local_prefixes=(LocalPrefix(network, "wlan0"),))
    assert any(route.table == TABLE_LOCAL for route in wanted.routes) is private


def test_a_local_prefix_inside_a_home_prefix_is_not_local() -> None:
    inside: tuple[Network, ...] = (IPv4Network("10.20.0.0/16"), IPv4Network("10.20.5.0/24"))
    wanted = mobile_node_kernel(
        "mip0",
        (HOME4,),
        1400,
        local_prefixes=[LocalPrefix(network, "wlan0") for network in inside],
        home_prefixes=(IPv4Network("10.20.0.0/16"),),
    )
    assert not any(route.table == TABLE_LOCAL for route in wanted.routes)


def test_the_same_prefix_on_two_links_belongs_to_the_first() -> None:
    lan = IPv4Network("192.168.1.0/24")
    prefixes = [LocalPrefix(lan, "eth0"), LocalPrefix(lan, "wlan0"), LocalPrefix(lan, "eth0")]
    wanted = mobile_node_kernel("mip0", (HOME4,), 1400, local_prefixes=prefixes)
    local = [(r.device, r.metric) for r in wanted.routes if r.table == TABLE_LOCAL]
    assert local == [("eth0", 1), ("wlan0", 2)]


def test_the_guard_names_every_home_address_and_does_not_depend_on_where_the_node_is() -> None:
    guard = config().guard
    assert guard is not None
    assert guard.table == "mn_agent"
    assert f"ip daddr {HOME4}" in guard.text
    assert f"ip6 daddr {HOME6}" in guard.text
    elsewhere = mobile_node_kernel("mip0", (HOME4, HOME6), 1300, care_of=(IPv4Address("10.0.0.9"),))
    assert elsewhere.guard == guard


def test_the_device_keeps_ipv6_alive_whatever_the_path() -> None:
    assert mobile_node_kernel("mip0", (HOME4, HOME6), 1240).mtu == 1280
    assert mobile_node_kernel("mip0", (HOME4,), 1240).mtu == 1240
    assert home_agent_kernel("mip0", 1240, "eth0").mtu == 1280


def test_a_home_agent_never_routes_away_or_proxies_its_own_addresses() -> None:
    own = IPv6Address("2001:db8:99::2"), IPv4Address("203.0.113.2")
    guest = Guest.of((HOME6, HOME4, HOME4, *own), (HOME6, HOME4, *own), own)
    wanted = home_agent_kernel("mip0", 1400, "eth0", NO_GUESTS.changed((), {HOME6: guest}))
    census = Census(wanted)
    assert set(census.missing_routes()) == {
        KernelRoute(IPv6Network(f"{HOME6}/128"), "mip0", TABLE_MAIN),
        KernelRoute(IPv4Network(f"{HOME4}/32"), "mip0", TABLE_MAIN),
    }
    assert set(census.missing_proxies()) == {ProxyNeighbour(HOME6, "eth0"), ProxyNeighbour(HOME4, "eth0")}
    assert wanted.addresses == ()
    assert not wanted.rules


def test_a_mobile_network_prefix_is_routed_but_not_proxied() -> None:
    prefix = IPv6Network("2001:db8:aa::/56")
    guests = NO_GUESTS.changed((), {HOME6: Guest((HOME6, prefix), ())})
    census = Census(home_agent_kernel("mip0", 1400, "eth0", guests))
    assert {route.destination for route in census.missing_routes()} == {IPv6Network(f"{HOME6}/128"), prefix}
    assert not list(census.missing_proxies())


def test_a_census_finds_what_is_missing_and_what_is_stale() -> None:
    prefix = IPv6Network("2001:db8:aa::/56")
    config = home_agent_kernel(
        "mip0", 1400, "eth0", NO_GUESTS.changed((), {HOME6: Guest((HOME6, prefix), (HOME6,))})
    )
    census = Census(config)
    there, other = (
        KernelRoute(prefix, "mip0", TABLE_MAIN),
        KernelRoute(IPv4Network("10.0.0.1"), "mip0", TABLE_MAIN),
    )
    elsewhere = KernelRoute(IPv6Network(f"{HOME6}/128"), "mip9", TABLE_MAIN)
    assert [census.is_stale_route(route) for route in (there, other, elsewhere)] == [False, True, True]
    assert [route.destination for route in census.missing_routes()] == [IPv6Network(f"{HOME6}/128")]
    assert census.is_stale_proxy(ProxyNeighbour(HOME6, "eth9"))
    assert not census.is_stale_proxy(ProxyNeighbour(HOME6, "eth0"))
    assert not list(census.missing_proxies())


def test_the_two_roles_own_different_tables_so_that_both_can_run_on_one_host() -> None:
    assert not Owner.MOBILE_NODE.tables & Owner.HOME_AGENT.tables
    assert {rule.priority for rule in config().rules} <= set(Owner.MOBILE_NODE.priorities)
    assert not Owner.HOME_AGENT.priorities
    for wanted, owner in (
        (config(), Owner.MOBILE_NODE),
        (home_agent_kernel("t", 1400, "e"), Owner.HOME_AGENT),
    ):
        assert {route.table for route in wanted.routes} <= owner.tables


def test_strict_mode_loosens_a_strict_reverse_path_filter_and_lan_mode_need_not() -> None:
    loose = Sysctl("net/ipv4/conf/wlan0/rp_filter", "2", when=("1",))
    assert loose in config(RoutingMode.STRICT).sysctls
    assert not any("rp_filter" in sysctl.path for sysctl in config(RoutingMode.LAN).sysctls)


def test_equal_wishes_are_equal_values() -> None:
    assert config() == config()
    assert hash(config()) == hash(config())
