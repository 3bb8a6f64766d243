"""Returning home and leaving again; networks that only claim to be home."""

from __future__ import annotations

import pytest

from mn_agent.events import Roam
from tests.internet.cast import LAPTOP4, LAPTOP6
from tests.internet.weather import CUT, FAIR, STORM, Weather
from tests.internet.world import Stream, World

ABROAD = ("office", "mobile", "cafe", "hotel", "town")
ROUND_TRIP = 0.05


@pytest.mark.requirement("R097")
@pytest.mark.parametrize("network", ABROAD)
def test_home_and_away_again_each_take_a_round_trip(network: str) -> None:
    world = World().bind(network).plug("eth0", "home")
    assert world.run_until(world.is_home, 2.0) <= ROUND_TRIP
    assert world.laptop.node.summary() == ("home", None)
    assert world.binding() is None
    assert world.home_link.holders(LAPTOP6) == []
    assert world.passes() == []
    world.plug("eth0", network)
    assert world.run_until(world.is_bound, 3.0) <= ROUND_TRIP
    assert world.passes() == []
    assert world.home_link.holders(LAPTOP4) == ["ha1.example.net"]


@pytest.mark.parametrize("network", ABROAD)
def test_home_with_the_other_link_still_there_costs_a_round_trip(network: str) -> None:
    """What comes through the tunnel after the home agent has let go is nobody's (RFC 6275 section 10.3.2)."""
    world = World().bind(network)
    stream = Stream(world, world.laptop, 0.005).start()
    world.run(0.2).plug("wlan0", "home").run_until(world.is_home, 2.0)
    world.run(0.5)
    stream.stop()
    world.run(0.5)
    assert max(map(stream.longest_gap, stream.sent)) <= ROUND_TRIP


def test_started_at_home_without_any_binding_it_is_at_home() -> None:
    world = World().come_home()
    assert world.passes() == []
    wakeups = world.laptop.timer.rang
    world.run(86400.0)
    assert world.laptop.timer.rang == wakeups, "at home nothing has to be done"


def test_a_lost_goodbye_is_repeated() -> None:
    world = World().bind("office").weather("home", CUT).plug("eth0", "home").run(0.1)
    assert not world.is_home()
    assert world.binding() is not None
    world.weather("home", FAIR)
    assert world.run_until(world.is_home, 2.0) <= 0.1
    assert world.passes() == []


@pytest.mark.parametrize("seed", range(10))
def test_to_and_fro_between_home_and_abroad_in_bad_weather(seed: int) -> None:
    world = World(seed).weather("home", STORM).weather("hotel", STORM).bind("office")
    for _ in range(4):
        world.plug("eth0", "home").run(15.0).plug("eth0", "hotel").run(15.0)
    world.fair().plug("eth0", "home")
    world.run_until(world.is_home, 40.0)
    assert world.passes() == []


@pytest.mark.parametrize(
    ("up", "gap"),
    [(CUT, 0.0), (FAIR, 7.1)],
    ids=["which lets nothing through", "which brings the goodbye to the home agent"],
)
def test_a_network_that_claims_the_home_prefix_gets_nothing_in_clear_and_is_left_again(
    up: Weather, gap: float
) -> None:
    """The home agent's answer goes to the true home link, so this is not home. But if somebody carries the
    goodbye there, the binding is gone until three tries have been in vain.
    """
    world = World().bind("office").weather("trap", up).plug("wlan0", "trap")
    stream = Stream(world, world.laptop, 0.05).start()
    world.run(60.0)
    stream.stop()
    world.run(1.0)
    assert not world.laptop.at_home
    assert world.is_bound()
    assert world.passes() == []
    assert max(map(stream.longest_gap, stream.sent)) <= gap


def test_an_evil_twin_of_the_home_network_gets_nothing_in_clear() -> None:
    world = World().come_home()
    world.laptop.swap("eth0", world.networks["trap"])
    world.run(0.1)
    assert not world.laptop.at_home
    sent = [world.reply(world.laptop, family) for family in (6, 4) for _ in range(3)]
    world.run(1.0)
    assert not [number for number in sent if number in world.arrived]


def test_a_user_at_home_may_go_abroad_by_another_link_and_come_back() -> None:
    world = World().come_home().plug("wlan0", "hotel").run(1.0)
    assert world.is_home()
    world.laptop.tell(Roam("wlan0", None))
    assert world.run_until(world.is_bound, 3.0) <= 1.1, (
        "it takes a second to see that nobody has the addresses"
    )
    assert world.passes() == []
    world.laptop.tell(Roam(None, None))
    assert world.run_until(world.is_home, 3.0) <= ROUND_TRIP
    assert world.passes() == []


def test_a_home_agent_that_dies_while_its_mobile_node_comes_home_serves_it_there_by_ipv4_meanwhile() -> None:
    world = World().bind("office")
    world.agent.crash()
    world.plug("eth0", "home").run(5.0)
    assert not world.laptop.at_home
    world.agent.start()
    world.run_until(world.is_bound, 34.0)
    assert world.passes() == []
    world.run_until(world.is_home, 310.0)
    assert world.passes() == []


@pytest.mark.parametrize("remember", [True, False])
def test_a_mobile_node_that_dies_at_home_is_at_home_when_it_is_back(remember: bool) -> None:
    world = World().bind("office").come_home()
    world.laptop.crash()
    world.run(1.0)
    world.laptop.start(remember=remember)
    assert world.run_until(world.is_home, 3.0) <= 0.1
    assert world.passes() == []


def test_recorded_goodbyes_and_recorded_updates_do_not_move_whoever_is_at_home() -> None:
    world = World().bind("office").come_home().run(0.5)
    heard = [one for one in world.internet.recorded if one.destination == world.agent.ipv6]
    world.run(20.0)
    for datagram in heard:
        world.inject(datagram)
        world.run(0.1)
    assert world.is_home()
    world.bind("hotel")
    for datagram in heard:
        world.inject(datagram)
        world.run(0.1)
    assert world.is_bound()
    assert world.passes() == []
