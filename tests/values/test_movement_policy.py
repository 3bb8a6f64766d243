"""Which attachments a snapshot offers, and in which order."""

from __future__ import annotations

import random
from dataclasses import replace
from ipaddress import ip_address

import pytest

from movement.policy import Attachment, Policy, rank, usable
from movement.snapshot import DefaultRouter, Link, LinkAddress, Snapshot

V6_ROUTER = DefaultRouter(6, ip_address("fe80::1"), 1024)
V4_ROUTER = DefaultRouter(4, ip_address("192.168.7.1"), 100)
V6 = LinkAddress(ip_address("2001:db8:7::2"), 64)
V4 = LinkAddress(ip_address("192.168.7.2"), 24)


def link(
    name: str, *parts: LinkAddress | DefaultRouter, index: int | None = None, up: bool = True, mtu: int = 1500
) -> Link:
    return Link(
        index=index if index is not None else sum(name.encode()),
        name=name,
        up=up,
        mtu=mtu,
        addresses=tuple(part for part in parts if isinstance(part, LinkAddress)),
        routers=tuple(part for part in parts if isinstance(part, DefaultRouter)),
    )


def dual(name: str, metric: int = 0, last: int = 2) -> Link:
    return link(
        name,
        LinkAddress(ip_address(f"2001:db8:{sum(name.encode())}::{last}"), 64),
        LinkAddress(ip_address(f"10.{sum(name.encode()) % 256}.0.{last}"), 24),
        DefaultRouter(6, ip_address("fe80::1"), metric or 1024),
        DefaultRouter(4, ip_address("10.0.0.1"), metric),
    )


def places(ranked: tuple[Attachment, ...]) -> list[tuple[str, int]]:
    return [(attachment.interface, attachment.care_of.version) for attachment in ranked]


def ranked(
    *links: Link, policy: Policy | None = None, current: Attachment | None = None
) -> list[tuple[str, int]]:
    return places(rank(Snapshot(links), policy or Policy(), current))


def test_an_attachment_tells_all_that_a_registration_needs() -> None:
    (only,) = rank(Snapshot((link("eth0", V4, V4_ROUTER, index=3, mtu=1492),)), Policy())
    assert only == Attachment("eth0", 3, V4.address, 24, V4_ROUTER.gateway, 1492, 100)


@pytest.mark.requirement("R028")
def test_on_a_dual_stack_link_ipv6_comes_first_unless_the_policy_says_otherwise() -> None:
    assert ranked(dual("eth0")) == [("eth0", 6), ("eth0", 4)]
    assert ranked(dual("eth0"), policy=Policy(prefer_ipv6=False)) == [("eth0", 4), ("eth0", 6)]
    low_ipv4_metric = link("eth0", V6, V4, V6_ROUTER, DefaultRouter(4, ip_address("192.168.7.1"), 1))
    assert ranked(low_ipv4_metric) == [("eth0", 6), ("eth0", 4)]


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        (LinkAddress(ip_address("2001:db8::1"), 64), True),
        (LinkAddress(ip_address("fd00::1"), 64), True),
        (LinkAddress(ip_address("10.0.0.1"), 24), True),
        (LinkAddress(ip_address("100.64.0.1"), 24), True),
        (LinkAddress(ip_address("2001:db8::1"), 64, temporary=True), True),
        (LinkAddress(ip_address("2001:db8::1"), 64, tentative=True), False),
        (LinkAddress(ip_address("2001:db8::1"), 64, deprecated=True), False),
        (LinkAddress(ip_address("fe80::1"), 64), False),
        (LinkAddress(ip_address("169.254.3.4"), 16), False),
        (LinkAddress(ip_address("127.0.0.2"), 8), False),
        (LinkAddress(ip_address("::1"), 128), False),
    ],
)
def test_only_routable_addresses_in_good_standing_can_be_care_of_addresses(
    address: LinkAddress, expected: bool
) -> None:
    assert usable(address) is expected


