"""Broken families and several uplinks: the race finds out early, and no packet pays for it."""

from __future__ import annotations

import pytest

from tests.internet.weather import Weather
from tests.internet.world import Stream, World

NO_IPV6 = Weather(cut=frozenset({6}))
NO_IPV4 = Weather(cut=frozenset({4}))
FAST, SLOW = Weather(delay=0.01), Weather(delay=0.2)


@pytest.mark.requirement("R029", "R091")
@pytest.mark.parametrize("direction", ["up", "down", "both"])
def test_broken_ipv6_beside_good_ipv4_is_bound_over_ipv4_well_within_a_second(direction: str) -> None:
    world = World().bind("cafe")
    fair = world.networks["town"].up
    up, down = (
        (NO_IPV6 if direction in ("up", "both") else fair),
        (NO_IPV6 if direction in ("down", "both") else fair),
    )
    world.weather("town", up, down).plug("eth0", "town")
    took = world.run_until(lambda: world.is_bound() and world.is_in(world.networks["town"]), 1.0)
    assert took <= 0.6, took  # the address behind the NAT comes after 0.2 s
    binding = world.binding()
    assert binding is not None
    assert binding.care_of.version == 4
    assert world.passes() == []


def test_good_ipv6_is_not_left_for_ipv4_and_not_slower_for_the_race() -> None:
    world = World().bind("office")
    before = world.laptop.updates
    world.plug("eth0", "town")
    assert world.run_until(lambda: world.is_bound() and world.is_in(world.networks["town"]), 1.0) <= 0.05
    world.run(2.0)
    binding = world.binding()
    assert binding is not None
    assert binding.care_of.version == 6
    assert world.laptop.updates == before + 1


def test_a_race_ends_and_an_idle_node_asks_nothing() -> None:
    world = World().plug("eth0", "town").plug("wlan0", "cafe").run(5.0)
    asked = world.laptop.echoes
    assert 0 < asked <= 2 * 3 * 3
    world.run(200.0)
    assert world.laptop.echoes == asked


@pytest.mark.requirement("R136a")
@pytest.mark.parametrize(("first", "better"), [("cafe", "office"), ("mobile", "campus"), ("hotel", "town")])
def test_coming_to_a_better_link_loses_no_packet(first: str, better: str) -> None:
    world = World().bind(first, "wlan0")
    stream = Stream(world, world.laptop, 0.005).start()
    world.run(0.5).plug("eth0", better).run(2.0)
    stream.stop()
    world.run(0.5)
    assert {which: stream.lost(which) for which in stream.sent} == dict.fromkeys(stream.sent, 0)
    assert world.is_in(world.networks[better])


def test_an_uplink_that_dies_without_a_word_is_left_for_the_other_within_three_seconds() -> None:
    world = World().bind("office").plug("wlan0", "cafe").run(1.0)
    stream = Stream(world, world.laptop, 0.02).start()
    world.run(0.5)
    world.weather("office", Weather(loss=1.0))
    took = world.run_until(lambda: world.is_in(world.networks["cafe"]), 3.0)
    stream.stop()
    assert took < 3.0
    assert world.run(1.0).passes() == []
