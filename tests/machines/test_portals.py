"""A network that wants a login first: recognised, said, left in peace, and used as soon as it is open."""

from __future__ import annotations

import json

import pytest

from mn_agent.actions import AskDhcp, AskRouters, FetchPage
from mn_agent.config import parse_configuration
from mn_agent.events import DhcpSaid, RouterSaid, WebAnswered
from mn_agent.portals import FAILURES
from mn_agent.status import Clocks, status
from runtime.settings import ConfigError
from tests.machines.mobile_node_script import CAFE4, CONFIGURATION, OFFICE6, Script, configuration, link
from tunnel.plane import Counters
from wire.advertisement import WayOut
from wire.http import Answer

CAFE = link("wlan0", CAFE4, index=3)
OFFICE = link("eth0", OFFICE6)
API = "http://192.168.7.1/api"
LOGIN = "http://192.168.7.1/login"
PROBING = '[portal]\nprobe_url = "http://probe.example.net/"'


def fetched(script: Script) -> FetchPage:
    (one,) = [action for action in script.actions if isinstance(action, FetchPage)]
    return one


def says(script: Script, captive: bool | None) -> Script:
    """The API of the portal answers what was asked last, or does not."""
    asked = [action for action in script.all_actions if isinstance(action, FetchPage)][-1]
    body = json.dumps({"captive": captive, "user-portal-url": LOGIN}).encode()
    return script.feed(WebAnswered(asked.number, None if captive is None else Answer(200, None, body)))


def captured(more: str = "") -> Script:
    """In the cafe, which has said that it is captive."""
    script = Script(configuration(more=more)).links(CAFE)
    script.one()
    script.at(0.1).feed(RouterSaid("wlan0", WayOut(API)))
    assert fetched(script).attachment.care_of == CAFE4
    return says(script.at(0.2), True)


def health(script: Script) -> dict[str, str]:
    clocks = Clocks(script.now, script.now)
    shown = status(script.node, Counters(0, 0, 0, 0, {}), "esp", "1", clocks)["health"]
    assert isinstance(shown, list)
    return {item["code"]: item["fix"] for item in shown}


def test_routers_are_asked_in_every_new_network_and_no_third_party_ever() -> None:
    script = Script(answers_echoes=False).links(OFFICE)
    asked = [action for action in script.actions if isinstance(action, AskRouters)]
    assert asked == [AskRouters("eth0")]
    script.answer(script.one())
    while script.now < 3000.0:
        script.sleep()
        for sent in script.sent:
            script.answer(sent)
    assert sum(isinstance(action, AskRouters) for action in script.all_actions) == 3
    assert not any(isinstance(action, FetchPage) for action in script.all_actions)


def asked_dhcp(script: Script) -> list[AskDhcp]:
    return [action for action in script.all_actions if isinstance(action, AskDhcp)]


def test_dhcp_servers_are_asked_where_there_is_an_ipv4_address_until_one_answers_or_the_home_agent() -> None:
    silent = Script(answers_echoes=False).links(CAFE)
    answered = Script(answers_echoes=False).links(CAFE).feed(DhcpSaid("wlan0", ""))
    for script in (silent, answered):
        while script.now < 10.0:
            script.sleep()
    assert asked_dhcp(silent) == [AskDhcp("wlan0", CAFE4)] * 3
    assert len(asked_dhcp(answered)) == 1
    bound = Script(answers_echoes=False).links(CAFE)
    bound.answer(bound.one())
    while bound.now < 3000.0:
        bound.sleep()
        for sent in bound.sent:
            bound.answer(sent)
    assert len(asked_dhcp(bound)) == 1
    everything = (*silent.all_actions, *answered.all_actions, *bound.all_actions)
    assert not any(isinstance(action, FetchPage) for action in everything)
    assert asked_dhcp(Script().links(OFFICE)) == []


def test_a_portal_that_only_dhcp_tells_of_is_as_good_as_one_that_routers_tell_of() -> None:
    script = Script(configuration()).links(CAFE)
    script.one()
    script.at(0.1).feed(DhcpSaid("wlan0", API))
    assert fetched(script).attachment.care_of == CAFE4
    says(script.at(0.2), True)
    assert script.state == "no-network"
    assert "captive-portal" in health(script)


def test_nothing_is_sent_from_a_captive_network_and_the_user_is_told_where_to_log_in() -> None:
    script = captured()
    assert script.state == "no-network"
    assert LOGIN in str(script.node.summary()[1])
    assert health(script)["captive-portal"] == f"open {LOGIN}"
    assert script.routes == (), "payload has no path: it waits, and leaks nowhere"
    while script.now < 500.0:
        script.sleep()
        script.nothing()
        says(script, True)
        script.nothing()


