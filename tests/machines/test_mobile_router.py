"""The mobile router: what its Binding Updates name, what it makes of every answer (RFC 3963 section 5)."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

import pytest

from mn_agent.actions import ConfigureKernel, SendAgain
from mn_agent.binding_update_list import HomeAgent
from mn_agent.events import Stop
from mn_agent.status import Clocks, plan, status
from movement.snapshot import Link, LinkAddress
from runtime.settings import ConfigError
from tests.machines.mobile_node_script import (
    AGENT6,
    CAFE4,
    HOME4,
    HOME6,
    MOBILE4,
    OFFICE6,
    Script,
    Sent,
    configuration,
    link,
)
from tunnel.kernel import KernelConfig
from tunnel.plane import Counters
from wire.mobility import AckFlag, UpdateFlag
from wire.options import Ipv4AddressAck, Ipv4HomeAddress, MobileNetworkPrefix, Option, every, first

OFFICE, CAFE, MOBILE = link("eth0", OFFICE6), link("eth0", CAFE4), link("eth0", MOBILE4)
LAN = Link(
    7,
    "lan0",
    True,
    1500,
    (LinkAddress(IPv6Address("2001:db8:77::1"), 64), LinkAddress(IPv4Address("10.77.0.1"), 24)),
)
PREFIX6, PREFIX4 = IPv6Network("2001:db8:77::/64"), IPv4Network("10.77.0.0/24")
ANY = IPv4Address("0.0.0.0")

EXPLICIT = """
[router]
interfaces = ["lan0"]
ipv6_prefixes = ["2001:db8:77::/64"]
ipv4_prefixes = ["10.77.0.0/24"]
"""
IMPLICIT = EXPLICIT + 'mode = "implicit"\n'
REQUESTING = """
[router]
interfaces = ["lan0"]
mode = "implicit"
ipv4_prefix_requests = [24]
"""
SECOND = HomeAgent("hb.example.net", IPv6Address("2001:db8:99::3"), IPv4Address("203.0.113.3"))
FIRST = HomeAgent("ha.example.net", AGENT6, IPv4Address("203.0.113.2"))


def router(more: str = EXPLICIT, ipv4: str = '"203.0.113.77"') -> Script:
    return Script(configuration(ipv4=ipv4, more=more))


def by_name(more: str = EXPLICIT) -> Script:
    """Two home agents, from DNS."""
    script = Script(configuration(agent='service = "example.net"', more=more)).at(0.0)
    return script.links(OFFICE, LAN).found(FIRST, SECOND)


def grants(*networks: str) -> tuple[Option, ...]:
    """An acknowledgement for each prefix, after that of the home address."""
    parsed = [IPv4Network(text) for text in networks]
    return tuple(Ipv4AddressAck(0, one.network_address, one.prefixlen) for one in parsed)


def accept(script: Script, sent: Sent, *options: Option, **more: object) -> Script:
    return script.answer(sent, flags=AckFlag.ROUTER, options=options, **more)  # type: ignore[arg-type]


def requests(sent: Sent) -> list[tuple[str, int, bool]]:
    asked = every(sent.update.options, Ipv4HomeAddress)
    return [(str(one.address), one.prefix_length, one.prefix_request) for one in asked]


def named(sent: Sent) -> list[str]:
    return [str(option.prefix) for option in every(sent.update.options, MobileNetworkPrefix)]


def routed(script: Script) -> set[str]:
    return {str(route.prefix) for route in script.routes}


def refreshed(script: Script) -> Sent:
    while script.sleep() != "binding refresh":
        pass
    return script.one()


def kernel(script: Script) -> KernelConfig:
    return next(a.config for a in reversed(script.all_actions) if isinstance(a, ConfigureKernel))


# ---- asking ---------------------------------------------------------------------------------


@pytest.mark.parametrize("place", [OFFICE, CAFE, MOBILE])
def test_in_explicit_mode_every_update_has_the_router_flag_and_names_the_prefixes(place: Link) -> None:
    script = router().at(0.0).links(place, LAN)
    sent = script.one()
    for _ in range(3):
        assert UpdateFlag.ROUTER in sent.update.flags
        assert named(sent) == ["2001:db8:77::/64"]
        accept(script, sent, *grants("10.77.0.0/24"))
        sent = refreshed(script)


def test_in_implicit_mode_no_update_names_an_ipv6_prefix() -> None:
    script = router(IMPLICIT).at(0.0).links(OFFICE, LAN)
    sent = script.one()
    assert UpdateFlag.ROUTER in sent.update.flags
    assert named(sent) == []
    accept(script, sent, *grants("10.77.0.0/24"))
    assert routed(script) == {f"{HOME6}/128", f"{HOME4}/32", "2001:db8:77::/64", "10.77.0.0/24"}


def test_an_ordinary_mobile_node_never_sets_the_router_flag() -> None:
    sent = Script().at(0.0).links(OFFICE).one()
    assert UpdateFlag.ROUTER not in sent.update.flags
    assert first(sent.update.options, MobileNetworkPrefix) is None


@pytest.mark.requirement("R061", "R063", "R066", "R096f")
@pytest.mark.parametrize("place", [OFFICE, CAFE])
def test_a_prefix_is_asked_for_once_with_p_and_the_wished_length_and_later_by_its_name(place: Link) -> None:
    script = router(REQUESTING).at(0.0).links(place, LAN)
    sent = script.one()
    assert requests(sent) == [(str(HOME4), 32, False), ("0.0.0.0", 24, True)]
    script.at(1.5).wakes("binding update retry")
    assert requests(script.one()) == requests(sent), "nobody has answered yet"
    accept(script, script.one(), *grants("10.64.1.0/24"))
    again = refreshed(script)
    assert requests(again) == [(str(HOME4), 32, False), ("10.64.1.0", 24, False)]


@pytest.mark.requirement("R066", "R096f")
def test_a_prefix_alone_can_be_asked_for_and_gives_the_router_its_ipv4_address() -> None:
    script = router(REQUESTING, ipv4="").at(0.0).links(CAFE, LAN)
    assert requests(script.one()) == [("0.0.0.0", 24, True)]
    accept(script, script.one(), *grants("10.64.1.0/24"), without_ipv4=True)
    (placed,) = kernel(script).on_link
    assert (str(placed.address), placed.interface, placed.length) == ("10.64.1.1", "lan0", 24)
    assert "10.64.1.0/24" in routed(script)


@pytest.mark.requirement("R096f", "R066")
def test_static_prefixes_and_several_requests_go_into_one_update() -> None:
    more = EXPLICIT + "ipv4_prefix_requests = [26, 28]\n"
    script = router(more, ipv4='"dynamic"').at(0.0).links(CAFE, LAN)
    assert requests(script.one()) == [
        ("0.0.0.0", 32, False),
        ("10.77.0.0", 24, True),
        ("0.0.0.0", 26, True),
        ("0.0.0.0", 28, True),
    ]
    accept(script, script.one(), *grants("10.77.0.0/24", "10.64.0.0/26", "10.64.0.64/28"))
    assert requests(refreshed(script))[1:] == [
        ("10.77.0.0", 24, False),
        ("10.64.0.0", 26, False),
        ("10.64.0.64", 28, False),
    ]


def test_a_deregistration_names_no_prefixes() -> None:
    script = router().at(0.0).links(OFFICE, LAN)
    accept(script, script.one(), *grants("10.77.0.0/24"))
    script.feed(Stop())
    sent = script.one()
    assert sent.update.lifetime == 0
    assert UpdateFlag.ROUTER in sent.update.flags
    assert named(sent) == []
    assert requests(sent) == [(str(HOME4), 32, False)]


# ---- answers --------------------------------------------------------------------------------


@pytest.mark.requirement("R061", "R074")
def test_the_length_that_was_allocated_overrides_the_one_that_was_wished() -> None:
    script = router(REQUESTING).at(0.0).links(OFFICE, LAN)
    accept(script, script.one(), *grants("10.64.1.0/28"))
    assert "10.64.1.0/28" in routed(script)
    assert requests(refreshed(script))[1] == ("10.64.1.0", 28, False)


@pytest.mark.requirement("R073", "R106", "R107")
def test_a_refused_prefix_is_not_routed_and_asked_for_again_with_the_next_update() -> None:
    script = router().at(0.0).links(OFFICE, LAN)
    accept(script, script.one(), Ipv4AddressAck(133, PREFIX4.network_address, 24))
    assert routed(script) == {f"{HOME6}/128", f"{HOME4}/32", "2001:db8:77::/64"}
    assert requests(refreshed(script))[1] == ("10.77.0.0", 24, True)


def test_a_grant_that_the_home_agent_forgot_is_asked_for_anew_at_once() -> None:
    script = router(REQUESTING).at(0.0).links(OFFICE, LAN)
    accept(script, script.one(), *grants("10.64.1.0/24"))
    again = refreshed(script)
    accept(script, again, Ipv4AddressAck(133, IPv4Address("10.64.1.0"), 0))
    asked = refreshed(script)
    assert requests(asked)[1] == ("0.0.0.0", 24, True)
    accept(script, asked, Ipv4AddressAck(128, ANY, 0))
    due = script.node.deadline()
    assert due is not None
    assert due.at > script.now + 100, "and then no more often than usual"


@pytest.mark.parametrize("network", ["224.0.0.0/24", "127.0.0.0/24", "203.0.113.0/24", "0.0.0.0/1"])
def test_a_grant_that_no_network_can_have_or_that_holds_the_home_agent_is_refused(network: str) -> None:
    script = router(REQUESTING).at(0.0).links(OFFICE, LAN)
    accept(script, script.one(), *grants(network))
    assert network not in routed(script)
    binding = script.node.registration.binding
    assert binding is not None
    assert len(binding.refused_prefixes) == 1


@pytest.mark.requirement("R019", "R101")
def test_the_binding_update_list_has_an_entry_for_each_prefix() -> None:
    script = router().at(0.0).links(CAFE, LAN)
    accept(script, script.one(), *grants("10.77.0.0/24"))
    binding = script.node.registration.binding
    assert binding is not None
    assert [str(e.home_address) for e in binding.entries] == [
        str(HOME6),
        str(HOME4),
        str(PREFIX6),
        str(PREFIX4),
    ]


def test_acknowledgements_in_another_order_are_matched_by_their_address() -> None:
    script = router().at(0.0).links(OFFICE, LAN)
    sent = script.one()
    options = (*grants("10.77.0.0/24"), Ipv4AddressAck(0, HOME4, 32))
    accept(script, sent, *options, without_ipv4=True)
    binding = script.node.registration.binding
    assert binding is not None
    assert binding.ipv4_home_address == HOME4
    assert PREFIX4 in binding.prefixes


def test_a_home_agent_that_ignores_ipv4_is_not_asked_for_prefixes_again() -> None:
    script = router().at(0.0).links(OFFICE, LAN)
    accept(script, script.one(), without_ipv4=True)
    assert requests(refreshed(script)) == []


# ---- home agents that take no mobile router -------------------------------------------------


@pytest.mark.requirement("R099")
def test_an_acceptance_without_the_router_flag_is_withdrawn_before_another_home_agent_is_asked() -> None:
    script = by_name()
    script.answer(script.one())
    withdrawal = script.one()
    assert withdrawal.update.lifetime == 0
    assert withdrawal.packet.destination == FIRST.ipv6
    assert script.state == "registering"
    script.answer(withdrawal, lifetime=0)
    assert [report.fields["status"] for report in script.reports("not-as-router")] == [140]
    asked = script.one()
    assert asked.packet.destination == SECOND.ipv6
    assert UpdateFlag.ROUTER in asked.update.flags
    accept(script, asked, *grants("10.77.0.0/24"), source=SECOND.ipv6)
    assert "2001:db8:77::/64" in routed(script)


def test_a_withdrawal_that_nobody_answers_is_given_up_after_some_tries() -> None:
    script = by_name()
    script.answer(script.one())
    assert [script.sleep() for _ in range(6)] == ["deregistration retry"] * 6
    assert script.now == pytest.approx(7.0)
    script.sleep()
    assert {sent.packet.destination for sent in script.sent} == {SECOND.ipv6}


@pytest.mark.requirement("R099")
@pytest.mark.parametrize("status", [140, 141, 142])
def test_a_refusal_of_the_router_makes_it_ask_the_next_home_agent_and_then_be_a_host(status: int) -> None:
    script = by_name()
    script.answer(script.one(), status=status)
    second = script.one()
    assert second.packet.destination == SECOND.ipv6
    assert UpdateFlag.ROUTER in second.update.flags
    script.answer(second, status=status, source=SECOND.ipv6)
    assert len(script.reports("not-as-router")) == 1
    assert script.sleep() == "retry after refusal"
    as_host = script.one()
    assert UpdateFlag.ROUTER not in as_host.update.flags
    assert named(as_host) == []
    assert requests(as_host) == [(str(HOME4), 32, False)]
    script.answer(as_host, source=as_host.packet.destination)
    assert script.state == "bound"
    assert routed(script) == {f"{HOME6}/128", f"{HOME4}/32"}
    assert UpdateFlag.ROUTER not in refreshed(script).update.flags, "not at any home agent, ever again"


@pytest.mark.requirement("R099")
def test_143_asks_another_home_agent_in_implicit_mode() -> None:
    script = by_name(IMPLICIT)
    script.answer(script.one(), status=143)
    second = script.one()
    assert second.packet.destination == SECOND.ipv6
    assert UpdateFlag.ROUTER in second.update.flags


@pytest.mark.requirement("R099")
@pytest.mark.parametrize(("more", "status"), [(EXPLICIT, 143), (IMPLICIT, 141), (IMPLICIT, 142)])
def test_a_status_of_the_other_mode_ends_the_role_at_once(more: str, status: int) -> None:
    script = by_name(more)
    script.answer(script.one(), status=status)
    assert all(UpdateFlag.ROUTER not in sent.update.flags for sent in script.sent)
    while not script.sent:
        script.sleep()
    assert UpdateFlag.ROUTER not in script.one().update.flags


def test_a_router_that_is_refused_at_a_refresh_ends_its_binding_before_it_becomes_a_host() -> None:
    script = router().at(0.0).links(OFFICE, LAN)
    accept(script, script.one(), *grants("10.77.0.0/24"))
    script.answer(refreshed(script), status=142)
    withdrawal = script.one()
    assert withdrawal.update.lifetime == 0
    script.answer(withdrawal, lifetime=0)
    while not script.sent:
        script.sleep()
    assert UpdateFlag.ROUTER not in script.one().update.flags


def test_while_the_only_home_agent_of_routers_is_silent_another_one_serves_the_host() -> None:
    script = by_name()
    script.answer(script.one(), status=140)
    assert script.one().packet.destination == SECOND.ipv6
    asked: list[Sent] = []
    while script.now < 20.0:
        script.sleep()
        asked += [sent for sent in script.sent if sent.packet.destination == FIRST.ipv6]
        if asked:
            break
    assert UpdateFlag.ROUTER not in asked[0].update.flags


def test_139_ends_the_registration_of_the_other_type_and_registers_anew_once() -> None:
    """As after a restart with another configuration, or after a crash."""
    script = router().at(0.0).links(OFFICE, LAN)
    script.answer(script.one(), status=139)
    withdrawal = script.one()
    assert withdrawal.update.lifetime == 0
    script.answer(withdrawal, lifetime=0)
    script.sleep()
    again = script.one()
    assert again.update.lifetime > 0
    assert UpdateFlag.ROUTER in again.update.flags
    script.answer(again, status=139)
    assert script.sent == [], "a home agent that insists is not asked again and again"
    assert script.state == "rejected"


# ---- what follows for the host --------------------------------------------------------------


def test_an_ingress_interface_is_never_an_attachment_even_with_a_default_route() -> None:
    tempting = link("lan0", IPv6Address("2001:db8:66::5"), index=7)
    script = router().at(0.0).links(tempting)
    assert script.sent == []
    assert script.state == "no-network"


def test_networks_are_guarded_and_routed_from_the_first_moment_on() -> None:
    script = router().at(0.0).links(OFFICE, LAN)
    assert {"2001:db8:77::/64", "10.77.0.0/24"} <= routed(script), "payload follows the first update"
    wanted = kernel(script)
    assert {str(rule.source) for rule in wanted.rules} >= {"2001:db8:77::/64", "10.77.0.0/24"}
    assert wanted.guard is not None
    assert [chain.name for chain in wanted.guard.chains] == ["prerouting", "forward"]


def test_ingress_interfaces_may_be_patterns_and_come_and_go() -> None:
    script = router(EXPLICIT.replace('"lan0"', '"lan*"')).at(0.0).links(OFFICE)
    assert "lan0" not in str(kernel(script).guard)
    script.links(OFFICE, LAN)
    assert '"lan0"' in str(kernel(script).guard)
    assert any(route.device == "lan0" for route in kernel(script).routes)


def test_after_a_break_packets_of_the_networks_are_sent_again_too() -> None:
    script = router().at(0.0).links(OFFICE, LAN)
    accept(script, script.one(), *grants("10.77.0.0/24"))
    script.at(1.0).links(LAN)
    script.at(1.5).links(CAFE, LAN)
    accept(script, script.one(), *grants("10.77.0.0/24"))
    (again,) = [action for action in script.actions if isinstance(action, SendAgain)]
    assert {PREFIX6, PREFIX4} <= set(again.homes)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ('[router]\ninterfaces = ["lan0"]', "what is behind it?"),
        ('[router]\nipv6_prefixes = ["2001:db8:77::/64"]', "interfaces"),
        ('[router]\ninterfaces = ["lan0"]\nipv4_prefixes = ["10.0.0.0/24"]', 'use mode = "implicit"'),
        ('[router]\ninterfaces = ["lan0"]\nipv6_prefixes = ["ff00::/8"]', "not a unicast prefix"),
        ('[router]\ninterfaces = ["lan0"]\nmode = "implicit"\nipv4_prefix_requests = [31]', "from 8 to 30"),
        (
            f'[router]\ninterfaces = ["lan0"]\nmode = "implicit"\nipv4_prefix_requests = {[24] * 8}',
            "more than one Binding Update",
        ),
    ],
)
def test_a_mistake_in_the_configuration_is_named(more: str, message: str) -> None:
    with pytest.raises(ConfigError, match=r"mn-agent.toml:\d+: ") as caught:
        configuration(more=more)
    assert message in str(caught.value)


def shown(script: Script) -> dict[str, object]:
    counters = Counters(0, 0, 0, 0, {})
    return status(script.node, counters, "esp", "0", Clocks(script.now, 1e9))


def test_status_shows_the_networks_and_what_was_refused() -> None:
    script = router(EXPLICIT + "ipv4_prefix_requests = [26]\n").at(0.0).links(OFFICE, LAN)
    accept(script, script.one(), *grants("10.77.0.0/24"), Ipv4AddressAck(133, ANY, 0))
    said = shown(script)
    assert said["router"] == {
        "mode": "explicit",
        "interfaces": ["lan0"],
        "registered": True,
        "prefixes": ["2001:db8:77::/64", "10.77.0.0/24"],
        "refused": [
            {"prefix": "any /26", "status": 133, "text": "the home agent does not grant it (133)"},
        ],
        "not_taken_by": {},
    }
    assert [item["code"] for item in said["health"]] == ["no-ipv4-prefix"]  # type: ignore[attr-defined]
    assert shown(Script())["router"] is None


def test_status_says_that_nobody_takes_the_router_and_that_the_interface_is_missing() -> None:
    script = router().at(0.0).links(OFFICE)
    script.answer(script.one(), status=140)
    while not script.sent:
        script.sleep()
    script.answer(script.one())
    said = shown(script)
    assert said["state"] == "bound"
    codes = {item["code"] for item in said["health"]}  # type: ignore[attr-defined]
    assert codes == {"not-a-mobile-router", "no-ingress-interface"}


def test_a_dry_run_tells_which_networks_would_be_named() -> None:
    script = router().at(0.0).links(OFFICE, LAN)
    target = script.node.target
    assert target is not None
    update = plan(script.node, target)["binding_update"]
    assert isinstance(update, dict)
    assert {"MNP 2001:db8:77::/64", "IPv4-prefix 10.77.0.0/24 (P)"} <= set(update["options"])
    assert "R" in update["flags"]
