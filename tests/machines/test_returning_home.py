"""Returning home and leaving again: what the mobile node believes, and what it makes of host and tunnel."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address

import pytest

from mn_agent.actions import (
    Action,
    AnnounceHome,
    ConfigureKernel,
    InstallRoutes,
    KeepUnderlays,
    SendAgain,
    SendOnLink,
    WatchLink,
)
from mn_agent.binding_update_list import HomeAgent
from mn_agent.events import Refresh, Roam, Stop
from mn_agent.status import Clocks, plan, status
from movement.snapshot import DefaultRouter, Link, LinkAddress
from tests.machines.mobile_node_script import (
    AGENT,
    AGENT6,
    CAFE4,
    HOME4,
    HOME6,
    MOBILE4,
    OFFICE6,
    Script,
    configuration,
    link,
)
from tunnel.kernel import TABLE_LOCAL, TABLE_TUNNEL, AddressOnLink, KernelConfig
from tunnel.link_filter import Towards, Watch
from tunnel.plane import Counters
from wire.mobility import UpdateFlag
from wire.vendor import interruption_in

SLAAC6, LEASE4 = IPv6Address("2001:db8:99::1234"), IPv4Address("203.0.113.10")
OFFICE, CAFE = link("eth0", OFFICE6), link("eth0", CAFE4)
HOME_ROUTER4 = DefaultRouter(4, IPv4Address("203.0.113.1"), 100)
HOME_ROUTER6 = DefaultRouter(6, IPv6Address("fe80::1"), 100)


def home_link(name: str = "eth0", *more: LinkAddress, index: int = 2) -> Link:
    """The home link as a host sees it that has an address of its own there in each family."""
    addresses = (LinkAddress(SLAAC6, 64), LinkAddress(LEASE4, 24), *more)
    return Link(index, name, True, 1500, addresses, (HOME_ROUTER4, HOME_ROUTER6))


def kernel_of(script: Script) -> KernelConfig:
    """The last one asked for."""
    return next(a.config for a in reversed(script.all_actions) if isinstance(a, ConfigureKernel))


def guarded(script: Script) -> bool:
    """Whether nothing reaches the home addresses but through the tunnel."""
    guard = kernel_of(script).guard
    return guard is not None and f"daddr {HOME6} counter drop" in guard.text


def kinds(actions: list[Action]) -> list[str]:
    return [type(action).__name__ for action in actions]


def come_home(script: Script) -> Script:
    script.links(home_link())
    return script.answer(script.one(), lifetime=0)


# ---- coming home ----------------------------------------------------------------------------
@pytest.mark.requirement("R097")
def test_on_the_home_link_it_deregisters_from_its_home_address_without_any_option() -> None:
    script = Script()
    script.bind(OFFICE)
    script.at(10.0).links(home_link())
    sent = script.one()
    assert (sent.packet.source, sent.packet.destination) == (HOME6, AGENT6)
    assert sent.packet.home_address_option is None
    assert sent.update.lifetime == 0
    assert sent.update.flags == UpdateFlag.ACKNOWLEDGE | UpdateFlag.HOME
    assert sent.protected
    assert sent.action.care_of == HOME6


def test_it_is_at_home_only_after_the_authenticated_answer() -> None:
    script = Script()
    script.bind(OFFICE)
    script.at(10.0).links(home_link())
    sent = script.one()
    assert script.state != "home"
    assert guarded(script)
    script.answer(sent, lifetime=0, protect=False)
    assert script.state != "home"
    script.answer(sent, lifetime=0, sequence=sent.update.sequence - 1)
    assert script.state != "home"
    script.answer(sent, lifetime=0)
    assert script.state == "home"


def test_with_another_link_the_tunnel_carries_everything_until_the_answer() -> None:
    script = Script()
    wlan = link("wlan0", MOBILE4, index=3)
    script.bind(wlan)
    script.at(10.0).links(home_link(), wlan)
    sent = script.one()
    assert script.path.local == MOBILE4
    assert script.state == "bound"
    assert {r.table for r in kernel_of(script).rules if r.source is not None and r.mark is None} >= {
        TABLE_TUNNEL
    }
    script.at(10.1).answer(sent, lifetime=0)
    assert script.state == "home"
    assert script.path.local == MOBILE4, "what is still under way through the old path may arrive"
    (report,) = script.reports("handover")
    assert (report.fields["from"], report.fields["to"]) == ("wlan0/v4", "eth0/home")
    assert report.fields["outage_ms"] == 0.0
    script.at(12.1).wakes("old path closes")
    assert script.routes == ()


def test_at_home_the_addresses_are_on_the_link_and_nothing_leads_into_the_tunnel() -> None:
    script = Script()
    script.bind(OFFICE)
    come_home(script.at(10.0))
    config = kernel_of(script)
    assert config.on_link == (AddressOnLink(HOME6, "eth0"), AddressOnLink(HOME4, "eth0"))
    assert config.addresses == ()
    assert not guarded(script)
    assert TABLE_TUNNEL not in {rule.table for rule in config.rules}
    assert {(str(r.destination), str(r.gateway), str(r.source)) for r in config.routes} == {
        ("2001:db8:99::/64", "None", str(HOME6)),
        ("203.0.113.0/24", "None", str(HOME4)),
        ("::/0", "fe80::1", str(HOME6)),
        ("0.0.0.0/0", "203.0.113.1", str(HOME4)),
        ("::/0", "None", "None"),
        ("0.0.0.0/0", "None", "None"),
    }
    fallbacks = [r for r in config.routes if r.device == "mip0"]
    assert len(fallbacks) == 2, "where the kernel leads payload when the home link has no carrier"
    assert min(r.metric for r in fallbacks) > max(r.metric for r in config.routes if r.device == "eth0")
    assert {route.table for route in config.routes} == {TABLE_LOCAL}


def test_the_address_is_on_the_link_before_the_update_leaves_and_announced_after_the_answer() -> None:
    script = Script()
    script.bind(OFFICE)
    script.at(10.0).links(home_link())
    order = kinds(script.actions)
    assert order.index("ConfigureKernel") < order.index("KeepUnderlays") < order.index("SendControl")
    assert kernel_of(script).on_link == (AddressOnLink(HOME6, "eth0"),)
    assert "AnnounceHome" not in order
    script.answer(script.one(), lifetime=0)
    order = kinds(script.actions)
    assert order.index("ConfigureKernel") < order.index("AnnounceHome")
    assert AnnounceHome("eth0", (HOME6, HOME4)) in script.actions


def test_the_home_addresses_on_the_link_are_no_care_of_addresses_and_no_movement() -> None:
    script = Script()
    script.bind(OFFICE)
    come_home(script.at(10.0))
    before = script.node.attachments
    script.at(11.0).links(home_link("eth0", LinkAddress(HOME6, 128), LinkAddress(HOME4, 32))).nothing()
    assert script.node.attachments == before
    assert script.state == "home"


def test_started_at_home_without_a_binding_anywhere_it_asks_once_and_133_is_the_answer() -> None:
    script = Script()
    script.links(home_link())
    script.answer(script.one(), status=133, lifetime=0)
    assert script.state == "home"
    assert script.node.deadline() is None, "at home nothing has to be done"


def test_a_dynamic_ipv4_home_address_stays_at_home() -> None:
    script = Script(configuration(ipv4='"dynamic"'))
    script.bind(OFFICE)
    come_home(script.at(10.0))
    assert AddressOnLink(HOME4, "eth0") in kernel_of(script).on_link


def test_the_configured_prefix_only_counts_where_it_is_on_link_and_the_address_can_be_used() -> None:
    script = Script()
    tentative = Link(2, "eth0", True, 1500, (LinkAddress(SLAAC6, 64, tentative=True),), ())
    other_length = Link(2, "eth0", True, 1500, (LinkAddress(SLAAC6, 56),), (HOME_ROUTER6,))
    down = Link(2, "eth0", False, 1500, (LinkAddress(SLAAC6, 64),), (HOME_ROUTER6,))
    for wrong in (tentative, other_length, down):
        script.links(wrong)
        assert not any(a.care_of == HOME6 for a in script.node.attachments)
    denied = Script(configuration(more='[movement]\ndeny = ["eth0"]'))
    denied.links(home_link()).nothing()


def test_a_home_link_without_a_router_is_one_all_the_same() -> None:
    script = Script()
    script.links(Link(2, "eth0", True, 1500, (LinkAddress(SLAAC6, 64),), ()))
    assert script.one().packet.source == HOME6


def test_over_ipv4_alone_there_is_no_returning_home() -> None:
    script = Script()
    script.links(Link(2, "eth0", True, 1500, (LinkAddress(LEASE4, 24),), (HOME_ROUTER4,)))
    assert script.one().update.lifetime > 0


# ---- when it is not home --------------------------------------------------------------------
def test_a_network_that_only_claims_the_home_prefix_gets_nothing_in_clear() -> None:
    """Nobody answers with the home agent's key, so protection is never dropped (docs/security.md)."""
    script = Script()
    script.bind(OFFICE)
    script.at(10.0).links(home_link())
    sent = [script.one()]
    while script.sleep() == "binding update retry" and script.node.target.care_of == HOME6:
        assert guarded(script)
        assert HOME6 in kernel_of(script).addresses
        assert script.routes == ()
        sent.append(script.sent[-1])
    assert len(sent) == 3
    script.sleep()
    assert script.sent[-1].action.care_of == LEASE4, "after three tries it is a foreign link like any other"
    assert kernel_of(script).on_link == ()
    assert script.state == "registering"


