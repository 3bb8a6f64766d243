"""On a link with IPv6 only: the home agent's IPv4 address through a NAT64, as one candidate more."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, IPv6Network

import pytest

from mn_agent.actions import AskNat64, ConfigureKernel, KeepUnderlays
from mn_agent.events import Nat64Found, RouterSaid
from movement.translation import Translation
from tests.machines.mobile_node_script import AGENT4, CAMPUS6, MOBILE4, OFFICE6, Script, heard, link
from tunnel.path import Encapsulation
from wire.advertisement import WayOut
from wire.nat64 import STANCES
from wire.options import Ipv4CareOfAddress, first

TRAIN = link("eth0", OFFICE6)
PREFIX = IPv6Network("64:ff9b::/96")
SAID = RouterSaid("eth0", WayOut(None, (PREFIX,)))


def silent_ipv6() -> Script:
    """In the train, where the home agent answers through the NAT64 only."""
    script = Script(answers_echoes=False).links(TRAIN)
    script.one()
    script.at(0.01).feed(SAID).nothing()
    asked = {echo.attachment.care_of.version: echo for echo in script.echoes}
    assert asked[4].remote == AGENT4
    assert asked[4].attachment.through == Translation(OFFICE6, PREFIX)
    script.at(0.05).feed(heard(asked[4])).nothing()
    while not script.sent:
        script.sleep()
    return script


@pytest.mark.requirement("R029")
def test_ipv6_comes_first_and_the_nat64_is_only_a_standby() -> None:
    script = Script()
    script.bind(TRAIN)
    script.at(0.5).feed(SAID).nothing()
    assert script.path.local == OFFICE6
    assert [a.care_of.version for a in script.node.attachments] == [6, 4]


def test_where_ipv6_does_not_answer_the_update_leaves_through_the_nat64_as_from_ipv4() -> None:
    script = silent_ipv6()
    assert script.now < 0.3
    sent = script.one()
    option = first(sent.update.options, Ipv4CareOfAddress)
    assert option is not None
    assert option.address in STANCES
    assert sent.action.remote == AGENT4
    script.answer(sent, refresh=110)
    assert script.state == "bound"
    assert script.path.encapsulation is Encapsulation.UDP
    assert script.path.translated
    assert script.path.overhead + script.path.inner_mtu == 1480, "an IPv6 header is 20 octets longer"
    binding = script.node.registration.binding
    assert binding is not None
    assert binding.keepalive is not None


def test_the_stance_is_an_address_of_no_link() -> None:
    script = silent_ipv6()
    kernels = [action for action in script.all_actions if isinstance(action, ConfigureKernel)]
    assert not any(str(address) in repr(kernels) for address in STANCES)
    (underlays,) = [a for a in script.actions if isinstance(a, KeepUnderlays)]
    assert any(a.through is not None for a in underlays.attachments)


def test_another_ipv6_address_is_a_movement() -> None:
    script = silent_ipv6()
    script.answer(script.one(), refresh=110)
    before = script.path.local
    sent = script.at(script.now + 0.1).links(link("eth0", CAMPUS6)).one()
    script.answer(sent)
    script.at(script.now + 0.1).feed(SAID)
    assert {a.care_of for a in script.node.attachments if a.through is not None} != {before}


def test_beside_an_ipv4_address_there_is_no_need_of_a_nat64() -> None:
    script = Script().links(link("eth0", OFFICE6, MOBILE4))
    script.feed(SAID)
    assert [a.care_of for a in script.node.attachments] == [OFFICE6, MOBILE4]


def test_dns_is_asked_only_while_the_home_agent_is_silent_and_routers_say_nothing() -> None:
    script = Script().links(TRAIN)
    assert not any(isinstance(action, AskNat64) for action in script.actions)
    while not any(isinstance(action, AskNat64) for action in script.actions):
        script.sleep()
    assert script.now == 1.5
    script.feed(Nat64Found("eth0", (PREFIX,)))
    assert [a.care_of.version for a in script.node.attachments] == [6, 4]
    while script.now < 8.0:
        script.sleep()
    assert sum(isinstance(action, AskNat64) for action in script.all_actions) == 1


def test_of_two_links_dns_is_asked_about_neither() -> None:
    script = Script(answers_echoes=False).links(TRAIN, link("wlan0", CAMPUS6, index=3))
    while script.now < 8.0:
        script.sleep()
    assert not any(isinstance(action, AskNat64) for action in script.all_actions)


def test_a_network_that_was_left_takes_its_prefix_with_it() -> None:
    script = Script().links(TRAIN).feed(SAID)
    script.feed(RouterSaid("eth9", WayOut(None, (PREFIX,))))
    script.links(link("eth0", CAMPUS6))
    assert [a.care_of for a in script.node.attachments] == [CAMPUS6]


def test_six_moves_in_a_row_have_six_stances() -> None:
    script = Script()
    seen: list[IPv4Address] = []
    for number in range(6):
        script.at(script.now).links(link("eth0", IPv6Address(int(OFFICE6) + number)))
        script.feed(SAID)
        (stance,) = [a.care_of for a in script.node.attachments if a.through is not None]
        assert isinstance(stance, IPv4Address)
        assert stance in STANCES
        seen.append(stance)
    assert len(set(seen)) == 6
