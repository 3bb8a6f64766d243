"""The memory of networks: who is who, what is kept for how long, and what a file from anywhere can do."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from movement.known_networks import (
    MAX_AGE,
    MAX_LEASES,
    MAX_NETWORKS,
    MAX_OCTETS,
    NOTHING,
    KnownNetworks,
    Learnt,
    Lease,
    NetworkFacts,
    recall_networks,
)
from movement.learning import SLACK, learn
from movement.network import NetworkId, network_of
from movement.snapshot import DefaultRouter, Link, LinkAddress, Snapshot
from tests.fuzz.strategies import addresses4, addresses6

MAC, OTHER_MAC = b"\x02\0\0\0\0\1", b"\x02\0\0\0\0\2"
ROUTER = DefaultRouter(4, ip_address("192.168.1.1"), 100, MAC)
ADDRESS = LinkAddress(ip_address("192.168.1.5"), 24, valid_until=1000.0)
CAFE = NetworkId(ip_address("192.168.1.1"), MAC, ip_network("192.168.1.0/24"))
OURS = b"\x02\0\0\0\0\x77"
LEASE = Learnt(Lease(IPv4Address("192.168.1.5"), "01:02:00:00:00:00:77", 100), 1000.0)
LEASED = NetworkFacts(leases=(LEASE,))
OFFSET = 1_800_000_000.0

instants = st.integers(-(10**9), 4 * 10**9).map(float)
words = st.text("abc:01é", max_size=20)
networks = st.builds(
    NetworkId,
    st.one_of(addresses4, addresses6),
    st.binary(min_size=1, max_size=32),
    st.one_of(
        st.builds(lambda a, n: ip_network((a, n), strict=False), addresses4, st.integers(0, 32)),
        st.builds(lambda a, n: ip_network((a, n), strict=False), addresses6, st.integers(0, 128)),
    ),
)
leases = st.builds(Learnt, st.builds(Lease, addresses4, words, st.integers(0, 2**32 - 1)), instants)
facts = st.builds(
    NetworkFacts,
    leases=st.lists(leases, max_size=4).map(tuple),
    address6=st.none() | st.builds(Learnt, addresses6, instants)
)
memories = st.dictionaries(networks, facts, max_size=8).map(lambda d: KnownNetworks(tuple(d.items())))


def link(*addresses: LinkAddress, routers: tuple[DefaultRouter, ...] = (ROUTER,)) -> Link:
    return Link(3, "wlan0", True, 1500, addresses, routers, hardware=OURS)


@pytest.mark.requirement("R112")
def test_a_network_is_its_router_with_hardware_and_the_prefix_of_our_address() -> None:
    assert network_of(ROUTER, ADDRESS) == CAFE
    assert network_of(replace(ROUTER, hardware=None), ADDRESS) is None, "not resolved yet"
    assert network_of(replace(ROUTER, gateway=None), ADDRESS) is None, "nobody to ask"
    assert network_of(replace(ROUTER, hardware=OTHER_MAC), ADDRESS) != CAFE, "192.168.1.0/24 is everywhere"
    assert network_of(ROUTER, replace(ADDRESS, prefix_length=16)) != CAFE
    assert str(CAFE) == "192.168.1.0/24 behind 192.168.1.1 (02:00:00:00:00:01)"


def test_facts_end_each_at_its_own_time_and_a_network_with_the_last_of_them() -> None:
    later = Learnt(IPv6Address("2001:db8::5"), 2000.0)
    known = KnownNetworks().put(CAFE, LEASED).learn(CAFE, address6=later)
    assert known.about(CAFE) == NetworkFacts((LEASE,), later)
    assert known.at(999.9) == known
    assert known.at(1000.0).about(CAFE) == NetworkFacts((), later)
    assert known.at(2000.0) == KnownNetworks()
    assert known.about(None) == NOTHING


def test_each_link_of_ours_has_a_lease_of_its_own_and_few_are_kept() -> None:
    cable = link(replace(ADDRESS, address=ip_address("192.168.1.6")))
    wifi = replace(link(ADDRESS), index=4, hardware=OTHER_MAC)
    facts = learn(KnownNetworks(), Snapshot((cable, wifi)), 0.0).about(CAFE)
    assert [str(lease.value.address) for lease in facts.leases] == ["192.168.1.6", "192.168.1.5"]
    for n in range(MAX_LEASES):
        facts = facts.leased(Learnt(Lease(IPv4Address("192.168.1.9"), str(n)), 1000.0))
    assert [lease.value.client_id for lease in facts.leases] == [str(n) for n in range(MAX_LEASES)]


def test_the_network_that_was_not_met_for_longest_makes_room() -> None:
    def number(n: int) -> NetworkId:
        return replace(CAFE, hardware=n.to_bytes(6, "big"))

    known = KnownNetworks()
    for n in range(1, MAX_NETWORKS + 1):
        known = known.put(number(n), LEASED)
    known = known.put(number(1), LEASED).put(number(9999), LEASED)
    assert len(known.entries) == MAX_NETWORKS
    assert known.about(number(1)) != NOTHING, "met again"
    assert known.about(number(2)) == NOTHING


def test_a_snapshot_teaches_addresses_that_end_and_repeats_nothing() -> None:
    six = LinkAddress(ip_address("2001:db8:7::5"), 64, valid_until=3000.0)
    rotating = LinkAddress(ip_address("2001:db8:7::77"), 64, temporary=True, valid_until=3000.0)
    router6 = DefaultRouter(6, ip_address("fe80::1"), 1024, OTHER_MAC)
    both = link(ADDRESS, six, rotating, routers=(ROUTER, router6))
    known = learn(KnownNetworks(), Snapshot((both,)), 0.0)
    assert known.about(CAFE) == LEASED
    seven = NetworkId(ip_address("fe80::1"), OTHER_MAC, ip_network("2001:db8:7::/64"))
    assert known.about(seven).address6 == Learnt(IPv6Address("2001:db8:7::5"), 3000.0)
    assert len(known.entries) == 2
    nearly = replace(both, addresses=(replace(ADDRESS, valid_until=1001.0), six))
    again = learn(known, Snapshot((nearly,)), 1.0)
    assert again is known, "not worth a write"
    renewed = link(replace(ADDRESS, valid_until=1000.1 + SLACK))
    (longer,) = learn(known, Snapshot((renewed,)), 2.0).about(CAFE).leases
    assert longer.until == 1000.1 + SLACK


@pytest.mark.parametrize(
    "taught",
    [
        link(replace(ADDRESS, valid_until=None)),
        link(replace(ADDRESS, tentative=True)),
        link(replace(ADDRESS, valid_until=5.0)),
        link(replace(ADDRESS, address=ip_address("169.254.7.7"))),
        link(ADDRESS, routers=(replace(ROUTER, hardware=None),)),
        replace(link(ADDRESS), up=False),
    ],
    ids=["for ever", "tentative", "over", "link-local", "router unknown", "down"],
)
@pytest.mark.requirement("R112")
def test_nothing_is_learnt_where_nothing_is_sure(taught: Link) -> None:
    assert learn(KnownNetworks(), Snapshot((taught,)), 10.0) == KnownNetworks()


@given(memories, st.integers(0, 10**9), st.integers(-(10**8), 4 * 10**9))
def test_what_is_written_is_read_again_whatever_the_clock_of_the_host_started_from(
    known: KnownNetworks, now: int, offset: int
) -> None:
    current = known.at(now)
    believed = tuple((network, facts.shifted(0.0, now + MAX_AGE)) for network, facts in current.entries)
    assert recall_networks(current.as_json(offset), now, offset) == KnownNetworks(believed)


def test_after_a_restart_of_the_host_what_is_left_of_a_lease_is_what_the_wall_clock_says() -> None:
    written = KnownNetworks().put(CAFE, LEASED).as_json(OFFSET)
    booted_again = OFFSET + 600.0
    (lease,) = recall_networks(written, 0.0, booted_again).about(CAFE).leases
    assert lease.until == pytest.approx(400.0)
    assert recall_networks(written, 0.0, OFFSET + 1000.0) == KnownNetworks()
    (clock_set_back,) = recall_networks(written, 0.0, 0.0).about(CAFE).leases
    assert clock_set_back.until == MAX_AGE


ENTRY = b'{"networks":[{"router":%s,"hardware":%s,"prefix":%s,"facts":%s}]}'


@pytest.mark.parametrize(
    "document",
    [
        b"", b"null", b"[]", b"{}", b"\xff\xfe", b"[" * 100_000, b'{"networks":' + b"[" * 5000,
        b'{"x":' * 5000, b" " * (MAX_OCTETS + 1),
        ENTRY % (b'"nobody"', b'"02"', b'"::/0"', b"{}"),
        ENTRY % (b'"::1"', b'""', b'"::/0"', b"{}"),
        ENTRY % (b'"::1"', b'"' + b"02" * 33 + b'"', b'"::/0"', b"{}"),
        ENTRY % (b'"::1"', b'"0x"', b'"::/0"', b"{}"),
        ENTRY % (b'"::1"', b'"02"', b'"::1/0"', b"{}"),
        ENTRY % (b"7", b'"02"', b'"::/0"', b"{}"),
        ENTRY % (b'"::1"', b'"02"', b'"::/0"', b'{"leases":[{"value":{"address":7},"until":1}]}'),
        ENTRY % (b'"::1"', b'"02"', b'"::/0"', b'{"leases":[{"value":{"address":"::1"},"until":1}]}'),
        ENTRY % (b'"::1"', b'"02"', b'"::/0"', b'{"leases":[{"value":{"address":"10.0.0.1"},"until":"1"}]}'),
    ],
)  # fmt: skip
def test_a_damaged_file_is_refused_as_a_whole(document: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        recall_networks(document, 0.0, 0.0)


def test_a_file_of_another_version_says_what_it_can() -> None:
    lease = b'{"leases":[{"value":{"address":"10.0.0.1","vendor":7},"until":50}],"mood":"fine"}'
    known = recall_networks(ENTRY % (b'"10.0.0.254"', b'"02:03"', b'"10.0.0.0/8"', lease), 0.0, 0.0)
    network = NetworkId(ip_address("10.0.0.254"), b"\x02\x03", ip_network("10.0.0.0/8"))
    assert known.about(network).leases == (Learnt(Lease(IPv4Address("10.0.0.1")), 50.0),)