def test_a_home_agent_that_refuses_to_let_go_keeps_it_abroad() -> None:
    script = Script()
    wlan = link("wlan0", MOBILE4, index=3)
    script.bind(wlan)
    script.at(10.0).links(home_link(), wlan)
    script.answer(script.one(), status=129, lifetime=0)
    assert script.state == "bound"
    assert script.path.local == MOBILE4


def test_a_lost_answer_is_asked_for_again_with_a_new_number() -> None:
    script = Script()
    script.bind(OFFICE)
    script.at(10.0).links(home_link())
    first = script.one()
    script.at(10.15).wakes("binding update retry")
    second = script.one()
    assert second.update.sequence == first.update.sequence + 1
    script.answer(first, lifetime=0)
    assert script.state == "home", "the answer to the first one counts as well"


def test_a_sequence_number_that_the_home_agent_does_not_like_is_corrected() -> None:
    script = Script()
    script.bind(OFFICE)
    script.at(10.0).links(home_link())
    script.answer(script.one(), status=135, sequence=700, lifetime=0)
    assert script.one().update.sequence == 701
    script.answer(script.one(), lifetime=0)
    assert script.state == "home"


def test_the_home_agent_that_has_the_binding_is_the_one_that_is_told() -> None:
    other = HomeAgent("ha2.example.net", IPv6Address("2001:db8:99::3"), IPv4Address("203.0.113.3"))
    script = Script(configuration(agent='service = "example.net"'))
    script.links(OFFICE).found(other)
    script.answer(script.one(), source=IPv6Address("2001:db8:99::3"))
    assert script.state == "bound"
    script.at(1.0).found(AGENT, other)
    script.at(5.0).links()
    script.at(6.0).links(home_link())
    assert script.one().packet.destination == IPv6Address("2001:db8:99::3")


