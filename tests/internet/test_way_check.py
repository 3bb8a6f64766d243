"""`mnctl netcheck` with both ends real: what it finds of a link that is not in use. Nothing moves."""

from __future__ import annotations

import msgspec
import pytest

from mn_agent.events import Check
from mn_agent.netcheck import netcheck
from mn_agent.status import Clocks
from tests.internet.cast import PROTECTED
from tests.internet.mallory import to_home_agent
from tests.internet.weather import Weather
from tests.internet.world import Stream, World


def two_links(used: str, other: str, **more: str) -> World:
    """Bound through `used`, as the user wishes, with `other` beside it."""
    return World(**more).bind(used).plug("wlan0", other).run(3.0)  # type: ignore[arg-type]


def checked(world: World) -> dict[str, dict[str, object]]:
    """What is said of every interface, after a check."""
    world.laptop.tell(Check())
    world.run(4.0)
    node = world.laptop.node
    interfaces = netcheck(node, Clocks(world.now, 1_700_000_000.0))["interfaces"]
    assert isinstance(interfaces, list)
    return {one["interface"]: one for one in interfaces}


def unused(found: dict[str, dict[str, object]]) -> dict[str, object]:
    (one,) = (one for one in found.values() if one["verdict"] != "in-use")
    return one


@pytest.mark.parametrize("protection", [{}, {"protection": "option"}, {"more": PROTECTED}], ids=str)
@pytest.mark.parametrize("networks", [("office", "hotel"), ("hotel", "office"), ("mobile", "hotel")])
def test_the_home_agent_says_what_it_sees_of_the_other_link_and_no_payload_notices(
    networks: tuple[str, str], protection: dict[str, str]
) -> None:
    world = two_links(*networks, **protection)
    binding = world.binding()
    assert binding is not None
    stream = Stream(world, world.laptop, 0.01).start()
    found = unused(checked(world))
    stream.stop()
    world.run(1.0)
    assert [stream.lost(direction) for direction in stream.sent] == [0] * len(stream.sent)
    after = world.binding()
    assert after is not None
    assert (after.care_of, after.sequence) == (binding.care_of, binding.sequence)
    assert found["verdict"] == "ready"
    if found["ipv4"] is not None:
        assert found["udp_4191"] == "answers"
        nat = found["nat"]
        assert isinstance(nat, dict)
        place = world.laptop.network(str(found["interface"]))
        assert place is not None
        assert (nat["kind"] != "none") is (place.nat is not None)
    else:
        assert found["esp"] == ("unknown" if protection.get("protection") else "answers")


def nat_of(found: dict[str, object]) -> tuple[object, object]:
    nat = found["nat"]
    assert isinstance(nat, dict)
    return nat["kind"], nat["mapping"]


KINDS = {"cafe": "port-independent", "town": "port-independent", "hotel": "port-dependent"}
"""What the NATs of these networks do: full cone, port-restricted cone, symmetric."""
TRANSLATED = "address and port translation"


@pytest.mark.parametrize("protection", ["esp", "option"])
@pytest.mark.parametrize(("used", "other"), [("cafe", "hotel"), ("hotel", "cafe"), ("mobile", "town")])
def test_two_ports_of_the_home_agent_show_how_the_nat_of_either_link_maps(
    used: str, other: str, protection: str
) -> None:
    world = two_links(used, other, protection=protection)
    binding = world.binding()
    found = checked(world)
    for interface, network in (("eth0", used), ("wlan0", other)):
        kind = KINDS.get(network)
        assert nat_of(found[interface]) == (("none", "none") if kind is None else (TRANSLATED, kind))
    assert world.binding() == binding
    assert world.passes() == []


def test_a_home_agent_without_a_second_port_leaves_the_mapping_unknown_and_says_why() -> None:
    world = two_links("cafe", "hotel")
    world.agent.crash()
    section = msgspec.structs.replace(world.agent.configuration.home_agent, second_port="none")
    world.agent.configuration = msgspec.structs.replace(world.agent.configuration, home_agent=section)
    world.agent.start()
    for one in checked(world).values():
        nat = one["nat"]
        assert isinstance(nat, dict)
        assert nat["mapping"] == "unknown"
        assert "no second port" in nat["mapping_unknown_why"]


def test_what_is_filtered_there_is_silent() -> None:
    world = two_links("office", "hotel")
    world.weather("hotel", Weather(loss=1.0))
    assert unused(checked(world))["udp_4191"] == "silent"
    assert world.passes() == []


def test_a_recorded_question_is_worth_nothing() -> None:
    world = two_links("office", "hotel")
    world.internet.recorded.clear()
    checked(world)
    heard = [one for one in world.internet.recorded if to_home_agent(one)]
    assert heard
    binding = world.binding()
    for datagram in heard:
        world.inject(datagram)
        world.run(0.02)
    assert world.binding() == binding


def test_a_home_agent_that_has_lost_the_binding_makes_none_of_it() -> None:
    world = two_links("office", "hotel")
    world.agent.crash()
    world.agent.start(remember=False)
    world.laptop.tell(Check())
    world.run(0.5)
    assert world.binding() is None
