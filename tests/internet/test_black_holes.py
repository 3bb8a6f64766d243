"""Networks that answer Binding Updates and lose payload: all of it, the large packets, or after a while."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.internet.weather import FAIR, Weather
from tests.internet.world import World
from tunnel.path import Encapsulation
from wire.ip import PROTOCOL_IPV4, PROTOCOL_IPV6

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
