"""The stage itself: NATs and weather behave as they claim, runs repeat, and the law can be broken."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address
from random import Random

import pytest

from tests.internet.cast import LAPTOP6, MALLORY4
from tests.internet.nat import CONE, SYMMETRIC, Behaviour, Dependence, Nat
from tests.internet.timeline import Timeline, VirtualTimer
from tests.internet.weather import CHAOS, CUT, Datagram, Weather
from tests.internet.world import CAREFUL, Stream, World
from tunnel.forwarding import ForwardingTable, Route
from tunnel.path import Encapsulation, TunnelPath
from wire.ip import PROTOCOL_IPV6, PROTOCOL_UDP

INSIDE, OTHER_INSIDE = IPv4Address("10.0.0.5"), IPv4Address("10.0.0.6")
PUBLIC = IPv4Address("192.0.2.101")
SERVER, OTHER_SERVER = IPv4Address("203.0.113.2"), IPv4Address("203.0.113.3")


def out(source: IPv4Address = INSIDE, port: int = 5000, to: IPv4Address = SERVER, at: int = 4191) -> Datagram:
    return Datagram(source, to, PROTOCOL_UDP, b"x", port, at)


def back(port: int, source: IPv4Address = SERVER, at: int = 4191) -> Datagram:
    return Datagram(source, PUBLIC, PROTOCOL_UDP, b"y", at, port)


def nat(behaviour: Behaviour) -> Nat:
    return Nat(PUBLIC, Random(1), behaviour)


def mapped(box: Nat, datagram: Datagram, now: float = 0.0) -> int:
    translated = box.outbound(datagram, now)
    assert translated is not None
    assert translated.source == PUBLIC
    return translated.source_port


@pytest.mark.parametrize(("behaviour", "same"), [(CONE, True), (CAREFUL, True), (SYMMETRIC, False)])
def test_a_mapping_depends_on_the_remote_end_exactly_if_the_nat_is_symmetric(
    behaviour: Behaviour, same: bool
) -> None:
    box = nat(behaviour)
    assert (mapped(box, out()) == mapped(box, out(to=OTHER_SERVER))) is same
    assert (mapped(box, out()) == mapped(box, out(at=4500))) is same
    assert mapped(box, out()) == mapped(box, out())
    assert mapped(box, out()) != mapped(box, out(source=OTHER_INSIDE))


@pytest.mark.parametrize(
    ("filtering", "other_port", "stranger"),
    [
        (Dependence.ENDPOINT_INDEPENDENT, True, True),
        (Dependence.ADDRESS, True, False),
        (Dependence.ADDRESS_AND_PORT, False, False),
    ],
)
def test_a_filter_lets_in_what_it_says(filtering: Dependence, other_port: bool, stranger: bool) -> None:
    box = nat(Behaviour(filtering=filtering))
    port = mapped(box, out())
    inside = box.inbound(back(port), 1.0)
    assert inside is not None
    assert (inside.destination, inside.destination_port) == (INSIDE, 5000)
    assert (box.inbound(back(port, at=99), 1.0) is not None) is other_port
    assert (box.inbound(back(port, OTHER_SERVER), 1.0) is not None) is stranger
    assert box.inbound(back(port ^ 1), 1.0) is None


@pytest.mark.parametrize("inbound", [False, True])
def test_a_mapping_ends_without_traffic_and_the_next_one_has_another_port(inbound: bool) -> None:
    box = nat(Behaviour(timeout=30.0, refreshed_inbound=inbound))
    port = mapped(box, out(), 0.0)
    assert box.inbound(back(port), 20.0) is not None
    assert (box.inbound(back(port), 40.0) is not None) is inbound
    assert (mapped(box, out(), 45.0) == port) is inbound
    box.flush()
    assert mapped(box, out(), 45.0) != port
    assert len(box) == 1


def test_a_nat_knows_no_other_protocols_and_its_ports_can_run_out() -> None:
    box = nat(Behaviour(ports=range(2000, 2002)))
    assert box.outbound(replace(out(), protocol=PROTOCOL_IPV6), 0.0) is None
    assert {mapped(box, out(port=5000)), mapped(box, out(port=5001))} == {2000, 2001}
    assert box.outbound(out(port=5002), 0.0) is None
    assert box.outbound(out(port=5002), 500.0) is not None


def test_weather_does_what_it_says_in_the_share_that_it_says() -> None:
    rng, sent = Random(1), 4000
    datagram = Datagram(INSIDE, SERVER, PROTOCOL_UDP, bytes(20), 1, 2)
    fates = [Weather(0.1, 0.2, 0.3, 0.1, 0.05).fate(datagram, rng) for _ in range(sent)]
    arrived = [copy for fate in fates for copy in fate]
    assert len(arrived) == pytest.approx(sent * 0.7 * 1.1, rel=0.03)
    assert sum(one.damaged for _, one in arrived) == pytest.approx(0.05 * len(arrived), rel=0.25)
    assert all(0.1 <= delay <= 0.3 for delay, _ in arrived)
    assert CUT.fate(datagram, rng) == []
    assert Weather(blocked=frozenset({PROTOCOL_UDP})).fate(datagram, rng) == []
    assert Weather(cut=frozenset({6})).fate(datagram, rng) != []


def test_a_timer_rings_once_at_the_last_instant_that_it_was_armed_for_and_late_after_a_sleep() -> None:
    timeline, rings = Timeline(0.0), list[float]()
    timer = VirtualTimer(timeline, lambda: rings.append(timeline.now))
    timer.arm(5.0)
    timer.arm(3.0)
    while timeline.next_at() is not None:
        timeline.step()
    assert rings == [3.0]
    timer.asleep = True
    timer.arm(8.0)
    timeline.at(20.0, timer.resume)
    while timeline.next_at() is not None:
        timeline.step()
    assert rings == [3.0, 20.0]


def chaotic(seed: int) -> tuple[object, ...]:
    world = World(seed)
    for network in world.networks:
        world.weather(network, CHAOS)
    stream = Stream(world, world.laptop, 0.5).start()
    for network in ("office", "cafe", "mobile", "hotel"):
        world.plug("eth0", network).run(8.0)
    stream.stop()
    return world.laptop.driver.flight.records, tuple(world.internet.recorded), world.arrived


def test_the_same_seed_tells_the_same_story_to_the_last_octet_and_another_seed_another_one() -> None:
    assert chaotic(3) == chaotic(3)
    assert chaotic(3) != chaotic(4)


# ---- a law that cannot be broken is no law -----------------------------------------------------------
def bound() -> World:
    return World().bind("cafe")


def breach(world: World) -> str:
    """The article that is broken first within the next second."""
    with pytest.raises(AssertionError):
        world.run(1.0)
    return world.law.breaches[0].article


def test_the_law_notices_a_path_that_no_update_has_named() -> None:
    world = bound()
    path = TunnelPath(SERVER, MALLORY4, Encapsulation.UDP, 4191, 666)
    table = world.agent.plane.endpoint.table
    world.agent.plane.install(ForwardingTable(Route(r.prefix, path) for r in table.routes))
    world.agent.tell_law()
    assert breach(world) == "paths-are-authentic"


def test_the_law_notices_a_route_without_a_binding() -> None:
    world = bound()
    world.agent.plane.install(ForwardingTable())
    world.agent.tell_law()
    assert breach(world) == "table-is-bindings"


def test_the_law_notices_a_binding_that_comes_from_nowhere() -> None:
    world = bound()
    binding = world.binding()
    assert binding is not None
    forged = replace(binding, arrival=replace(binding.arrival, remote=MALLORY4))
    world.agent.node.books.cache.put(forged, world.now)
    world.agent.tell_law()
    assert breach(world) == "only-authentic-updates"


def test_the_law_notices_a_sequence_number_that_is_used_twice() -> None:
    world = bound()
    world.laptop.node.registration._next_sequence -= 1
    world.laptop.refresh()
    assert breach(world) == "sequences-are-newer"


def test_the_law_notices_a_home_agent_that_forgets_what_it_has_seen() -> None:
    world = bound()
    update = next(one for one in reversed(world.internet.recorded) if one.destination == SERVER)
    home = world.agent.node.nodes[LAPTOP6].home_address
    world.agent.node._associations._openers[0x1000 + (int(home) & 0xFF)].window.__init__()  # type: ignore[misc]
    world.inject(update)
    assert breach(world) == "no-replays"


def test_the_law_notices_payload_that_reaches_another_mobile_node() -> None:
    world = bound()
    number = world.call(world.laptop, 6)
    world.law.receivers[number] = "tablet"
    assert breach(world) == "payload-to-its-owner"


def test_the_law_notices_a_busy_loop_and_a_node_that_raises() -> None:
    world = bound()
    for _ in range(8):
        world.law.rang("laptop")
    assert breach(world) == "no-busy-loop"
    world = bound()
    world.laptop.node.registration.tick = None  # type: ignore[assignment, method-assign]
    world.laptop.refresh()
    assert breach(world) == "never-raises"


def test_the_law_notices_a_fourth_update_within_a_second() -> None:
    world = bound().run(5.0)
    for _ in range(4):
        world.laptop.node.registration._retransmission._sends.clear()
        world.laptop.node.registration.state = replace(world.laptop.node.registration.state)
        world.laptop.refresh()
        world.timeline.now += 0.1
    assert breach(world) == "three-updates-a-second"


def test_the_law_notices_an_answer_to_a_stranger_and_a_peer_that_is_not_the_home_agent() -> None:
    world = bound()
    binding = world.binding()
    assert binding is not None
    world.agent.send_answer(bytes(60), replace(binding.arrival, remote=MALLORY4))
    assert breach(world) == "no-reflection"
    world = bound()
    path = TunnelPath(IPv6Address("2001:db8:a::10"), IPv6Address("2001:db8::666"), Encapsulation.IP_IN_IP)
    prefix = world.laptop.plane.endpoint.table.routes[0].prefix
    world.law.routes_installed(world.laptop, (Route(prefix, path),))
    assert breach(world) == "only-the-home-agent"
