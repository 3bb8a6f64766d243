"""IPv4 home addresses and prefixes: static, dynamic, by pool, and every acknowledgement status."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address

import pytest

from home_agent.address_pool import AddressPool, Lease
from tests.machines.ha_script import (
    DYNAMIC,
    FIRST_DYNAMIC,
    LAPTOP4,
    NAT4,
    PRIVATE4,
    HomeScript,
    configured,
    home4,
    over_ipv4,
    over_ipv6,
)
from wire.mobility import BindingStatus
from wire.options import Ipv4AddressAck, UnknownOption, every

SECOND_DYNAMIC = IPv4Address("203.0.113.129")


@pytest.fixture
def ha() -> HomeScript:
    return HomeScript()


def acks(ha: HomeScript) -> list[tuple[int, str, int]]:
    ack = ha.answer()
    assert ack.status == BindingStatus.ACCEPTED
    return [(one.status, str(one.address), one.prefix_length) for one in every(ack.options, Ipv4AddressAck)]


@pytest.mark.requirement("R057", "R071", "R076", "R123")
def test_a_dynamic_home_address_is_allocated_and_told(ha: HomeScript) -> None:
    ha.feed(ha.tablet.udp(over_ipv4(ha.tablet, home4(DYNAMIC), care_of=PRIVATE4), NAT4))
    assert acks(ha) == [(0, "203.0.113.128", 32)]
    assert ha.route(FIRST_DYNAMIC) is not None
    assert FIRST_DYNAMIC in ha.defended


@pytest.mark.requirement("R117", "R133")
def test_a_dynamic_home_address_stays_over_refresh_release_and_restart(ha: HomeScript) -> None:
    ha.feed(ha.tablet.native(over_ipv6(ha.tablet, home4(DYNAMIC))))
    ha.feed(ha.tablet.native(over_ipv6(ha.tablet, home4(DYNAMIC))))
    assert acks(ha) == [(0, "203.0.113.128", 32)]
    ha.feed(ha.tablet.native(over_ipv6(ha.tablet, home4(FIRST_DYNAMIC))))
    assert acks(ha) == [(0, "203.0.113.128", 32)]
    ha.feed(ha.tablet.native(over_ipv6(ha.tablet, lifetime=0)))
    ha = ha.restarted()
    ha.feed(ha.router.native(over_ipv6(ha.router, home4(DYNAMIC))))
    assert acks(ha) == [(0, "203.0.113.129", 32)], "the other one's address is still taken"
    ha.feed(ha.tablet.native(over_ipv6(ha.tablet, home4(DYNAMIC))))
    assert acks(ha) == [(0, "203.0.113.128", 32)]


@pytest.mark.requirement("R056", "R076")
def test_a_static_home_address_is_given_by_name_or_on_request(ha: HomeScript) -> None:
    for asked in (LAPTOP4, DYNAMIC):
        ha.feed(ha.laptop.native(over_ipv6(ha.laptop, home4(asked))))
        assert acks(ha) == [(0, "203.0.113.77", 32)]


@pytest.mark.requirement("R058")
def test_the_binding_lasts_no_longer_than_the_lease() -> None:
    ha = HomeScript(configured(more="[binding]\nlease_lifetime = 40"))
    ha.feed(ha.tablet.native(over_ipv6(ha.tablet, home4(DYNAMIC), lifetime=400)))
    assert ha.answer().lifetime == 40
    ha.feed(ha.laptop.native(over_ipv6(ha.laptop, home4(), lifetime=400)))
    assert ha.answer().lifetime == 400, "a static address has no lease"


@pytest.mark.requirement("R122")
@pytest.mark.parametrize("asked", ["203.0.113.77", "203.0.113.200"])
def test_130_answers_a_request_for_an_address_that_belongs_to_somebody_else(
    ha: HomeScript, asked: str
) -> None:
    ha.feed(ha.tablet.native(over_ipv6(ha.tablet, home4(IPv4Address(asked)))))
    assert acks(ha) == [(130, asked, 0)]
    assert ha.route(IPv4Address(asked)) is None
    assert ha.route(ha.tablet.home_address) is not None, "the IPv6 binding stands"


@pytest.mark.requirement("R122")
def test_130_answers_a_mobile_node_that_asks_for_an_address_it_was_not_given(ha: HomeScript) -> None:
    ha.feed(ha.laptop.native(over_ipv6(ha.laptop, home4(IPv4Address("203.0.113.78")))))
    assert acks(ha) == [(130, "203.0.113.78", 0)]


@pytest.mark.parametrize("asked", ["224.0.0.5", "127.0.0.1", "255.255.255.255", "169.254.1.1", "240.0.0.1"])
def test_131_answers_a_request_for_what_no_host_can_have(ha: HomeScript, asked: str) -> None:
    ha.feed(ha.tablet.native(over_ipv6(ha.tablet, home4(IPv4Address(asked)))))
    assert acks(ha) == [(131, asked, 0)]


@pytest.mark.requirement("R062", "R073")
@pytest.mark.parametrize("length", [0, 33, 63])
def test_131_answers_an_impossible_prefix_length(ha: HomeScript, length: int) -> None:
    octets = bytes([length << 2, 0]) + DYNAMIC.packed
    ha.feed(ha.tablet.native(over_ipv6(ha.tablet, UnknownOption(29, octets))))
    assert acks(ha) == [(131, "0.0.0.0", 0)]


@pytest.mark.requirement("R124")
def test_132_answers_when_the_pool_is_exhausted_or_there_is_none() -> None:
    full = HomeScript(configured({'"203.0.113.128/30"': '"203.0.113.128/32"'}))
    full.feed(full.tablet.native(over_ipv6(full.tablet, home4(DYNAMIC))))
    assert acks(full) == [(0, "203.0.113.128", 32)]
    full.feed(full.router.native(over_ipv6(full.router, home4(DYNAMIC))))
    assert acks(full) == [(132, "0.0.0.0", 0)]
    none = HomeScript(configured({'ipv4_pool = "203.0.113.128/30"': ""}))
    none.feed(none.tablet.native(over_ipv6(none.tablet, home4(DYNAMIC))))
    assert acks(none) == [(132, "0.0.0.0", 0)]


def test_129_answers_a_mobile_node_that_may_have_no_ipv4() -> None:
    ha = HomeScript(configured(tablet='ipv4 = "none"'))
    ha.feed(ha.tablet.native(over_ipv6(ha.tablet, home4(DYNAMIC))))
    assert acks(ha) == [(129, "0.0.0.0", 0)]


@pytest.mark.requirement("R061", "R063", "R066", "R125", "R126")
def test_a_prefix_from_the_pool_is_given_once_and_kept_on_refresh() -> None:
    ha = HomeScript(configured(tablet="ipv4_prefix_requests = true"))
    ha.feed(ha.tablet.native(over_ipv6(ha.tablet, home4(DYNAMIC), home4(DYNAMIC, 26, prefix=True))))
    assert acks(ha) == [(0, "203.0.113.128", 32), (0, "10.64.0.0", 26)]
    again = home4(IPv4Address("10.64.0.0"), 26, prefix=True)
    ha.feed(ha.tablet.native(over_ipv6(ha.tablet, home4(DYNAMIC), again)))
    assert acks(ha) == [(0, "203.0.113.128", 32), (0, "10.64.0.0", 26)]
    ha.feed(ha.tablet.native(over_ipv6(ha.tablet, home4(IPv4Address("10.64.0.0"), 26))))
    assert acks(ha) == [(0, "10.64.0.0", 26)], "the length alone says that it is a prefix"
    assert ha.route(IPv4Address("10.64.0.5")) is not None
    assert ha.route(FIRST_DYNAMIC) is None
    assert [str(lease.network) for lease in ha.agent.books.prefixes.leases] == ["10.64.0.0/26"]


@pytest.mark.requirement("R074", "R125")
@pytest.mark.parametrize(
    ("profile", "expected"), [("rfc5555", (0, "10.64.0.0", 24)), ("draft-00", (128, "0.0.0.0", 0))]
)
def test_a_prefix_larger_than_allowed_is_cut_down_or_refused_as_the_profile_says(
    profile: str, expected: tuple[int, str, int]
) -> None:
    ha = HomeScript(configured(tablet="ipv4_prefix_requests = true", more=f'[wire]\nprofile = "{profile}"'))
    ha.feed(ha.tablet.native(over_ipv6(ha.tablet, home4(DYNAMIC, 12, prefix=True))))
    assert acks(ha) == [expected]


@pytest.mark.requirement("R122", "R125")
def test_133_answers_a_mobile_node_that_may_have_no_prefix_or_not_that_one() -> None:
    ha = HomeScript(configured(laptop="ipv4_prefix_requests = true"))
    ha.feed(ha.tablet.native(over_ipv6(ha.tablet, home4(DYNAMIC, 24, prefix=True))))
    assert acks(ha) == [(133, "0.0.0.0", 0)]
    ha.feed(ha.laptop.native(over_ipv6(ha.laptop, home4(IPv4Address("10.77.1.0"), 24, prefix=True))))
    assert acks(ha) == [(133, "10.77.1.0", 0)], "it belongs to the router"


@pytest.mark.requirement("R066", "R126")
def test_a_configured_prefix_is_given_on_request_and_by_name(ha: HomeScript) -> None:
    ha.feed(ha.router.native(over_ipv6(ha.router, home4(DYNAMIC, 16, prefix=True))))
    assert acks(ha) == [(0, "10.77.0.0", 16)]
    ha.feed(ha.router.native(over_ipv6(ha.router, home4(IPv4Address("10.77.3.9"), 24, prefix=True))))
    assert acks(ha) == [(0, "10.77.3.0", 24)]
    assert ha.route(IPv4Address("10.77.3.200")) is not None
    assert ha.route(IPv4Address("10.77.4.1")) is None


def test_only_a_few_requests_of_one_update_are_looked_at(ha: HomeScript) -> None:
    ha.feed(ha.laptop.native(over_ipv6(ha.laptop, *[home4()] * 20)))
    assert len(acks(ha)) == 8


@pytest.mark.requirement("R064", "R067")
def test_reserved_bits_in_options_are_ignored(ha: HomeScript) -> None:
    address = UnknownOption(29, bytes([0x81, 0xFF]) + LAPTOP4.packed)
    care_of = UnknownOption(32, b"\xff\xff" + PRIVATE4.packed)
    ha.feed(ha.laptop.udp(ha.laptop.update(address, care_of), NAT4))
    assert acks(ha) == [(0, "203.0.113.77", 32)]


# ---- the pool by itself -----------------------------------------------------------------------


def mobile_node(number: int) -> IPv6Address:
    return IPv6Address(f"2001:db8:99::{number:x}")


def test_a_pool_gives_every_address_once_and_skips_what_is_excluded() -> None:
    pool = AddressPool(IPv4Network("192.0.2.0/29"), [IPv4Network("192.0.2.0"), IPv4Network("192.0.2.4/31")])
    given = []
    for number in range(8):
        offered = pool.offer(mobile_node(number), 32, now=0.0)
        if offered is not None:
            pool.keep(Lease(mobile_node(number), offered, until=10.0))
            given.append(str(offered.network_address))
    assert given == [f"192.0.2.{last}" for last in (1, 2, 3, 6, 7)]


def test_a_lease_that_ran_out_is_kept_for_its_owner_until_somebody_needs_it() -> None:
    pool = AddressPool(IPv4Network("192.0.2.0/31"))
    for number, until in ((1, 10.0), (2, 5.0)):
        offered = pool.offer(mobile_node(number), 32, now=0.0)
        assert offered is not None
        pool.keep(Lease(mobile_node(number), offered, until))
    assert pool.offer(mobile_node(3), 32, now=4.0) is None
    assert pool.offer(mobile_node(2), 32, now=20.0) == IPv4Network("192.0.2.1")
    taken = pool.offer(mobile_node(3), 32, now=20.0)
    assert taken == IPv4Network("192.0.2.1"), "the one that ran out first"
    assert taken is not None
    pool.keep(Lease(mobile_node(3), taken, until=30.0))
    assert pool.lease_of(mobile_node(2)) is None
    assert pool.offer(mobile_node(2), 32, now=20.0) == IPv4Network("192.0.2.0")


def test_an_address_that_somebody_else_uses_is_shunned_for_a_while() -> None:
    pool = AddressPool(IPv4Network("192.0.2.0/31"))
    pool.shun(IPv4Network("192.0.2.0"), until=100.0)
    assert pool.offer(mobile_node(1), 32, now=0.0) == IPv4Network("192.0.2.1")
    assert pool.offer(mobile_node(1), 32, now=100.0) == IPv4Network("192.0.2.0")


def test_prefixes_of_several_lengths_never_overlap() -> None:
    pool = AddressPool(IPv4Network("10.64.0.0/16"), [IPv4Network("10.64.1.7")])
    given: list[IPv4Network] = []
    for number, length in enumerate((26, 24, 30, 25, 20, 18)):
        offered = pool.offer(mobile_node(number), length, now=0.0)
        assert offered is not None
        assert offered.prefixlen == length
        assert not any(offered.overlaps(other) for other in given)
        assert IPv4Address("10.64.1.7") not in offered
        pool.keep(Lease(mobile_node(number), offered, until=10.0))
        given.append(offered)


@pytest.mark.parametrize(("care_of", "translated"), [(IPv4Address("192.0.0.2"), True), (PRIVATE4, False)])
def test_a_care_of_address_that_stands_for_an_ipv6_one_is_behind_a_nat64(
    ha: HomeScript, care_of: IPv4Address, translated: bool
) -> None:
    ha.feed(ha.laptop.udp(over_ipv4(ha.laptop, home4(), care_of=care_of), NAT4))
    assert ha.answer().status == BindingStatus.ACCEPTED
    way = ha.route(LAPTOP4)
    assert way is not None
    assert (way.path.remote, way.path.translated) == (NAT4, translated)
