"""Every status with which the home agent refuses, in the order in which it checks."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address, IPv6Network

import msgspec
import pytest

from home_agent.events import ControlReceived, SecondPortOpen
from tests.machines.ha_script import (
    COA4,
    COA6,
    HA4,
    HOME,
    LAPTOP,
    LAPTOP4,
    NAT4,
    OTHER_COA6,
    PRIVATE4,
    HomeScript,
    configured,
    home4,
    over_ipv4,
    over_ipv6,
)
from wire.mobility import AckFlag, BindingError, BindingStatus, HomeTestInit, UnknownMessage, UpdateFlag
from wire.options import (
    NO_KEEPALIVE,
    AlternateCareOfAddress,
    Ipv4AddressAck,
    Ipv4CareOfAddress,
    MobileNetworkPrefix,
    NatDetection,
    first,
)
from wire.vendor import observed_in, second_port_in

AS_ROUTER = HOME | UpdateFlag.ROUTER


@pytest.fixture
def ha() -> HomeScript:
    return HomeScript()


@pytest.mark.parametrize(
    ("last", "candidate", "accepted"),
    [
        (15, 16, True),
        (15, 32782, True),
        (15, 15, False),
        (15, 0, False),
        (15, 32783, False),
        (65535, 0, True),
    ],
)
def test_135_answers_a_sequence_number_that_is_not_newer_with_the_last_accepted_one(
    ha: HomeScript, last: int, candidate: int, accepted: int
) -> None:
    ha.feed(ha.laptop.native(over_ipv6(ha.laptop, sequence=last)))
    ha.feed(ha.laptop.native(over_ipv6(ha.laptop, sequence=candidate, care_of=OTHER_COA6), OTHER_COA6))
    ack = ha.answer()
    route = ha.route(LAPTOP)
    assert route is not None
    if accepted:
        assert (ack.status, ack.sequence) == (BindingStatus.ACCEPTED, candidate)
        assert route.path.remote == OTHER_COA6
    else:
        assert (ack.status, ack.sequence) == (BindingStatus.SEQUENCE_OUT_OF_WINDOW, last)
        assert route.path.remote == COA6
        ha.quiet()


def test_the_sequence_is_checked_before_anything_else_that_is_wrong(ha: HomeScript) -> None:
    ha.feed(ha.laptop.native(over_ipv6(ha.laptop, sequence=50)))
    ha.feed(ha.laptop.native(over_ipv6(ha.laptop, sequence=50, flags=UpdateFlag.ACKNOWLEDGE)))
    assert ha.answer().status == BindingStatus.SEQUENCE_OUT_OF_WINDOW


def test_139_answers_an_update_that_would_change_the_kind_of_registration(ha: HomeScript) -> None:
    ha.feed(ha.router.native(over_ipv6(ha.router, flags=AS_ROUTER)))
    ha.feed(ha.router.native(over_ipv6(ha.router, flags=UpdateFlag.ACKNOWLEDGE | UpdateFlag.ROUTER))).quiet()
    assert ha.answer().status == BindingStatus.TYPE_CHANGE_DISALLOWED
    ha.feed(ha.router.native(over_ipv6(ha.router))).quiet()
    assert ha.answer().status == BindingStatus.TYPE_CHANGE_DISALLOWED
    ha.feed(ha.router.native(over_ipv6(ha.router, lifetime=0)))
    assert ha.answer().status == BindingStatus.ACCEPTED, "leaving is no change of kind"


def test_an_update_for_no_home_registration_is_not_answered(ha: HomeScript) -> None:
    ha.feed(ha.laptop.native(over_ipv6(ha.laptop, flags=UpdateFlag.ACKNOWLEDGE))).silent()


def test_139_tells_of_the_way_it_came_and_the_binding_stays_where_it_is(ha: HomeScript) -> None:
    """So a mobile node can ask about another link without moving (mn_agent/way_check.py)."""
    ha.feed(ha.laptop.native(over_ipv6(ha.laptop)))
    question = over_ipv4(ha.laptop, sequence=5000, flags=UpdateFlag.ACKNOWLEDGE, care_of=PRIVATE4)
    ha.feed(ha.laptop.udp(question, NAT4, 10022)).quiet()
    ack = ha.answer()
    assert (ack.status, ack.sequence) == (BindingStatus.TYPE_CHANGE_DISALLOWED, 5000)
    assert ha.events() == [], "nobody is turned away"
    assert (ha.via().remote, ha.via().remote_port) == (NAT4, 10022)
    assert observed_in(ack.options) == (NAT4, 10022)
    nat = first(ack.options, NatDetection)
    assert nat is not None
    assert nat.refresh != NO_KEEPALIVE
    route = ha.route(LAPTOP)
    assert route is not None
    assert route.path.remote == COA6


SECOND = 40191
"""The UDP port of the home agent at which only questions are taken."""


def at_second_port(event: ControlReceived) -> ControlReceived:
    return replace(event, arrival=replace(event.arrival, local_port=SECOND))


def test_a_question_is_told_the_second_port_and_answered_from_it(ha: HomeScript) -> None:
    ha.feed(ha.laptop.native(over_ipv6(ha.laptop)))

    def question(sequence: int) -> ControlReceived:
        flags = UpdateFlag.ACKNOWLEDGE
        update = over_ipv4(ha.laptop, sequence=sequence, flags=flags, care_of=PRIVATE4)
        return ha.laptop.udp(update, NAT4, 10022)

    assert second_port_in(ha.feed(question(5000)).answer().options) is None
    assert second_port_in(ha.feed(SecondPortOpen(SECOND)).feed(question(5001)).answer().options) == SECOND
    ha.feed(at_second_port(question(5002))).quiet()
    assert ha.via().local_port == SECOND
    ack = ha.answer()
    assert (ack.status, ack.sequence) == (BindingStatus.TYPE_CHANGE_DISALLOWED, 5002)
    assert observed_in(ack.options) == (NAT4, 10022)


def test_at_the_second_port_nobody_registers_or_leaves_and_nothing_is_said_twice(ha: HomeScript) -> None:
    ha.feed(SecondPortOpen(SECOND)).feed(ha.laptop.udp(over_ipv4(ha.laptop)))
    assert second_port_in(ha.answer().options) is None, "only to who asks"
    for lifetime in (420, 0):
        ha.feed(at_second_port(ha.laptop.udp(over_ipv4(ha.laptop, lifetime=lifetime), NAT4))).silent()
    ha.feed(at_second_port(ha.laptop.udp(over_ipv4(ha.laptop, flags=AS_ROUTER)))).silent()
    assert ha.agent.tally.accounts[LAPTOP].ignored["control-at-second-port"] == 3
    question = at_second_port(ha.laptop.udp(over_ipv4(ha.laptop, flags=UpdateFlag.ACKNOWLEDGE)))
    ha.feed(question).answer()
    ha.feed(question).silent()
    forged = question.packet[:-1] + bytes([question.packet[-1] ^ 1])
    ha.feed(replace(question, packet=forged)).silent()
    route = ha.route(LAPTOP)
    assert route is not None
    assert route.path.remote == COA4


def test_131_answers_all_who_come_to_a_home_agent_that_is_being_emptied_but_lets_them_leave() -> None:
    full = HomeScript()
    full.feed(full.laptop.native(over_ipv6(full.laptop)))
    ha = HomeScript(configured(home_agent="accepting = false"), full.records.values())
    ha.laptop.sealer.next_sequence = full.laptop.sealer.next_sequence
    ha.feed(ha.tablet.native(over_ipv6(ha.tablet))).quiet()
    assert ha.answer().status == BindingStatus.HOME_REGISTRATION_NOT_SUPPORTED
    ha.feed(ha.laptop.native(over_ipv6(ha.laptop, sequence=200))).quiet()
    assert ha.answer().status == BindingStatus.HOME_REGISTRATION_NOT_SUPPORTED
    ha.feed(ha.laptop.native(over_ipv6(ha.laptop, sequence=201, lifetime=0)))
    assert ha.answer().status == BindingStatus.ACCEPTED


def test_132_answers_for_a_home_address_that_is_not_on_the_home_link(ha: HomeScript) -> None:
    link = msgspec.structs.replace(ha.configuration.home_link, ipv6_prefix=IPv6Network("2001:db8:1::/64"))
    moved = HomeScript(msgspec.structs.replace(ha.configuration, home_link=link))
    moved.feed(moved.laptop.native(over_ipv6(moved.laptop))).quiet()
    assert moved.answer().status == BindingStatus.NOT_HOME_SUBNET


def test_129_answers_a_mobile_node_that_is_not_enabled() -> None:
    ha = HomeScript(configured(laptop="enabled = false"))
    ha.feed(ha.laptop.native(over_ipv6(ha.laptop))).quiet()
    assert ha.answer().status == BindingStatus.PROHIBITED


def test_130_answers_when_the_binding_cache_is_full_but_refreshes_go_on() -> None:
    ha = HomeScript(configured(more="[binding]\nmax_bindings = 1"))
    ha.feed(ha.laptop.native(over_ipv6(ha.laptop)))
    ha.feed(ha.tablet.native(over_ipv6(ha.tablet))).quiet()
    assert ha.answer().status == BindingStatus.INSUFFICIENT_RESOURCES
    ha.feed(ha.laptop.native(over_ipv6(ha.laptop)))
    assert ha.answer().status == BindingStatus.ACCEPTED


def test_133_answers_who_leaves_without_being_there(ha: HomeScript) -> None:
    ha.feed(ha.laptop.native(over_ipv6(ha.laptop, lifetime=0))).quiet()
    assert ha.answer().status == BindingStatus.NOT_HOME_AGENT


@pytest.mark.requirement("R086f", "R119")
def test_144_answers_a_demand_for_udp_that_is_not_agreed_to() -> None:
    ha = HomeScript(configured(laptop='force_udp = "deny"'))
    ha.feed(ha.laptop.udp(over_ipv4(ha.laptop, flags=HOME | UpdateFlag.FORCE_UDP))).quiet()
    assert ha.answer().status == BindingStatus.CANNOT_FORCE_UDP
    assert len(ha.agent.books.cache) == 0
    ha.feed(ha.laptop.udp(over_ipv4(ha.laptop)))
    assert ha.answer().status == BindingStatus.ACCEPTED


@pytest.mark.requirement("R120")
@pytest.mark.parametrize("profile", ["rfc5555", "draft-00"])
def test_144_answers_a_demand_for_udp_on_an_ipv6_link(profile: str) -> None:
    ha = HomeScript(configured(more=f'[wire]\nprofile = "{profile}"'))
    ha.feed(ha.laptop.native(over_ipv6(ha.laptop, flags=HOME | UpdateFlag.FORCE_UDP))).quiet()
    assert ha.answer().status == BindingStatus.CANNOT_FORCE_UDP


@pytest.mark.parametrize(
    "care_of",
    ["ff02::1", "::1", "fe80::5", "::ffff:198.51.100.7", "2001:db8:99::78", "2001:db8:99::2"],
)
def test_174_answers_an_ipv6_care_of_address_that_cannot_be_one(ha: HomeScript, care_of: str) -> None:
    update = ha.laptop.update(AlternateCareOfAddress(IPv6Address(care_of)))
    ha.feed(ha.laptop.native(update)).quiet()
    assert ha.answer().status == BindingStatus.INVALID_CARE_OF_ADDRESS


@pytest.mark.parametrize(
    ("claimed", "outer"),
    [
        ("224.0.0.1", NAT4),
        ("0.0.0.0", NAT4),
        ("127.0.0.1", NAT4),
        ("255.255.255.255", NAT4),
        ("203.0.113.2", HA4),
        ("203.0.113.77", LAPTOP4),
        ("192.168.7.2", LAPTOP4),
    ],
)
def test_174_answers_an_ipv4_care_of_address_that_cannot_be_one(
    ha: HomeScript, claimed: str, outer: IPv4Address
) -> None:
    ha.feed(ha.laptop.udp(over_ipv4(ha.laptop, care_of=IPv4Address(claimed)), outer)).quiet()
    assert ha.answer().status == BindingStatus.INVALID_CARE_OF_ADDRESS


def test_174_answers_a_mobile_router_that_is_behind_itself(ha: HomeScript) -> None:
    inside = IPv6Address("2001:db8:7701::1")
    ha.feed(ha.router.native(over_ipv6(ha.router, care_of=inside, flags=AS_ROUTER), inside)).quiet()
    assert ha.answer().status == BindingStatus.INVALID_CARE_OF_ADDRESS


def test_a_private_care_of_address_that_happens_to_be_somebodys_home_address_is_fine_behind_a_nat() -> None:
    ha = HomeScript(configured({'"203.0.113.77"': '"192.168.7.2"'}))
    ha.feed(ha.tablet.udp(over_ipv4(ha.tablet, care_of=PRIVATE4), NAT4))
    assert ha.answer().status == BindingStatus.ACCEPTED


@pytest.mark.parametrize("prefix", ["2001:db8:7700::/40", "2001:db8:7702::/48"])
def test_a_mobile_router_may_name_its_prefixes_or_parts_of_them(ha: HomeScript, prefix: str) -> None:
    network = IPv6Network(prefix)
    ha.feed(ha.router.native(over_ipv6(ha.router, MobileNetworkPrefix(network), flags=AS_ROUTER)))
    ack = ha.answer()
    assert ack.status == BindingStatus.ACCEPTED
    assert AckFlag.ROUTER in ack.flags
    assert ha.table.find(network[5].packed) is not None
    assert network in ha.routed
    assert network not in ha.defended


def test_a_mobile_router_that_names_none_gets_its_configured_prefixes(ha: HomeScript) -> None:
    ha.feed(ha.router.native(over_ipv6(ha.router, flags=AS_ROUTER)))
    assert ha.answer().status == BindingStatus.ACCEPTED
    assert ha.route(IPv6Address("2001:db8:7700::5")) is not None
    assert ha.defended == {ha.router.home_address: True}, "announced with the router flag"


def test_a_prefix_that_a_refresh_no_longer_names_is_no_longer_forwarded(ha: HomeScript) -> None:
    first_, second = (MobileNetworkPrefix(IPv6Network(f"2001:db8:770{n}::/48")) for n in (1, 2))
    ha.feed(ha.router.native(over_ipv6(ha.router, first_, second, flags=AS_ROUTER)))
    ha.feed(ha.router.native(over_ipv6(ha.router, second, flags=AS_ROUTER)))
    assert ha.route(IPv6Address("2001:db8:7701::5")) is None
    assert ha.route(IPv6Address("2001:db8:7702::5")) is not None


def test_140_answers_a_mobile_node_that_may_not_be_a_router(ha: HomeScript) -> None:
    ha.feed(ha.laptop.native(over_ipv6(ha.laptop, flags=AS_ROUTER))).quiet()
    assert ha.answer().status == BindingStatus.ROUTER_NOT_PERMITTED
    ha.feed(ha.laptop.native(over_ipv6(ha.laptop, flags=UpdateFlag.ACKNOWLEDGE | UpdateFlag.ROUTER))).quiet()
    assert ha.answer().status == BindingStatus.ROUTER_NOT_PERMITTED


@pytest.mark.parametrize(
    ("prefixes", "status"),
    [
        (("2001:db8:7701::/48", "2001:db8:8000::/48"), BindingStatus.NOT_AUTHORISED_FOR_PREFIX),
        (("2001:db8::/32",), BindingStatus.NOT_AUTHORISED_FOR_PREFIX),
        (("2001:db8:7701::/48", "ff00::/16"), BindingStatus.INVALID_PREFIX),
        (("::/0",), BindingStatus.INVALID_PREFIX),
    ],
)
def test_141_and_142_refuse_all_prefixes_because_of_one(
    ha: HomeScript, prefixes: tuple[str, ...], status: BindingStatus
) -> None:
    options = [MobileNetworkPrefix(IPv6Network(prefix)) for prefix in prefixes]
    ha.feed(ha.router.native(over_ipv6(ha.router, *options, flags=AS_ROUTER))).quiet()
    assert ha.answer().status == status


def test_143_answers_a_mobile_router_without_any_prefix() -> None:
    ha = HomeScript(configured(tablet="router = true"))
    ha.feed(ha.tablet.native(over_ipv6(ha.tablet, flags=AS_ROUTER))).quiet()
    assert ha.answer().status == BindingStatus.FORWARDING_SETUP_FAILED


def test_a_strict_home_agent_refuses_what_a_kind_one_reads_with_good_will() -> None:
    ha = HomeScript(configured(more="[wire]\nstrict = true"))
    ha.feed(ha.laptop.udp(ha.laptop.update())).quiet()
    assert ha.answer().status == BindingStatus.UNSPECIFIED
    ha.feed(ha.laptop.udp(ha.laptop.update(Ipv4CareOfAddress(COA4), AlternateCareOfAddress(COA6)))).quiet()
    assert ha.answer().status == BindingStatus.INVALID_CARE_OF_ADDRESS


def test_a_refusal_carries_no_ipv4_acknowledgement(ha: HomeScript) -> None:
    ha.feed(ha.laptop.native(over_ipv6(ha.laptop, home4(), flags=HOME | UpdateFlag.FORCE_UDP)))
    assert first(ha.answer().options, Ipv4AddressAck) is None


def test_an_authentic_message_of_an_unknown_type_is_answered_with_a_binding_error(ha: HomeScript) -> None:
    ha.feed(ha.laptop.native(UnknownMessage(42, bytes(10))))
    message = ha.answered().message
    assert isinstance(message, BindingError)
    assert message.status == 2


def test_route_optimisation_is_not_ours_to_answer(ha: HomeScript) -> None:
    ha.feed(ha.laptop.native(HomeTestInit(bytes(8)))).silent()


def test_the_proxy_flag_is_recognised_as_the_other_wire_profile(ha: HomeScript) -> None:
    ha.feed(ha.laptop.native(over_ipv6(ha.laptop, flags=HOME | UpdateFlag.PROXY)))
    assert any("draft-00" in str(action) for action in ha.actions)
