"""Networks that answer Binding Updates and lose payload: all of it, the large packets, or after a while."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from mn_agent.events import Roam
from tests.internet.weather import FAIR, Weather
from tests.internet.world import World
from tunnel.path import Encapsulation
from wire.ip import PROTOCOL_IPV4, PROTOCOL_IPV6, PROTOCOL_UDP

NO_TUNNEL = Weather(blocked=frozenset({PROTOCOL_IPV4, PROTOCOL_IPV6}))


def all_passes(world: World) -> bool:
    return world.passes(within=0.2) == []


def test_where_ip_in_ip_is_dropped_payload_passes_in_udp_within_three_seconds() -> None:
    world = World().weather("street", NO_TUNNEL).bind("street")
    assert world.run_until(lambda: _encapsulation(world) is Encapsulation.UDP, 3.0) < 3.0
    assert all_passes(world)
    world.bind("office").bind("street")
    assert world.run_until(lambda: _encapsulation(world) is Encapsulation.UDP, 0.2) < 0.2
    assert all_passes(world)


def test_where_protocol_41_is_dropped_both_families_go_over_ipv4() -> None:
    world = World().weather("town", NO_TUNNEL).plug("eth0", "town")
    world.run_until(lambda: _encapsulation(world) is Encapsulation.UDP, 5.0)
    assert all_passes(world)
    world.run(600.0)
    assert _encapsulation(world) is Encapsulation.UDP, "it does not go back and forth"
    assert all_passes(world)


def test_a_path_that_begins_to_drop_payload_is_left_within_three_seconds_of_traffic() -> None:
    world = World().bind("street")
    world.run(10.0).weather("street", NO_TUNNEL)
    began = world.now
    while _encapsulation(world) is not Encapsulation.UDP and world.now < began + 5.0:
        world.reply(world.laptop, 6)
        world.run(0.05)
    assert world.now - began < 3.0
    assert all_passes(world)


@pytest.mark.parametrize("most", [1492, 1452, 1400, 1360, 1300, 1280])
@pytest.mark.parametrize("network", ["office", "street", "cafe"])
def test_both_ends_stop_sending_what_a_network_swallows(network: str, most: int) -> None:
    world = World().weather(network, replace(FAIR, largest=most)).bind(network)
    world.run(1.0)
    mine, theirs = world.laptop.node.registration.binding, world.binding()
    assert mine is not None
    assert theirs is not None
    assert theirs.path_mtu == most
    assert world.laptop.node.surroundings().limited(mine.path).link_mtu == most
    assert all_passes(world)


def test_a_link_that_says_how_narrow_it_is_needs_no_test_to_be_believed_at_both_ends() -> None:
    world = World().bind("mobile")
    theirs = world.binding()
    assert theirs is not None
    assert theirs.path_mtu == 1420


@pytest.mark.parametrize("lifetime", [20.0, 45.0, 100.0])
def test_an_idle_host_stays_reachable_behind_a_nat_that_forgets_soon(lifetime: float) -> None:
    world = World()
    nat = world.networks["cafe"].nat
    assert nat is not None
    nat.behaviour = replace(nat.behaviour, timeout=lifetime)
    world.bind("cafe").run(900.0)
    before = world.laptop.updates
    for _ in range(20):
        world.run(29.0)
        number = world.call(world.laptop, 6)
        world.run(0.5)
        assert number in world.arrived
    assert world.laptop.updates - before < 2.2 * 590.0 / (lifetime / 4), "and asks no oftener than it must"


def _encapsulation(world: World) -> Encapsulation | None:
    """What both ends agree on."""
    if not world.is_bound():
        return None
    binding = world.binding()
    return None if binding is None else binding.encapsulation


# ---- at any distance ------------------------------------------------------------------------
ROUND_TRIPS = [0.02, 0.1, 0.3]
SIZES = [1500, 1492, 1452, 1400, 1360, 1300, 1280]


def talk_until(world: World, repaired: Callable[[], bool]) -> float:
    """Seconds of traffic from the mobile node, a packet every 50 ms, until then."""
    began = world.now
    while not repaired() and world.now < began + 10.0:
        world.reply(world.laptop, 6)
        world.run(0.05)
    return world.now - began


def in_conversation(world: World) -> World:
    """Packets both ways for a while, so that nothing is in doubt."""
    for _ in range(40):
        world.reply(world.laptop, 6)
        world.call(world.laptop, 6)
        world.run(0.05)
    return world


@pytest.mark.parametrize("round_trip", ROUND_TRIPS)
def test_a_new_network_that_drops_payload_is_known_within_three_seconds_from_afar(round_trip: float) -> None:
    world = World().weather("street", replace(NO_TUNNEL, delay=round_trip / 2)).bind("street")
    assert world.run_until(lambda: _encapsulation(world) is Encapsulation.UDP, 3.0) < 3.0


@pytest.mark.parametrize("round_trip", ROUND_TRIPS)
def test_a_path_that_begins_to_drop_payload_is_left_within_three_seconds_from_afar(
    round_trip: float,
) -> None:
    fair = replace(FAIR, delay=round_trip / 2)
    world = in_conversation(World().weather("street", fair).bind("street"))
    world.weather("street", replace(NO_TUNNEL, delay=round_trip / 2))
    assert talk_until(world, lambda: _encapsulation(world) is Encapsulation.UDP) < 3.0


@pytest.mark.parametrize("round_trip", ROUND_TRIPS)
@pytest.mark.parametrize("way", ["up", "down"])
@pytest.mark.parametrize("wished", [False, True], ids=["by policy", "on the user's wish"])
def test_udp_that_is_dropped_one_way_is_left_for_the_other_link_within_three_seconds(
    round_trip: float, way: str, wished: bool
) -> None:
    """Updates reach the home agent or their answers do not come back: either way nobody waits for a third."""
    fair = replace(FAIR, delay=round_trip / 2)
    bad = replace(fair, blocked=frozenset({PROTOCOL_UDP}))
    world = World().weather("cafe", fair).weather("office", fair).weather("hotel", fair)
    other = "office" if wished else "hotel"
    world.plug("wlan0", "cafe").run(4.0)
    world.plug("eth0", other).run(4.0)
    if wished:
        world.laptop.driver.dispatch(Roam("wlan0", None))
        world.run(4.0)
    assert world.is_in(world.networks["cafe"])
    in_conversation(world).weather("cafe", *((bad, fair) if way == "up" else (fair, bad)))
    assert talk_until(world, lambda: world.is_bound() and world.is_in(world.networks[other])) < 3.0
    assert world.passes() == []


@pytest.mark.parametrize("round_trip", ROUND_TRIPS)
@pytest.mark.parametrize("most", SIZES)
def test_the_size_of_a_black_hole_is_known_at_both_ends_within_three_seconds_from_afar(
    round_trip: float, most: int
) -> None:
    world = World().weather("cafe", Weather(delay=round_trip / 2, largest=most)).bind("cafe")

    def is_known() -> bool:
        mine, theirs = world.laptop.node.registration.binding, world.binding()
        if mine is None or theirs is None or world.laptop.node.paths.verified is not True:
            return False
        here = world.laptop.node.surroundings().limited(mine.path).link_mtu
        return (here, theirs.path_mtu or 1500) == (most, most)

    assert world.run_until(is_known, 3.0) < 3.0


@pytest.mark.parametrize("round_trip", ROUND_TRIPS)
def test_a_nat_that_has_forgotten_everything_is_repaired_by_payload_within_two_seconds(
    round_trip: float,
) -> None:
    """What leaves by the new mapping proves nothing to the home agent; but silence makes the node speak."""
    world = in_conversation(World().weather("cafe", replace(FAIR, delay=round_trip / 2)).bind("cafe"))
    nat = world.networks["cafe"].nat
    assert nat is not None
    nat.flush()
    calls = set[int]()

    def answered() -> bool:
        calls.add(world.call(world.laptop, 4))
        return not calls.isdisjoint(world.arrived)

    assert talk_until(world, answered) < 2.0
