"""Home agents that move, that die for good, and that share one home link."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address

import pytest

from tests.internet.cast import AGENTS, BY_NAME, BY_SERVICE, LAPTOP6
from tests.internet.mobile_host import MobileHost
from tests.internet.weather import Weather
from tests.internet.world import Stream, World

V6 = frozenset({6})


def pair(seed: int = 1) -> World:
    """Two home agents on one home link, found by SRV records in this order."""
    return World(seed, home_agents=2, agent=BY_SERVICE)


def holder(world: World, node: MobileHost | None = None) -> str | None:
    """The name of the home agent at which both ends agree."""
    home = (node or world.laptop).configuration.home.ipv6
    bound = [agent.name for agent in world.agents if agent.running and agent.binding(home) is not None]
    return bound[0] if bound and world.is_bound(node) else None


@pytest.mark.requirement("R013")
def test_the_first_home_agent_of_the_list_is_used() -> None:
    world = pair().bind("office")
    assert holder(world) == "ha1.example.net"


@pytest.mark.parametrize("network", ["office", "hotel"])
def test_if_the_first_home_agent_does_not_answer_the_second_one_is_used(network: str) -> None:
    world = pair()
    world.agents[0].crash()
    world.plug("eth0", network)
    took = world.run_until(world.is_bound, 30.0)
    assert holder(world) == "ha2.example.net"
    assert took <= 10.5 + 1.1, "three unanswered updates"
    assert world.passes() == []


def test_in_a_network_of_both_families_each_of_them_is_tried_before_the_second_home_agent() -> None:
    world = pair()
    world.agents[0].crash()
    world.plug("eth0", "town")
    took = world.run_until(world.is_bound, 40.0)
    assert holder(world) == "ha2.example.net"
    assert took <= 2 * 10.5 + 1.1


def test_a_home_agent_that_dies_for_good_is_replaced_before_the_binding_ends() -> None:
    world = pair().bind("office").run(10.0)
    world.agents[0].crash()
    world.run_until(lambda: holder(world) == "ha2.example.net", 420.0)
    assert world.passes() == []


def test_the_second_home_agent_may_have_been_started_long_before_the_first() -> None:
    world = pair()
    world.run(1000.0)
    world.agents[0].crash()
    world.agents[0].start()
    world.bind("office").run(10.0)
    world.agents[0].crash()
    world.laptop.refresh()
    world.run_until(lambda: holder(world) == "ha2.example.net", 60.0)
    assert world.passes() == []


def test_when_the_first_home_agent_is_back_the_mobile_node_stays_bound() -> None:
    world = pair()
    world.agents[0].crash()
    world.plug("eth0", "office")
    world.run_until(world.is_bound, 30.0)
    world.agents[0].start()
    for _ in range(30):
        world.run(60.0)
        assert world.laptop.node.summary() == ("bound", None)
    assert world.passes() == []


def test_a_home_agent_that_was_renumbered_is_followed_through_dns() -> None:
    """It answers at other addresses, and its name says so; the old ones are dead."""
    world = World(agent=BY_NAME)
    other = replace(AGENTS[0], ipv6=IPv6Address("2001:db8:99::dead"), ipv4=IPv4Address("203.0.113.254"))
    good, world.dns.home_agents = world.dns.home_agents, (other,)
    world.law.home_agent_addresses |= {IPv6Address("2001:db8:99::dead"), IPv4Address("203.0.113.254")}
    world.plug("eth0", "office").run(60.0)
    world.dns.home_agents = good
    world.run_until(world.is_bound, 70.0)


@pytest.mark.requirement("R010")
def test_a_home_agent_without_an_ipv4_address_is_asked_for_at_a_bounded_rate_on_an_ipv4_link() -> None:
    world = World(agent=BY_NAME)
    world.dns.home_agents = (replace(AGENTS[0], ipv4=None),)
    world.plug("eth0", "hotel").run(60.0)
    assert len(world.dns.asked) <= 10


@pytest.mark.requirement("R010")
def test_an_ipv4_address_that_is_added_to_the_name_of_the_home_agent_is_found() -> None:
    world = World(agent=BY_NAME)
    world.dns.home_agents = (replace(AGENTS[0], ipv4=None),)
    world.dns.delay = 2.0
    world.plug("eth0", "hotel").run(60.0)
    assert world.laptop.node.summary()[0] == "no-network"
    world.dns.home_agents = AGENTS[:1]
    world.run_until(world.is_bound, 70.0)
    assert world.passes() == []


def test_after_a_long_outage_of_everything_losing_one_link_leaves_the_other_one_in_use() -> None:
    world = World().bind("office").plug("wlan0", "hotel").run(1.0)
    world.agent.crash()
    world.laptop.refresh()
    world.run(40.0)
    world.agent.start()
    place = world.laptop.node.target
    assert place is not None
    world.unplug(place.attachment.interface).run(0.1)
    world.run_until(world.is_bound, 35.0)


@pytest.mark.xfail(
    strict=True,
    reason="memory does not hold which home agent has the binding: the first of the list is asked, sees that "
    "the other one defends the home address, refuses with 134, and the mobile node gives up for ever",
)
@pytest.mark.parametrize("remember", [True, False])
def test_a_mobile_node_that_restarts_while_the_second_home_agent_serves_it_is_bound_again(
    remember: bool,
) -> None:
    world = pair()
    world.agents[0].crash()
    world.plug("eth0", "office")
    world.run_until(world.is_bound, 30.0)
    world.agents[0].start()
    world.laptop.crash()
    world.laptop.start(remember=remember)
    world.run(30.0)
    assert world.is_bound()
    assert world.laptop.node.summary() == ("bound", None)


@pytest.mark.xfail(
    strict=True,
    reason="a home agent left without a goodbye keeps its binding, defends the home addresses with it "
    "after a restart, and takes the traffic of the one that serves the mobile node now",
)
def test_a_home_agent_that_comes_back_with_an_old_binding_does_not_take_the_traffic() -> None:
    world = pair().bind("office").run(5.0)
    world.agents[0].crash()
    world.laptop.refresh()
    world.run_until(lambda: holder(world) == "ha2.example.net", 60.0)
    world.agents[0].start()
    world.run(5.0)
    assert world.passes() == []


@pytest.mark.xfail(
    strict=True,
    reason="coming home, the mobile node says goodbye to one home agent only; the other goes on defending",
)
def test_who_comes_home_says_goodbye_to_every_home_agent_that_may_have_a_binding() -> None:
    world = pair().bind("office").run(5.0)
    world.agents[0].crash()
    world.laptop.refresh()
    world.run_until(lambda: holder(world) == "ha2.example.net", 60.0)
    world.agents[0].start()
    world.plug("eth0", "home").run(10.0)
    assert world.is_home()
    assert world.passes() == []


def test_two_mobile_nodes_may_be_at_two_home_agents_and_still_reach_each_other() -> None:
    world = World(mobile_nodes=("laptop", "tablet"), home_agents=2, agent=BY_SERVICE).bind("office")
    world.dns.home_agents = AGENTS[::-1]
    world.bind("hotel", node=world.tablet)
    assert (holder(world), holder(world, world.tablet)) == ("ha1.example.net", "ha2.example.net")
    assert world.passes() == []
    assert world.passes(world.tablet) == []


def test_while_the_other_home_agent_is_tried_payload_goes_on_through_the_present_one() -> None:
    """Only IPv6 to the home agent is broken: the present binding, over IPv4, carries on."""
    world = World().weather("town", Weather(cut=V6)).plug("eth0", "town")
    world.run_until(world.is_bound, 20.0)
    stream = Stream(world, world.laptop, 0.5).start()
    world.run(700.0)
    stream.stop()
    world.run(1.0)
    assert {which: stream.lost(which) for which in stream.sent} == dict.fromkeys(stream.sent, 0)
    assert world.agent.binding(LAPTOP6) is not None
