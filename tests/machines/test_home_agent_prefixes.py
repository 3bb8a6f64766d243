"""The home agent on the home prefix: when it sends a mobile node asking, and what it answers."""

from __future__ import annotations

import random
from ipaddress import IPv4Address, IPv6Address, IPv6Network

import pytest

from home_agent.actions import SendControl
from home_agent.anycast import AnycastAnswers
from home_agent.events import ControlReceived
from home_agent.limits import TokenBuckets
from runtime.settings import ConfigError
from tests.machines.ha_script import (
    COA4,
    COA6,
    HA4,
    HA6,
    LAPTOP,
    LAPTOP4,
    NAT4,
    OTHER_COA6,
    HomeScript,
    configured,
    home4,
    over_ipv4,
    over_ipv6,
)
from tunnel.envelope import ControlPacket
from tunnel.path import Arrival
from wire.icmp import (
    HomeAgentDiscoveryReply,
    HomeAgentDiscoveryRequest,
    MobilePrefixAdvertisement,
    MobilePrefixSolicitation,
    decode_icmp6,
    encode_icmp6,
    home_agents_anycast,
)
from wire.mobility import BindingStatus, BindingUpdate
from wire.options import Ipv4AddressAck, first

ENDING = "prefix_preferred_lifetime = 100\nprefix_valid_lifetime = 200"
PREFIX = IPv6Network("2001:db8:99::/64")


def ending() -> HomeScript:
    return HomeScript(configured(home_link=ENDING))


def solicitation(ha: HomeScript, care_of: IPv6Address | None, identifier: int = 7) -> ControlReceived:
    """From an IPv6 care-of address, or (None) through the tunnel of an IPv4 link."""
    source = LAPTOP if care_of is None else care_of
    packet = ControlPacket(source, HA6, MobilePrefixSolicitation(identifier), home_address_option=LAPTOP)
    arrival = Arrival(HA4, COA4, 4191, 5000) if care_of is None else Arrival(HA6, care_of)
    return ControlReceived(ha.laptop.sealed(packet), arrival)


def advertised(ha: HomeScript) -> tuple[ControlPacket, MobilePrefixAdvertisement]:
    packet = ha.answered()
    assert isinstance(packet.message, MobilePrefixAdvertisement)
    return packet, packet.message


# ---- status 1 -------------------------------------------------------------------------------
@pytest.mark.requirement("R023")
def test_a_binding_that_outlasts_the_preferred_prefix_is_accepted_with_status_1() -> None:
    ha = ending()
    ha.feed(ha.laptop.native(over_ipv6(ha.laptop, lifetime=420)))
    ack = ha.answer()
    assert ack.status == BindingStatus.ACCEPTED_PREFIX_DISCOVERY
    assert ack.lifetime == 200, "and lasts no longer than the prefix is valid"
    ha.feed(ha.laptop.native(over_ipv6(ha.laptop, lifetime=80)))
    assert ha.answer().status == BindingStatus.ACCEPTED


def test_usually_the_prefix_outlasts_every_binding() -> None:
    ha = HomeScript()
    ha.feed(ha.laptop.native(over_ipv6(ha.laptop, lifetime=262140)))
    assert ha.answer().status == BindingStatus.ACCEPTED


def test_a_prefix_cannot_be_preferred_longer_than_valid() -> None:
    with pytest.raises(ConfigError, match="prefix_preferred_lifetime"):
        configured(home_link="prefix_valid_lifetime = 100")


# ---- advertisements -------------------------------------------------------------------------
@pytest.mark.requirement("R018")
def test_a_solicitation_is_answered_with_the_home_prefix_under_protection_and_a_routing_header() -> None:
    ha = ending()
    ha.feed(ha.laptop.native(over_ipv6(ha.laptop)))
    ha.feed(solicitation(ha, COA6))
    packet, message = advertised(ha)
    assert (packet.source, packet.destination, packet.routing_home_address) == (HA6, COA6, LAPTOP)
    (information,) = message.prefixes
    assert message.identifier == 7
    assert (information.prefix, information.prefix_length) == (PREFIX.network_address, 64)
    assert (information.valid_lifetime, information.preferred_lifetime) == (200, 100)
    assert (information.on_link, information.autonomous, information.router_address) == (True, True, False)


@pytest.mark.requirement("R017", "R018")
@pytest.mark.parametrize("outer", [COA4, NAT4])
def test_on_ipv4_links_question_and_answer_go_through_the_tunnel(outer: IPv4Address) -> None:
    ha = ending()
    ha.feed(ha.laptop.udp(over_ipv4(ha.laptop), outer))
    ha.feed(solicitation(ha, None))
    packet, _ = advertised(ha)
    assert (packet.destination, packet.routing_home_address) == (LAPTOP, LAPTOP)
    assert (ha.via().remote, ha.via().remote_port) == (outer, 5000)


@pytest.mark.requirement("R017")
def test_a_solicitation_may_come_as_plain_ipv6_in_ipv4() -> None:
    ha = ending()
    ha.feed(ha.laptop.udp(over_ipv4(ha.laptop)))
    event = solicitation(ha, None)
    ha.feed(ControlReceived(event.packet, Arrival(HA4, COA4)))
    advertised(ha)
    update = ha.laptop.sealed(ControlPacket(LAPTOP, HA6, over_ipv4(ha.laptop)))
    ha.feed(ControlReceived(update, Arrival(HA4, COA4)))
    assert not [a for a in ha.actions if isinstance(a, SendControl)], "an update never does"


