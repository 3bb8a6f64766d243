"""Home addresses and prefixes -> paths."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from hypothesis import given
from hypothesis import strategies as st

from tunnel.forwarding import ForwardingTable, Route, peer_of
from tunnel.path import Encapsulation, TunnelPath

OFFICE = TunnelPath(IPv6Address("2001:db8:1::2"), IPv6Address("2001:db8:2::2"), Encapsulation.IP_IN_IP)
CAFE = TunnelPath(
    IPv4Address("192.168.7.2"), IPv4Address("203.0.113.2"), Encapsulation.UDP, 50000, 4191, "wlan0"
)
MOBILE = TunnelPath(IPv4Address("198.51.100.9"), IPv4Address("203.0.113.2"), Encapsulation.IP_IN_IP)

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
    table = ForwardingTable(Route(prefix, OFFICE) for prefix in prefixes)
    masked = number & 0xFF0F0303
    candidates = [prefix.network_address for prefix in prefixes]
    for address in (IPv4Address(masked), IPv6Address(masked << 96 | masked), *candidates):
        holding = [p for p in prefixes if p.version == address.version and address in p]
        longest = max(holding, key=lambda p: p.prefixlen, default=None)
        found = table.find(address.packed)
        assert (found.prefix if found else None) == longest


def test_a_changed_table_is_another_table() -> None:
    home4, home6, lan = (
        ip_network("203.0.113.77"),
        ip_network("2001:db8:99::77"),
        ip_network("2001:db8:77::/64"),
    )
    before = ForwardingTable([Route(home4, CAFE), Route(home6, CAFE), Route(lan, CAFE)])
    after = before.with_routes(Route(home4, OFFICE)).without(lan, ip_network("10.0.0.0/8"))
    assert [before.find(ip_address(a).packed) for a in ("203.0.113.77", "2001:db8:77::1")] == [
        Route(home4, CAFE),
        Route(lan, CAFE),
    ]
    assert after.find(home4.network_address.packed) == Route(home4, OFFICE)
    assert after.find(home6.network_address.packed) == Route(home6, CAFE)
    assert after.find(ip_address("2001:db8:77::1").packed) is None
    assert (len(before), len(after)) == (3, 2)
    assert set(after.routes) == {Route(home4, OFFICE), Route(home6, CAFE)}
    assert len(after.without(home4, home6)) == 0


def test_a_route_accepts_the_other_ends_of_its_paths_and_nobody_else() -> None:
    route = Route(ip_network("203.0.113.77"), OFFICE, accept=(CAFE, MOBILE))
    assert route.peers == {
        ("2001:db8:2::2", 0, 0, 0),
        ("203.0.113.2", 4191),
        ("203.0.113.2", 0),
    }
    assert peer_of(IPv4Address("203.0.113.2"), 4191) in route.peers
    assert peer_of(IPv4Address("203.0.113.2"), 4192) not in route.peers
