"""What both agents really answer keeps to the shipped schemas, and makes a screen."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from cli import home_agent_screen, netcheck_screen, roam_screen, status_screen, why_screen
from cli.paint import Paint
from home_agent import status as home_agent_status
from home_agent.status import Moment
from mn_agent.choice import Wanted
from mn_agent.events import Check, Roam
from mn_agent.explanation import explained, why
from mn_agent.netcheck import netcheck
from mn_agent.status import Clocks, plan, status
from runtime.control import decode_reply, encode_result
from tests.machines import ha_script
from tests.machines.ha_script import HomeScript, home4, over_ipv4
from tests.machines.mobile_node_script import (
    CAFE4,
    CAMPUS6,
    MOBILE4,
    OFFICE6,
    Script,
    configuration,
    heard,
    link,
)
from tests.values.test_cli_schemas import mistakes, schema_of
from tunnel.plane import Counters

COUNTERS = Counters(3, 4000, 5, 6000, {"no path": 7})


def status_of(script: Script) -> dict[str, Any]:
    clocks = Clocks(script.now, 1_800_000_000.0 + script.now)
    return over_the_wire(status(script.node, COUNTERS, "esp aes-cbc hmac-sha256-128", "0.1.0", clocks))


def over_the_wire(result: Any) -> dict[str, Any]:
    """As a client gets it: through a line of the control protocol."""
    received = decode_reply(encode_result(1, result))
    found: Any = received[1]
    assert isinstance(found, dict), received
    return found


def screen(result: dict[str, Any]) -> str:
    assert list(mistakes(schema_of(result), result)) == []
    return status_screen.render_status(result, Paint())


def test_a_mobile_node_in_every_state_makes_a_right_screen() -> None:
    script = Script(configuration(agent='name = "ha.example.net"'))
    assert screen(status_of(script)).startswith("○ no network — ")
    script.links(link("eth0", OFFICE6))
    assert screen(status_of(script)).startswith("◌ resolving — ")

    script = Script()
    script.links(link("eth0", CAFE4))
    assert screen(status_of(script)).startswith("◌ registering — waiting for ")
    while status_of(script)["binding"]["attempts"] == 1:
        script.sleep()
    assert "try 2, next try in " in screen(status_of(script))

    script = Script()
    script.links(link("eth0", OFFICE6))
    script.answer(script.one(), status=129)
    assert screen(status_of(script)).startswith("✘ rejected — the home agent refused")

    script = Script()
    script.bind(link("eth0", OFFICE6))
    assert screen(status_of(script)).startswith("● bound — home addresses reachable through eth0 (IPv6)")
    script.at(10.0).links(link("eth0", CAMPUS6))
    script.at(10.1).answer(script.one())
    shown = screen(status_of(script))
    assert "eth0 (IPv6) → eth0 (IPv6)  outage 100 ms" in shown
    assert "1 handover, 0 failed, worst outage 100 ms" in shown


def test_the_distance_is_that_of_the_path_and_not_the_time_a_new_binding_took() -> None:
    script = Script()
    script.links(link("eth0", OFFICE6))
    first = script.one()
    script.at(1.02).answer(first)
    assert script.node.paths.verified
    rtt = status_of(script)["home_agent"]["rtt_ms"]
    assert rtt < 100, "the home agent asks its link for a second before it accepts"


@pytest.mark.parametrize("address", [OFFICE6, CAFE4, MOBILE4])
def test_a_bound_status_has_no_unknown_words(address: Any) -> None:
    script = Script()
    script.bind(link("eth0", address))
    shown = screen(status_of(script))
    assert "?" not in shown
    assert "None" not in shown


def test_a_dry_run_is_what_the_schema_says() -> None:
    script = Script(configuration(more='[movement]\ninterfaces = ["eth0", "wlan0"]'))
    script.bind(link("eth0", OFFICE6), link("wlan0", MOBILE4, index=3))
    target = script.node.target
    assert target is not None
    planned = plan(script.node, target)
    result = over_the_wire({"schema": "mnctl/roam/1", "result": "unchanged", "dry_run": planned})
    assert list(mistakes(schema_of(result), result)) == []
    shown = roam_screen.render_roam(result, Paint())
    assert shown.startswith("Would move care-of ")
    assert "BU   seq " in shown


def test_a_home_agent_with_a_binding_behind_a_nat_answers_all_four_questions_rightly() -> None:
    script = HomeScript()
    update = over_ipv4(script.laptop, home4(), care_of=ha_script.PRIVATE4, sequence=7)
    script.feed(script.laptop.udp(update, ha_script.NAT4, 61000))
    now = Moment(ha_script.START + 20, 1_700_000_020.0)
    node = next(iter(script.agent.nodes.values()))
    answers = [
        home_agent_status.status(script.agent, now, "running", "0.1.0", COUNTERS, []),
        home_agent_status.bindings(script.agent, now),
        home_agent_status.leases(script.agent, now),
        home_agent_status.show(script.agent, node, now),
    ]
    told = [over_the_wire(json.loads(json.dumps(answer))) for answer in answers]
    for result in told:
        assert list(mistakes(schema_of(result), result)) == []
    head, bindings, leases, one = told
    assert home_agent_screen.render_status(head, Paint()).startswith("● running — 1 binding")
    assert "192.168.7.2 → 198.51.100.99:61000" in home_agent_screen.render_bindings(bindings["bindings"])
    assert "pool" in home_agent_screen.render_leases(leases, leases["leases"])
    assert "● bound" in home_agent_screen.render_node(one, Paint())


def why_of(script: Script) -> dict[str, Any]:
    clocks = Clocks(script.now, 1_800_000_000.0 + script.now)
    result = over_the_wire(why(script.node, clocks))
    assert list(mistakes(schema_of(result), result)) == []
    return result


def test_why_names_the_rule_and_every_candidate_in_every_state() -> None:
    script = Script(answers_echoes=False)
    nothing = why_of(script)
    assert (nothing["rule"], nothing["candidates"]) == ("none", [])
    assert why_screen.render_why(nothing, 3, Paint()).startswith("○ nothing — there is no link")

    script.links(link("eth0", MOBILE4, OFFICE6))
    chosen = why_of(script)
    assert (chosen["best"], chosen["rule"]) == ("eth0/v6", "family")
    assert [c["score"] for c in chosen["candidates"]] == sorted(c["score"] for c in chosen["candidates"])

    silent, answered = script.echoes
    if silent.attachment.care_of == MOBILE4:
        silent, answered = answered, silent
    script.at(0.02).feed(heard(answered))
    while script.node.target is not None and script.node.target.care_of == OFFICE6:
        script.sleep()
    script.answer(script.one())
    moved = why_of(script)
    assert (moved["in_use"], moved["rule"]) == ("eth0/v4", "poor")
    assert "no answer within 250 ms" in moved["text"]
    assert [d["best"] for d in moved["decisions"]] == ["eth0/v4", "eth0/v6"]
    measured = next(c for c in moved["candidates"] if c["name"] == "eth0/v4")
    assert measured["rtt_ms"] is not None
    shown = why_screen.render_why(moved, 3, Paint())
    assert shown.startswith("● eth0 (IPv4) — eth0/v4 before eth0/v6")
    assert "first registration" in shown


def test_what_the_user_asked_for_is_the_rule_and_a_dry_run_explains_it() -> None:
    script = Script()
    script.bind(link("eth0", OFFICE6), link("wlan0", MOBILE4, index=3))
    wished = Wanted.named(str(MOBILE4), None)
    dry = explained(script.node.ranking(script.now, wished))
    assert (dry["best"], dry["rule"]) == ("wlan0/v4", "wish")
    assert why_of(script)["best"] == "eth0/v6", "asking changes nothing"
    script.at(1.0).feed(Roam(str(MOBILE4), None))
    script.answer(script.one())
    asked = why_of(script)
    assert (asked["in_use"], asked["rule"], asked["wish"]) == ("wlan0/v4", "wish", str(MOBILE4))
    assert asked["decisions"][0]["cause"] == "asked by user"


def test_the_journal_of_decisions_is_bounded() -> None:
    script = Script()
    for number in range(60):
        script.at(script.now + 0.5).links(link("eth0", (OFFICE6, CAMPUS6)[number % 2]))
    assert len(why_of(script)["decisions"]) == 20


def test_netcheck_tells_what_each_interface_is_good_for() -> None:
    script = Script()
    down = link("usb0", index=9, up=False)
    bare = replace(link("eth1", index=8), routers=())
    script.bind(link("eth0", OFFICE6), link("wlan0", CAFE4, index=3), down, bare)
    script.answers_echoes = False
    script.at(10.0).feed(Check())
    asked = {echo.attachment.interface: echo for echo in script.echoes[-2:]}
    script.at(10.03).feed(heard(asked["eth0"]))
    while script.now < 10.4:
        script.sleep()
    result = over_the_wire(netcheck(script.node, Clocks(script.now, 1_800_000_000.0)))
    assert list(mistakes(schema_of(result), result)) == []
    found = {one["interface"]: one for one in result["interfaces"]}
    assert {name: one["verdict"] for name, one in found.items()} == {
        "eth0": "in-use",
        "wlan0": "poor",
        "usb0": "down",
        "eth1": "unusable",
    }
    assert found["eth0"]["ipv6"]["rtt_ms"] is not None
    assert found["eth0"]["ip_in_ip"] == "carries", "payload was tested through it"
    assert found["eth0"]["udp_4191"] == "unknown"
    assert found["eth0"]["mtu"]["path"] == 1500
    assert found["wlan0"]["ipv4"]["answers"] is False
    assert found["wlan0"]["nat"] is None
    shown = netcheck_screen.render_netcheck(result, Paint())
    assert "✘ wlan0 — poor: no answer within 250 ms" in shown
    assert "○ eth1 — unusable: no address" in shown


def test_a_check_asks_even_where_there_is_no_choice() -> None:
    script = Script()
    script.bind(link("eth0", OFFICE6))
    assert script.echoes == []
    script.at(5.0).feed(Check())
    assert [echo.attachment.care_of for echo in script.echoes] == [OFFICE6]