def test_the_answer_goes_to_the_registered_care_of_address_wherever_the_question_comes_from() -> None:
    ha = ending()
    ha.feed(ha.laptop.native(over_ipv6(ha.laptop)))
    ha.feed(solicitation(ha, OTHER_COA6))
    packet, _ = advertised(ha)
    assert packet.destination == COA6


def test_who_has_no_binding_or_no_home_address_option_or_no_key_is_not_answered() -> None:
    ha = ending()
    ha.feed(solicitation(ha, COA6))
    assert not [a for a in ha.actions if isinstance(a, SendControl)]
    ha.feed(ha.laptop.native(over_ipv6(ha.laptop)))
    bare = ControlPacket(LAPTOP, HA6, MobilePrefixSolicitation(1))
    ha.feed(ControlReceived(ha.laptop.sealed(bare), Arrival(HA6, LAPTOP)))
    assert not [a for a in ha.actions if isinstance(a, SendControl)]
    forged = ControlPacket(COA6, HA6, MobilePrefixSolicitation(1), home_address_option=LAPTOP)
    ha.feed(ControlReceived(ha.tablet.sealed(forged), Arrival(HA6, COA6)))
    assert not [a for a in ha.actions if isinstance(a, SendControl)]
    unasked = ControlPacket(
        COA6, HA6, MobilePrefixAdvertisement(1, False, False, ()), home_address_option=LAPTOP
    )
    ha.feed(ControlReceived(ha.laptop.sealed(unasked), Arrival(HA6, COA6)))
    assert not [a for a in ha.actions if isinstance(a, SendControl)]


# ---- removal of the IPv4 binding alone (RFC 5555 section 4.4.2.1) ---------------------------
@pytest.mark.requirement("R019", "R024", "R126")
@pytest.mark.parametrize("family", [4, 6])
def test_an_update_without_the_ipv4_home_address_ends_its_binding_alone(family: int) -> None:
    ha = HomeScript()

    def bind(*options: object) -> BindingUpdate:
        make = over_ipv4 if family == 4 else over_ipv6
        update = make(ha.laptop, *options)  # type: ignore[operator]
        assert isinstance(update, BindingUpdate)
        ha.feed(ha.laptop.udp(update) if family == 4 else ha.laptop.native(update))
        return update

    bind(home4())
    assert ha.route(LAPTOP4) is not None
    assert LAPTOP4 in ha.defended
    bind()
    ack = ha.answer()
    assert ack.status == BindingStatus.ACCEPTED
    assert first(ack.options, Ipv4AddressAck) is None
    assert ha.route(LAPTOP4) is None
    assert LAPTOP4 not in ha.defended
    assert (LAPTOP4, "eth0") not in ha.proxied
    assert ha.route(LAPTOP) is not None, "the IPv6 home address stays bound"
    assert LAPTOP in ha.defended
    bind(home4())
    assert ha.route(LAPTOP4) is not None


# ---- home agents by anycast -----------------------------------------------------------------
@pytest.fixture
def answers() -> AnycastAnswers:
    """Without its socket."""
    made = AnycastAnswers.__new__(AnycastAnswers)
    made.address, made._own, made._mobile_routers = home_agents_anycast(PREFIX), HA6, False
    made._sources = TokenBuckets(2.0, 10.0, 16)
    return made


def asked(
    answers: AnycastAnswers,
    request: HomeAgentDiscoveryRequest,
    source: IPv6Address = COA6,
    destination: IPv6Address | None = None,
) -> HomeAgentDiscoveryReply | None:
    to = destination or answers.address
    octets = answers.answer(encode_icmp6(request, source, to), source, to)
    if octets is None:
        return None
    reply = decode_icmp6(octets, HA6, source)
    assert isinstance(reply, HomeAgentDiscoveryReply)
    return reply


@pytest.mark.requirement("R008")
def test_the_anycast_address_of_the_home_prefix_answers_with_this_home_agent(answers: AnycastAnswers) -> None:
    reply = asked(answers, HomeAgentDiscoveryRequest(4711))
    assert reply == HomeAgentDiscoveryReply(4711, (HA6,))


def test_no_other_address_and_no_stranger_form_of_a_request_is_answered(answers: AnycastAnswers) -> None:
    request = HomeAgentDiscoveryRequest(1)
    other = home_agents_anycast(IPv6Network("2001:db8:98::/64"))
    assert asked(answers, request, destination=other) is None
    assert asked(answers, request, destination=HA6) is None
    for source in ("fe80::1", "ff02::1", "::"):
        assert asked(answers, request, IPv6Address(source)) is None
    octets = bytearray(encode_icmp6(request, COA6, answers.address))
    chance = random.Random(5)
    for _ in range(300):
        damaged = bytearray(octets[: chance.randrange(len(octets) + 1)])
        for _ in range(chance.randrange(1, 3)):
            if damaged:
                damaged[chance.randrange(len(damaged))] ^= 1 << chance.randrange(8)
        if damaged != octets:
            assert answers.answer(bytes(damaged), COA6, answers.address) is None


def test_mobile_routers_are_answered_by_a_home_agent_that_serves_them(answers: AnycastAnswers) -> None:
    request = HomeAgentDiscoveryRequest(1, mobile_router=True)
    assert asked(answers, request) is None
    answers._mobile_routers = True
    assert asked(answers, request) == HomeAgentDiscoveryReply(1, (HA6,), mobile_router=True)


def test_a_flood_of_requests_is_answered_ten_times_and_shuts_nobody_else_out(answers: AnycastAnswers) -> None:
    request = HomeAgentDiscoveryRequest(1)
    assert sum(asked(answers, request) is not None for _ in range(100)) <= 11
    assert asked(answers, request, OTHER_COA6) is not None
