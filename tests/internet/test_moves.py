"""Every move between every two networks, with the old link gone or still there."""

from __future__ import annotations

from itertools import permutations

import pytest

from mn_agent.events import Roam, Stop
from tests.internet.weather import CUT, FAIR
from tests.internet.world import Stream, World
from tunnel.path import Encapsulation

NETWORKS = ("office", "campus", "mobile", "street", "cafe", "hotel", "town")
BEHIND_NAT = {"cafe", "hotel"}
IPV6 = {"office", "campus", "town"}
MOVES = list(permutations(NETWORKS, 2))
ROUND_TRIP = 0.05
"""Nothing in these networks is farther away than this."""


def encapsulation(network: str) -> Encapsulation:
    return Encapsulation.UDP if network in BEHIND_NAT else Encapsulation.IP_IN_IP


@pytest.mark.requirement("R003", "R005", "R029", "R087c", "R088", "R089a")
@pytest.mark.requirement("R109", "R110", "R120", "R130", "R132")
@pytest.mark.parametrize(("origin", "destination"), MOVES, ids=["-".join(move) for move in MOVES])
def test_a_hard_move_is_over_within_a_round_trip_of_the_address(origin: str, destination: str) -> None:
    world = World().bind(origin)
    assert world.passes() == []
    world.plug("eth0", destination)
    place = world.networks[destination]
    took = world.run_until(lambda: world.is_bound() and world.is_in(place), 1.0)
    assert took <= ROUND_TRIP
    assert world.passes() == []
    binding = world.binding()
    assert binding is not None
    assert binding.encapsulation is encapsulation(destination)
    assert binding.care_of.version == (6 if destination in IPV6 else 4)


@pytest.mark.requirement("R136a")
@pytest.mark.parametrize(("origin", "destination"), MOVES, ids=["-".join(move) for move in MOVES])
def test_a_move_asked_for_while_both_links_are_there_loses_no_packet(origin: str, destination: str) -> None:
    world = World().bind(origin).plug("wlan0", destination).run(1.0)
    stream = Stream(world, world.laptop, 0.005).start()
    world.run(0.2)
    world.laptop.tell(Roam("wlan0", None))
    world.run(0.5)
    assert world.is_in(world.networks[destination])
    world.unplug("eth0").run(0.5)
    stream.stop()
    world.run(0.5)
    assert {which: stream.lost(which) for which in stream.sent} == dict.fromkeys(stream.sent, 0)
    assert world.laptop.last_report("handover")["mode"] == "make-before-break"


@pytest.mark.parametrize(("origin", "destination"), MOVES, ids=["-".join(move) for move in MOVES])
def test_a_link_that_breaks_while_another_one_is_there_costs_one_round_trip(
    origin: str, destination: str
) -> None:
    world = World().bind(origin).plug("wlan0", destination).run(1.0)
    stream = Stream(world, world.laptop, 0.005).start()
    world.run(0.2)
    world.unplug("eth0" if not world.is_in(world.networks[destination]) else "wlan0").run(1.0)
    stream.stop()
    world.run(0.5)
    assert max(map(stream.longest_gap, stream.sent)) <= ROUND_TRIP
    assert world.passes() == []


@pytest.mark.parametrize(("origin", "destination"), MOVES, ids=["-".join(move) for move in MOVES])
def test_what_is_sent_into_the_break_of_a_hard_move_arrives_late_and_not_never(
    origin: str, destination: str
) -> None:
    world = World().bind(origin)
    stream = Stream(world, world.laptop, 0.005).start()
    world.run(0.2).unplug("eth0").run(0.1).plug("eth0", destination).run(0.5)
    stream.stop()
    world.run(0.5)
    assert world.is_in(world.networks[destination])
    assert {which: stream.lost(which) for which in stream.sent} == dict.fromkeys(stream.sent, 0)


@pytest.mark.parametrize("late", [0.06, 0.15, 0.25])
def test_what_is_sent_before_the_kernel_knows_of_the_break_arrives_late_and_not_never(late: float) -> None:
    """A driver that waits for its link to come back, and a busy kernel, tell of a pulled cable late."""
    world = World().bind("office")
    stream = Stream(world, world.laptop, 0.005).start()
    world.run(0.2).weather("office", CUT, CUT).run(late)
    world.unplug("eth0").run(0.1).plug("eth0", "cafe").run(0.5)
    stream.stop()
    world.run(0.5)
    assert world.is_in(world.networks["cafe"])
    assert {which: stream.lost(which) for which in stream.sent} == dict.fromkeys(stream.sent, 0)


def test_there_and_back_and_there_again_within_the_grace_of_the_old_paths() -> None:
    world = World().bind("office")
    stream = Stream(world, world.laptop, 0.005).start()
    for _ in range(10):
        for network in ("cafe", "office", "mobile"):
            world.plug("eth0", network).run(0.4)
    stream.stop()
    world.run(1.0)
    assert world.passes() == []
    assert max(map(stream.longest_gap, stream.sent)) <= ROUND_TRIP