def test_a_carrier_that_was_lost_for_an_instant_makes_it_ask_again_and_be_careful_meanwhile() -> None:
    """Another network may have taken the place of the home network between two snapshots."""
    script = Script()
    script.bind(OFFICE)
    come_home(script.at(10.0))
    script.at(20.0).links(replace(home_link(), carrier_losses=1))
    sent = script.one()
    assert (sent.packet.source, sent.update.lifetime) == (HOME6, 0)
    assert guarded(script)
    assert script.state == "registering"
    script.answer(sent, lifetime=0)
    assert script.state == "home"
    script.at(21.0).links(replace(home_link(), carrier_losses=1)).nothing()


def test_while_it_asks_an_answer_from_before_the_carrier_was_lost_does_not_count() -> None:
    script = Script()
    script.bind(OFFICE)
    script.at(10.0).links(home_link())
    early = script.one()
    script.at(10.1).links(replace(home_link(), carrier_losses=1))
    script.answer(early, lifetime=0)
    assert script.state == "registering"


def test_a_mobile_router_stays_abroad_on_the_home_link_for_the_networks_behind_it() -> None:
    router = '[router]\ninterfaces = ["lan0"]\nipv6_prefixes = ["2001:db8:77::/64"]'
    script = Script(configuration(more=router))
    script.links(home_link())
    sent = script.one()
    assert (sent.packet.source, sent.packet.home_address_option) == (SLAAC6, HOME6)
    assert sent.update.lifetime > 0


