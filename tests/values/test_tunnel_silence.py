"""One-way traffic is noticed, and traffic that is one-way by nature does not cry wolf."""

from __future__ import annotations

from itertools import pairwise

from tunnel.silence import MOST_PATIENCE, PATIENCE, Silence


def alarms(until: float, received_at: float = 0.0) -> list[float]:
    silence, found, now = Silence(), [], 0.0
    while now < until:
        if silence.sent(now, received_at):
            found.append(round(now, 1))
        now += 0.1
    return found


def test_the_first_alarm_comes_within_three_seconds_of_one_way_traffic_and_each_next_one_later() -> None:
    found = alarms(200.0, received_at=-1.0)
    assert PATIENCE <= found[0] <= 3.0
    gaps = [later - earlier for earlier, later in pairwise(found)]
    assert gaps == sorted(gaps)
    assert max(gaps) <= MOST_PATIENCE + 0.2


def test_as_long_as_something_comes_back_there_is_no_alarm() -> None:
    silence = Silence()
    assert not any(silence.sent(now / 10, now / 10 - 0.05) for now in range(1000))


def test_the_first_packet_after_an_idle_hour_is_no_alarm() -> None:
    silence = Silence()
    assert not silence.sent(10.0, 9.0)
    assert not silence.sent(3610.0, 10.5)
    assert silence.sent(3612.0, 10.5)


def test_an_answer_starts_the_patience_anew() -> None:
    silence = Silence()
    assert not silence.sent(0.0, -1.0)
    assert silence.sent(3.0, -1.0)
    assert not silence.sent(4.0, 3.5)
    assert silence.sent(4.0 + PATIENCE + 0.1, 3.5)


def test_a_question_that_a_closed_lid_has_cut_off_is_asked_anew() -> None:
    silence = Silence()
    assert not silence.sent(0.0, -1.0)
    assert not silence.sent(32_400.0, -1.0)
    assert silence.sent(32_400.0 + PATIENCE, -1.0)
