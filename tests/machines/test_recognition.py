"""Recognised networks in the mobile node: what follows from an answer, and what never does."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import pytest

from mn_agent.actions import ConfigureKernel, ListenOnLinks, ProbeLink, RememberNetworks
from mn_agent.events import NeighbourAnswered
from movement.known_networks import KnownNetworks, Learnt, Lease, NetworkFacts, recall_networks
from movement.network import NetworkId
from movement.opinion import Verdict
from movement.snapshot import DefaultRouter, Link, LinkAddress
from tests.machines.mobile_node_script import CAFE4, HOME6, Script, configuration, link
from tunnel.kernel import PROTOCOL, TABLE_MAIN, AddressOnLink, KernelConfig
from wire.router_probes import ArpReply, NeighbourAdvertisement, RouterAdvertisement

AGENT = '[movement]\naddresses = "agent"'
OWN, MAC, OTHER_MAC = b"\x02\0\0\0\0\x77", b"\x02\0\0\0\0\1", b"\x02\0\0\0\0\2"
GATEWAY = IPv4Address("192.168.7.1")
CAFE = NetworkId(GATEWAY, MAC, ip_network("192.168.7.0/24"))
LEASE = Learnt(Lease(CAFE4, "01:02:00:00:00:00:77", 600), 3600.0)
KNOWN = KnownNetworks().put(CAFE, NetworkFacts(leases=(LEASE,)))
HEARD = NeighbourAnswered("eth0", ArpReply(GATEWAY, MAC))
ROUTER = DefaultRouter(4, GATEWAY, 601, MAC)
LOCAL = LinkAddress(ip_address("fe80::77"), 64)


def script(more: str = AGENT, known: KnownNetworks = KNOWN) -> Script:
    made = Script(configuration(more=more))
    made.node.networks.known = known
    return made


def eth0(
    *addresses: LinkAddress, routers: tuple[DefaultRouter, ...] = (), losses: int = 0, up: bool = True
) -> Link:
    return Link(2, "eth0", up, 1500, addresses, routers, losses, OWN)


def later(node: Script, now: float) -> Script:
    """Sleep until `now`, with every timer on the way."""
    while (due := node.node.deadline()) is not None and due.at < now:
        node.sleep()
    return node.at(now)


def leased(protocol: int = 0, until: float = 3600.0) -> LinkAddress:
    return LinkAddress(CAFE4, 24, valid_until=until, protocol=protocol)


def kernel(of: Script) -> KernelConfig:
    return [action for action in of.all_actions if isinstance(action, ConfigureKernel)][-1].config


@pytest.mark.requirement("R112")
def test_carrier_arp_address_binding_update_and_later_dhcp() -> None:
    node = script().at(1.0).links(eth0())
    assert ListenOnLinks(("eth0",)) in node.actions
    (probe,) = (action for action in node.actions if isinstance(action, ProbeLink))
    assert [c.network for c in probe.ask.gateways] == [CAFE]
    assert node.actions.index(ListenOnLinks(("eth0",))) < node.actions.index(probe)
    assert kernel(node).on_link == ()
    node.at(1.001).feed(HEARD)
    (report,) = node.reports("network")
    assert report.fields["by"] == "arp"
    (placed,) = kernel(node).on_link
    assert placed == AddressOnLink(CAFE4, "eth0", 24)
    assert placed.valid_until == 3600.0
    (route,) = (route for route in kernel(node).routes if route.table == TABLE_MAIN)
    assert (route.gateway, route.device, route.metric, route.source) == (GATEWAY, "eth0", 601, CAFE4)
    node.at(1.003).links(eth0(leased(PROTOCOL), routers=(replace(ROUTER, protocol=PROTOCOL),)))
    assert node.one().action.care_of == CAFE4
    node.answer(node.one())
    later(node, 1.5).links(eth0(leased(until=7200.0), routers=(replace(ROUTER, metric=600),))).nothing()
    assert kernel(node).on_link == ()
    assert not any(route.table == TABLE_MAIN for route in kernel(node).routes)
    (written,) = (a for a in node.actions if isinstance(a, RememberNetworks))
    (renewed,) = recall_networks(written.document, 1.5, 0.0).about(CAFE).leases
    assert renewed == Learnt(replace(LEASE.value, metric=600), 7200.0)


@pytest.mark.requirement("R112")
def test_who_only_observes_sets_nothing_and_knows_where_it_is() -> None:
    node = script(more="").at(1.0).links(eth0())
    node.at(1.001).feed(HEARD)
    assert node.reports("network")
    assert kernel(node).on_link == ()
    assert [found.confirmation.by for found in node.node.recognition.recognised] == ["arp"]


@pytest.mark.requirement("R112")
def test_no_answer_makes_anybody_be_at_home_or_opens_the_guard() -> None:
    """An attacker answers for everything that is known, and advertises the home prefix as well."""
    node = script().at(1.0).links(eth0(LOCAL))
    before = kernel(node)
    home = NetworkId(IPv6Address("fe80::1"), MAC, ip_network("2001:db8:99::/64"))
    node.node.networks.learn(home, address6=Learnt(HOME6, 3600.0))
    claims = (
        ArpReply(GATEWAY, MAC),
        NeighbourAdvertisement(IPv6Address("fe80::1"), MAC, router=True, solicited=True),
        RouterAdvertisement(IPv6Address("fe80::1"), MAC, 1800, (ip_network("2001:db8:99::/64"),)),
    )
    for claim in claims:
        node.at(node.now + 0.001).feed(NeighbourAnswered("eth0", claim))
        assert node.state != "home"
    after = kernel(node)
    assert (after.guard, after.rules, after.addresses) == (before.guard, before.rules, before.addresses)
    assert [route for route in after.routes if route not in before.routes] == [
        route for route in after.routes if route.table == TABLE_MAIN
    ], "a way to the attacker, as a DHCP server of its own would have given"


def test_answers_on_other_links_and_after_the_end_are_nothing() -> None:
    node = script().at(1.0).links(eth0())
    node.feed(NeighbourAnswered("eth9", ArpReply(GATEWAY, MAC)))
    assert node.actions == []
    for _ in range(3):
        node.sleep()
    assert ListenOnLinks(()) in node.actions
    node.feed(HEARD)
    assert kernel(node).on_link == ()


def test_links_that_are_denied_are_not_asked_on() -> None:
    node = script(more=AGENT + '\ndeny = ["eth*"]').at(1.0).links(eth0())
    assert not any(isinstance(action, ProbeLink | ListenOnLinks) for action in node.actions)


@pytest.mark.requirement("R112")
def test_the_same_address_behind_other_hardware_is_another_network_and_is_told_the_home_agent() -> None:
    node = script(known=KnownNetworks())
    node.at(1.0).bind(eth0(leased(), routers=(ROUTER,)))
    later(node, 5.0).links(eth0(leased(), routers=(replace(ROUTER, hardware=None, silent=True),))).nothing()
    later(node, 6.0).links(eth0(leased(), routers=(ROUTER,))).nothing()
    later(node, 7.0).links(eth0(leased(), routers=(replace(ROUTER, hardware=OTHER_MAC),)))
    assert node.one().action.care_of == CAFE4


def test_a_left_over_address_is_doubted_until_its_router_answers() -> None:
    node = script(known=KnownNetworks())
    node.at(1.0).bind(eth0(leased(), routers=(ROUTER,)))
    later(node, 5.0).links(eth0(leased(), losses=1, up=False))
    later(node, 6.0).links(eth0(leased(), routers=(replace(ROUTER, hardware=None),), losses=1))
    assert node.one().action.care_of == CAFE4, "there is no other way: it is tried"
    verdicts = [(o.care_of, o.verdict) for o in node.node.recognition.opinions()]
    assert verdicts == [(CAFE4, Verdict.UNSTEADY)]
    later(node, 6.001).feed(HEARD)
    assert list(node.node.recognition.opinions()) == []


def test_a_router_that_falls_silent_makes_its_link_the_second_choice() -> None:
    """RFC 6275 section 11.5.1: neighbour unreachability detection."""
    node = script(known=KnownNetworks())
    other = link("wlan0", IPv4Address("10.9.9.9"), index=3)
    ranked = (replace(other, routers=tuple(replace(r, metric=900) for r in other.routers)),)
    node.at(1.0).bind(eth0(leased(), routers=(ROUTER,)), *ranked)
    later(node, 5.0).links(eth0(leased(), routers=(replace(ROUTER, hardware=None, silent=True),)), *ranked)
    assert node.one().action.care_of == IPv4Address("10.9.9.9")


def test_the_rotation_of_a_privacy_address_is_a_movement_to_the_new_one() -> None:
    node = script(known=KnownNetworks())
    gateway = (DefaultRouter(6, ip_address("fe80::1"), 1024, MAC),)
    old = LinkAddress(ip_address("2001:db8:a::aaaa"), 64, temporary=True, valid_until=3600.0)
    new = replace(old, address=ip_address("2001:db8:a::1"))
    node.at(1.0).bind(eth0(old, routers=gateway))
    later(node, 5.0).links(eth0(old, new, routers=gateway)).nothing()
    later(node, 6.0).links(eth0(replace(old, deprecated=True), new, routers=gateway))
    assert node.one().action.care_of == new.address


def test_a_prefix_that_is_given_up_makes_way_for_any_other_place_and_is_better_than_none() -> None:
    """RFC 6275 section 11.5.1, RFC 4862 section 5.5.4."""
    node = script(known=KnownNetworks())
    gateway = (DefaultRouter(6, ip_address("fe80::1"), 100, MAC),)
    good = LinkAddress(ip_address("2001:db8:a::aaaa"), 64, valid_until=7200.0)
    given_up = eth0(replace(good, deprecated=True), routers=gateway)
    node.at(1.0).bind(eth0(good, routers=gateway))
    later(node, 5.0).links(given_up).nothing()
    assert node.state == "bound", "it is valid for two hours, and there is no other"
    assert [(o.verdict, o.why) for o in node.node.recognition.opinions()] == [
        (Verdict.POOR, "its prefix is being given up")
    ]
    later(node, 6.0).links(given_up, link("wlan0", CAFE4, index=3))
    assert node.one().action.care_of == CAFE4
    (report,) = node.answer(node.one(), refresh=110).reports("handover")
    assert report.fields["mode"] == "make-before-break"
