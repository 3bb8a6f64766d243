"""Storms and long quiet: flapping links, wrapping numbers, idle days."""

from __future__ import annotations

import os

import pytest

from mn_agent.events import Roam
from runtime.flight import replay
from tests.internet import home_host, mobile_host
from tests.internet.cast import BY_NAME
from tests.internet.weather import FAIR, STORM, Weather
from tests.internet.world import World

DAY = 86400.0
WHOLE_WRAP = "INTERNET_WHOLE_WRAP" in os.environ
"""Wrap by 70 000 Binding Updates instead of by starting shortly before the end. Takes two minutes."""


@pytest.mark.parametrize("network", ["office", "hotel", "mobile", "town"])
def test_ten_flaps_a_second_for_a_minute_end_bound_within_a_second_and_cost_three_updates_a_second(
    network: str,
) -> None:
    world = World().bind(network)
    before, started = world.laptop.updates, world.now
    for _ in range(600):
        world.unplug("eth0").run(0.05)
        world.plug("eth0", network).run(0.05)
    updates = world.laptop.updates - before
    assert updates <= 3 * (world.now - started) + 3
    assert world.run_until(world.is_bound, 2.0) <= 1.05
    assert world.passes() == []


def test_flapping_between_two_networks_ends_bound_and_loses_no_memory() -> None:
    world = World().bind("office")
    for flap in range(600):
        world.plug("eth0", ("hotel", "office", "mobile")[flap % 3]).run(0.1)
    world.run_until(lambda: world.is_bound() and world.is_in(world.networks["mobile"]), 2.0)
    assert world.passes() == []
    assert len(world.laptop.node.journal.past) <= 100
    assert len(world.laptop.plane.endpoint._lanes_by_path) <= 40


def test_two_links_that_flap_in_turn_never_leave_the_mobile_node_without_a_home() -> None:
    world = World().bind("office").plug("wlan0", "hotel").run(2.0)
    for _ in range(30):
        world.unplug("eth0").run(0.5)
        world.plug("eth0", "office").run(0.5)
        world.unplug("wlan0").run(0.5)
        world.plug("wlan0", "hotel").run(0.5)
        assert world.is_bound()
        assert world.passes(within=0.2) == []


def test_a_user_who_changes_his_mind_every_tenth_of_a_second_gets_what_he_wanted_last() -> None:
    world = World().bind("office").plug("wlan0", "hotel").run(2.0)
    for wish in range(101):
        world.laptop.tell(Roam(("wlan0", "eth0")[wish % 2], None))
        world.run(0.1)
    world.run(2.0)
    assert world.is_in(world.networks["hotel"])
    assert world.passes() == []


def test_a_user_who_asks_for_a_refresh_all_the_time_causes_three_updates_a_second() -> None:
    world = World().bind("office").run(5.0)
    for _ in range(20):
        world.laptop.refresh()
        world.run(0.05)


# ---- numbers ---------------------------------------------------------------------------------------------
def test_sequence_numbers_wrap_and_nobody_notices() -> None:
    world = World()
    world.laptop.crash()
    start = 0 if WHOLE_WRAP else 65500
    world.laptop.start(next_sequence=start)
    world.bind("hotel")
    for update in range(70000 if WHOLE_WRAP else 200):
        world.laptop.refresh()
        world.run(0.4)
        if update % 50 == 36:
            (world.laptop if update % 100 == 36 else world.agent).crash()
            world.laptop.start() if not world.laptop.running else world.agent.start()
            world.run_until(world.is_bound, 3.0)
            world.run(1.0)
    binding = world.binding()
    assert binding is not None
    assert binding.sequence < 65500
    assert world.agent.node.tally.refused.total() == 0
    assert world.passes() == []