def test_a_deprecated_address_is_chosen_where_there_is_no_other() -> None:
    old = LinkAddress(ip_address("2001:db8::aaaa"), 64, deprecated=True)
    (only,) = rank(Snapshot((link("eth0", old, V6_ROUTER),)), Policy())
    assert only.care_of == old.address
    tentative = replace(V6, tentative=True)
    assert ranked(link("eth0", replace(old, tentative=True), tentative, V6_ROUTER)) == []
    (better,) = rank(Snapshot((link("eth0", old, V6, V6_ROUTER),)), Policy(), only)
    assert better.care_of == V6.address


@pytest.mark.parametrize(
    "useless",
    [
        link("eth0", V6, V6_ROUTER, up=False),
        link("eth0", V6),
        link("eth0", V6_ROUTER),
        link("eth0", V6, V4_ROUTER),
        link("eth0", LinkAddress(ip_address("fe80::2"), 64), V6_ROUTER),
        link("eth0", V4, DefaultRouter(4, None, 0)),
    ],
    ids=["down", "no router", "no address", "router of the other family", "link-local only", "on-link route"],
)
def test_a_link_without_all_it_takes_is_no_attachment(useless: Link) -> None:
    assert ranked(useless) == []


def test_a_point_to_point_link_counts_if_the_policy_accepts_routes_without_a_gateway() -> None:
    modem = link("ppp0", V4, DefaultRouter(4, None, 0))
    (only,) = rank(Snapshot((modem,)), Policy(accept_onlink=True))
    assert only.router is None


def test_an_unusable_ipv6_address_leaves_the_link_to_ipv4() -> None:
    tentative = LinkAddress(ip_address("2001:db8:7::2"), 64, tentative=True)
    assert ranked(link("eth0", tentative, V4, V6_ROUTER, V4_ROUTER)) == [("eth0", 4)]


def test_allow_and_deny_lists_may_be_patterns_and_denial_wins() -> None:
    links = dual("eth0"), dual("wlan0"), dual("docker0")
    assert {n for n, _ in ranked(*links, policy=Policy(interfaces_allow=("eth0",)))} == {"eth0"}
    assert {n for n, _ in ranked(*links, policy=Policy(interfaces_deny=("docker*",)))} == {"eth0", "wlan0"}
    both = Policy(interfaces_allow=("wl*", "eth0"), interfaces_deny=("eth*",))
    assert {n for n, _ in ranked(*links, policy=both)} == {"wlan0"}


def test_preferred_interfaces_beat_metrics_in_the_order_given() -> None:
    links = dual("eth0", 100), dual("wlan0", 600), dual("wwan0", 700)
    assert ranked(*links)[0] == ("eth0", 6)
    assert ranked(*links, policy=Policy(preferred=("wwan0", "wlan*")))[::2] == [
        ("wwan0", 6), ("wlan0", 6), ("eth0", 6),
    ]  # fmt: skip


def test_the_lower_metric_wins_among_links_also_across_families() -> None:
    v4_only = link("eth0", V4, DefaultRouter(4, ip_address("192.168.7.1"), 100))
    v6_only = link("wlan0", V6, DefaultRouter(6, ip_address("fe80::1"), 600))
    assert ranked(v6_only, v4_only) == [("eth0", 4), ("wlan0", 6)]


def test_the_kernels_default_metric_of_ipv6_counts_as_no_metric() -> None:
    v4_only = link("eth0", V4, DefaultRouter(4, ip_address("192.168.7.1"), 0))
    v6_only = link("wlan0", V6, DefaultRouter(6, ip_address("fe80::1"), 1024))
    assert ranked(v4_only, v6_only) == [("wlan0", 6), ("eth0", 4)], "equal metrics, so the family decides"


def test_two_default_routes_on_two_links_are_two_attachments() -> None:
    ranked_links = rank(Snapshot((dual("eth0", 100), dual("wlan0", 600))), Policy())
    assert places(ranked_links) == [("eth0", 6), ("eth0", 4), ("wlan0", 6), ("wlan0", 4)]


def test_the_router_of_an_attachment_has_the_lowest_metric_and_the_one_in_use_stays_among_equals() -> None:
    routers = [DefaultRouter(6, ip_address(f"fe80::{n}"), 1024) for n in (9, 3, 5)]
    eth0 = link("eth0", V6, *routers)
    (first,) = rank(Snapshot((eth0,)), Policy())
    assert first.router == ip_address("fe80::3")
    using = Attachment("eth0", eth0.index, V6.address, 64, ip_address("fe80::9"), 1500, 1024)
    (kept,) = rank(Snapshot((eth0,)), Policy(), using)
    assert kept.router == ip_address("fe80::9")
    better = link("eth0", V6, *routers, DefaultRouter(6, ip_address("fe80::f"), 5))
    (moved,) = rank(Snapshot((better,)), Policy(), using)
    assert moved.router == ip_address("fe80::f")


