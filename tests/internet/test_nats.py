"""Bindings behind NATs: kept alive while idle, repaired when the NAT forgets, moved by nobody else."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address

import pytest

from home_agent.binding_cache import Binding
from tests.internet.cast import CORRESPONDENT6, HA4, LAPTOP6
from tests.internet.nat import SYMMETRIC, Behaviour, Dependence
from tests.internet.weather import Datagram, Weather
from tests.internet.world import Stream, World
from wire.ip import PROTOCOL_UDP
from wire.options import NATKATIMEOUT

DAY = 86400.0
BOXES = [Behaviour(mapping, filtering, timeout=120.0) for mapping in Dependence for filtering in Dependence]


def door(world: World) -> tuple[object, int]:
    """The address and port at which the home agent believes the mobile node to be."""
    binding = world.binding()
    assert binding is not None
    return binding.arrival.remote, binding.arrival.remote_port


def behind(behaviour: Behaviour, seed: int = 1) -> World:
    world = World(seed)
    box = world.networks["hotel"].nat
    assert box is not None
    box.behaviour = behaviour
    return world.bind("hotel")


def forget(world: World) -> None:
    box = world.networks["hotel"].nat
    assert box is not None
    box.flush()


@pytest.mark.requirement("R003", "R052", "R091", "R092", "R137")
@pytest.mark.parametrize("behaviour", BOXES, ids=lambda b: f"{b.mapping.value}/{b.filtering.value}")
def test_an_idle_mobile_node_can_be_called_at_any_time_behind_any_nat_that_waits_two_minutes(
    behaviour: Behaviour,
) -> None:
    assert behaviour.timeout > NATKATIMEOUT
    world = behind(behaviour)
    first = door(world)
    for _ in range(12):
        world.run(299.0)
        calls = [world.call(world.laptop, family) for family in (6, 4)]
        world.run(1.0)
        assert all(call in world.arrived for call in calls)
    assert door(world) == first, "the mapping was never lost"


@pytest.mark.requirement("R093")
def test_keepalives_are_no_more_frequent_than_needed() -> None:
    world = behind(SYMMETRIC)
    before = world.laptop.updates
    world.run(3600.0)
    assert 3600 / 110 - 1 <= world.laptop.updates - before <= 3600 / 99 + 1


@pytest.mark.requirement("R091")
def test_outgoing_payload_takes_the_place_of_keepalives() -> None:
    world = behind(SYMMETRIC)
    stream = Stream(world, world.laptop, 30.0).start()
    before = world.laptop.updates
    world.run(3600.0)
    stream.stop()
    world.run(1.0)
    assert world.laptop.updates - before <= 3600 / 315 + 1, "what is left are the refreshes of the lifetime"
    assert {which: stream.lost(which) for which in stream.sent} == dict.fromkeys(stream.sent, 0)


def test_a_mapping_that_was_forgotten_while_idle_is_repaired_by_the_next_keepalive() -> None:
    world = behind(SYMMETRIC).run(10.0)
    old = door(world)
    forget(world)
    assert set(world.passes()) == {"to 6", "to 4", "from 6", "from 4"}
    repaired = world.run_until(lambda: door(world) != old, 115.0)
    assert repaired <= NATKATIMEOUT
    assert world.passes() == []


@pytest.mark.requirement("R136b")
def test_one_authenticated_update_repairs_a_new_mapping_at_once() -> None:
    world = behind(SYMMETRIC).run(10.0)
    old = door(world)
    forget(world)
    world.laptop.refresh()
    world.run(0.1)
    assert door(world)[0] == old[0]
    assert door(world)[1] != old[1]
    assert world.passes() == []


def test_a_nat_that_gets_another_address_is_followed() -> None:
    world = behind(SYMMETRIC).run(10.0)
    world.networks["hotel"].move_nat(IPv4Address("192.0.2.111"))
    world.run(NATKATIMEOUT + 1.0)
    assert door(world)[0] == IPv4Address("192.0.2.111")
    assert world.passes() == []


def test_a_mapping_that_was_forgotten_under_traffic_is_repaired_within_one_keepalive_interval() -> None:
    world = behind(SYMMETRIC).run(10.0)
    old = door(world)
    stream = Stream(world, world.laptop, 0.5).start()
    world.run(5.0)
    forget(world)
    repaired = world.run_until(lambda: door(world) != old, 400.0)
    stream.stop()
    assert repaired <= NATKATIMEOUT


def test_a_mapping_that_was_forgotten_under_traffic_is_repaired_by_the_next_refresh_at_the_latest() -> None:
    world = behind(SYMMETRIC).run(10.0)
    old = door(world)
    stream = Stream(world, world.laptop, 0.5).start()
    world.run(5.0)
    forget(world)
    assert world.run_until(lambda: door(world) != old, 400.0) <= 0.8 * 420
    stream.stop()
    world.run(1.0)
    assert world.passes() == []


def test_a_nat_of_thirty_seconds_is_repaired_with_every_keepalive_and_by_the_first_packet_out() -> None:
    """The home agent's 110 s are too long for it: unreachable between, but never lost for good."""
    world = behind(replace(SYMMETRIC, timeout=30.0)).run(1000.0)
    assert world.is_bound()
    world.laptop.refresh()
    world.run(0.1)
    assert world.passes() == []


def test_payload_from_another_port_of_the_same_nat_is_refused_and_moves_nothing() -> None:
    world = behind(SYMMETRIC)
    address, port = door(world)
    assert isinstance(address, IPv4Address)
    for other in range(port + 1, port + 501):
        forged = world.forge(LAPTOP6, CORRESPONDENT6)
        world.inject(Datagram(address, HA4, PROTOCOL_UDP, forged, other % 65536, 4191))
        world.inject(Datagram(address, HA4, 41, forged))
    world.run(1.0)
    assert door(world) == (address, port)
    assert world.agent.plane.endpoint.drops["wrong-peer"] == 1000
    assert world.passes() == []


def test_a_port_that_the_nat_gives_to_somebody_else_delivers_nothing_to_them() -> None:
    """Both mobile nodes sit behind a NAT with two ports; the laptop's mapping ends and the tablet gets it."""
    world = World(mobile_nodes=("laptop", "tablet"))
    box = world.networks["hotel"].nat
    assert box is not None
    box.behaviour = replace(SYMMETRIC, ports=range(7000, 7002))
    world.bind("hotel")
    world.laptop.sleep()
    box.flush()
    old = door(world)
    world.plug("eth0", "hotel", world.tablet).run(2.0)
    tablet = world.binding(world.tablet)
    while tablet is None or tablet.arrival.remote_port != old[1]:
        box.flush()
        world.tablet.refresh()
        world.run(1.0)
        tablet = world.binding(world.tablet)
    call = world.call(world.laptop, 6)
    world.run(1.0)
    assert call not in world.arrived
    assert world.tablet.plane.endpoint.drops["not-a-home-address"] == 1
    assert world.passes(world.tablet) == []


def test_a_storm_of_rebindings_leaves_one_binding_and_little_memory() -> None:
    world = behind(SYMMETRIC).weather("hotel", Weather(jitter=0.05, loss=0.1))
    for _ in range(200):
        forget(world)
        world.laptop.refresh()
        world.run(0.5)
    world.run(60.0)
    assert world.is_bound()
    assert isinstance(world.binding(), Binding)
    assert len(world.agent.plane.endpoint._lanes_by_path) <= 40
    assert len(world.agent.plane.endpoint.table) == 2
