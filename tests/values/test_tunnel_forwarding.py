"""Home addresses and prefixes -> paths."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from hypothesis import given
from hypothesis import strategies as st

from tunnel.forwarding import ForwardingTable, Route, Way, peer_of
from tunnel.path import Encapsulation, TunnelPath

OFFICE = TunnelPath(IPv6Address("2001:db8:1::2"), IPv6Address("2001:db8:2::2"), Encapsulation.IP_IN_IP)
CAFE = TunnelPath(
    IPv4Address("192.168.7.2"), IPv4Address("203.0.113.2"), Encapsulation.UDP, 50000, 4191, "wlan0"
)
MOBILE = TunnelPath(IPv4Address("198.51.100.9"), IPv4Address("203.0.113.2"), Encapsulation.IP_IN_IP)


def over(number: int) -> TunnelPath:
    return replace(OFFICE, link_mtu=number)


networks4 = st.builds(
    lambda number, length: IPv4Network((number, length), strict=False),
    st.integers(0, 2**32 - 1).map(lambda n: n & 0xFF0F0303),
    st.integers(0, 32),
)
networks6 = st.builds(
    lambda number, length: IPv6Network((number << 96 | number, length), strict=False),
    st.integers(0, 2**32 - 1).map(lambda n: n & 0xFF0F0303),
    st.integers(0, 128),
)


@given(st.lists(st.one_of(networks4, networks6), max_size=30), st.integers(0, 2**32 - 1))
def test_the_longest_prefix_that_holds_an_address_is_found(
    prefixes: list[IPv4Network | IPv6Network], number: int
) -> None:
    table = ForwardingTable(Route(prefix, over(number)) for number, prefix in enumerate(prefixes))
    paths = {prefix: over(number) for number, prefix in enumerate(prefixes)}
    masked = number & 0xFF0F0303
    candidates = [prefix.network_address for prefix in prefixes]
    for address in (IPv4Address(masked), IPv6Address(masked << 96 | masked), *candidates):
        holding = [p for p in prefixes if p.version == address.version and address in p]
        longest = max(holding, key=lambda p: p.prefixlen, default=None)
        found = table.find(address.packed)
        assert (found.path if found else None) == (paths[longest] if longest else None)


def test_a_changed_table_is_another_table() -> None:
    home4, home6, lan = (
        ip_network("203.0.113.77"),
        ip_network("2001:db8:99::77"),
        ip_network("2001:db8:77::/64"),
    )
    before = ForwardingTable([Route(home4, CAFE), Route(home6, CAFE), Route(lan, CAFE)])
    after = before.with_routes(Route(home4, OFFICE)).without(lan, ip_network("10.0.0.0/8"))
    assert [before.find(ip_address(a).packed) for a in ("203.0.113.77", "2001:db8:77::1")] == [
        Way(CAFE),
        Way(CAFE),
    ]
    assert after.find(home4.network_address.packed) == Way(OFFICE)
    assert after.find(home6.network_address.packed) == Way(CAFE)
    assert after.find(ip_address("2001:db8:77::1").packed) is None
    assert (len(before), len(after)) == (3, 2)
    assert set(after.routes) == {Route(home4, OFFICE), Route(home6, CAFE)}
    assert len(after.without(home4, home6)) == 0


def test_a_way_accepts_the_other_ends_of_its_paths_and_nobody_else() -> None:
    way = Way(OFFICE, accept=(CAFE, MOBILE))
    assert set(way.peers) == {
        ("2001:db8:2::2", 0, 0, 0),
        ("203.0.113.2", 4191),
        ("203.0.113.2", 0),
    }
    assert peer_of(IPv4Address("203.0.113.2"), 4191) in way.peers
    assert peer_of(IPv4Address("203.0.113.2"), 4192) not in way.peers


@given(
    st.lists(st.one_of(networks4, networks6), max_size=12),
    st.lists(st.one_of(networks4, networks6), max_size=12),
    st.sets(st.integers(0, 11)),
)
def test_changes_add_up_to_the_table_and_are_told(
    first: list[IPv4Network | IPv6Network], more: list[IPv4Network | IPv6Network], lost: set[int]
) -> None:
    before = ForwardingTable(Route(prefix, CAFE) for prefix in first)
    gone = [first[index] for index in lost if index < len(first)]
    after = before.with_way(Way(OFFICE, (CAFE,)), more).without(*gone)
    expected = {prefix: Way(CAFE) for prefix in first}
    expected.update({prefix: Way(OFFICE, (CAFE,)) for prefix in more})
    for prefix in gone:
        expected.pop(prefix, None)
    assert {route.prefix: route.way for route in after.routes} == expected
    assert after == ForwardingTable(after.routes)
    assert len(after) == len(expected)
    told = {prefix: new for prefix, _, new in after.changed_since(before)}
    assert all(old == before.way_to(prefix) for prefix, old, _ in after.changed_since(before))
    assert {**{prefix: Way(CAFE) for prefix in first}, **told} == {
        **expected,
        **{prefix: None for prefix in gone if prefix not in expected},
    }
    for prefix in expected:
        assert after.find(prefix.network_address.packed) is not None