@pytest.mark.parametrize("ahead", [1, 32767, 32768, 40000, 65535])
def test_wherever_the_sequence_number_of_a_forgetful_mobile_node_starts_it_is_bound_after_two_round_trips(
    ahead: int,
) -> None:
    world = World().bind("office")
    binding = world.binding()
    assert binding is not None
    world.laptop.crash()
    world.laptop.start(remember=False, next_sequence=(binding.sequence + ahead) % 65536)
    assert world.run_until(world.is_bound, 1.0) <= 0.1


def test_two_refusals_for_two_tries_do_not_set_the_sequence_number_back() -> None:
    """The road is so long that the first try is repeated; both are refused with status 135."""
    world = World().bind("office")
    binding = world.binding()
    assert binding is not None
    world.laptop.crash()
    world.weather("office", Weather(delay=1.0))
    world.laptop.start(remember=False, next_sequence=(binding.sequence - 100) % 65536)
    world.run_until(world.is_bound, 20.0)


# ---- quiet -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("network", "wakeups", "updates"), [("office", 320, 280), ("hotel", 900, 900), ("mobile", 320, 280)]
)
def test_an_idle_day_costs_few_wakeups_and_fewer_updates(network: str, wakeups: int, updates: int) -> None:
    """IPv6: a refresh every 320 to 336 s. Behind a NAT: a keepalive every 99 to 110 s. DNS: every hour."""
    world = World(agent=BY_NAME).bind(network)
    rang, sent, steps = world.laptop.timer.rang, world.laptop.updates, world.timeline.steps
    world.run(DAY)
    assert world.laptop.timer.rang - rang <= wakeups
    assert world.laptop.updates - sent <= updates
    assert world.agent.timer.rang <= 10, "a home agent whose mobile nodes refresh in time sleeps"
    assert world.timeline.steps - steps <= 6000
    assert len(world.dns.asked) <= 26
    assert world.is_bound()
    assert world.passes() == []


def test_a_day_without_any_network_costs_no_wakeup_at_all() -> None:
    world = World().bind("office").unplug("eth0").run(1.0)
    rang = world.laptop.timer.rang
    world.run(DAY)
    assert world.laptop.timer.rang == rang
    assert world.plug("eth0", "office").run_until(world.is_bound, 3.0) <= 1.1


def test_a_day_without_a_home_agent_costs_an_update_every_half_minute() -> None:
    world = World()
    world.agent.crash()
    world.plug("eth0", "office").run(DAY)
    assert world.laptop.updates <= DAY / 32 + 10
    world.agent.start()
    assert world.run_until(world.is_bound, 34.0) <= 33.1


def test_two_days_of_storm_with_a_move_every_hour_end_well() -> None:
    world = World(7)
    for network in world.networks:
        world.weather(network, STORM)
    for hour in range(2 * 24):
        world.plug("eth0", ("office", "hotel", "mobile", "town")[hour % 4]).run(3600.0)
        assert world.laptop.node.registration.binding is not None
    for network in world.networks:
        world.weather(network, FAIR)
    world.run(120.0)
    assert world.passes() == []


# ---- the flight record -------------------------------------------------------------------------------------
def test_a_node_that_is_told_the_same_decides_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """The record of the mobile node, fed to a fresh one, gives the same actions, octet by octet."""
    monkeypatch.setattr(mobile_host, "FLIGHT", 10_000)
    world = World(5).plug("eth0", "office")
    twin = World(5).laptop.node
    for network in ("hotel", "mobile", "office", "town"):
        world.weather(network, STORM).plug("eth0", network).run(100.0)
    records = world.laptop.driver.flight.records
    assert len(records) > 10
    assert replay(twin, records) == []


def test_a_home_agent_that_is_told_the_same_decides_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(home_host, "FLIGHT", 10_000)
    world = World(5).bind("office")
    twin = World(5).agent.node
    for network in ("hotel", "mobile", "office", "town"):
        world.plug("eth0", network).run(100.0)
    records = world.agent.driver.flight.records
    assert len(records) > 10
    assert replay(twin, records[1:]) == [], "the twin has been started already"