def test_a_new_lease_in_the_same_network_is_a_move_as_well() -> None:
    world = World().bind("cafe")
    before = world.binding()
    world.laptop.renumber("eth0")
    world.run(0.5)
    after = world.binding()
    assert before is not None
    assert after is not None
    assert before.care_of != after.care_of
    assert world.passes() == []


@pytest.mark.requirement("R028")
def test_in_a_network_of_both_families_the_ipv6_address_wins_also_when_it_comes_second() -> None:
    world = World().bind("town").run(1.0)
    assert world.laptop.addresses >= set(world.networks["town"].addresses("laptop/eth0"))
    binding = world.binding()
    assert binding is not None
    assert binding.care_of.version == 6
    assert world.agent.node.tally.accepted == 1, "the IPv4 address came later and changed nothing"


def test_out_of_coverage_and_back_goes_on_with_the_binding_that_is_still_there() -> None:
    world = World().bind("office").unplug("eth0").run(60.0)
    assert world.laptop.node.summary()[0] == "no-network"
    assert world.laptop.node.deadline() is None
    world.plug("eth0", "office")
    assert world.run_until(world.is_bound, 1.0) <= ROUND_TRIP
    assert world.passes() == []


def test_a_lid_closed_for_nine_hours_is_made_good_within_a_second_of_the_first_address() -> None:
    world = World().bind("cafe")
    world.laptop.sleep()
    world.unplug("eth0").run(9 * 3600.0)
    assert world.binding() is None, "the home agent has let go of it"
    updates = world.laptop.updates
    world.laptop.wake()
    world.run(2.0).plug("eth0", "cafe")
    assert world.run_until(world.is_bound, 3.0) <= 1.1, "duplicate address detection takes a second"
    sent = world.laptop.updates - updates
    assert sent <= 5, "one before the kernel told that the link is gone, the others in that second"
    assert world.passes() == []


@pytest.mark.parametrize("slept", [5.0, 60.0, 400.0, 9 * 3600.0])
def test_a_lid_opened_where_it_was_closed_is_made_good_at_once(slept: float) -> None:
    """The link is there all the time, so no event tells; the NAT has forgotten, the binding may be gone."""
    world = World().bind("cafe")
    world.laptop.sleep()
    world.run(slept)
    world.networks["cafe"].nat.flush()
    updates = world.laptop.updates
    world.laptop.wake()
    assert world.laptop.updates == updates + 1, "at once, and once"
    world.run(1.2 if slept > 420 else ROUND_TRIP)
    assert world.is_bound()
    assert world.passes() == []


def test_a_lid_opened_in_another_network_sends_nothing_through_the_old_one() -> None:
    world = World().bind("office")
    world.laptop.sleep()
    world.run(60.0).plug("eth0", "hotel")
    world.run(1.0)
    updates = world.laptop.updates
    world.laptop.wake()
    assert world.laptop.updates == updates + 1
    assert world.run_until(world.is_bound, 1.0) <= ROUND_TRIP
    assert world.passes() == []


def test_a_long_pause_between_tries_ends_with_a_sleep() -> None:
    world = World().bind("office").weather("office", CUT).run(400.0)
    world.laptop.sleep()
    world.run(5.0).weather("office", FAIR)
    world.laptop.wake()
    assert world.run_until(world.is_bound, 2.0) <= 1.1, "the home agent may have let go meanwhile"


@pytest.mark.parametrize("seconds", [3600.0, -3600.0, 3.2e8, -3.2e8])
def test_a_wall_clock_that_jumps_changes_nothing(seconds: float) -> None:
    world = World().bind("cafe").run(10.0)
    before, updates, binding = world.laptop.node.deadline(), world.laptop.updates, world.binding()
    world.laptop.set_clock(seconds)
    assert world.laptop.node.deadline() == before
    assert (world.laptop.updates, world.binding()) == (updates, binding)
    world.run(3600.0)
    assert world.is_bound()
    assert world.passes() == []


def test_two_mobile_nodes_behind_one_nat_get_their_own_packets_and_reach_each_other() -> None:
    world = World(mobile_nodes=("laptop", "tablet")).bind("hotel")
    world.bind("hotel", node=world.tablet)
    first, second = world.binding(), world.binding(world.tablet)
    assert first is not None
    assert second is not None
    assert first.arrival.remote == second.arrival.remote
    assert first.arrival.remote_port != second.arrival.remote_port
    assert world.passes() == []
    assert world.passes(world.tablet) == []
    number = world.reply(world.laptop, 6, to=world.tablet.configuration.home.ipv6)
    world.run(1.0)
    assert number in world.arrived


def test_whoever_says_goodbye_is_forgotten_and_gets_nothing_more() -> None:
    world = World().bind("hotel")
    world.laptop.tell(Stop())
    world.run(1.0)
    assert world.laptop.finished
    assert world.binding() is None
    assert world.home_link.holders(world.laptop.configuration.home.ipv6) == []
    assert set(world.passes()) == {"to 6", "to 4", "from 6", "from 4"}
