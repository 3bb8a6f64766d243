"""The memory of the last packets, from which a break is bridged."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_network

from tunnel.recent import KEPT, RecentPackets
from wire.ip import IPv4Header, IPv6Header

HOME4, HOME6 = IPv4Address("203.0.113.77"), IPv6Address("2001:db8:99::77")
PEER4, PEER6 = IPv4Address("192.0.2.9"), IPv6Address("2001:db8:cc::9")
HOMES = (ip_network(HOME4), ip_network(HOME6))


def packet4(source: IPv4Address, destination: IPv4Address, octet: int = 0) -> bytes:
    return IPv4Header(source, destination, 17, 21).encode() + bytes([octet])


def packet6(source: IPv6Address, destination: IPv6Address) -> bytes:
    return IPv6Header(source, destination, 17, 0).encode()


def test_packets_of_the_home_addresses_come_back_in_order_from_the_given_instant() -> None:
    recent = RecentPackets(by_source=False)
    for i in range(5):
        recent.remember((10.0 + i / 10, packet4(PEER4, HOME4, i)))
    recent.remember((10.5, packet6(PEER6, HOME6)))
    taken = list(recent.take(HOMES, 10.2, 11.0))
    assert taken == [packet4(PEER4, HOME4, i) for i in (2, 3, 4)] + [packet6(PEER6, HOME6)]


def test_packets_of_other_nodes_and_those_without_a_header_do_not() -> None:
    recent = RecentPackets(by_source=False)
    for packet in (packet4(HOME4, PEER4), packet6(HOME6, PEER6), b"", b"\x45", b"\x60" + bytes(30)):
        recent.remember((1.0, packet))
    assert list(recent.take(HOMES, 0.0, 1.0)) == []


def test_at_the_mobile_node_the_home_address_is_the_source() -> None:
    recent = RecentPackets(by_source=True)
    recent.remember((1.0, packet4(HOME4, PEER4)))
    assert list(recent.take(HOMES, 0.0, 1.0)) == [packet4(HOME4, PEER4)]


def test_a_mobile_network_prefix_is_found_as_well() -> None:
    recent = RecentPackets(by_source=False)
    behind = IPv6Address("2001:db8:77::5")
    recent.remember((1.0, packet6(PEER6, behind)))
    recent.remember((1.0, packet6(PEER6, HOME6)))
    assert list(recent.take((ip_network("2001:db8:77::/48"),), 0.0, 1.0)) == [packet6(PEER6, behind)]


def test_old_packets_are_of_no_use_and_the_memory_is_bounded() -> None:
    recent = RecentPackets(by_source=False)
    for i in range(2 * KEPT):
        recent.remember((i * 0.01, packet4(PEER4, HOME4)))
    now = 2 * KEPT * 0.01
    assert len(list(recent.take(HOMES, 0.0, now))) == 200
    assert len(list(recent.take(HOMES, 0.0, 0.0))) == KEPT
