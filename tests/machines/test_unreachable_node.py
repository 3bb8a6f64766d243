"""`reachable = false`: a mapping that nobody needs is not kept, and payload after a pause waits for a Binding
Update that makes a new one (R095); and the IPv4 home address that is no longer wanted."""

from __future__ import annotations

import pytest

from mn_agent.actions import AskPathUse, SendAgain, SendControl
from mn_agent.events import PathLastUsed, PathSilent
from tests.machines.mobile_node_script import CAFE4, HOME6, MOBILE4, OFFICE6, Script, configuration, link
from tunnel.endpoint import Endpoint, EndpointConfig, Role
from tunnel.forwarding import ForwardingTable, peer_of
from tunnel.lane import Lane
from tunnel.path import HELD
from wire.ip import IPv6Header
from wire.options import Ipv4HomeAddress, first

CAFE, OFFICE, WLAN = link("eth0", CAFE4), link("eth0", OFFICE6), link("wlan0", MOBILE4, index=3)


def unreachable(**more: str) -> Script:
    return Script(configuration(more="[binding]\nreachable = false", **more))


def asleep() -> Script:
    """Behind a NAT, and nothing has been sent for longer than the mapping lasts."""
    script = unreachable()
    script.bind(CAFE, refresh=20)
    assert script.sleep() == "NAT keepalive"
    assert [a for a in script.actions if isinstance(a, AskPathUse)]
    return script.feed(PathLastUsed(0.0, 0.0)).nothing()


@pytest.mark.requirement("R095")
def test_when_nothing_was_sent_for_as_long_as_a_mapping_lasts_it_sends_nothing_and_holds_the_path() -> None:
    script = asleep()
    assert 18.0 <= script.now <= 20.0
    assert script.path.interface == HELD
    assert script.node.summary() == ("bound", "reached only after it has sent something")
    due = script.node.deadline()
    assert due is not None
    assert due.reason == "binding refresh", "nothing wakes it up before the binding ends"


@pytest.mark.requirement("R095")
def test_the_first_payload_after_that_waits_for_a_binding_update() -> None:
    script = asleep()
    script.at(100.0).feed(PathSilent())
    sent = script.one()
    assert sent.update.lifetime == 420
    assert script.path.interface == HELD, "the update goes first"
    script.at(100.1).answer(sent, refresh=20)
    assert script.path.interface == "eth0"
    (again,) = [a for a in script.actions if isinstance(a, SendAgain)]
    assert again.since == pytest.approx(99.5)
    assert script.node.summary() == ("bound", None)
    assert script.sleep() == "NAT keepalive"


@pytest.mark.requirement("R095")
def test_payload_both_ways_keeps_it_awake() -> None:
    script = unreachable()
    script.bind(CAFE, refresh=20)
    script.sleep()
    script.feed(PathLastUsed(script.now - 1.0, script.now - 1.5)).nothing()
    assert script.path.interface == "eth0"
    assert script.sleep() == "NAT keepalive"


@pytest.mark.requirement("R095")
def test_without_a_nat_there_is_nothing_to_give_up() -> None:
    for place in (OFFICE, WLAN):
        script = unreachable()
        script.bind(place)
        assert script.sleep() == "binding refresh"
        assert script.path.interface != HELD


def test_what_arrives_all_the_same_is_taken_in() -> None:
    """A NAT may remember longer than it has to."""
    script = asleep()
    endpoint = Endpoint(Role.MOBILE_NODE, EndpointConfig(), ForwardingTable(script.routes))
    packet = IPv6Header(OFFICE6, HOME6, 59, 0).encode()
    peer = peer_of(script.path.remote, 4191)
    assert endpoint.inbound(peer, packet) == packet
    lane = endpoint.outbound(IPv6Header(HOME6, OFFICE6, 59, 0).encode(), 1.0)
    assert isinstance(lane, Lane)
    assert lane.path.interface == HELD


def test_a_refresh_that_is_due_anyway_opens_the_path_as_well() -> None:
    script = asleep()
    assert script.sleep() == "binding refresh"
    assert script.path.interface == HELD
    script.answer(script.one(), refresh=20)
    assert script.path.interface == "eth0"


def test_a_lost_update_is_repeated_while_payload_waits() -> None:
    script = asleep()
    script.at(100.0).feed(PathSilent())
    script.at(100.15).wakes("binding update retry")
    assert script.path.interface == HELD
    script.at(100.3).answer(script.one(), refresh=20)
    (again,) = [a for a in script.actions if isinstance(a, SendAgain)]
    assert again.since == pytest.approx(99.5), "from the first packet on that had to wait"


def test_a_move_while_asleep_holds_payload_until_the_home_agent_has_answered() -> None:
    script = asleep()
    script.at(50.0).links(CAFE, WLAN)
    script.at(50.0).links(WLAN)
    sent = script.one()
    assert sent.action.care_of == MOBILE4
    script.at(50.1).answer(sent)
    assert script.path.interface == "wlan0"


def test_many_packets_cause_one_update() -> None:
    script = asleep()
    script.at(100.0).feed(PathSilent()).one()
    for _ in range(5):
        script.feed(PathSilent()).nothing()
    assert len([a for a in script.all_actions if isinstance(a, SendControl)]) == 2


# ---- the IPv4 home address is given up (RFC 5555 section 4.4.2.1) ---------------------------
@pytest.mark.requirement("R098")
@pytest.mark.parametrize("place", [CAFE, OFFICE, WLAN])
def test_without_an_ipv4_home_address_in_its_configuration_it_asks_for_none(place: object) -> None:
    """Then the home agent ends that binding and keeps the other one."""
    before = Script()
    before.links(place)  # type: ignore[arg-type]
    assert first(before.one().update.options, Ipv4HomeAddress) is not None
    after = Script(configuration(ipv4=""))
    after.links(place)  # type: ignore[arg-type]
    assert first(after.one().update.options, Ipv4HomeAddress) is None
    after.answer(after.one(), refresh=110)
    assert after.homes == {str(HOME6)}
    binding = after.node.registration.binding
    assert binding is not None
    assert [str(entry.home_address) for entry in binding.entries] == [str(HOME6)]