# ---- nothing is lost on the way -----------------------------------------------------------
def watched(actions: list[Action]) -> list[Watch | None]:
    return [action.watch for action in actions if isinstance(action, WatchLink)]


def test_what_comes_before_the_answer_is_kept_and_delivered_after_it() -> None:
    script = Script()
    script.bind(OFFICE)
    script.at(10.0).links(home_link())
    homes = frozenset({HOME6, HOME4})
    assert watched(script.actions) == [Watch("eth0", (Towards.US,), homes, by_source=False)]
    assert "DeliverKept" not in kinds(script.actions)
    script.at(10.1).answer(script.one(), lifetime=0)
    assert watched(script.actions) == [Watch("eth0", (Towards.LINK,), homes, by_source=True)]
    order = kinds(script.actions)
    assert order.index("ConfigureKernel") < order.index("WatchLink") < order.index("DeliverKept")


def test_coming_home_over_a_break_both_ends_send_again_on_the_home_link_what_went_into_it() -> None:
    script = Script()
    script.bind(OFFICE)
    script.at(10.0).links()
    script.at(10.4).links(home_link())
    sent = script.one()
    told = interruption_in(sent.update.options)
    assert told is not None
    assert told >= 0.4
    script.at(10.5).answer(sent, lifetime=0)
    (again,) = [action for action in script.actions if isinstance(action, SendOnLink)]
    assert again.interface == "eth0"
    assert again.since == pytest.approx(10.0, abs=0.1)
    assert {network.network_address for network in again.homes} == {HOME6, HOME4}


def test_coming_home_while_the_other_link_carries_sends_nothing_twice() -> None:
    script = Script()
    wlan = link("wlan0", MOBILE4, index=3)
    script.bind(wlan)
    script.at(10.0).links(home_link(), wlan)
    script.at(10.1).answer(script.one(), lifetime=0)
    assert script.state == "home"
    assert "SendOnLink" not in kinds(script.actions)


def test_leaving_home_over_a_break_is_told_and_what_was_sent_there_is_sent_again() -> None:
    script = Script()
    script.bind(OFFICE)
    come_home(script.at(10.0))
    script.at(20.0).links()
    assert watched(script.actions) == [None], "what was kept is there once more"
    script.at(20.3).links(CAFE)
    sent = script.one()
    told = interruption_in(sent.update.options)
    assert told is not None
    assert told >= 0.3
    script.at(20.4).answer(sent, refresh=110)
    (again,) = [action for action in script.actions if isinstance(action, SendAgain)]
    assert again.since == pytest.approx(20.0, abs=0.1)


