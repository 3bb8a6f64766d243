"""`mnctl netcheck` asks over ways that are not in use, by an update that no home agent makes a binding of."""

from __future__ import annotations

from itertools import pairwise

import pytest

from mn_agent.actions import KeepUnderlays
from mn_agent.events import Check
from mn_agent.netcheck import netcheck
from mn_agent.status import Clocks
from mn_agent.way_check import LEAST_INTERVAL, MOST, PACE, TRIES
from tests.machines.mobile_node_script import CAFE4, MOBILE4, OFFICE6, Script, Sent, link
from wire.mobility import BindingStatus, UpdateFlag
from wire.options import Ipv4CareOfAddress, Option, first
from wire.vendor import observed_option, second_port_option

OFFICE, CAFE, WWAN = link("eth0", OFFICE6), link("wlan0", CAFE4, index=3), link("wwan0", MOBILE4, index=4)
REFUSED = int(BindingStatus.TYPE_CHANGE_DISALLOWED)


def bound() -> Script:
    script = Script()
    script.bind(OFFICE, CAFE)
    return script.at(0.2)


def shown(script: Script, interface: str) -> dict[str, object]:
    document = netcheck(script.node, Clocks(script.now, 1_700_000_000.0))
    interfaces = document["interfaces"]
    assert isinstance(interfaces, list)
    return next(one for one in interfaces if one["interface"] == interface)


def open_at(script: Script) -> set[str]:
    kept = [action for action in script.all_actions if isinstance(action, KeepUnderlays)]
    return {attachment.interface for attachment in kept[-1].attachments}


def refuse(script: Script, asked: Sent, *more: Option, port: int = 10022) -> Script:
    """As the home agent does, which sees a NAT."""
    seen = (observed_option(MOBILE4, port), *more)
    return script.answer(asked, status=REFUSED, lifetime=0, refresh=110, without_ipv4=True, options=seen)


def test_the_question_is_authenticated_and_no_registration_and_comes_from_the_other_link() -> None:
    script = bound().feed(Check())
    asked = script.one()
    assert asked.action.care_of == CAFE4
    assert asked.protected
    assert UpdateFlag.HOME not in asked.update.flags
    care_of = first(asked.update.options, Ipv4CareOfAddress)
    assert care_of is not None
    assert care_of.address == CAFE4
    assert open_at(script) == {"eth0", "wlan0"}


def test_the_refusal_shows_way_round_trip_and_nat_and_changes_nothing() -> None:
    script = bound().feed(Check())
    asked, before = script.one(), script.node.registration.state
    assert shown(script, "wlan0")["udp_4191"] == "unknown"
    refuse(script.at(0.23), asked).nothing()
    assert script.node.registration.state is before
    assert open_at(script) == {"eth0"}
    found = shown(script, "wlan0")
    assert (found["verdict"], found["udp_4191"], found["ip_in_ip"]) == ("ready", "answers", "unknown")
    why = found["unknown_why"]
    assert isinstance(why, dict)
    assert set(why) == {"ip_in_ip", "udp_4500", "esp"}
    assert "place of the binding alone" in why["ip_in_ip"]
    nat = found["nat"]
    assert isinstance(nat, dict)
    assert (nat["kind"], nat["observed"]) == ("address and port translation", f"{MOBILE4}:10022")
    assert nat["keepalive_s"] is None


SECOND = 40191


def nat_of(script: Script, interface: str) -> dict[str, object]:
    nat = shown(script, interface)["nat"]
    assert isinstance(nat, dict)
    return nat


@pytest.mark.parametrize(
    ("seen_there", "mapping"), [(10022, "port-independent"), (33017, "port-dependent")]
)
def test_behind_a_nat_the_second_port_is_asked_at_once_and_both_are_compared(
    seen_there: int, mapping: str
) -> None:
    script = bound().feed(Check())
    asked = script.one()
    refuse(script.at(0.23), asked, second_port_option(SECOND))
    again = script.one()
    assert (asked.action.port, again.action.port) == (4191, SECOND)
    assert again.action.care_of == CAFE4
    assert UpdateFlag.HOME not in again.update.flags
    assert open_at(script) == {"eth0", "wlan0"}, "the socket is the same"
    assert nat_of(script, "wlan0")["mapping"] == "unknown"
    refuse(script.at(0.26), again, second_port_option(SECOND), port=seen_there).nothing()
    assert nat_of(script, "wlan0")["mapping"] == mapping
    assert nat_of(script, "wlan0")["mapping_unknown_why"] is None
    assert open_at(script) == {"eth0"}


def test_what_updates_go_by_answers_also_where_payload_goes_by_another_way() -> None:
    script = Script()
    script.bind(link("eth0", MOBILE4))
    found = shown(script, "eth0")
    assert (found["udp_4191"], found["ip_in_ip"]) == ("answers", "carries")
    why = found["unknown_why"]
    assert isinstance(why, dict)
    assert set(why) == {"udp_4500", "esp"}