def test_the_address_that_lasts_is_chosen_and_the_one_in_use_stays() -> None:
    addresses = [
        LinkAddress(ip_address("2001:db8:7::aaaa"), 64, temporary=True),
        LinkAddress(ip_address("fd00::1"), 64),
        LinkAddress(ip_address("2001:db8:7::9"), 64),
        LinkAddress(ip_address("2001:db8:7::5"), 64),
    ]
    eth0 = link("eth0", V6_ROUTER, *addresses)
    (first,) = rank(Snapshot((eth0,)), Policy())
    assert first.care_of == ip_address("2001:db8:7::5")
    for using in addresses:
        current = Attachment("eth0", eth0.index, using.address, 64, ip_address("fe80::1"), 1500, 1024)
        assert rank(Snapshot((eth0,)), Policy(), current)[0].care_of == using.address
    (only_temporary,) = rank(Snapshot((link("eth0", V6_ROUTER, addresses[0], addresses[1]),)), Policy())
    assert only_temporary.care_of == addresses[1].address, "even a unique local address lasts longer"


def test_the_order_of_links_addresses_and_routers_in_the_snapshot_does_not_matter() -> None:
    chance = random.Random(5555)
    links = [dual("eth0"), dual("eth1"), dual("wlan0", 600)]
    expected = rank(Snapshot(tuple(links)), Policy())
    for _ in range(50):
        chance.shuffle(links)
        mixed = tuple(
            Link(x.index, x.name, x.up, x.mtu,
                 tuple(chance.sample(x.addresses, len(x.addresses))),
                 tuple(chance.sample(x.routers, len(x.routers))))
            for x in links
        )  # fmt: skip
        assert rank(Snapshot(mixed), Policy()) == expected


def test_within_a_class_the_current_attachment_stays_first() -> None:
    links = dual("eth0"), dual("eth1")
    first = rank(Snapshot(links), Policy())
    assert first[0].interface == "eth0"
    eth1 = next(a for a in first if a.interface == "eth1" and a.care_of.version == 6)
    assert ranked(*links, current=eth1)[0] == ("eth1", 6)
    rotated = dual("eth0"), dual("eth1", last=3)
    assert ranked(*rotated, current=eth1)[0] == ("eth1", 6), "the same link rather than another of its class"


@pytest.mark.parametrize(
    ("policy", "links", "expected"),
    [
        (Policy(preferred=("eth0",)), (dual("eth0", 700), dual("eth1", 100)), ("eth0", 6)),
        (Policy(), (dual("eth0", 50), dual("eth1", 100)), ("eth0", 6)),
        (Policy(), (dual("eth0", 100), link("eth1", V4, V4_ROUTER)), ("eth0", 6)),
    ],
    ids=["preferred interface", "lower metric", "IPv6"],
)
def test_a_better_class_makes_the_current_attachment_yield(
    policy: Policy, links: tuple[Link, ...], expected: tuple[str, int]
) -> None:
    alone = rank(Snapshot((links[1],)), policy)
    assert alone[0].interface == "eth1"
    assert ranked(*links, policy=policy, current=alone[0])[0] == expected


def test_what_a_link_has_neighbours_in_leaves_out_tentative_and_host_addresses() -> None:
    snapshot = Snapshot(
        (
            link("eth0", V4, LinkAddress(ip_address("fe80::2"), 64), LinkAddress(ip_address("10.1.1.1"), 32)),
            link("eth1", LinkAddress(ip_address("fd00::2"), 64, tentative=True)),
            link("eth2", V6, up=False),
        )
    )
    connected = [(name, str(address.network)) for name, address in snapshot.connected()]
    assert connected == [("eth0", "192.168.7.0/24"), ("eth0", "fe80::/64")]
    assert snapshot.link("eth1") is not None
    assert snapshot.link("eth9") is None
