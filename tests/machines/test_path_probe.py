"""A path under test, against paths that lose, delay, block and shorten."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address
from random import Random

import pytest

from mn_agent.path_probe import USUAL_MTUS, Blocked, Outcome, Passes, PathProbe
from tunnel.path import Encapsulation, TunnelPath
from wire.probe import Probe

CARE_OF, AGENT = IPv4Address("198.51.100.10"), IPv4Address("203.0.113.2")
CARE_OF6, AGENT6 = IPv6Address("2001:db8:a::10"), IPv6Address("2001:db8:99::2")
UDP = TunnelPath(CARE_OF, AGENT, Encapsulation.UDP, 0, 4191, "eth0")


def over(
    path: TunnelPath, passes: Callable[[int], bool], round_trip: float = 0.02
) -> tuple[Outcome, float, int]:
    """What a test of `path` finds if outer packets of a size come back or not, when, and after how many."""
    probe = PathProbe(path, round_trip, Random(3), 100.0)
    answers: list[tuple[float, int, Probe]] = []
    now, sent = 100.0, 0
    while probe.outcome is None:
        due = probe.deadline()
        assert due is not None
        assert due.reason == "path probe"
        if answers and answers[0][0] <= due.at:
            now, _, came = heapq.heappop(answers)
            assert probe.answered(came, True, now)
            continue
        now = due.at
        for asked in probe.tick(now):
            sent += 1
            if passes(asked.size + path.overhead):
                heapq.heappush(answers, (now + round_trip, sent, asked))
    assert probe.deadline() is None
    return probe.outcome, now - 100.0, sent


def test_a_sound_path_is_known_after_one_round_trip_and_two_packets() -> None:
    outcome, took, sent = over(UDP, lambda size: True, 0.05)
    assert outcome == Passes(1500, pytest.approx(0.05))
    assert (took, sent) == (pytest.approx(0.05), 2)


@pytest.mark.parametrize("most", [1500, 1492, 1452, 1400, 1360, 1300, 1280])
@pytest.mark.parametrize("round_trip", [0.002, 0.03, 0.2, 0.6])
@pytest.mark.parametrize(
    "path",
    [
        UDP,
        TunnelPath(CARE_OF, AGENT, Encapsulation.IP_IN_IP, interface="eth0"),
        TunnelPath(CARE_OF6, AGENT6, Encapsulation.IP_IN_IP, interface="eth0"),
    ],
    ids=["udp", "ip-in-ipv4", "ip-in-ipv6"],
)
def test_a_black_hole_of_sizes_is_found_within_three_seconds(
    path: TunnelPath, most: int, round_trip: float
) -> None:
    outcome, took, _ = over(path, lambda size: size <= most, round_trip)
    assert outcome == Passes(most, pytest.approx(round_trip))
    assert took < 3.0
    if round_trip < 0.1:
        assert took < 0.6


def test_an_unusual_size_is_found_from_below() -> None:
    outcome, _, _ = over(UDP, lambda size: size <= 1430)
    assert outcome == Passes(1420, pytest.approx(0.02))


def test_a_path_smaller_than_any_size_that_is_tried_is_cramped() -> None:
    outcome, took, _ = over(UDP, lambda size: size <= 1000)
    assert outcome == Passes(1280, pytest.approx(0.02), cramped=True)
    assert took < 0.6


@pytest.mark.parametrize("round_trip", [0.002, 0.3])
def test_a_path_by_which_nothing_comes_back_is_blocked(round_trip: float) -> None:
    outcome, took, sent = over(UDP, lambda size: False, round_trip)
    assert outcome == Blocked()
    assert 1.0 < took < 2.2
    assert sent == 14


def test_loss_of_three_in_ten_each_way_is_not_taken_for_a_block() -> None:
    rng = Random(11)
    outcomes = [over(UDP, lambda size: rng.random() < 0.49)[0] for _ in range(300)]
    assert sum(isinstance(outcome, Blocked) for outcome in outcomes) <= 6
    mtus = [outcome.mtu for outcome in outcomes if isinstance(outcome, Passes)]
    assert sum(mtu >= 1460 for mtu in mtus) > 0.97 * len(mtus)


def test_nobody_who_cannot_see_a_question_can_answer_it() -> None:
    probe = PathProbe(UDP, 0.02, Random(3), 0.0)
    small, large = probe.tick(0.0)
    forged = Probe(large.identifier, large.sequence, bytes(8), large.size)
    shorter = Probe(large.identifier, large.sequence, large.nonce, small.size)
    assert not probe.answered(forged, True, 0.01)
    assert not probe.answered(shorter, True, 0.01)
    assert not probe.answered(Probe(large.identifier, 99, large.nonce, large.size), True, 0.01)
    assert probe.outcome is None
    assert probe.answered(large, True, 0.01)


def test_an_answer_in_fragments_shows_that_payload_passes_but_not_its_size() -> None:
    probe = PathProbe(UDP, 0.02, Random(3), 0.0)
    _, large = probe.tick(0.0)
    assert probe.answered(large, False, 0.02)
    assert probe.outcome is None
    asked = {one.size + UDP.overhead for one in probe.tick(0.1)}
    assert asked == set(USUAL_MTUS)
