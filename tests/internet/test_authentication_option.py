"""Both ends with the authentication option (RFC 4285) in place of ESP: clocks, replays, refusals."""

from __future__ import annotations

import pytest

from tests.internet.cast import HA6, LAPTOP6, MALLORY6
from tests.internet.mallory import HOME, from_home_agent, state, to_home_agent
from tests.internet.weather import Datagram
from tests.internet.world import World
from tunnel.authentication import AuthenticationAssociation, sign
from tunnel.envelope import ControlPacket
from wire.mobility import BindingUpdate
from wire.options import AlternateCareOfAddress
from wire.profile import RFC5555


@pytest.mark.parametrize("clock_error", [0.0, 3.0, -3600.0, 3e8])
@pytest.mark.parametrize("network", ["office", "hotel"])
def test_a_wrong_clock_costs_one_round_trip(network: str, clock_error: float) -> None:
    world = World(protection="option", clock_error=clock_error).bind(network)
    assert world.agent.node.tally.strangers["authentication-wrong-time"] == (abs(clock_error) > 7)
    for _ in range(5):
        world.run(1.0).laptop.refresh()
    world.run(1.0)
    assert world.agent.node.tally.accepted == 6
    assert world.passes() == []


def test_recorded_updates_are_worth_nothing_before_and_after_a_restart() -> None:
    world = World(protection="option").bind("hotel")
    for network in ("office", "mobile", "hotel"):
        world.plug("eth0", network).run(1.0)
        for _ in range(20):
            world.laptop.refresh()
            world.run(0.5)
    heard = [one for one in world.internet.recorded if to_home_agent(one)]
    assert len(heard) > 60
    world.run(2.5)
    for restart in (False, True):
        if restart:
            world.agent.crash()
            world.agent.start()
        binding, routes = world.binding(), world.agent.plane.endpoint.table.routes
        for datagram in heard:
            world.inject(datagram)
            world.run(0.02)
        assert (world.binding(), world.agent.plane.endpoint.table.routes) == (binding, routes)
    world.laptop.refresh()
    world.run(1.0)
    assert world.is_bound()
    assert world.passes() == []


def test_a_recorded_correction_of_the_clock_is_believed_once() -> None:
    world = World(protection="option", clock_error=-3600.0).bind("hotel")
    corrections = [one for one in world.internet.recorded if from_home_agent(one)][:1]
    for _ in range(3):
        world.inject(corrections[0])
    world.run(1.0).laptop.refresh()
    world.run(0.1)
    assert world.agent.node.tally.accepted == 2
    assert world.agent.node.tally.strangers["authentication-wrong-time"] == 1


def test_no_number_of_corrections_locks_the_mobile_node_out() -> None:
    world = World(protection="option", clock_error=-3600.0).bind("hotel")
    correction = next(one for one in world.internet.recorded if from_home_agent(one))
    for _ in range(4):
        world.inject(correction)
    world.run(1.0).laptop.refresh()
    world.run(1200.0)
    assert world.is_bound()
    assert world.passes() == []


def test_forged_updates_are_refused_three_times_and_then_once_a_second() -> None:
    """RFC 4285 wants an answer to what cannot be verified: it must not become a weapon."""
    world = World(protection="option").bind("hotel")
    before = state(world)
    wrong = AuthenticationAssociation(0x3077, bytes(16))
    update = BindingUpdate(7, 420, HOME, (AlternateCareOfAddress(MALLORY6),))
    packet = ControlPacket(MALLORY6, HA6, update, home_address_option=LAPTOP6)
    forged = sign(packet, wrong, MALLORY6, 1, RFC5555)
    for _ in range(1000):
        world.inject(Datagram(MALLORY6, HA6, 60, forged))
        world.run(0.01)
    assert state(world)[:2] == before[:2]
    answered = [one for one in world.internet.recorded if one.destination == MALLORY6]
    assert len(answered) <= 3 + 11
    assert sum(len(one.payload) for one in answered) <= 14 * 1.5 * len(forged)
    assert world.passes() == []
