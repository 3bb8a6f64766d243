"""The race: whoever does not answer while another way does is left early, and nothing waits for it."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest

from mn_agent.events import PathSilent
from mn_agent.race import HEAD_START, MAX_RECHECK, RECHECK
from movement.opinion import Verdict
from tests.machines.mobile_node_script import CAFE4, MOBILE4, OFFICE6, Script, configuration, heard, link
from tests.machines.test_path_watch import gone, network

DUAL = link("eth0", MOBILE4, OFFICE6)
WLAN = link("wlan0", CAFE4, index=3)


def unheard() -> Script:
    return Script(answers_echoes=False)


def test_with_one_way_nothing_is_asked_and_nothing_waits() -> None:
    script = unheard()
    script.links(link("eth0", OFFICE6)).one()
    assert script.echoes == []
    script.answer(script.one())
    while script.node.registration.binding is not None and script.now < 300.0:
        assert "echo" not in script.sleep()
    assert script.echoes == []


@pytest.mark.requirement("R029")
def test_the_favourite_registers_at_once_and_every_way_is_asked_beside_it() -> None:
    script = unheard().links(DUAL)
    assert script.one().packet.source == OFFICE6
    assert {echo.attachment.care_of for echo in script.echoes} == {OFFICE6, MOBILE4}
    assert len({(echo.identifier, echo.data) for echo in script.echoes}) == 2


@pytest.mark.requirement("R029", "R091")
def test_a_favourite_that_is_silent_where_another_answers_is_left_after_its_head_start() -> None:
    script = unheard().links(DUAL)
    asked = {echo.attachment.care_of: echo for echo in script.echoes}
    script.at(0.02).feed(heard(asked[MOBILE4])).nothing()
    script.at(0.1).wakes("ask the home agent for an echo").nothing()
    assert script.echoes[-1].attachment.care_of == OFFICE6
    sent = script.at(HEAD_START).wakes("head start in the race").one()
    assert sent.action.care_of == MOBILE4
    script.at(HEAD_START + 0.04).answer(sent)
    assert script.state == "bound"
    assert script.path.local == MOBILE4


def test_an_answer_after_the_head_start_loses_nothing_it_only_comes_late() -> None:
    script = unheard().links(DUAL)
    asked = {echo.attachment.care_of: echo for echo in script.echoes}
    script.at(0.1).wakes("ask the home agent for an echo")
    script.at(HEAD_START).wakes("head start in the race").nothing()
    sent = script.at(0.4).feed(heard(asked[MOBILE4])).one()
    assert sent.action.care_of == MOBILE4


def test_a_slow_favourite_is_taken_back_when_it_answers() -> None:
    script = unheard().links(DUAL)
    asked = {echo.attachment.care_of: echo for echo in script.echoes}
    script.at(0.02).feed(heard(asked[MOBILE4]))
    script.at(0.1).wakes("ask the home agent for an echo")
    script.at(HEAD_START).wakes("head start in the race")
    script.at(0.3).answer(script.one())
    assert script.path.local == MOBILE4
    late = script.at(0.35).feed(heard(asked[OFFICE6]))
    assert late.sent == [], "320 ms more are not worth IPv6"
    assert not [o for t in script.node.thinkers for o in t.opinions() if o.verdict is Verdict.POOR]


def test_an_acknowledgement_counts_as_an_answer() -> None:
    script = unheard().links(DUAL)
    update = script.one()
    asked = {echo.attachment.care_of: echo for echo in script.echoes}
    script.at(0.02).feed(heard(asked[MOBILE4]))
    script.at(0.03).answer(update)
    assert script.path.local == OFFICE6
    while script.now < 300.0:
        assert script.sleep() in (
            "ask routers for a way out",
            "ask DHCP servers for a way out",
            "binding refresh",
        )
    assert len(script.echoes) == 2, "nothing is asked, judged or moved any more"


def test_a_network_in_which_ipv6_was_silent_is_begun_with_ipv4_until_ipv6_answers() -> None:
    script = unheard().links(network(OFFICE6, MOBILE4))
    asked = {echo.attachment.care_of: echo for echo in script.echoes}
    script.at(0.02).feed(heard(asked[MOBILE4]))
    while not script.sent or script.sent[-1].action.care_of != MOBILE4:
        script.sleep()
    script.answer(script.one())
    script.links(gone(1))
    script.echoes.clear()
    again = script.links(network(OFFICE6, MOBILE4, losses=2)).one()
    assert again.action.care_of == MOBILE4, "and nothing was waited for"
    script.answer(again)
    (poor,) = [o for t in script.node.thinkers for o in t.opinions() if o.verdict is Verdict.POOR]
    assert (poor.care_of, poor.by) == (OFFICE6, "race")
    asked = {echo.attachment.care_of: echo for echo in script.echoes}
    script.feed(heard(asked[OFFICE6]))
    assert not [o for t in script.node.thinkers for o in t.opinions() if o.verdict is Verdict.POOR]
    script.links(gone(3))
    script.now += 10.0
    assert script.links(network(OFFICE6, MOBILE4, losses=4)).one().action.care_of == OFFICE6


def test_where_echo_is_filtered_everywhere_the_order_of_rfc_5555_stands() -> None:
    script = unheard().links(DUAL)
    updates = [script.one()]
    while script.now < 12.0 and updates[-1].action.care_of == OFFICE6:
        script.sleep()
        updates += script.sent
    assert [u.action.care_of for u in updates] == [OFFICE6] * 4 + [MOBILE4]
    assert len(script.echoes) == 2 * 3, "three questions each, then silence"


def test_a_forged_answer_changes_nothing() -> None:
    script = unheard().links(DUAL)
    true = next(echo for echo in script.echoes if echo.attachment.care_of == MOBILE4)
    for forged in (
        replace(heard(true), identifier=true.identifier ^ 1),
        replace(heard(true), data=bytes(16)),
        replace(heard(true), sequence=9),
        replace(heard(true), remote=CAFE4),
        replace(heard(true), interface="wlan0"),
    ):
        script.feed(forged)
    for _ in range(3):
        script.sleep()
        script.nothing()
    assert not [o for t in script.node.thinkers for o in t.opinions()]


def test_silence_of_a_path_in_use_starts_a_race_and_the_other_link_takes_over() -> None:
    script = Script(configuration(more='[movement]\ninterfaces = ["eth0", "wlan0"]'))
    script.bind(link("eth0", OFFICE6), WLAN)
    script.answers_echoes = False
    script.echoes.clear()
    script.at(30.0).feed(PathSilent())
    assert script.one().action.care_of == OFFICE6
    asked = {echo.attachment.care_of: echo for echo in script.echoes}
    script.at(30.05).feed(heard(asked[CAFE4])).nothing()
    script.at(30.1).wakes("ask the home agent for an echo")
    script.at(30.15).wakes("binding update retry")
    sent = script.at(30.0 + HEAD_START).wakes("head start in the race").one()
    assert sent.action.care_of == CAFE4


def test_a_silent_way_is_asked_again_ever_more_rarely_and_stays_out_meanwhile() -> None:
    script = unheard().links(DUAL)
    asked = {echo.attachment.care_of: echo for echo in script.echoes}
    script.feed(heard(asked[MOBILE4]))
    while script.state != "bound":
        script.sleep()
        for sent in script.sent:
            if sent.action.care_of == MOBILE4:
                script.answer(sent)
    rounds: list[float] = []
    while script.now < 3 * MAX_RECHECK:
        if script.sleep() == "ask a silent path again":
            rounds.append(script.now)
        for sent in script.sent:
            assert sent.action.care_of == MOBILE4
            script.answer(sent)
    gaps = [round(b - a) for a, b in pairwise(rounds)]
    assert rounds[0] == pytest.approx(RECHECK, abs=1.0)
    assert gaps == [600, 1200, 2400, 3600]
