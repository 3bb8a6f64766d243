"""Paths that carry Binding Updates and no payload, or not all of it: noticed, left, remembered."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address

import pytest

from mn_agent.actions import ConfigureKernel, SendControl
from mn_agent.events import PathSilent
from movement.snapshot import DefaultRouter, Link, LinkAddress
from tests.machines.mobile_node_script import CAFE4, MOBILE4, OFFICE6, Script, Sent
from tunnel.path import Encapsulation, TunnelPath
from wire.mobility import UpdateFlag
from wire.vendor import path_mtu_in

DAY = 86400.0
ROUTER = bytes.fromhex("020000000001")


def network(*addresses: IPv4Address | IPv6Address, name: str = "eth0", losses: int = 0) -> Link:
    """A link to a network that is recognised when it is met again."""
    gateways = {4: IPv4Address("192.0.2.1"), 6: IPv6Address("fe80::1")}
    routers = tuple(
        DefaultRouter(version, gateways[version], 100, ROUTER)
        for version in sorted({address.version for address in addresses})
    )
    own = tuple(LinkAddress(a, 24 if a.version == 4 else 64) for a in addresses)
    return Link(2 if name == "eth0" else 3, name, True, 1500, own, routers, carrier_losses=losses)


def unrecognised(link: Link) -> Link:
    """The same before the link-layer address of its router is known."""
    return replace(link, routers=tuple(replace(router, hardware=None) for router in link.routers))


def gone(losses: int) -> Link:
    return Link(2, "eth0", False, 1500, carrier_losses=losses)


def run(script: Script, seconds: float, **answer: object) -> list[Sent]:
    """Let time pass with a home agent that accepts every update at once; the updates."""
    until, updates = script.now + seconds, list[Sent]()
    while (due := script.node.deadline()) is not None and due.at <= until:
        script.sleep()
        updates += script.sent
        for sent in script.sent:
            forced = UpdateFlag.FORCE_UDP in sent.update.flags
            script.answer(sent, force_udp=forced, **answer)  # type: ignore[arg-type]
    script.now = until
    return updates


def is_forced(sent: Sent) -> bool:
    return UpdateFlag.FORCE_UDP in sent.update.flags


def not_plain(path: TunnelPath, size: int) -> bool:
    return path.encapsulation is not Encapsulation.IP_IN_IP


def up_to(octets: int) -> Callable[[TunnelPath, int], bool]:
    return lambda path, size: size + path.overhead <= octets


def test_a_sound_path_costs_two_packets_and_no_timer() -> None:
    script = Script()
    script.bind(network(MOBILE4))
    assert [probe.size for probe in script.probes] == [128, 1480]
    due = script.node.deadline()
    assert due is not None
    assert due.reason == "binding refresh"


def test_where_ip_in_ip_is_dropped_payload_is_in_udp_within_three_seconds() -> None:
    script = Script()
    script.passes = not_plain
    assert not is_forced(script.bind(network(MOBILE4)))
    (update,) = run(script, 3.0)
    assert is_forced(update)
    assert script.path.encapsulation is Encapsulation.UDP
    assert run(script, 60.0) == []


def test_that_udp_is_needed_is_remembered_for_the_network_for_a_day() -> None:
    script = Script()
    script.passes = not_plain
    script.bind(network(MOBILE4))
    run(script, 3.0)
    script.links(gone(1))
    assert is_forced(script.bind(network(MOBILE4, losses=2), force_udp=True))
    assert script.path.encapsulation is Encapsulation.UDP
    script.links(gone(3))
    script.now += DAY
    script.node.tick(script.now)
    assert not is_forced(script.bind(network(MOBILE4, losses=4)))


def test_a_network_that_is_recognised_late_is_asked_for_udp_at_every_visit() -> None:
    script = Script()
    script.passes = not_plain
    script.bind(network(MOBILE4))
    run(script, 3.0)
    for visit in (1, 2):
        script.links(gone(2 * visit - 1))
        script.bind(network(OFFICE6, losses=2 * visit))
        script.now += 10.0
        there = network(MOBILE4, losses=2 * visit)
        assert not is_forced(script.bind(unrecognised(there)))
        script.now += 0.01
        script.links(there)
        assert [is_forced(sent) for sent in run(script, 0.5)] == [True]
        assert script.path.encapsulation is Encapsulation.UDP


def test_where_protocol_41_is_dropped_payload_goes_over_ipv4_and_does_so_from_the_start_next_time() -> None:
    script = Script()
    script.passes = lambda path, size: path.local.version == 4
    first = script.bind(network(OFFICE6, CAFE4))
    assert first.action.care_of == OFFICE6
    (update,) = run(script, 3.0, refresh=110)
    assert update.action.care_of == CAFE4
    assert script.path.local == CAFE4
    assert all(sent.action.care_of == CAFE4 for sent in run(script, 400.0, refresh=110)), "it does not flap"
    script.links(gone(1))
    again = script.bind(network(OFFICE6, CAFE4, losses=2), refresh=110)
    assert again.action.care_of == CAFE4


def test_a_path_that_goes_bad_is_noticed_by_its_silence() -> None:
    script = Script()
    script.bind(network(MOBILE4))
    script.passes = not_plain
    script.now += 20.0
    script.feed(PathSilent())
    script.answer(script.one())
    (update,) = run(script, 1.2)
    assert is_forced(update)
    assert script.path.encapsulation is Encapsulation.UDP


def test_payload_that_a_nat_has_given_another_port_than_the_update_is_healed_by_the_next_update() -> None:
    """Two processors, two packets, one flow: Linux can keep both mappings, one for each direction."""
    script = Script()
    script.passes = lambda path, size: False
    script.bind(network(CAFE4), refresh=110)
    before = len(script.all_actions)
    script.passes = lambda path, size: any(isinstance(a, SendControl) for a in script.all_actions[before:])
    (update,) = run(script, 1.0, refresh=110)
    assert update.action.care_of == CAFE4
    assert script.node.paths.verified


def test_a_home_agent_that_answers_no_probe_keeps_its_mobile_node_where_it_was() -> None:
    script = Script()
    script.passes = lambda path, size: False
    script.bind(network(OFFICE6, CAFE4))
    tried = [sent.action.care_of for sent in run(script, 10.0, refresh=110)]
    assert tried == [CAFE4, CAFE4, OFFICE6], "each way once, that behind a NAT by two updates, then back"
    assert script.node.paths.resigned
    assert all(sent.action.care_of == OFFICE6 for sent in run(script, 3600.0, refresh=110))
    assert len(script.probes) < 300


def test_a_home_agent_that_does_not_force_udp_leaves_it_as_it_is() -> None:
    script = Script()
    script.passes = not_plain
    script.bind(network(MOBILE4))
    script.sleep()
    while not script.sent:
        script.sleep()
    assert is_forced(script.one())
    script.answer(script.one(), status=144)
    assert not is_forced(script.one())
    script.answer(script.one())
    assert script.path.encapsulation is Encapsulation.IP_IN_IP
    assert run(script, 200.0) == []
    assert script.node.paths.resigned


def test_when_the_path_works_again_that_is_noticed() -> None:
    script = Script()
    script.passes = lambda path, size: False
    script.bind(network(MOBILE4))
    run(script, 10.0)
    assert script.node.paths.resigned
    script.passes = lambda path, size: True
    run(script, 700.0)
    assert not script.node.paths.resigned


@pytest.mark.parametrize("most", [1492, 1452, 1400, 1360, 1300, 1280])
@pytest.mark.parametrize("care_of", [MOBILE4, CAFE4, OFFICE6])
def test_a_black_hole_of_sizes_makes_the_path_narrower_at_both_ends_within_a_second(
    care_of: IPv4Address | IPv6Address, most: int
) -> None:
    script = Script()
    script.passes = up_to(most)
    refresh = 110 if care_of == CAFE4 else 0xFFFFFFFF
    script.bind(network(care_of), refresh=refresh)
    (update,) = run(script, 1.0, refresh=refresh)
    assert path_mtu_in(update.update.options) == most
    assert script.path.link_mtu == most
    kernel = [action.config for action in script.all_actions if isinstance(action, ConfigureKernel)][-1]
    assert kernel.mtu == max(1280, script.path.inner_mtu)
    assert run(script, 60.0, refresh=refresh) == []


def test_a_narrow_network_is_remembered_and_gets_another_chance_after_a_day() -> None:
    script = Script()
    script.passes = up_to(1400)
    script.bind(network(MOBILE4))
    run(script, 1.0)
    script.links(gone(1))
    update = script.bind(network(MOBILE4, losses=2))
    assert path_mtu_in(update.update.options) == 1400
    assert script.path.link_mtu == 1400
    script.passes = up_to(1500)
    run(script, DAY + 400.0)
    assert script.path.link_mtu == 1500
    assert script.node.limits.in_force == {}


def test_nothing_is_said_where_packets_are_as_large_as_anybody_expects() -> None:
    script = Script()
    assert path_mtu_in(script.bind(network(MOBILE4)).update.options) is None


def test_an_extension_that_the_home_agent_does_not_know_is_not_sent_again() -> None:
    script = Script()
    script.passes = up_to(1400)
    script.node.enquiries.may_extend = False
    script.bind(network(MOBILE4))
    updates = run(script, 60.0)
    assert all(path_mtu_in(sent.update.options) is None for sent in updates)
    assert len(updates) <= 1
    assert script.path.link_mtu == 1400, "what leaves here is small enough all the same"
