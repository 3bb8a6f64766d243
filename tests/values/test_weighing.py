"""The one policy: what is weighed, in which order, and why a candidate won."""

from __future__ import annotations

from ipaddress import ip_address
from itertools import combinations, product

import pytest

from movement.opinion import Opinion, Verdict
from movement.policy import Attachment, Policy
from movement.weighing import Candidate, Part, Weighed, deciding, weigh

OFFICE = Attachment("eth0", 2, ip_address("2001:db8:a::10"), 64, ip_address("fe80::1"), 1500, 100)
CAFE = Attachment("wlan0", 3, ip_address("192.168.7.10"), 24, ip_address("192.168.7.1"), 1500, 600)
MODEM = Attachment("wwan0", 4, ip_address("10.64.3.9"), 24, ip_address("10.64.3.1"), 1420, 600)


def opinion(place: Attachment, verdict: Verdict, round_trip: float | None = None) -> Opinion:
    return Opinion(place.interface, place.care_of, verdict, "test", "because of the test", round_trip)


def order(
    *candidates: Candidate, opinions: tuple[Opinion, ...] = (), policy: Policy | None = None
) -> list[str]:
    weighed = weigh(candidates, opinions, policy or Policy())
    return [w.candidate.attachment.interface for w in weighed if w.held is None]


def best_two(
    *candidates: Candidate, opinions: tuple[Opinion, ...] = (), policy: Policy | None = None
) -> tuple[str, Part | None]:
    first, second, *_ = weigh(candidates, opinions, policy or Policy())
    return first.candidate.attachment.interface, deciding(first, second)


def test_no_part_is_outweighed_by_all_that_come_after_it_but_by_what_is_measured() -> None:
    parts = list(Part)
    for place, part in enumerate(parts[: parts.index(Part.FAMILY)]):
        later = sum(each.step * each.most for each in parts[place + 1 :])
        assert part.step > later, part


def test_a_score_is_the_sum_of_its_parts() -> None:
    for each in weigh((Candidate(CAFE), Candidate(OFFICE)), (), Policy()):
        assert each.score == sum(points for _, points in each.parts)
        assert {part for part, _ in each.parts} == set(Part)


def test_without_anything_known_the_hosts_own_metric_decides_then_the_family() -> None:
    assert best_two(Candidate(CAFE), Candidate(OFFICE)) == ("eth0", Part.METRIC)
    same = Attachment("eth0", 2, ip_address("198.51.100.4"), 24, ip_address("198.51.100.1"), 1500, 100)
    weighed = weigh((Candidate(same), Candidate(OFFICE)), (), Policy())
    assert weighed[0].candidate.attachment is OFFICE
    assert deciding(*weighed) is Part.FAMILY


def test_what_the_user_prefers_costs_nothing_and_what_is_metered_comes_last() -> None:
    preferred = Policy(preferred=("wwan0", "wlan0", "eth0"))
    assert best_two(Candidate(OFFICE), Candidate(MODEM), policy=preferred) == ("wwan0", Part.PREFERENCE)
    metered = Policy(preferred=("w*",), interfaces_allow=("w*",), metered=("wwan*",))
    assert best_two(Candidate(MODEM), Candidate(CAFE), policy=metered) == ("wlan0", Part.METERED)


@pytest.mark.parametrize(("verdict", "part"), [(Verdict.POOR, Part.POOR), (Verdict.UNSTEADY, Part.UNSTEADY)])
def test_a_bad_opinion_outweighs_preference(verdict: Verdict, part: Part) -> None:
    policy = Policy(preferred=("eth0", "wlan0"))
    bad = (opinion(OFFICE, verdict),)
    assert best_two(Candidate(OFFICE), Candidate(CAFE), opinions=bad, policy=policy) == ("wlan0", part)


def test_what_is_held_is_no_choice_at_all() -> None:
    held = (opinion(OFFICE, Verdict.HELD),)
    assert order(Candidate(OFFICE), Candidate(CAFE), opinions=held) == ["wlan0"]
    (only,) = weigh((Candidate(OFFICE),), held, Policy())
    assert only.held == "because of the test"


def test_a_path_in_use_is_not_left_because_it_comes_and_goes() -> None:
    unsteady = (opinion(OFFICE, Verdict.UNSTEADY),)
    assert order(Candidate(OFFICE, present=True), Candidate(CAFE), opinions=unsteady)[0] == "eth0"


def test_the_wish_of_the_user_outweighs_opinions_but_not_failures() -> None:
    poor = (opinion(OFFICE, Verdict.POOR),)
    assert order(Candidate(OFFICE), Candidate(CAFE, wanted=False), opinions=poor)[0] == "eth0"
    assert order(Candidate(OFFICE, failed=1), Candidate(CAFE, wanted=False))[0] == "wlan0"


@pytest.mark.parametrize(("gain_ms", "moves"), [(0, False), (49, False), (51, True), (400, True)])
def test_a_working_path_is_left_for_a_faster_one_only_if_it_gains_something(
    gain_ms: int, moves: bool
) -> None:
    measured = (
        opinion(CAFE, Verdict.GOOD, 0.5),
        opinion(MODEM, Verdict.GOOD, 0.5 - gain_ms / 1000),
    )
    best = order(Candidate(CAFE, present=True), Candidate(MODEM), opinions=measured)[0]
    assert best == ("wwan0" if moves else "wlan0")


def test_an_unmeasured_round_trip_is_no_reason_to_move() -> None:
    slow = (opinion(CAFE, Verdict.GOOD, 0.7),)
    assert order(Candidate(CAFE, present=True), Candidate(MODEM), opinions=slow)[0] == "wlan0"


def test_a_failure_of_all_leaves_what_failed_longest_ago_first() -> None:
    assert order(Candidate(OFFICE, failed=3), Candidate(CAFE, failed=2)) == ["wlan0", "eth0"]


def test_there_and_back_never_pays_twice() -> None:
    """Whatever was measured: from the better of two paths the other one is never better as well."""
    grid = [n / 50 for n in range(0, 50, 3)]
    for a, b in product(grid, grid):
        measured = (opinion(OFFICE, Verdict.GOOD, a), opinion(CAFE, Verdict.GOOD, b))
        for one, other in combinations((OFFICE, CAFE), 2):

            def best(present: Attachment) -> Weighed:
                candidates = [Candidate(each, present=each is present) for each in (one, other)]  # noqa: B023
                return weigh(candidates, measured, Policy())[0]  # noqa: B023

            from_one = best(one).candidate.attachment
            assert best(from_one).candidate.attachment is from_one