def test_a_second_port_that_is_filtered_leaves_the_mapping_unknown() -> None:
    script = bound().feed(Check())
    refuse(script, script.one(), second_port_option(SECOND))
    sent = [script.one()]
    while script.node.ways.is_on:
        script.sleep()
        sent += script.sent
    assert [one.action.port for one in sent] == [SECOND] * TRIES
    assert nat_of(script, "wlan0")["mapping"] == "unknown"
    assert "did not answer" in str(nat_of(script, "wlan0")["mapping_unknown_why"])
    assert shown(script, "wlan0")["udp_4191"] == "answers"


def test_a_home_agent_that_knows_no_second_port_is_not_asked_further() -> None:
    script = bound().feed(Check())
    refuse(script, script.one()).nothing()
    assert "no second port" in str(nat_of(script, "wlan0")["mapping_unknown_why"])


def test_where_there_is_no_nat_nothing_more_is_asked() -> None:
    script = bound().feed(Check())
    options = (observed_option(CAFE4, 10022), second_port_option(SECOND))
    script.answer(script.one(), status=REFUSED, lifetime=0, without_ipv4=True, options=options).nothing()
    assert (nat_of(script, "wlan0")["kind"], nat_of(script, "wlan0")["mapping"]) == ("none", "none")


def test_the_nat_of_the_link_in_use_is_asked_about_as_well() -> None:
    script = Script()
    script.bind(CAFE, refresh=110)
    assert nat_of(script, "wlan0")["mapping_unknown_why"] == "not asked yet"
    before = script.node.registration.binding
    refuse(script.feed(Check()), script.one(), second_port_option(SECOND))
    refuse(script, script.one(), second_port_option(SECOND))
    assert nat_of(script, "wlan0")["mapping"] == "port-independent"
    assert script.node.registration.binding == before


def test_a_binding_over_ipv4_is_left_alone_while_bare_esp_is_asked_about() -> None:
    script = Script()
    script.bind(CAFE, refresh=110)
    script.links(CAFE, OFFICE)
    if script.node.target is not None and script.node.target.care_of == OFFICE6:
        script.answer(script.one())
    in_use = script.node.registration.binding
    assert in_use is not None
    script.feed(Check())
    asked = script.one()
    assert asked.action.care_of != in_use.target.care_of
    refuse(script, asked)
    other = "esp" if asked.action.care_of == OFFICE6 else "udp_4191"
    assert shown(script, "eth0" if other == "esp" else "wlan0")[other] == "answers"


def test_who_does_not_answer_is_asked_once_more_and_then_called_silent() -> None:
    script = bound().feed(Check())
    sent = [script.one()]
    while script.node.ways.is_on:
        script.sleep()
        sent += [one for one in script.sent if one.action.care_of == CAFE4]
    assert len(sent) == TRIES
    assert len({one.update.sequence for one in sent}) == TRIES
    found = shown(script, "wlan0")
    assert (found["udp_4191"], found["verdict"]) == ("silent", "poor"), "whatever echoes say"
    assert open_at(script) == {"eth0"}
    assert script.state == "bound"


def test_no_more_than_two_a_second_leave_whatever_there_is_to_ask() -> None:
    script = Script()
    others = [link(f"wlan{n}", CAFE4 + n, index=10 + n) for n in range(MOST + 3)]
    script.bind(OFFICE, *others)
    script.at(0.2).feed(Check())
    rounds = [(script.now, len(script.sent))]
    while script.node.ways.is_on:
        script.sleep()
        rounds += [(script.now, len(script.sent))] if script.sent else []
    assert sum(count for _, count in rounds) == MOST * TRIES
    assert all(count <= 2 for _, count in rounds)
    assert all(b[0] - a[0] >= PACE - 1e-6 for a, b in pairwise(rounds))


def test_whoever_asks_again_and_again_gets_the_answers_of_a_moment_ago() -> None:
    script = bound().feed(Check())
    refuse(script, script.one())
    script.feed(Check()).nothing()
    assert shown(script, "wlan0")["udp_4191"] == "answers"
    while (due := script.node.deadline()) is not None and due.at < LEAST_INTERVAL + 0.2:
        script.sleep()
    script.at(LEAST_INTERVAL + 0.2).feed(Check()).one()


@pytest.mark.parametrize("links", [(), (CAFE,)])
def test_without_a_settled_binding_nothing_is_asked(links: tuple[object, ...]) -> None:
    script = Script()
    if links:
        script.links(CAFE)
    script.feed(Check()).nothing()


def test_the_answer_to_no_question_is_none() -> None:
    script = bound().feed(Check())
    asked = script.one()
    script.answer(asked, status=REFUSED, lifetime=0, sequence=asked.update.sequence ^ 1, without_ipv4=True)
    assert shown(script, "wlan0")["udp_4191"] == "unknown"


def test_a_move_ends_the_round() -> None:
    script = bound().feed(Check())
    script.one()
    script.links(CAFE)
    assert not script.node.ways.is_on
    assert script.one().update.flags & UpdateFlag.HOME
