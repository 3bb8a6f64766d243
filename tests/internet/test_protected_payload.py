"""Payload that only the two ends can read: keys agreed with each update, and nothing ever in the clear."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations

import pytest

from tests.internet.cast import (
    CORRESPONDENT4,
    CORRESPONDENT6,
    HA4,
    HA6,
    LAPTOP4,
    LAPTOP6,
    PROTECTED,
)
from tests.internet.weather import STORM, Datagram, Weather
from tests.internet.world import Stream, World
from tunnel.path import Encapsulation
from wire.ip import PROTOCOL_ESP, PROTOCOL_IPV4, PROTOCOL_IPV6, PROTOCOL_UDP

NETWORKS = ("office", "mobile", "hotel", "town")
MOVES = list(permutations(NETWORKS, 2))
ROUND_TRIP = 0.05


def is_payload(datagram: Datagram) -> bool:
    return datagram.protocol == PROTOCOL_ESP or 4500 in (datagram.source_port, datagram.destination_port)


@pytest.mark.parametrize(("origin", "destination"), MOVES, ids=["-".join(move) for move in MOVES])
def test_a_hard_move_keeps_payload_protected_and_takes_a_round_trip(origin: str, destination: str) -> None:
    world = World(more=PROTECTED).bind(origin).run(ROUND_TRIP)
    assert world.passes() == []
    world.plug("eth0", destination)
    place = world.networks[destination]
    assert world.run_until(lambda: world.is_bound() and world.is_in(place), 1.0) <= ROUND_TRIP
    assert world.passes() == []
    binding = world.binding()
    assert binding is not None
    expected = Encapsulation.ESP if binding.care_of.version == 6 else Encapsulation.ESP_UDP
    assert binding.encapsulation is expected


def test_a_move_asked_for_loses_no_packet() -> None:
    world = World(more=PROTECTED).bind("office").plug("wlan0", "hotel").run(1.0)
    stream = Stream(world, world.laptop, 0.005).start()
    world.run(0.2).unplug("eth0").run(0.5).plug("eth0", "mobile").run(0.5)
    stream.stop()
    world.run(0.5)
    assert {which: stream.lost(which) for which in stream.sent} == dict.fromkeys(stream.sent, 0)


def test_a_nat_that_forgets_the_payload_port_is_repaired_by_payload_itself() -> None:
    world = World(more=PROTECTED).bind("hotel").run(ROUND_TRIP)
    assert world.passes() == []
    box = world.networks["hotel"].nat
    assert box is not None
    box.flush()
    world.reply(world.laptop, 6)
    world.run(0.2)
    assert world.passes() == []


def test_an_idle_mobile_node_can_be_called_behind_a_nat_that_waits_half_a_minute() -> None:
    world = World(more=PROTECTED)
    box = world.networks["hotel"].nat
    assert box is not None
    box.behaviour = replace(box.behaviour, timeout=30.0)
    world.bind("hotel").run(ROUND_TRIP)
    for _ in range(20):
        calls = [world.call(world.laptop, family) for family in (6, 4)]
        world.run(60.0)
        assert all(call in world.arrived for call in calls), calls


@pytest.mark.parametrize("network", ["office", "hotel"])
def test_recorded_payload_is_worth_nothing_and_forged_payload_from_the_very_address_neither(
    network: str,
) -> None:
    world = World(more=PROTECTED).bind(network)
    stream = Stream(world, world.laptop, 0.05).start()
    world.run(5.0)
    stream.stop()
    world.run(1.0)
    heard = [one for one in world.internet.recorded if is_payload(one)]
    assert len(heard) > 300
    delivered = len(world.arrived)
    before = world.agent.plane.endpoint.drops.get("esp-replayed", 0)
    for datagram in heard:
        world.inject(datagram)
    world.run(1.0)
    assert len(world.arrived) == delivered
    assert world.agent.plane.endpoint.drops["esp-replayed"] - before > 150
    binding = world.binding()
    assert binding is not None
    agent = HA4 if binding.in_udp else HA6
    for home, other, protocol in (
        (LAPTOP6, CORRESPONDENT6, PROTOCOL_IPV6),
        (LAPTOP4, CORRESPONDENT4, PROTOCOL_IPV4),
    ):
        forged = world.forge(home, other)
        port = binding.arrival.remote_port
        world.inject(Datagram(binding.arrival.remote, agent, protocol, forged))
        if binding.in_udp:
            world.inject(Datagram(binding.arrival.remote, agent, PROTOCOL_UDP, forged, port, 4191))
    world.run(1.0)
    assert world.passes() == []


@pytest.mark.parametrize("remember", [True, False])
@pytest.mark.parametrize("network", ["office", "hotel"])
def test_whoever_restarts_agrees_on_new_keys(network: str, remember: bool) -> None:
    world = World(more=PROTECTED).bind(network)
    for host in (world.laptop, world.agent):
        host.crash()
        world.run(0.5)
        host.start(remember=remember)
        world.laptop.refresh()
        world.run(3.0)
        world.run_until(world.is_bound, 5.0)
        assert world.passes() == []


def test_a_home_agent_that_restarts_with_its_bindings_calls_its_mobile_nodes_for_new_keys() -> None:
    world = World(more=PROTECTED).bind("hotel").run(5.0)
    world.agent.crash()
    world.agent.start()
    world.run(3.0)
    assert world.is_bound()
    assert world.passes() == []


def test_keys_are_renewed_every_hour_and_no_packet_is_lost_meanwhile() -> None:
    world = World(more=PROTECTED).bind("hotel").run(ROUND_TRIP)
    sessions = set()
    stream = Stream(world, world.laptop, 5.0).start()
    for _ in range(4):
        world.run(3700.0)
        sessions.add(world.laptop.node.payload.state.spis[0])
    stream.stop()
    world.run(1.0)
    assert len(sessions) == 4
    assert {which: stream.lost(which) for which in stream.sent} == dict.fromkeys(stream.sent, 0)


@pytest.mark.parametrize("seed", range(10))
def test_storms_and_reordering_leave_both_ends_with_the_same_keys(seed: int) -> None:
    world = World(seed, more=PROTECTED).bind("office")
    for network in world.networks:
        world.weather(network, Weather(loss=0.2, jitter=0.5, duplication=0.3) if seed % 2 else STORM)
    for stop in ("hotel", "office", "mobile", "hotel"):
        world.plug("eth0", stop).run(20.0)
    world.fair().run(1.0).laptop.refresh()
    world.run(5.0)
    world.run_until(world.is_bound, 40.0)
    assert world.passes() == []
