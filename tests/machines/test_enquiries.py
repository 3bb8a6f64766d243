"""What the mobile node asks in ICMPv6, what it believes, and what it merely shows."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

import pytest

from mn_agent.actions import AskDns, KeepUnderlays, SendControl, SendIcmp
from mn_agent.anycast_discovery import AnycastDiscovery
from mn_agent.binding_update_list import HomeAgent
from mn_agent.events import ControlReceived
from mn_agent.status import Clocks, status
from movement.snapshot import DefaultRouter, Link, LinkAddress
from runtime.settings import ConfigError
from tests.machines.mobile_node_script import (
    AGENT,
    AGENT4,
    AGENT6,
    CAFE4,
    CAMPUS6,
    HOME6,
    MOBILE4,
    OFFICE6,
    Script,
    Sent,
    configuration,
    link,
)
from tunnel.envelope import ControlPacket, OpenedControl, open_control, seal_control
from tunnel.path import Arrival
from tunnel.plane import Counters
from wire.icmp import (
    HomeAgentDiscoveryReply,
    HomeAgentDiscoveryRequest,
    IcmpMessage,
    MobilePrefixAdvertisement,
    MobilePrefixSolicitation,
    ParameterProblem,
    PrefixInformation,
    decode_icmp6,
    encode_icmp6,
)
from wire.ip import PROTOCOL_ICMPV6, IPv6Header
from wire.mobility import BindingError
from wire.profile import RFC5555
from wire.vendor import interruption_in

ANYCAST = IPv6Address("2001:db8:99:0:fdff:ffff:ffff:fffe")
OTHER6 = IPv6Address("2001:db8:99::3")
STRANGER = IPv6Address("2001:db8:bad::1")
OFFICE, CAFE, MOBILE = link("eth0", OFFICE6), link("eth0", CAFE4), link("eth0", MOBILE4)
BY_PREFIX = 'prefix = "2001:db8:99::/64"'
FOR_EVER = 0xFFFFFFFF


def asked(script: Script) -> list[tuple[SendIcmp, IcmpMessage]]:
    """The plain ICMPv6 messages of the last event."""
    found = []
    for action in script.actions:
        if isinstance(action, SendIcmp) and action.packet[6] == PROTOCOL_ICMPV6:
            header = IPv6Header.decode(action.packet)
            message = decode_icmp6(action.packet[40:], header.source, header.destination)
            found.append((action, message))
    return found


def tell(script: Script, message: IcmpMessage, source: IPv6Address, to: IPv6Address) -> Script:
    """An ICMPv6 message arrives that nothing protects."""
    octets = encode_icmp6(message, source, to)
    packet = IPv6Header(source, to, PROTOCOL_ICMPV6, len(octets)).encode() + octets
    return script.feed(ControlReceived(packet, Arrival(to, source)))


def solicited(script: Script) -> tuple[SendIcmp, ControlPacket]:
    """The one protected solicitation of the last event."""
    (action,) = [a for a in script.actions if isinstance(a, SendIcmp)]
    opened = open_control(action.packet, {0x1001: script.agent_opener}, RFC5555)
    assert isinstance(opened, OpenedControl)
    assert opened.spi == 0x1001
    assert isinstance(opened.packet.message, MobilePrefixSolicitation)
    return action, opened.packet


def advertise(
    script: Script,
    to: ControlPacket,
    *,
    identifier: int | None = None,
    valid: int = 3600,
    preferred: int = 1800,
    prefix: str = "2001:db8:99::",
    source: IPv6Address = AGENT6,
    protect: bool = True,
    routed: bool = True,
) -> Script:
    assert isinstance(to.message, MobilePrefixSolicitation)
    information = PrefixInformation(IPv6Address(prefix), 64, True, True, False, valid, preferred)
    number = to.message.identifier if identifier is None else identifier
    message = MobilePrefixAdvertisement(number, False, False, (information,))
    packet = ControlPacket(source, to.source, message, routing_home_address=HOME6 if routed else None)
    octets = seal_control(packet, script.agent_sealer if protect else None, RFC5555)
    return script.feed(ControlReceived(octets, Arrival(to.source, source)))


def shown(script: Script) -> dict[str, object]:
    return status(script.node, Counters(0, 0, 0, 0, {}), "esp", "0.1.0", Clocks(script.now, 0.0))


def health(script: Script) -> set[str]:
    items = shown(script)["health"]
    assert isinstance(items, list)
    return {item["code"] for item in items}


# ---- home agents by anycast -----------------------------------------------------------------
@pytest.mark.requirement("R008")
def test_on_an_ipv6_link_the_anycast_address_of_the_home_agents_is_asked() -> None:
    script = Script(configuration(agent=BY_PREFIX))
    script.links(OFFICE)
    ((action, request),) = asked(script)
    assert (action.care_of, action.remote) == (OFFICE6, ANYCAST)
    assert isinstance(request, HomeAgentDiscoveryRequest)
    assert KeepUnderlays(script.node.attachments) in script.actions
    assert script.node.summary() == ("resolving", "asking for home agents by anycast, from IPv6 links")
    tell(script, HomeAgentDiscoveryReply(request.identifier, (AGENT6, OTHER6)), AGENT6, OFFICE6)
    assert script.one().packet.destination == AGENT6
    script.answer(script.one())
    assert script.state == "bound"
    assert [agent.ipv6 for agent in script.node.discovery.home_agents] == [AGENT6, OTHER6]
    agent = shown(script)["home_agent"]
    assert isinstance(agent, dict)
    assert agent["source"] == "anycast"


@pytest.mark.requirement("R008", "R010")
def test_on_links_without_ipv6_nothing_is_asked_by_anycast_and_dns_is_the_way() -> None:
    script = Script(configuration(agent=f'{BY_PREFIX}\nname = "ha.example.net"'))
    for place in (CAFE, MOBILE):
        script.links(place)
        assert asked(script) == []
        assert [a for a in script.actions if isinstance(a, AskDns)]
    script.found(AGENT)
    assert script.one().action.remote == AGENT4
    alone = Script(configuration(agent=BY_PREFIX))
    alone.links(CAFE).nothing()
    assert asked(alone) == []
    assert alone.node.deadline() is None


@pytest.mark.requirement("R008", "R010")
def test_beside_a_name_both_are_asked_and_what_dns_says_comes_first() -> None:
    script = Script(configuration(agent=f'{BY_PREFIX}\nname = "ha.example.net"'))
    script.links(OFFICE)
    ((_, request),) = asked(script)
    assert isinstance(request, HomeAgentDiscoveryRequest)
    tell(script, HomeAgentDiscoveryReply(request.identifier, (OTHER6,)), OTHER6, OFFICE6)
    assert script.one().packet.destination == OTHER6, "the first answer will do"
    script.found(AGENT, HomeAgent("ha2.example.net", OTHER6, IPv4Address("203.0.113.3")))
    assert [agent.name for agent in script.node.discovery.home_agents] == [
        "ha.example.net",
        "ha2.example.net",
    ]


def test_it_asks_four_times_with_a_doubled_pause_and_then_says_so() -> None:
    script = Script(configuration(agent=BY_PREFIX))
    script.links(OFFICE)
    ((_, first),) = asked(script)
    for at in (3.0, 9.0, 21.0):
        script.at(at).wakes("home agent discovery")
        ((_, again),) = asked(script)
        assert again == first
    script.at(45.0).wakes("home agent discovery")
    assert asked(script) == []
    assert "anycast" in health(script)
    script.at(105.0).wakes("home agent discovery again")
    assert len(asked(script)) == 1


def test_after_a_move_it_asks_from_the_new_address_and_takes_no_answer_to_the_old_one() -> None:
    script = Script(configuration(agent=BY_PREFIX))
    script.links(OFFICE)
    ((_, old),) = asked(script)
    script.at(1.0).links(link("eth0", CAMPUS6))
    ((action, new),) = asked(script)
    assert action.care_of == CAMPUS6
    assert isinstance(old, HomeAgentDiscoveryRequest)
    assert isinstance(new, HomeAgentDiscoveryRequest)
    tell(script, HomeAgentDiscoveryReply(old.identifier, (AGENT6,)), AGENT6, OFFICE6).nothing()
    tell(script, HomeAgentDiscoveryReply(new.identifier, (AGENT6,)), AGENT6, CAMPUS6)
    assert script.one().packet.source == CAMPUS6


def test_replies_that_answer_nothing_or_name_nothing_usable_are_counted_and_no_more() -> None:
    script = Script(configuration(agent=BY_PREFIX))
    script.links(OFFICE)
    ((_, request),) = asked(script)
    assert isinstance(request, HomeAgentDiscoveryRequest)
    for reply in (
        HomeAgentDiscoveryReply(request.identifier ^ 1, (AGENT6,)),
        HomeAgentDiscoveryReply(request.identifier, ()),
        HomeAgentDiscoveryReply(request.identifier, (STRANGER, HOME6, ANYCAST)),
    ):
        tell(script, reply, AGENT6, OFFICE6).nothing()
    assert script.node.drops["home-agent-discovery-unasked"] == 3
    assert script.node.discovery.home_agents == ()
    tell(script, HomeAgentDiscoveryReply(request.identifier, (AGENT6,)), AGENT6, OFFICE6)
    tell(script, HomeAgentDiscoveryReply(request.identifier, (OTHER6,)), AGENT6, OFFICE6)
    assert [agent.ipv6 for agent in script.node.discovery.home_agents] == [AGENT6], (
        "it is not asking any more"
    )


def test_on_the_home_link_it_asks_from_its_other_address() -> None:
    slaac = IPv6Address("2001:db8:99::1234")
    router = DefaultRouter(6, IPv6Address("fe80::1"), 100)
    script = Script(configuration(agent=BY_PREFIX))
    script.links(Link(2, "eth0", True, 1500, (LinkAddress(slaac, 64),), (router,)))
    ((action, request),) = asked(script)
    assert action.care_of == slaac
    assert isinstance(request, HomeAgentDiscoveryRequest)
    tell(script, HomeAgentDiscoveryReply(request.identifier, (AGENT6,)), AGENT6, slaac)
    assert script.one().packet.source == HOME6


def test_a_mobile_router_looks_for_home_agents_of_mobile_routers() -> None:
    from random import Random

    for wanted in (True, False):
        discovery = AnycastDiscovery(configuration(agent=BY_PREFIX).home_prefix, HOME6, wanted, Random(1))
        script = Script(configuration(agent=BY_PREFIX))
        script.links(OFFICE)
        discovery.network_changed(script.node.attachments, 0.0)
        (question,) = discovery.tick(0.0)
        assert question.request.mobile_router is wanted


def test_the_prefix_is_the_home_prefix_and_has_an_anycast_address() -> None:
    for wrong in (
        'prefix = "2001:db8:98::/64"',
        'prefix = "2001:db8::/32"',
        f'{BY_PREFIX}\nipv6 = "2001:db8:99::2"',
    ):
        with pytest.raises(ConfigError):
            configuration(agent=wrong)


# ---- home prefixes --------------------------------------------------------------------------
@pytest.mark.requirement("R018")
def test_status_1_makes_it_ask_for_the_home_prefix_under_protection() -> None:
    script = Script()
    script.bind(OFFICE, status=1)
    assert script.state == "bound"
    action, packet = solicited(script)
    assert (action.care_of, action.remote) == (OFFICE6, AGENT6)
    assert (packet.source, packet.destination, packet.home_address_option) == (OFFICE6, AGENT6, HOME6)
    advertise(script.at(0.1), packet)
    home = shown(script)["home"]
    assert isinstance(home, dict)
    assert home["prefix"] == {"prefix": "2001:db8:99::/64", "valid_s": 3600.0, "preferred_s": 1800.0}
    assert script.reports("prefix")


@pytest.mark.requirement("R017", "R018")
@pytest.mark.parametrize(("place", "refresh"), [(MOBILE, FOR_EVER), (CAFE, 110)])
def test_without_ipv6_the_solicitation_goes_through_the_tunnel_with_the_home_address_twice(
    place: Link, refresh: int
) -> None:
    script = Script()
    script.bind(place, status=1, refresh=refresh)
    action, packet = solicited(script)
    assert (action.remote, action.port) == (AGENT4, 4191)
    assert (packet.source, packet.home_address_option) == (HOME6, HOME6)
    advertise(script, packet, routed=False)
    assert script.node.enquiries.prefixes.home is not None


def test_a_solicitation_is_repeated_with_a_doubled_pause_until_there_is_an_answer() -> None:
    script = Script()
    script.bind(OFFICE, status=1)
    _, first = solicited(script)
    for at in (3.0, 9.0, 21.0):
        script.at(at).wakes("mobile prefix solicitation")
        _, again = solicited(script)
        assert again.message == first.message
    advertise(script, first)
    due = script.node.deadline()
    assert due is not None
    assert due.reason != "mobile prefix solicitation"


def test_with_plain_acceptance_nothing_is_asked() -> None:
    script = Script()
    script.bind(OFFICE)
    assert not [a for a in script.all_actions if isinstance(a, SendIcmp)]


def test_only_a_protected_answer_of_the_home_agent_to_what_was_asked_is_believed() -> None:
    script = Script()
    script.bind(OFFICE, status=1)
    _, packet = solicited(script)
    assert isinstance(packet.message, MobilePrefixSolicitation)
    advertise(script, packet, protect=False)
    advertise(script, packet, source=STRANGER)
    advertise(script, packet, routed=False)
    advertise(script, packet, identifier=packet.message.identifier ^ 1)
    assert script.node.enquiries.prefixes.home is None
    assert script.node.drops["prefix-advertisement-unasked"] == 1
    advertise(script, packet)
    assert script.node.enquiries.prefixes.home is not None


def test_an_advertisement_that_nobody_asked_for_is_thrown_away_and_makes_it_ask() -> None:
    script = Script()
    script.bind(OFFICE, status=1)
    _, packet = solicited(script)
    advertise(script, packet)
    advertise(script.at(1.0), packet, identifier=77, valid=8)
    home = script.node.enquiries.prefixes.home
    assert home is not None
    assert home.valid_until == pytest.approx(3600.0)
    solicited(script)


def test_no_binding_outlives_the_home_address() -> None:
    script = Script()
    script.bind(OFFICE, status=1)
    _, packet = solicited(script)
    advertise(script, packet, valid=100, preferred=0)
    assert "home-prefix-ends" in health(script)
    script.at(20.0).links(CAFE)
    assert script.one().update.lifetime == 80


def test_it_asks_again_before_the_prefix_is_deprecated_and_never_if_that_never_happens() -> None:
    script = Script()
    script.bind(OFFICE, status=1)
    _, packet = solicited(script)
    advertise(script, packet, valid=100_000, preferred=10_000)
    assert script.node.enquiries.deadline() is not None
    assert script.node.enquiries.deadline().at == pytest.approx(8000.0)  # type: ignore[union-attr]
    other = Script()
    other.bind(OFFICE, status=1)
    _, packet = solicited(other)
    advertise(other, packet, valid=FOR_EVER, preferred=FOR_EVER)
    assert other.node.enquiries.deadline() is None


def test_a_foreign_prefix_says_nothing_about_home() -> None:
    script = Script()
    script.bind(OFFICE, status=1)
    _, packet = solicited(script)
    advertise(script, packet, prefix="2001:db8:98::")
    assert script.node.enquiries.prefixes.home is None


# ---- complaints -----------------------------------------------------------------------------
def complaint(script: Script, sent: Sent, code: int, source: IPv6Address = AGENT6) -> Script:
    quoted = sent.action.packet[:200]
    return tell(script, ParameterProblem(code, 6, quoted), source, OFFICE6)


def test_complaints_about_our_messages_are_shown_for_a_while_and_change_nothing() -> None:
    script = Script()
    script.links(OFFICE)
    before, sent = script.node.registration.state, script.one()
    for code in (1, 2):
        complaint(script, sent, code).nothing()
        assert [report.fields["text"] for report in script.reports("complaint")]
        complaint(script, sent, code).nothing()
        assert script.reports("complaint") == [], "said once"
    assert script.node.registration.state == before
    assert "complaint" in health(script)
    script.answer(sent)
    assert script.state == "bound"
    assert "complaint" not in health(script), "an authentic answer is the better word"


def test_a_complaint_never_ends_a_binding_and_is_forgotten() -> None:
    script = Script()
    sent = script.bind(OFFICE)
    binding = script.node.registration.binding
    complaint(script.at(1.0), sent, 1)
    assert script.node.registration.binding is binding
    assert "complaint" in health(script)
    script.now = 301.5
    assert "complaint" not in health(script)


@pytest.mark.parametrize("code", [0, 1, 2, 3])
def test_complaints_of_others_or_about_other_packets_are_nothing(code: int) -> None:
    script = Script()
    sent = script.bind(OFFICE)
    complaint(script, sent, code, source=STRANGER).nothing()
    foreign = IPv6Header(STRANGER, AGENT6, 135, 8).encode() + bytes(8)
    tell(script, ParameterProblem(code, 6, foreign), AGENT6, OFFICE6).nothing()
    tell(script, ParameterProblem(code, 6, b""), AGENT6, OFFICE6).nothing()
    assert "complaint" not in health(script)


def test_damaged_and_unexpected_icmp_is_counted() -> None:
    script = Script()
    script.bind(OFFICE)
    tell(script, MobilePrefixSolicitation(1), AGENT6, OFFICE6)
    header = IPv6Header(AGENT6, OFFICE6, PROTOCOL_ICMPV6, 8).encode()
    script.feed(ControlReceived(header + bytes(8), Arrival(OFFICE6, AGENT6)))
    assert script.node.drops == {"icmp-unexpected": 1, "icmp-malformed": 1}


def test_a_home_agent_that_does_not_know_a_message_gets_nothing_but_what_the_rfcs_say() -> None:
    script = Script()
    sent = script.bind(OFFICE)
    error = ControlPacket(AGENT6, OFFICE6, BindingError(2, HOME6), routing_home_address=HOME6)
    binding = script.node.registration.binding
    script.receive(seal_control(error, script.agent_sealer, RFC5555), sent)
    assert script.reports("complaint")
    assert script.node.registration.binding is binding
    script.at(5.0).links()
    script.at(6.0).links(CAFE)
    assert interruption_in(script.one().update.options) is None


def test_only_updates_are_sent_as_updates() -> None:
    script = Script()
    script.bind(OFFICE, status=1)
    assert len([a for a in script.all_actions if isinstance(a, SendControl)]) == 1