# ---- leaving again --------------------------------------------------------------------------
def test_leaving_home_is_a_handover_with_a_normal_registration() -> None:
    script = Script()
    script.bind(OFFICE)
    come_home(script.at(10.0))
    script.at(20.0).links()
    assert script.state == "no-network"
    assert guarded(script)
    assert kernel_of(script).on_link == ()
    script.at(21.0).links(CAFE)
    sent = script.one()
    assert sent.update.lifetime == 420
    script.at(21.1).answer(sent, refresh=110)
    assert script.state == "bound"
    (report,) = script.reports("handover")
    assert (report.fields["from"], report.fields["to"]) == ("eth0/home", "eth0/v4-nat")
    assert report.fields["outage_ms"] == pytest.approx(1100.0)
    assert AnnounceHome("", ()) in script.all_actions


def test_the_user_may_leave_home_though_it_is_there() -> None:
    script = Script()
    wlan = link("wlan0", MOBILE4, index=3)
    script.links(home_link(), wlan)
    script.answer(script.one(), lifetime=0)
    script.at(5.0).feed(Roam("wlan0", None))
    script.answer(script.one())
    assert script.state == "bound"
    assert script.path.local == MOBILE4
    script.at(9.0).feed(Roam(None, None))
    assert script.one().packet.source == HOME6


def test_at_home_refresh_and_stop_send_nothing() -> None:
    script = Script()
    script.bind(OFFICE)
    come_home(script.at(10.0))
    script.feed(Refresh()).nothing()
    script.feed(Stop()).nothing()
    assert kinds(script.actions).count("Finished") == 1


def test_expiry_of_the_old_binding_does_not_end_the_attempt() -> None:
    script = Script(configuration(more="[binding]\nlifetime = 12"))
    wlan = link("wlan0", MOBILE4, index=3)
    script.links(wlan)
    script.at(0.7).answer(script.one())
    script.at(6.5).links(home_link(), wlan)
    assert [script.sleep() for _ in range(2)] == ["binding update retry"] * 2
    last = script.one()
    script.at(12.0).wakes("binding expiry")
    assert script.state == "registering"
    script.answer(last, lifetime=0)
    assert script.state == "home"


# ---- what is shown --------------------------------------------------------------------------
def test_status_says_home_and_shows_no_tunnel() -> None:
    script = Script()
    script.bind(OFFICE)
    come_home(script.at(10.0))
    shown = status(script.node, Counters(0, 0, 0, 0, {}), "esp", "0.1.0", Clocks(11.0, 1_800_000_000.0))
    assert (shown["state"], shown["at_home"], shown["binding_update_list"]) == ("home", True, [])
    path = shown["path"]
    assert isinstance(path, dict)
    assert (path["interface"], path["care_of"], path["encap"]) == ("eth0", None, None)
    handover = shown["last_handover"]
    assert isinstance(handover, dict)
    assert handover["to"] == "eth0/home"


def test_a_dry_run_shows_the_deregistration() -> None:
    script = Script()
    wlan = link("wlan0", MOBILE4, index=3)
    script.bind(wlan)
    script.at(1.0).links(home_link(), wlan)
    shown = plan(
        script.node,
        script.node.choice.candidates(script.node.attachments, script.node.discovery.home_agents)[0],
    )
    update, mtu = shown["binding_update"], shown["mtu"]
    assert isinstance(update, dict)
    assert isinstance(mtu, dict)
    assert (update["lifetime_s"], update["options"], mtu["overhead_bytes"]) == (0, [], 0)


def test_nothing_is_left_open_at_home_but_the_sockets_there() -> None:
    script = Script()
    script.bind(OFFICE)
    come_home(script.at(10.0))
    kept = [a for a in script.all_actions if isinstance(a, KeepUnderlays)][-1]
    assert {a.care_of for a in kept.attachments} == {HOME6}
    installed = [a for a in script.all_actions if isinstance(a, InstallRoutes)][-1]
    assert installed.routes == ()