def test_bound_within_two_seconds_of_the_login() -> None:
    script = captured()
    for _ in range(20):
        script.sleep()
        says(script, True)
    logged_in = script.now + 0.001
    script.sleep()
    sent = says(script, False).one()
    assert script.now - logged_in < 1.1
    script.answer(sent)
    assert script.state == "bound"
    assert "captive-portal" not in health(script)


def test_the_looks_become_rarer_and_a_change_of_the_network_makes_one_at_once() -> None:
    script = captured()
    looks: list[float] = []
    while script.now < 8000.0:
        if script.sleep() == "look whether a portal is open":
            looks.append(script.now)
        says(script, True)
    assert sum(at < 600 for at in looks) == pytest.approx(600, abs=5)
    assert sum(600 <= at < 3600 for at in looks) == pytest.approx(300, abs=5)
    assert sum(at >= 3600 for at in looks) == pytest.approx(73, abs=3)
    script.at(script.now + 5.0).links(CAFE)
    fetched(script)


def test_another_link_is_used_meanwhile() -> None:
    script = captured('[movement]\ninterfaces = ["wlan0", "eth0"]')
    sent = script.at(1.0).links(CAFE, OFFICE).one()
    assert sent.action.care_of == OFFICE6
    script.answer(sent)
    assert script.state == "bound"
    assert "captive-portal" in health(script)


def test_who_answers_binding_updates_is_not_held_whatever_its_portal_says() -> None:
    script = Script()
    script.bind(CAFE)
    script.at(1.0).feed(RouterSaid("wlan0", WayOut(API)))
    says(script.at(1.1), True)
    assert script.state == "bound"
    assert "captive-portal" not in health(script)


def test_a_session_that_ends_while_bound_is_noticed_when_updates_have_no_answer() -> None:
    script = Script()
    script.bind(CAFE)
    script.at(1.0).feed(RouterSaid("wlan0", WayOut(API)))
    says(script.at(1.1), False)
    while not script.sent:
        script.sleep()
    while not any(isinstance(action, FetchPage) for action in script.actions):
        script.sleep()
    says(script, True)
    assert script.state == "no-network"
    assert script.routes == ()


def test_without_any_word_of_the_network_a_page_is_asked_for_only_if_configured_and_only_in_doubt() -> None:
    script = Script().links(CAFE)
    while script.now < 60.0:
        script.sleep()
    assert not any(isinstance(action, FetchPage) for action in script.all_actions)

    script = Script(configuration(more=PROBING)).links(CAFE)
    assert not any(isinstance(action, FetchPage) for action in script.all_actions), "nobody has been silent"
    while not any(isinstance(action, FetchPage) for action in script.actions):
        script.sleep()
    assert script.now == 1.5
    script.feed(WebAnswered(fetched(script).number, Answer(302, LOGIN, b"")))
    assert script.state == "no-network"
    assert health(script)["captive-portal"] == f"open {LOGIN}"


def test_a_portal_that_has_gone_away_is_forgotten() -> None:
    script = captured()
    for _ in range(FAILURES):
        while script.sleep() != "look whether a portal is open":
            pass
        says(script, None)
    assert script.one().action.care_of == CAFE4


def test_a_web_server_that_never_answers_is_a_failure_like_any_other() -> None:
    script = captured()
    while script.state == "no-network":
        script.sleep()
    assert script.now < FAILURES * 6.0


def test_another_network_on_the_same_link_starts_afresh() -> None:
    script = captured()
    script.at(1.0).links(link("wlan0", OFFICE6, index=3))
    assert script.one().action.care_of == OFFICE6


def test_a_late_or_strange_answer_changes_nothing() -> None:
    script = captured()
    script.feed(WebAnswered(999, Answer(200, None, b'{"captive": false}')))
    assert script.state == "no-network"


@pytest.mark.parametrize("url", ["probe.example.net", "ftp://x/", "http://"])
def test_a_probe_that_is_no_url_is_a_mistake_of_the_configuration(url: str) -> None:
    text = CONFIGURATION.format(
        ipv4='"203.0.113.77"', agent='name = "ha.example.net"', more=f'[portal]\nprobe_url = "{url}"'
    )
    with pytest.raises(ConfigError, match="URL"):
        parse_configuration(text)
