"""The home agent of mobile routers: what is forwarded to whom, and prefixes out of the pool."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Network

import pytest

from tests.machines.ha_script import DYNAMIC, HomeScript, configured, home4, over_ipv4, over_ipv6
from tunnel.census import Census
from tunnel.kernel import TABLE_MAIN, KernelRoute
from wire.mobility import AckFlag, BindingStatus, UpdateFlag
from wire.options import Ipv4AddressAck, MobileNetworkPrefix, every

AS_ROUTER = UpdateFlag.ACKNOWLEDGE | UpdateFlag.HOME | UpdateFlag.ROUTER
FROM_POOL = home4(DYNAMIC, 26, prefix=True)


def acks(ha: HomeScript) -> list[tuple[int, str, int]]:
    return [
        (one.status, str(one.address), one.prefix_length)
        for one in every(ha.answer().options, Ipv4AddressAck)
    ]


@pytest.mark.requirement("R116", "R126", "R130")
def test_registered_prefixes_of_both_families_are_routed_into_the_tunnel_until_the_binding_ends() -> None:
    ha = HomeScript()
    prefix6 = MobileNetworkPrefix(IPv6Network("2001:db8:7702::/48"))
    prefix4 = home4(IPv4Address("10.77.3.0"), 24, prefix=True)
    ha.feed(ha.router.native(over_ipv6(ha.router, prefix4, prefix6, flags=AS_ROUTER)))
    assert AckFlag.ROUTER in ha.answer().flags
    routes = {
        KernelRoute(prefix, "mip-ha0", TABLE_MAIN) for prefix in (prefix6.prefix, IPv4Network("10.77.3.0/24"))
    }
    assert ha.kernel is not None
    assert routes <= set(Census(ha.kernel).missing_routes())
    assert ha.route(IPv4Address("10.77.3.9")) is not None
    ha.feed(ha.router.native(over_ipv6(ha.router, lifetime=0, flags=AS_ROUTER)))
    assert not routes & set(Census(ha.kernel).missing_routes())
    assert ha.route(IPv4Address("10.77.3.9")) is None


@pytest.mark.requirement("R063", "R066", "R125")
def test_a_router_whose_only_prefix_comes_from_the_pool_needs_no_other() -> None:
    ha = HomeScript(configured(tablet="ipv4_prefix_requests = true"))
    ha.feed(ha.tablet.native(over_ipv6(ha.tablet, FROM_POOL, flags=AS_ROUTER)))
    ack = ha.answer()
    assert ack.status == BindingStatus.ACCEPTED
    assert AckFlag.ROUTER in ack.flags
    assert ha.route(IPv4Address("10.64.0.9")) is not None
    ha.feed(ha.tablet.native(over_ipv6(ha.tablet, home4(IPv4Address("10.64.0.0"), 26), flags=AS_ROUTER)))
    assert acks(ha) == [(0, "10.64.0.0", 26)]
    ha.feed(ha.tablet.native(over_ipv6(ha.tablet, flags=AS_ROUTER)))
    assert ha.answer().status == BindingStatus.FORWARDING_SETUP_FAILED, "there is nothing to forward"


@pytest.mark.requirement("R125")
def test_the_pool_gives_one_prefix_to_each_mobile_node_and_says_so() -> None:
    ha = HomeScript(configured(tablet="ipv4_prefix_requests = true"))
    ha.feed(ha.tablet.native(over_ipv6(ha.tablet, FROM_POOL, home4(DYNAMIC, 28, prefix=True))))
    assert acks(ha) == [(0, "10.64.0.0", 26), (128, "0.0.0.0", 0)]


@pytest.mark.requirement("R125")
@pytest.mark.parametrize(
    ("profile", "answer"), [("rfc5555", (0, "10.64.0.0", 26)), ("draft-00", (128, "0.0.0.0", 0))]
)
def test_another_length_than_the_one_that_is_held_is_given_only_by_the_rfc(
    profile: str, answer: tuple[int, str, int]
) -> None:
    more = f'[wire]\nprofile = "{profile}"'
    ha = HomeScript(configured(tablet="ipv4_prefix_requests = true", more=more))
    ha.feed(ha.tablet.native(over_ipv6(ha.tablet, FROM_POOL)))
    ha.feed(ha.tablet.native(over_ipv6(ha.tablet, home4(DYNAMIC, 28, prefix=True))))
    assert acks(ha) == [answer]


@pytest.mark.requirement("R036", "R066", "R126")
def test_an_address_and_a_prefix_are_bound_by_one_update_from_behind_a_nat() -> None:
    ha = HomeScript(configured(tablet="ipv4_prefix_requests = true"))
    update = over_ipv4(ha.tablet, home4(DYNAMIC), FROM_POOL, flags=AS_ROUTER)
    ha.feed(ha.tablet.udp(update, IPv4Address("192.0.2.99"), 30000))
    assert acks(ha) == [(0, "203.0.113.128", 32), (0, "10.64.0.0", 26)]
    for home in ("203.0.113.128", "10.64.0.9"):
        route = ha.route(IPv4Address(home))
        assert route is not None
        assert (str(route.path.remote), route.path.remote_port) == ("192.0.2.99", 30000)
        assert ha.carries(IPv4Address(home), IPv4Address("192.0.2.99"), 30000)
