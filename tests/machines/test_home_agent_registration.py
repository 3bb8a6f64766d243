"""The home agent binds: where to, by which tunnel, and what it answers."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

import pytest

from home_agent.actions import (
    ConfigureKernel,
    InstallTable,
    Remember,
    SendAgain,
    SendControl,
    SendOnLink,
)
from home_agent.events import ControlReceived
from tests.machines.ha_script import (
    COA4,
    COA6,
    HA4,
    HA6,
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
from tunnel.envelope import ControlPacket
from tunnel.path import Arrival, Encapsulation
from wire.mobility import AckFlag, BindingStatus, UpdateFlag
from wire.options import (
    NO_KEEPALIVE,
    AlternateCareOfAddress,
    Ipv4AckStatus,
    Ipv4AddressAck,
    Ipv4CareOfAddress,
    NatDetection,
    first,
)
from wire.vendor import interruption_option, observed_option, path_mtu_option


@pytest.fixture
def ha() -> HomeScript:
    return HomeScript()


@pytest.mark.requirement("R019", "R022", "R023", "R024", "R037", "R113", "R126", "R131")
def test_one_update_from_an_ipv6_link_binds_both_home_addresses_to_the_ipv6_care_of_address(
    ha: HomeScript,
) -> None:
    ha.feed(ha.laptop.native(over_ipv6(ha.laptop, home4())))
    ack = ha.answer()
    assert ack.status == BindingStatus.ACCEPTED
    assert ack.lifetime == 420
    assert ack.options == (Ipv4AddressAck(Ipv4AckStatus.ACCEPTED, LAPTOP4, 32),)
    for home in (LAPTOP, LAPTOP4):
        route = ha.route(home)
        assert route is not None
        assert (route.path.local, route.path.remote) == (HA6, COA6)
        assert route.path.encapsulation is Encapsulation.IP_IN_IP


@pytest.mark.requirement("R027", "R128")
def test_an_answer_to_an_ipv6_care_of_address_goes_there_with_a_routing_header_to_the_home_address(
    ha: HomeScript,
) -> None:
    ha.feed(ha.laptop.native(over_ipv6(ha.laptop)))
    answered = ha.answered()
    assert (answered.source, answered.destination) == (HA6, COA6)
    assert answered.routing_home_address == LAPTOP


@pytest.mark.requirement("R051", "R128", "R129")
def test_an_answer_over_ipv4_is_addressed_to_the_home_address_and_has_no_routing_header(
    ha: HomeScript,
) -> None:
    ha.feed(ha.laptop.udp(over_ipv4(ha.laptop)))
    answered = ha.answered()
    assert (answered.source, answered.destination) == (HA6, LAPTOP)
    assert answered.routing_home_address is None
    assert answered.home_address_option is None


@pytest.mark.requirement("R023")
def test_an_accepted_update_is_answered_although_it_does_not_ask_for_an_answer(ha: HomeScript) -> None:
    ha.feed(ha.laptop.native(over_ipv6(ha.laptop, flags=UpdateFlag.HOME)))
    assert ha.answer().status == BindingStatus.ACCEPTED


@pytest.mark.requirement("R037", "R038", "R039", "R041", "R042", "R087b", "R090d", "R127", "R132")
def test_a_public_ipv4_care_of_address_gets_plain_ip_in_ip_and_is_told_that_there_is_no_nat(
    ha: HomeScript,
) -> None:
    ha.feed(ha.laptop.udp(over_ipv4(ha.laptop, home4())))
    ack = ha.answer()
    assert first(ack.options, NatDetection) == NatDetection(False, NO_KEEPALIVE)
    assert first(ack.options, Ipv4AddressAck) == Ipv4AddressAck(0, LAPTOP4, 32)
    for home in (LAPTOP, LAPTOP4):
        route = ha.route(home)
        assert route is not None
        assert (route.path.local, route.path.remote) == (HA4, COA4)
        assert route.path.encapsulation is Encapsulation.IP_IN_IP
        assert route.path.remote_port == 0


@pytest.mark.requirement("R046", "R047", "R048", "R050", "R078", "R087c", "R114", "R118", "R130")
def test_behind_a_nat_everything_goes_in_udp_to_the_address_and_port_that_the_update_came_from(
    ha: HomeScript,
) -> None:
    update = over_ipv4(ha.laptop, home4(), care_of=PRIVATE4)
    ha.feed(ha.laptop.udp(update, NAT4, 61000))
    assert first(ha.answer().options, NatDetection) == NatDetection(False, 110)
    for home in (LAPTOP, LAPTOP4):
        route = ha.route(home)
        assert route is not None
        path = route.path
        assert (path.remote, path.remote_port, path.local, path.local_port) == (NAT4, 61000, HA4, 4191)
        assert path.encapsulation is Encapsulation.UDP


@pytest.mark.requirement("R043", "R090b", "R129")
def test_an_answer_over_udp_goes_back_to_the_received_address_and_port(ha: HomeScript) -> None:
    ha.feed(ha.laptop.udp(over_ipv4(ha.laptop, care_of=PRIVATE4), NAT4, 61000))
    assert ha.via() == Arrival(HA4, NAT4, 4191, 61000)


@pytest.mark.requirement("R090b", "R090d", "R090e")
def test_a_refusal_of_an_update_in_udp_is_in_udp_and_says_whether_there_is_a_nat(ha: HomeScript) -> None:
    ha.feed(ha.laptop.udp(over_ipv4(ha.laptop, sequence=9)))
    ha.feed(ha.laptop.udp(over_ipv4(ha.laptop, home4(), care_of=PRIVATE4, sequence=9), NAT4, 61000))
    ack = ha.answer()
    assert ack.status == BindingStatus.SEQUENCE_OUT_OF_WINDOW
    assert ack.options == (NatDetection(False, 110), observed_option(NAT4, 61000))
    assert ha.via() == Arrival(HA4, NAT4, 4191, 61000)


@pytest.mark.requirement("R024", "R090e")
def test_without_an_ipv4_home_address_option_there_is_no_acknowledgement_of_one(ha: HomeScript) -> None:
    ha.feed(ha.laptop.udp(over_ipv4(ha.laptop)))
    assert first(ha.answer().options, Ipv4AddressAck) is None
    assert ha.route(LAPTOP4) is None


@pytest.mark.requirement("R077", "R093")
def test_the_keepalive_period_is_configured_for_all_and_for_each(ha: HomeScript) -> None:
    ha = HomeScript(configured(laptop="nat_refresh = 20", more="[binding]\nnat_refresh = 45"))
    ha.feed(ha.laptop.udp(over_ipv4(ha.laptop, care_of=PRIVATE4), NAT4))
    assert first(ha.answer().options, NatDetection) == NatDetection(False, 20)
    ha.feed(ha.tablet.udp(over_ipv4(ha.tablet, care_of=PRIVATE4), NAT4))
    assert first(ha.answer().options, NatDetection) == NatDetection(False, 45)


@pytest.mark.requirement("R119")
@pytest.mark.parametrize(("care_of", "refresh"), [(COA4, NO_KEEPALIVE), (PRIVATE4, 110)])
def test_udp_is_used_where_the_mobile_node_demands_it(
    ha: HomeScript, care_of: IPv4Address, refresh: int
) -> None:
    flags = HOME | UpdateFlag.FORCE_UDP
    ha.feed(ha.laptop.udp(over_ipv4(ha.laptop, care_of=care_of, flags=flags)))
    assert first(ha.answer().options, NatDetection) == NatDetection(True, refresh)
    route = ha.route(LAPTOP)
    assert route is not None
    assert route.path.encapsulation is Encapsulation.UDP


@pytest.mark.requirement("R086g")
def test_udp_is_used_where_the_home_agent_demands_it() -> None:
    ha = HomeScript(configured(laptop='force_udp = "require"'))
    ha.feed(ha.laptop.udp(over_ipv4(ha.laptop)))
    assert first(ha.answer().options, NatDetection) == NatDetection(True, NO_KEEPALIVE)
    route = ha.route(LAPTOP)
    assert route is not None
    assert route.path.encapsulation is Encapsulation.UDP


@pytest.mark.requirement("R082", "R085", "R086b", "R121")
@pytest.mark.parametrize("profile", ["rfc5555+rfc5845-tlv", "draft-00"])
@pytest.mark.parametrize("asked", [True, False])
@pytest.mark.parametrize("agreed", [True, False])
def test_the_tlv_header_is_used_exactly_if_asked_for_and_agreed_to(
    profile: str, asked: bool, agreed: bool
) -> None:
    wire = f'[wire]\nprofile = "{profile}"\n[tunnel]\ntlv = {str(agreed).lower()}'
    ha = HomeScript(configured(more=wire))
    flags = HOME | UpdateFlag.TLV if asked else HOME
    ha.feed(ha.laptop.udp(over_ipv4(ha.laptop, care_of=PRIVATE4, flags=flags), NAT4))
    assert (AckFlag.TLV in ha.answer().flags) == (asked and agreed)
    route = ha.route(LAPTOP)
    assert route is not None
    tlv = Encapsulation.UDP_TLV_DRAFT if profile == "draft-00" else Encapsulation.UDP_TLV
    assert route.path.encapsulation is (tlv if asked and agreed else Encapsulation.UDP)


@pytest.mark.requirement("R086a", "R132")
def test_each_update_negotiates_the_format_anew() -> None:
    ha = HomeScript(configured(more='[wire]\nprofile = "draft-00"'))
    for flags, expected in (
        (HOME | UpdateFlag.TLV, Encapsulation.UDP_TLV_DRAFT),
        (HOME, Encapsulation.UDP),
    ):
        ha.feed(ha.laptop.udp(over_ipv4(ha.laptop, care_of=PRIVATE4, flags=flags), NAT4))
        route = ha.route(LAPTOP)
        assert route is not None
        assert route.path.encapsulation is expected


@pytest.mark.requirement("R086d", "R132")
def test_without_a_nat_both_encapsulations_are_taken_in_from_the_care_of_address_and_nobody_else(
    ha: HomeScript,
) -> None:
    ha.feed(ha.laptop.udp(over_ipv4(ha.laptop, home4()), COA4, 5000))
    for home in (LAPTOP, LAPTOP4):
        assert ha.carries(home, COA4, 0)
        assert ha.carries(home, COA4, 5000)
        assert not ha.carries(home, COA4, 5001)
        assert not ha.carries(home, NAT4, 5000)
        assert not ha.carries(home, NAT4, 0)


def test_behind_a_nat_only_the_observed_port_may_send_for_a_home_address(ha: HomeScript) -> None:
    ha.feed(ha.laptop.udp(over_ipv4(ha.laptop, home4(), care_of=PRIVATE4), NAT4, 61000))
    for home in (LAPTOP, LAPTOP4):
        assert ha.carries(home, NAT4, 61000)
        assert not ha.carries(home, NAT4, 61001)
        assert not ha.carries(home, NAT4, 0), "protocol 41 from a neighbour behind the same NAT"
        assert not ha.carries(home, PRIVATE4, 61000)


def test_a_mobile_node_may_not_send_for_another_ones_home_address(ha: HomeScript) -> None:
    ha.feed(ha.laptop.udp(over_ipv4(ha.laptop, home4()), COA4, 5000))
    ha.feed(ha.tablet.udp(over_ipv4(ha.tablet, care_of=NAT4), NAT4, 5000))
    assert not ha.carries(LAPTOP, NAT4, 5000)
    assert not ha.carries(LAPTOP4, NAT4, 5000)


@pytest.mark.requirement("R029", "R127")
def test_a_move_to_the_other_family_takes_both_home_addresses_along(ha: HomeScript) -> None:
    ha.feed(ha.laptop.native(over_ipv6(ha.laptop, home4())))
    ha.feed(ha.laptop.udp(over_ipv4(ha.laptop, home4())))
    assert {ha.route(home).path.remote for home in (LAPTOP, LAPTOP4)} == {COA4}  # type: ignore[union-attr]
    ha.feed(ha.laptop.native(over_ipv6(ha.laptop, home4())))
    assert {ha.route(home).path.remote for home in (LAPTOP, LAPTOP4)} == {COA6}  # type: ignore[union-attr]
    assert len(ha.agent.books.cache) == 1


def test_an_update_without_the_option_removes_the_ipv4_binding_alone(ha: HomeScript) -> None:
    ha.feed(ha.laptop.native(over_ipv6(ha.laptop, home4())))
    ha.feed(ha.laptop.native(over_ipv6(ha.laptop)))
    assert ha.route(LAPTOP4) is None
    assert ha.route(LAPTOP) is not None


def test_a_handover_changes_the_data_plane_before_it_is_written_down_and_acknowledged(
    ha: HomeScript,
) -> None:
    ha.feed(ha.laptop.native(over_ipv6(ha.laptop, home4())))
    ha.feed(ha.laptop.native(over_ipv6(ha.laptop, home4(), care_of=OTHER_COA6), OTHER_COA6))
    kinds = [type(action) for action in ha.actions]
    assert kinds[:3] == [InstallTable, Remember, SendControl]
    assert ConfigureKernel not in kinds, "a handover needs no netlink"
    assert ha.events() == [("binding", "moved")]


def test_a_refresh_touches_neither_kernel_nor_data_plane(ha: HomeScript) -> None:
    ha.feed(ha.laptop.native(over_ipv6(ha.laptop, home4())))
    ha.feed(ha.laptop.native(over_ipv6(ha.laptop, home4()))).quiet()
    assert ha.answer().status == BindingStatus.ACCEPTED
    assert ha.events() == [("binding", "refreshed")]


@pytest.mark.requirement("R047")
def test_a_nat_that_gives_a_new_port_is_followed_with_the_next_authenticated_update(ha: HomeScript) -> None:
    for port in (61000, 61234):
        ha.feed(ha.laptop.udp(over_ipv4(ha.laptop, care_of=PRIVATE4), NAT4, port))
        route = ha.route(LAPTOP)
        assert route is not None
        assert route.path.remote_port == port


@pytest.mark.requirement("R115", "R130")
def test_what_is_bound_is_routed_into_the_tunnel_and_defended_on_the_home_link(ha: HomeScript) -> None:
    ha.feed(ha.laptop.native(over_ipv6(ha.laptop, home4())))
    assert ha.routed == {IPv6Network(LAPTOP), IPv4Network(LAPTOP4)}
    assert ha.proxied == {(LAPTOP, "eth0"), (LAPTOP4, "eth0")}
    assert ha.defended == {LAPTOP: False, LAPTOP4: False}


def test_the_link_local_address_is_defended_where_the_mobile_node_asks_for_it(ha: HomeScript) -> None:
    ha.feed(ha.laptop.native(over_ipv6(ha.laptop, flags=HOME | UpdateFlag.LINK_LOCAL)))
    assert set(ha.defended) == {LAPTOP, IPv6Address("fe80::77")}
    assert IPv6Network("fe80::77") not in ha.routed


@pytest.mark.requirement("R065")
def test_a_private_home_address_off_the_home_link_is_routed_and_not_defended() -> None:
    ha = HomeScript(configured({'"203.0.113.77"': '"10.9.0.7"'}))
    ha.feed(ha.laptop.native(over_ipv6(ha.laptop, home4(IPv4Address("10.9.0.7")))))
    assert ha.route(IPv4Address("10.9.0.7")) is not None
    assert set(ha.defended) == {LAPTOP}


@pytest.mark.requirement("R067")
def test_the_alternate_care_of_address_that_esp_protects_beats_the_outer_source(ha: HomeScript) -> None:
    packet = ControlPacket(OTHER_COA6, HA6, over_ipv6(ha.laptop), home_address_option=LAPTOP)
    ha.feed(ControlReceived(ha.laptop.sealed(packet), Arrival(HA6, OTHER_COA6)))
    route = ha.route(LAPTOP)
    assert route is not None
    assert route.path.remote == COA6
    assert ha.answered().destination == OTHER_COA6, "the answer goes to where the update came from"


def test_over_ipv4_the_alternate_care_of_address_is_ignored_and_said_to_be(ha: HomeScript) -> None:
    ha.feed(ha.laptop.udp(ha.laptop.update(Ipv4CareOfAddress(COA4), AlternateCareOfAddress(COA6))))
    route = ha.route(LAPTOP)
    assert route is not None
    assert route.path.remote == COA4
    assert any("alternate" in str(action) for action in ha.actions)


def test_a_missing_ipv4_care_of_address_is_taken_for_a_nat(ha: HomeScript) -> None:
    ha.feed(ha.laptop.udp(ha.laptop.update()))
    assert first(ha.answer().options, NatDetection) == NatDetection(False, 110)
    route = ha.route(LAPTOP)
    assert route is not None
    assert route.path.encapsulation is Encapsulation.UDP


def test_a_home_address_option_equal_to_the_source_is_tolerated_in_udp(ha: HomeScript) -> None:
    packet = ControlPacket(LAPTOP, HA6, over_ipv4(ha.laptop), home_address_option=LAPTOP)
    ha.feed(ControlReceived(ha.laptop.sealed(packet), Arrival(HA4, COA4, 4191, 5000)))
    assert ha.answer().status == BindingStatus.ACCEPTED


@pytest.mark.requirement("R004")
def test_the_answer_leaves_from_the_address_and_port_on_which_the_update_arrived(ha: HomeScript) -> None:
    inside = IPv4Address("10.0.0.2")  # the home agent's own address, behind a static NAT of its own
    packet = ControlPacket(LAPTOP, HA6, over_ipv4(ha.laptop))
    ha.feed(ControlReceived(ha.laptop.sealed(packet), Arrival(inside, COA4, 4191, 5000)))
    assert ha.via().local == inside
    route = ha.route(LAPTOP)
    assert route is not None
    assert route.path.local == inside


def test_what_was_sent_into_a_break_is_sent_again_by_the_new_path_before_the_answer(ha: HomeScript) -> None:
    ha.feed(ha.laptop.udp(over_ipv4(ha.laptop, home4())))
    update = over_ipv4(ha.laptop, home4(), interruption_option(0.25), care_of=PRIVATE4)
    ha.at(10.0).feed(ha.laptop.udp(update, NAT4, 61000))
    kinds = [type(action).__name__ for action in ha.actions]
    assert kinds.index("InstallTable") < kinds.index("SendAgain") < kinds.index("SendControl")
    (again,) = [action for action in ha.actions if isinstance(action, SendAgain)]
    assert again.since == pytest.approx(ha.now - 0.25)
    assert {network.network_address for network in again.homes} == {LAPTOP, LAPTOP4}


def test_who_left_home_over_a_break_gets_what_was_sent_on_the_home_link_meanwhile() -> None:
    """Counted from when the update came, though the home link had to be asked for duplicates first."""
    ha = HomeScript(configured({"address_detection = false": "address_detection = true"}))
    ha.feed(ha.laptop.udp(over_ipv4(ha.laptop, home4(), interruption_option(0.25))))
    began = ha.now
    ha.at(1.0).probed(LAPTOP)
    (again,) = [action for action in ha.actions if isinstance(action, SendAgain)]
    assert again.since == pytest.approx(began - 0.25)


def test_who_came_home_over_a_break_gets_on_the_home_link_what_went_into_the_tunnel(ha: HomeScript) -> None:
    ha.feed(ha.laptop.udp(over_ipv4(ha.laptop, home4())))
    ha.at(10.0).feed(ha.laptop.native(ha.laptop.update(interruption_option(0.25), lifetime=0), LAPTOP))
    assert ha.answer().status == BindingStatus.ACCEPTED
    (again,) = [action for action in ha.actions if isinstance(action, SendOnLink)]
    assert again.since == pytest.approx(ha.now - 0.25)
    assert {network.network_address for network in again.homes} == {LAPTOP, LAPTOP4}


def test_who_ends_a_binding_from_abroad_gets_nothing_on_the_home_link(ha: HomeScript) -> None:
    ha.feed(ha.laptop.udp(over_ipv4(ha.laptop, home4())))
    ha.at(10.0).feed(ha.laptop.udp(over_ipv4(ha.laptop, interruption_option(0.25), lifetime=0)))
    assert not [action for action in ha.actions if isinstance(action, SendOnLink)]


def test_nothing_is_sent_again_when_the_care_of_address_stays(ha: HomeScript) -> None:
    ha.feed(ha.laptop.udp(over_ipv4(ha.laptop, home4())))
    ha.feed(ha.laptop.udp(over_ipv4(ha.laptop, home4(), interruption_option(0.25))))
    assert not [action for action in ha.actions if isinstance(action, SendAgain)]


@pytest.mark.parametrize(("told", "believed"), [(1400, 1400), (9000, 1500), (576, 1280)])
def test_packets_to_a_mobile_node_are_no_larger_than_it_says_that_they_may_be(
    ha: HomeScript, told: int, believed: int
) -> None:
    ha.feed(ha.laptop.udp(over_ipv4(ha.laptop, home4(), path_mtu_option(told))))
    for home in (LAPTOP, LAPTOP4):
        route = ha.route(home)
        assert route is not None
        assert route.path.link_mtu == believed


def test_a_mobile_node_that_says_nothing_gets_what_the_link_carries_again(ha: HomeScript) -> None:
    ha.feed(ha.laptop.udp(over_ipv4(ha.laptop, path_mtu_option(1400))))
    ha.feed(ha.laptop.udp(over_ipv4(ha.laptop)))
    route = ha.route(LAPTOP)
    assert route is not None
    assert route.path.link_mtu == 1500
    assert {path.link_mtu for path in route.accept} == {1500}, "the same way is no old path"


def test_the_path_mtu_survives_a_restart(ha: HomeScript) -> None:
    ha.feed(ha.laptop.native(over_ipv6(ha.laptop, path_mtu_option(1360))))
    again = ha.restarted(1.0)
    route = again.route(LAPTOP)
    assert route is not None
    assert route.path.link_mtu == 1360
