"""The mobile node as a whole: movement, discovery, what it makes of host and tunnel."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from mn_agent.actions import (
    Action,
    ConfigureKernel,
    InstallRoutes,
    KeepUnderlays,
    Remember,
    SendAgain,
    SendControl,
)
from mn_agent.desired import Surroundings, desired
from mn_agent.discovery import ByName, ByService
from mn_agent.events import ControlReceived, HomeAgentsUnknown, LinkUnusable, Roam
from mn_agent.memory import Memory, recall
from mn_agent.status import Clocks, plan, status
from tests.machines.mobile_node_script import (
    AGENT,
    AGENT6,
    CAFE4,
    CAMPUS6,
    MOBILE4,
    OFFICE6,
    Script,
    configuration,
    link,
)
from tunnel.kernel import ALL_LOCAL, TABLE_LOCAL
from tunnel.path import HELD, Arrival
from tunnel.plane import Counters
from wire.vendor import interruption_in, observed_option

OFFICE = link("eth0", OFFICE6)
CAFE = link("eth0", CAFE4)
WLAN = link("wlan0", MOBILE4, index=3)
NO_COUNTERS = Counters(0, 0, 0, 0, {})
BY_NAME = 'name = "ha.example.net"'


# ---- movement -------------------------------------------------------------------------------
def test_a_movement_sends_one_update_from_the_new_address_and_switches_with_the_answer() -> None:
    script = Script()
    script.bind(OFFICE)
    script.at(10.0).links(link("eth0", CAMPUS6))
    sent = script.one()
    assert sent.packet.source == CAMPUS6
    script.at(10.1).answer(sent)
    assert script.path.local == CAMPUS6
    (report,) = script.reports("handover")
    assert report.fields["result"] == "ok"
    assert report.fields["outage_ms"] == 100.0


@pytest.mark.requirement("R136a")
def test_with_two_links_the_old_path_carries_data_until_the_answer_and_receives_after_it() -> None:
    script = Script(configuration(more='[movement]\ninterfaces = ["eth0", "wlan0"]'))
    script.bind(WLAN)
    script.at(10.0).links(OFFICE, WLAN)
    sent = script.one()
    assert script.path.local == MOBILE4
    assert OFFICE6 in {path.local for route in script.routes for path in route.accept}
    script.answer(sent)
    assert script.path.local == OFFICE6
    assert MOBILE4 in {path.local for route in script.routes for path in route.accept}
    (report,) = script.reports("handover")
    assert report.fields["outage_ms"] == 0.0
    script.at(12.0).wakes("old path closes")
    assert MOBILE4 not in {path.local for route in script.routes for path in route.accept}
    assert KeepUnderlays(script.node.attachments[:1]) in script.actions


@pytest.mark.requirement("R028", "R029")
def test_on_a_dual_stack_link_only_the_ipv6_care_of_address_is_registered() -> None:
    script = Script().at(0.0).links(link("eth0", MOBILE4, OFFICE6))
    assert script.one().packet.source == OFFICE6
    script.answer(script.one())
    assert script.path.local == OFFICE6


@pytest.mark.requirement("R029")
def test_after_three_unanswered_updates_over_ipv6_the_ipv4_address_is_registered_instead() -> None:
    script = Script().at(0.0).links(link("eth0", MOBILE4, OFFICE6))
    for at in (1.5, 4.5):
        script.at(at).wakes("binding update retry")
        assert script.one().packet.source == OFFICE6
    script.at(10.5).wakes("binding update retry")
    assert script.sent[-1].action.care_of == MOBILE4
    script.answer(script.sent[-1])
    assert script.path.local == MOBILE4
    assert script.state == "bound"


def test_without_a_network_it_sleeps_and_keeps_its_addresses_to_itself() -> None:
    script = Script()
    script.bind(OFFICE)
    script.at(5.0).links()
    assert script.state == "no-network"
    assert script.node.deadline() is None
    assert script.routes == ()


def test_coming_back_within_the_lifetime_is_a_handover_and_not_a_first_registration() -> None:
    script = Script()
    script.bind(OFFICE)
    script.at(5.0).links()
    script.at(8.0).links(CAFE)
    script.at(8.1).answer(script.one(), refresh=110)
    (report,) = script.reports("handover")
    assert report.fields["from"] == "eth0/v6"
    assert report.fields["to"] == "eth0/v4-nat"
    assert report.fields["outage_ms"] == pytest.approx(3100.0)


def test_after_a_break_payload_waits_until_the_update_has_left_while_its_answer_is_taken_in_before() -> None:
    script = Script()
    script.bind(OFFICE)
    script.at(5.0).links()
    script.at(8.0).links(CAFE)
    kinds = [type(action) for action in script.actions]
    sent = kinds.index(SendControl)
    before, after = (
        [action for action in actions if isinstance(action, InstallRoutes)]
        for actions in (script.actions[:sent], script.actions[sent:])
    )
    assert {route.path.interface for action in before for route in action.routes} == {HELD}
    assert CAFE4 in {path.local for route in before[-1].routes for path in route.accept}
    assert {(route.path.interface, route.path.local) for route in after[-1].routes} == {("eth0", CAFE4)}
    assert len(before) == len(after) == 1


def test_ten_flaps_a_second_cost_at_most_three_updates_a_second() -> None:
    script = Script()
    script.bind(OFFICE)
    before = len(script.all_actions)
    for flap in range(100):
        script.now = 1.0 + flap / 10
        script.links()
        script.links(link("eth0", CAMPUS6 if flap % 2 else OFFICE6))
    updates = [a for a in script.all_actions[before:] if type(a).__name__ == "SendControl"]
    assert len(updates) <= 3 * 11


def test_sockets_that_cannot_be_opened_make_it_try_another_link() -> None:
    script = Script().at(0.0).links(OFFICE, WLAN)
    assert script.one().action.care_of == OFFICE6
    script.feed(LinkUnusable(OFFICE6, "Cannot assign requested address"))
    assert script.one().action.care_of == MOBILE4


# ---- roam -----------------------------------------------------------------------------------
def test_roam_moves_to_the_named_link_and_says_how_it_went() -> None:
    script = Script()
    script.bind(OFFICE, WLAN)
    script.feed(Roam("wlan0", None))
    script.answer(script.one())
    assert script.path.interface == "wlan0"
    (report,) = script.reports("handover")
    assert (report.fields["reason"], report.fields["mode"]) == ("asked by user", "make-before-break")


def test_roam_to_a_link_without_an_answer_goes_back_and_nothing_was_interrupted() -> None:
    script = Script()
    script.bind(OFFICE, WLAN)
    script.at(1.0).feed(Roam("wlan0", None))
    ended: list[object] = []
    while not ended:
        script.sleep()
        assert script.path.interface == "eth0"
        ended = script.reports("handover")
    (report,) = script.reports("handover")
    assert report.fields["result"] == "failed"
    assert "no answer" in str(report.fields["message"])
    script.sleep()
    assert script.sent[-1].action.care_of == OFFICE6
    script.answer(script.sent[-1])
    assert not script.reports("handover"), "to say again where the binding is, is no move"
    assert [one.cause for one in script.node.decisions.past][-2:] == [
        "asked by user",
        "back after a failed move",
    ]
    told = script.node.journal.last
    assert told is not None
    assert (told.result, script.node.journal.count) == ("failed", 1)
    failed = script.node.decisions.about(told.number)
    assert failed is not None
    assert failed.cause == "asked by user"


def test_a_dry_run_shows_the_update_and_consumes_nothing() -> None:
    script = Script()
    script.bind(OFFICE, WLAN)
    target = next(
        t
        for t in script.node.choice.candidates(script.node.attachments, script.node.discovery.home_agents)
        if t.attachment.interface == "wlan0"
    )
    shown = plan(script.node, target)
    script.feed(Roam("wlan0", None))
    sent = script.one()
    update = shown["binding_update"]
    assert isinstance(update, dict)
    assert update["sequence"] == sent.update.sequence
    assert update["size_bytes"] == len(sent.action.packet)


# ---- discovery ------------------------------------------------------------------------------
@pytest.mark.requirement("R011")
def test_a_named_home_agent_is_looked_up_once_there_is_a_network() -> None:
    script = Script(configuration(agent=BY_NAME))
    assert script.node.deadline() is None
    script.at(1.0).links(OFFICE).nothing()
    assert [question.query for question in script.questions] == [ByName("ha.example.net", 4191)]
    assert script.state == "resolving"
    script.found(AGENT)
    script.answer(script.one())
    assert script.state == "bound"


@pytest.mark.requirement("R013")
@pytest.mark.parametrize(
    ("profile", "services"),
    [("rfc5555", ("_mip6._ipv6",)), ("draft-00", ("mip6ha.ipv6", "_mip6._ipv6"))],
)
def test_the_service_name_is_that_of_the_profile(profile: str, services: tuple[str, ...]) -> None:
    more = f'[wire]\nprofile = "{profile}"'
    script = Script(configuration(agent='service = "example.net"', more=more))
    script.links(OFFICE)
    assert script.questions[0].query == ByService("example.net", services, 4191)


def test_dns_that_fails_is_asked_again_with_growing_pauses_and_status_says_why() -> None:
    script = Script(configuration(agent=BY_NAME)).at(0.0).links(OFFICE)
    pauses = []
    for _ in range(7):
        asked_at = script.now
        script.feed(HomeAgentsUnknown("ha.example.net AAAA: SERVFAIL"))
        assert script.node.summary() == ("resolving", "ha.example.net AAAA: SERVFAIL")
        assert script.sleep() == "DNS retry"
        pauses.append(script.now - asked_at)
    assert pauses == [1, 2, 4, 8, 16, 32, 32]


def test_the_last_good_answer_is_used_at_once_after_a_restart_while_dns_is_asked() -> None:
    memory = Memory(100, 5000, home_agents=(AGENT,))
    script = Script(configuration(agent=BY_NAME), memory).at(0.0).links(OFFICE)
    assert script.one().packet.destination == AGENT6
    assert len(script.questions) == 1
    script.answer(script.one())
    script.feed(HomeAgentsUnknown("no answer"))
    assert script.state == "bound"


@pytest.mark.requirement("R010")
def test_on_an_ipv4_link_a_home_agent_without_ipv4_address_is_looked_up_again() -> None:
    only6 = type(AGENT)("ha.example.net", AGENT6, None)
    script = Script(configuration(agent=BY_NAME)).at(0.0).links(OFFICE).found(only6)
    script.answer(script.one())
    script.at(5.0).links(CAFE).nothing()
    assert len(script.questions) == 1
    script.found(AGENT)
    script.one()


def test_no_dns_question_stands_between_a_movement_and_its_update() -> None:
    script = Script(configuration(agent=BY_NAME)).at(0.0).links(OFFICE).found(AGENT)
    script.answer(script.one())
    script.at(5.0).links(CAFE).one()
    assert script.questions == []


def test_a_refusing_home_agent_is_left_for_the_next_of_the_list() -> None:
    other = type(AGENT)("ha2.example.net", type(AGENT6)("2001:db8:99::3"), None)
    script = Script(configuration(agent='service = "example.net"')).at(0.0).links(OFFICE).found(AGENT, other)
    script.answer(script.one(), status=130)
    assert script.one().packet.destination == other.ipv6


# ---- host, memory, status -------------------------------------------------------------------
def test_the_kernel_is_configured_after_the_update_has_left_and_follows_the_mtu_of_the_path() -> None:
    script = Script().at(0.0).links(CAFE)
    kinds = [type(action).__name__ for action in script.actions]
    assert kinds.index("SendControl") < kinds.index("ConfigureKernel")
    assert kinds.index("KeepUnderlays") < kinds.index("SendControl")
    script.answer(script.one(), refresh=110)
    (config,) = [action.config for action in script.actions if isinstance(action, ConfigureKernel)]
    assert config.mtu == 1472


@pytest.mark.parametrize("named", [False, True])
def test_an_ipv4_network_at_home_is_never_the_visited_one_whatever_that_claims(named: bool) -> None:
    visited = ip_network("192.168.7.0/24")
    prefixes = f'\nipv4_prefixes = ["{visited}"]' if named else ""
    script = Script(configuration(f'"203.0.113.77"{prefixes}'))
    script.bind(CAFE)
    kernel = [action.config for action in script.all_actions if isinstance(action, ConfigureKernel)][-1]
    past_the_tunnel = [route.destination for route in kernel.routes if route.table == TABLE_LOCAL]
    home = [rule.destination for rule in kernel.rules if rule.priority < ALL_LOCAL and rule.destination]
    assert (visited in past_the_tunnel, visited in home) == (not named, named)


def test_sequence_numbers_are_written_down_before_they_are_used_up() -> None:
    script = Script()
    script.bind(OFFICE)
    written = [action.state for action in script.all_actions if isinstance(action, Remember)][-1]
    memory = recall(written, 0, 0.0)
    assert memory.next_sequence > script.node.registration.next_sequence
    again = Script(script.config, memory).at(0.0).links(OFFICE)
    assert again.one().update.sequence == memory.next_sequence


def test_damaged_memory_starts_afresh_above_every_esp_number_ever_used() -> None:
    memory = recall({"next_sequence": "x", "home_agents": [{"name": 1}]}, 77, 1_800_000_000.0)
    assert memory.next_sequence == 77
    assert memory.next_esp_sequence == 1_800_000_000 - 1_577_836_800
    assert memory.home_agents == ()


@pytest.mark.requirement("R031")
def test_status_shows_home_addresses_path_nat_and_binding() -> None:
    script = Script()
    script.bind(CAFE, refresh=110)
    shown = status(script.node, NO_COUNTERS, "esp", "0.1.0", Clocks(1.0, 1_800_000_000.0))
    assert shown["state"] == "bound"
    path = shown["path"]
    assert isinstance(path, dict)
    assert (path["encap"], path["nat"], path["care_of"]) == ("udp4", "detected", str(CAFE4))
    assert shown["home"] == {
        "v6": ["2001:db8:99::77/128"],
        "v4": ["203.0.113.77/32"],
        "device": "mip0",
        "mtu": 1472,
        "prefix": None,
    }


def test_status_can_be_shown_in_every_state() -> None:
    script = Script(configuration(agent=BY_NAME))
    clocks = Clocks(0.0, 1_800_000_000.0)
    for step in (
        lambda: script,
        lambda: script.links(OFFICE),
        lambda: script.found(AGENT),
        lambda: script.answer(script.one(), status=129),
        lambda: script.links(CAFE),
        lambda: script.answer(script.one(), refresh=110),
        lambda: script.links(),
    ):
        step()
        assert status(script.node, NO_COUNTERS, "esp", "0.1.0", clocks)["schema"] == "mnctl/status/1"


# ---- a break --------------------------------------------------------------------------------
def test_after_a_break_the_home_agent_is_told_how_long_it_was_and_the_node_sends_again() -> None:
    script = Script()
    script.links(OFFICE)
    script.at(0.02).answer(script.one())
    script.at(5.0).links()
    script.at(5.2).links(CAFE)
    sent = script.one()
    assert interruption_in(sent.update.options) == pytest.approx(0.25)
    script.at(5.25).answer(sent, refresh=110)
    assert script.path.local == CAFE4
    (again,) = [action for action in script.actions if isinstance(action, SendAgain)]
    assert again.since == pytest.approx(4.97)
    assert {str(network) for network in again.homes} == {"2001:db8:99::77/128", "203.0.113.77/32"}


def test_without_a_break_nothing_is_sent_again() -> None:
    script = Script()
    script.bind(OFFICE, WLAN)
    script.feed(Roam("wlan0", None))
    assert interruption_in(script.one().update.options) is None
    script.answer(script.one())
    assert not [action for action in script.actions if isinstance(action, SendAgain)]


def test_status_shows_the_address_that_the_home_agent_saw() -> None:
    script = Script()
    seen = observed_option(type(MOBILE4)("198.51.100.7"), 10022)
    script.bind(CAFE, refresh=110, options=(seen,))
    path = status(script.node, NO_COUNTERS, "esp", "0.1.0", Clocks(1.0, 0.0))["path"]
    assert isinstance(path, dict)
    assert path["observed"] == "198.51.100.7:10022"


def test_what_changes_nothing_derives_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    script = Script()
    script.bind(OFFICE)
    derived: list[object] = []

    def counted(around: Surroundings) -> tuple[Action, ...]:
        derived.append(around)
        return desired(around)

    monkeypatch.setattr("mn_agent.node.desired", counted)
    script.feed(ControlReceived(bytes(60), Arrival(OFFICE6, AGENT6)))
    assert not derived
    script.at(1.0).links(WLAN)
    assert len(derived) == 1
