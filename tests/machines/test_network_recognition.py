"""DNAv4 and DNAv6 on a timed script: whom a link asks when its carrier comes, and what an answer gives."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network

import pytest

from movement.dna4 import MAX_CANDIDATES, AddressTest, Candidate, candidates
from movement.dna6 import KnownRouter, Questions, RouterTest, routers
from movement.known_networks import KnownNetworks, Learnt, Lease, NetworkFacts
from movement.network import NetworkId
from movement.rounds import HOLD_DOWN
from movement.snapshot import DefaultRouter, Link, LinkAddress
from movement.visit import Ask, Visit
from wire.router_probes import ArpReply, NeighbourAdvertisement, RouterAdvertisement

OURS = 191
CLIENT = "01:02:00:00:00:00:77"
OWN = b"\x02\0\0\0\0\x77"
MAC, OTHER_MAC = b"\x02\0\0\0\0\1", b"\x02\0\0\0\0\2"
HOME_ROUTER = IPv4Address("192.168.1.1")
SIX = LinkAddress(ip_address("2001:db8:7::5"), 64, valid_until=9000.0)
LOCAL = LinkAddress(ip_address("fe80::77"), 64)
ROUTER6 = IPv6Address("fe80::1")
PREFIX, OTHER_PREFIX = IPv6Network("2001:db8:7::/64"), IPv6Network("2001:db8:8::/64")
NETWORK6 = NetworkId(ROUTER6, MAC, PREFIX)


def network(number: int, hardware: bytes = MAC) -> NetworkId:
    return NetworkId(IPv4Address(f"192.168.{number}.1"), hardware, ip_network(f"192.168.{number}.0/24"))


def lease(address: str, until: float = 1000.0, client: str = CLIENT) -> Learnt[Lease]:
    return Learnt(Lease(IPv4Address(address), client, 100), until)


def knowing(*entries: tuple[NetworkId, Learnt[Lease]]) -> KnownNetworks:
    known = KnownNetworks()
    for one, held in entries:
        known = known.put(one, known.about(one).leased(held))
    return known


CAFE, OFFICE = (network(1), lease("192.168.1.5")), (network(2), lease("192.168.2.5"))
KNOWN = knowing(CAFE, OFFICE)


def link(
    *addresses: LinkAddress, losses: int = 0, up: bool = True, routers: tuple[DefaultRouter, ...] = ()
) -> Link:
    return Link(2, "eth0", up, 1500, (LOCAL, *addresses), routers, losses, OWN)


def reply(one: NetworkId, hardware: bytes | None = None) -> ArpReply:
    assert isinstance(one.router, IPv4Address)
    return ArpReply(one.router, one.hardware if hardware is None else hardware)


# ---- RFC 4436: who is asked ----------------------------------------------------------------
@pytest.mark.requirement("R112")
def test_all_networks_with_a_running_lease_are_candidates_the_one_met_last_first() -> None:
    assert [str(c.address) for c in candidates(KNOWN, CLIENT, 0.0)] == ["192.168.2.5", "192.168.1.5"]


@pytest.mark.requirement("R112")
@pytest.mark.parametrize(
    "entry",
    [
        (network(1), lease("192.168.1.5", until=50.0)),
        (network(1), lease("169.254.7.7")),
        (network(1), lease("192.168.1.5", client="01:02:00:00:00:00:78")),
        (replace(network(1), hardware=bytes(20)), lease("192.168.1.5")),
    ],
    ids=["lease over", "link-local", "another client identifier", "no Ethernet"],
)
def test_no_candidate(entry: tuple[NetworkId, Learnt[Lease]]) -> None:
    assert candidates(knowing(entry), CLIENT, 50.0) == ()


@pytest.mark.requirement("R112")
def test_at_most_six_networks_are_asked() -> None:
    known = knowing(*((network(n), lease(f"192.168.{n}.5")) for n in range(20)))
    assert [c.network for c in candidates(known, CLIENT, 0.0)] == [
        network(19 - n) for n in range(MAX_CANDIDATES)
    ]


# ---- RFC 4436: when ------------------------------------------------------------------------
def wakes(test: AddressTest | RouterTest | Visit, at: float) -> float:
    due = test.deadline()
    assert due == pytest.approx(at)
    assert due is not None
    return due


@pytest.mark.requirement("R112")
def test_all_candidates_are_asked_at_once_and_twice_again_and_then_it_is_over() -> None:
    test, among = AddressTest(), candidates(KNOWN, CLIENT, 0.0)
    assert test.begin(among, 10.0) == among
    assert test.tick(wakes(test, 10.1)) == among
    assert test.tick(wakes(test, 10.3)) == among
    assert test.tick(wakes(test, 10.7)) == ()
    assert not test.running
    assert test.deadline() is None
    assert test.heard(reply(network(1))) is None, "too late"


@pytest.mark.requirement("R112")
def test_a_flapping_carrier_starts_one_test_a_second() -> None:
    test, among = AddressTest(), candidates(KNOWN, CLIENT, 0.0)
    asked = 0
    for flap in range(100):
        now = 10.0 + flap / 10
        asked += bool(test.begin(among, now))
        test.end()
    assert asked == 10 / HOLD_DOWN
    assert test.begin(among, 19.95) == ()
    assert test.tick(wakes(test, 20.0)) == among, "it waits for its turn"


@pytest.mark.requirement("R112")
def test_the_first_reply_with_both_addresses_of_the_router_ends_the_test() -> None:
    test, among = AddressTest(), candidates(KNOWN, CLIENT, 0.0)
    test.begin(among, 10.0)
    assert test.heard(reply(network(1), OTHER_MAC)) is None, "another network behind the same address"
    assert test.heard(ArpReply(IPv4Address("192.168.3.1"), MAC)) is None, "another address"
    assert test.running
    assert test.heard(reply(network(1))) == Candidate(*CAFE)
    assert test.deadline() is None
    assert test.heard(reply(network(2))) is None, "the first one counts"


# ---- RFC 6059 ------------------------------------------------------------------------------
def known6(*networks: NetworkId) -> KnownNetworks:
    known = KnownNetworks()
    for one in networks:
        known = known.put(one, NetworkFacts(address6=Learnt(IPv6Address("2001:db8:7::5"), 9000.0)))
    return known


def test_routers_are_known_for_addresses_that_the_link_has_by_both_their_addresses() -> None:
    twin = replace(NETWORK6, hardware=OTHER_MAC)
    elsewhere = NetworkId(ROUTER6, MAC, OTHER_PREFIX)
    found = routers(known6(NETWORK6, twin, elsewhere), link(SIX))
    assert found == (KnownRouter(ROUTER6, OTHER_MAC, (PREFIX,)), KnownRouter(ROUTER6, MAC, (PREFIX,)))
    assert routers(known6(NETWORK6), link()) == ()
    many = known6(*(replace(NETWORK6, hardware=bytes((2, 0, 0, 0, 0, n))) for n in range(1, 20)))
    assert len(routers(many, link(SIX))) == 6


def test_a_solicitation_to_all_goes_once_beside_those_to_known_routers_which_go_three_times() -> None:
    test, among = RouterTest(), routers(known6(NETWORK6), link(SIX))
    assert test.begin(among, 5.0) == Questions(among, solicit=True)
    assert test.tick(wakes(test, 5.1)) == Questions(among)
    assert test.tick(wakes(test, 5.3)) == Questions(among)
    assert test.tick(wakes(test, 5.7)) == Questions()
    assert not test.running


@pytest.mark.parametrize(
    ("answer", "confirms"),
    [
        (NeighbourAdvertisement(ROUTER6, MAC, True, True), True),
        (NeighbourAdvertisement(ROUTER6, OTHER_MAC, True, True), False),
        (NeighbourAdvertisement(IPv6Address("fe80::2"), MAC, True, True), False),
        (NeighbourAdvertisement(ROUTER6, MAC, True, False), False),
        (RouterAdvertisement(ROUTER6, MAC, 1800, (PREFIX,)), True),
        (
            RouterAdvertisement(IPv6Address("fe80::9"), OTHER_MAC, 1800, (PREFIX,)),
            True,
        ),
        (RouterAdvertisement(ROUTER6, MAC, 1800, (OTHER_PREFIX,)), False),
    ],
    ids=[
        "it",
        "other hardware",
        "other address",
        "unasked",
        "advertised",
        "by another router",
        "other prefix",
    ],
)
def test_what_confirms_an_ipv6_address(
    answer: NeighbourAdvertisement | RouterAdvertisement, confirms: bool
) -> None:
    test = RouterTest()
    test.begin(routers(known6(NETWORK6), link(SIX)), 5.0)
    test.heard(answer)
    assert (NETWORK6.prefix in test.confirmed) is confirms


def test_a_router_that_advertises_overrides_its_neighbour_advertisement_whichever_comes_first() -> None:
    """The same router, reconfigured: it is there, but our prefix is not its own any more."""
    there = NeighbourAdvertisement(ROUTER6, MAC, True, True)
    renumbered = RouterAdvertisement(ROUTER6, MAC, 1800, (OTHER_PREFIX,))
    for answers in ((there, renumbered), (renumbered, there)):
        test = RouterTest()
        test.begin(routers(known6(NETWORK6), link(SIX)), 5.0)
        for answer in answers:
            test.heard(answer)
        assert test.confirmed == {OTHER_PREFIX}


# ---- a link between its carriers -----------------------------------------------------------
def test_carrier_question_answer_address_within_one_round_trip() -> None:
    visit = Visit(OURS)
    assert visit.seen(link(up=False), KNOWN, 0.0) == Ask()
    asked = visit.seen(link(), KNOWN, 1.0)
    assert asked.gateways == candidates(KNOWN, CLIENT, 1.0)
    assert asked.solicit
    assert asked.source == LOCAL.address
    assert visit.heard(reply(network(2)), 1.001)
    assert visit.lease == Candidate(*OFFICE)
    assert visit.confirmations[-1].by == "arp"
    assert visit.deadline() == pytest.approx(1.1), "routers of IPv6 are still asked"
    visit.tick(1000.0)
    assert visit.lease is None, "the lease is over"


@pytest.mark.parametrize("address", ["192.168.2.5", "10.0.0.9"], ids=["the same", "another"])
def test_what_dhcp_says_overrides_what_arp_has_confirmed(address: str) -> None:
    visit = Visit(OURS)
    visit.seen(link(), KNOWN, 1.0)
    visit.heard(reply(network(2)), 1.001)
    mine = LinkAddress(ip_address("192.168.2.5"), 24, valid_until=1000.0, protocol=OURS)
    visit.seen(link(mine), KNOWN, 1.002)
    assert visit.lease is not None, "our own address is no answer of DHCP"
    leased = LinkAddress(ip_address(address), 24, valid_until=4000.0)
    visit.seen(link(leased), KNOWN, 3.0)
    assert visit.lease is None


def test_dhcp_that_is_faster_ends_the_test() -> None:
    visit = Visit(OURS)
    visit.seen(link(), KNOWN, 1.0)
    visit.seen(link(LinkAddress(ip_address("10.0.0.9"), 8, valid_until=4000.0)), KNOWN, 1.0005)
    assert not visit.heard(reply(network(2)), 1.001)
    assert visit.lease is None


def test_an_address_that_was_given_by_hand_is_not_asked_about() -> None:
    visit = Visit(OURS)
    assert visit.seen(link(LinkAddress(ip_address("10.0.0.9"), 8)), KNOWN, 1.0).gateways == ()


def test_a_carrier_that_went_takes_everything_with_it() -> None:
    visit = Visit(OURS)
    visit.seen(link(), KNOWN, 1.0)
    visit.heard(reply(network(2)), 1.001)
    visit.seen(link(up=False, losses=1), KNOWN, 2.0)
    assert visit.lease is None
    assert visit.confirmations == ()
    assert visit.deadline() is None


LEFT = LinkAddress(ip_address("192.168.1.5"), 24, valid_until=1000.0)


@pytest.mark.parametrize("seen_down", [True, False], ids=["seen down", "between two snapshots"])
def test_addresses_that_outlive_the_carrier_are_doubted_until_a_router_of_theirs_answers(
    seen_down: bool,
) -> None:
    known = KNOWN.put(NETWORK6, NetworkFacts(address6=Learnt(IPv6Address("2001:db8:7::5"), 9000.0)))
    visit = Visit(OURS)
    visit.seen(link(LEFT, SIX), known, 0.0)
    assert visit.doubtful == (), "what was there when the agent started was there before"
    if seen_down:
        visit.seen(link(LEFT, SIX, up=False, losses=1), known, 2.0)
    asked = visit.seen(link(LEFT, SIX, losses=1), known, 2.5)
    assert visit.doubtful == (LEFT.address, SIX.address)
    assert asked.routers == routers(known, link(SIX))
    visit.heard(reply(network(1)), 2.501)
    assert visit.doubtful == (SIX.address,)
    assert visit.lease is None, "the address is there already, and is somebody else's"
    visit.heard(NeighbourAdvertisement(ROUTER6, MAC, True, True), 2.502)
    assert visit.doubtful == ()


@pytest.mark.parametrize(
    "after",
    [
        link(replace(LEFT, valid_until=1600.0), losses=1),
        link(losses=1),
        link(LEFT, losses=1, routers=(DefaultRouter(4, HOME_ROUTER, 100, MAC),)),
    ],
    ids=["renewed by DHCP", "taken away", "the kernel has met the router"],
)
def test_others_end_a_doubt_too(after: Link) -> None:
    visit = Visit(OURS)
    visit.seen(link(LEFT), KNOWN, 0.0)
    visit.seen(link(LEFT, losses=1), KNOWN, 2.0)
    for _ in range(3):
        visit.tick(visit.deadline() or 0.0)
    assert visit.doubtful == (LEFT.address,)
    visit.seen(after, KNOWN, 5.0)
    assert visit.doubtful == ()


def test_a_router_that_looks_alike_ends_no_doubt() -> None:
    visit = Visit(OURS)
    visit.seen(link(LEFT), KNOWN, 0.0)
    visit.seen(link(LEFT, losses=1), KNOWN, 2.0)
    visit.heard(reply(network(1), OTHER_MAC), 2.001)
    twin = DefaultRouter(4, HOME_ROUTER, 100, OTHER_MAC)
    visit.seen(link(LEFT, losses=1, routers=(twin,)), KNOWN, 2.1)
    assert visit.doubtful == (LEFT.address,)


def test_addresses_that_came_with_the_carrier_are_not_doubted() -> None:
    visit = Visit(OURS)
    visit.seen(link(up=False), KNOWN, 0.0)
    visit.seen(link(LEFT, SIX), KNOWN, 1.0)
    assert visit.doubtful == ()


def test_routers_are_asked_as_soon_as_there_is_an_address_to_ask_from_and_once() -> None:
    visit = Visit(OURS)
    bare = replace(link(), addresses=(replace(LOCAL, tentative=True),))
    assert visit.seen(bare, KNOWN, 1.0).solicit is False
    asked = visit.seen(link(), KNOWN, 1.5)
    assert (asked.solicit, asked.gateways) == (True, ())
    assert visit.seen(link(), KNOWN, 1.6) == Ask(source=IPv6Address("fe80::77"))


# ---- RFC 6275 section 11.5.1: missed advertisements -----------------------------------------
def promise(
    interval: float | None, prefix: IPv6Network = PREFIX, hardware: bytes = MAC
) -> RouterAdvertisement:
    return RouterAdvertisement(ROUTER6, hardware, 1800, (prefix,), interval)


def watching(interval: float | None = 2.0) -> tuple[Visit, KnownNetworks]:
    """A visit that has heard the router promise the next advertisement, and has nothing else to do."""
    known = known6(NETWORK6)
    visit = Visit(OURS)
    visit.seen(link(SIX), known, 0.0)
    visit.heard(promise(interval), 0.001)
    for at in (0.1, 0.3, 0.7):
        visit.tick(at)
    return visit, known


def test_a_router_that_misses_three_advertisements_is_asked_and_doubted_until_it_answers() -> None:
    visit, known = watching()
    assert visit.listening
    assert not visit.heard(promise(2.0), 2.0), "as promised"
    assert visit.deadline() == pytest.approx(8.0)
    asked = visit.tick(8.0)
    assert asked.routers == routers(known, link(SIX))
    assert asked.solicit
    assert visit.unheard == (SIX.address,)
    visit.seen(link(SIX, routers=(DefaultRouter(6, ROUTER6, 1024, MAC),)), known, 8.0005)
    assert visit.unheard == (SIX.address,), "what the kernel remembers of it is old"
    visit.heard(NeighbourAdvertisement(ROUTER6, MAC, True, True), 8.001)
    assert visit.unheard == ()


def test_a_router_that_neither_advertises_nor_answers_stays_doubted() -> None:
    visit, known = watching()
    for at in (6.01, 6.12, 6.32, 6.72):
        visit.tick(at)
    assert not visit.listening
    assert visit.unheard == (SIX.address,)
    visit.seen(link(SIX, up=False, losses=1), known, 9.0)
    assert visit.unheard == ()


@pytest.mark.parametrize(
    "said",
    [promise(None), promise(0.03), promise(1800.0), promise(2.0, OTHER_PREFIX)],
    ids=["nothing promised", "too often", "too seldom", "no prefix of ours"],
)
def test_what_is_not_watched(said: RouterAdvertisement) -> None:
    visit, _ = watching(None)
    visit.heard(said, 5.0)
    assert not visit.listening
    assert visit.deadline() is None
