"""What happens to a binding with time: expiry, release, moves, probes, and the operator."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from home_agent.actions import ConfigureKernel, ProbeAddresses, SendControl
from home_agent.agenda import Agenda
from home_agent.events import Probed
from home_agent.node import HomeAgent
from home_agent.records import from_document, to_document
from runtime.node import Node
from tests.machines.ha_script import (
    COA4,
    COA6,
    DYNAMIC,
    FIRST_DYNAMIC,
    HOME,
    LAPTOP,
    LAPTOP4,
    NAT4,
    OTHER_COA6,
    PRIVATE4,
    ROUTER,
    START,
    TABLET,
    HomeScript,
    configured,
    home4,
    over_ipv4,
    over_ipv6,
)
from tunnel.path import Arrival
from wire.mobility import BindingError, BindingRefreshRequest, BindingStatus, UpdateFlag
from wire.options import Ipv4AckStatus, Ipv4AddressAck, every

PROBING = {"duplicate_address_detection = false": "duplicate_address_detection = true"}


@pytest.fixture
def ha() -> HomeScript:
    return HomeScript()


@pytest.fixture
def probing() -> HomeScript:
    return HomeScript(configured(PROBING))


def test_it_is_a_node() -> None:
    agent = HomeScript().agent
    node: Node[object, object] = agent  # type: ignore[assignment]
    assert isinstance(node, HomeAgent)


@pytest.mark.parametrize(("asked", "granted"), [(420, 420), (4, 4), (3600, 3600), (262140, 3600), (8, 8)])
def test_the_lifetime_is_what_was_asked_for_up_to_what_is_allowed(
    ha: HomeScript, asked: int, granted: int
) -> None:
    ha.feed(ha.laptop.native(over_ipv6(ha.laptop, lifetime=asked)))
    assert ha.answer().lifetime == granted
    binding = ha.agent.books.cache.get(LAPTOP)
    assert binding is not None
    assert binding.expires_at == START + granted


def test_a_binding_that_is_not_refreshed_is_asked_about_and_then_ends(ha: HomeScript) -> None:
    ha.at(0).feed(ha.laptop.native(over_ipv6(ha.laptop, home4())))
    ha.at(378).wakes("binding refresh request")
    assert isinstance(ha.answered().message, BindingRefreshRequest)
    ha.at(420).wakes("binding expires")
    assert ha.route(LAPTOP) is None
    assert ha.route(LAPTOP4) is None
    assert ha.defended == {}
    assert (ha.routed, ha.proxied) == (set(), set())
    assert ha.records[LAPTOP].binding is None
    assert ha.events() == [("binding", "expired")]
    assert ha.agent.deadline() is None


def test_a_refresh_request_behind_a_nat_goes_to_the_observed_port(ha: HomeScript) -> None:
    ha.at(0).feed(ha.laptop.udp(over_ipv4(ha.laptop, care_of=PRIVATE4), NAT4, 61000))
    ha.at(378).wakes("binding refresh request")
    answered = ha.answered()
    assert (answered.destination, answered.routing_home_address) == (LAPTOP, None)
    assert (ha.via().remote, ha.via().remote_port) == (NAT4, 61000)


def test_refresh_requests_can_be_turned_off() -> None:
    ha = HomeScript(configured(more="[binding]\nrefresh_requests = false"))
    ha.at(0).feed(ha.laptop.native(over_ipv6(ha.laptop)))
    ha.at(420).wakes("binding expires")


def test_a_refresh_moves_the_end(ha: HomeScript) -> None:
    ha.at(0).feed(ha.laptop.native(over_ipv6(ha.laptop)))
    ha.at(300).feed(ha.laptop.native(over_ipv6(ha.laptop)))
    ha.at(678).wakes("binding refresh request")
    ha.at(720).wakes("binding expires")
    binding_since = ha.events()
    assert binding_since == [("binding", "expired")]


# ---- release ----------------------------------------------------------------------------------


@pytest.mark.requirement("R115")
def test_a_deregistration_abroad_ends_everything_at_once_and_is_acknowledged(ha: HomeScript) -> None:
    ha.at(0).feed(ha.laptop.udp(over_ipv4(ha.laptop, home4())))
    ha.at(1).feed(ha.laptop.udp(over_ipv4(ha.laptop, home4(), lifetime=0)))
    ack = ha.answer()
    assert (ack.status, ack.lifetime) == (BindingStatus.ACCEPTED, 0)
    assert every(ack.options, Ipv4AddressAck) == (Ipv4AddressAck(Ipv4AckStatus.ACCEPTED, LAPTOP4, 32),)
    assert ha.via() == Arrival(ha.via().local, COA4, 4191, 5000)
    assert ha.route(LAPTOP) is None
    assert ha.defended == {}
    assert ha.events() == [("binding", "removed")]


def test_returning_home_frees_the_address_before_the_answer_leaves(ha: HomeScript) -> None:
    ha.at(0).feed(ha.laptop.native(over_ipv6(ha.laptop, home4())))
    ha.at(1).feed(ha.laptop.native(ha.laptop.update(lifetime=0), care_of=LAPTOP))
    kinds = [type(action) for action in ha.actions]
    assert kinds.index(ConfigureKernel) < kinds.index(SendControl)
    answered = ha.answered()
    assert (answered.destination, answered.routing_home_address) == (LAPTOP, None)
    assert ha.via().remote == LAPTOP


def test_a_care_of_address_that_is_the_home_address_is_a_return_whatever_the_lifetime(ha: HomeScript) -> None:
    ha.at(0).feed(ha.laptop.native(over_ipv6(ha.laptop)))
    ha.at(1).feed(ha.laptop.native(ha.laptop.update(lifetime=420), care_of=LAPTOP))
    ack = ha.answer()
    assert (ack.status, ack.lifetime) == (BindingStatus.ACCEPTED, 0)
    assert ha.route(LAPTOP) is None


def test_a_delayed_update_cannot_revive_a_binding_that_was_just_released(ha: HomeScript) -> None:
    ha.at(0).feed(ha.laptop.native(over_ipv6(ha.laptop, sequence=10)))
    delayed = ha.laptop.native(over_ipv6(ha.laptop, sequence=11))
    ha.at(1).feed(ha.laptop.native(over_ipv6(ha.laptop, sequence=12, lifetime=0)))
    ha.at(2).feed(delayed).quiet()
    ack = ha.answer()
    assert (ack.status, ack.sequence) == (BindingStatus.SEQUENCE_OUT_OF_WINDOW, 12)
    ha.at(11).wakes("released binding is forgotten")
    ha.at(12).feed(ha.laptop.native(over_ipv6(ha.laptop, sequence=3)))
    assert ha.answer().status == BindingStatus.ACCEPTED, "without an entry any number is good"


def test_a_deregistration_whose_answer_was_lost_is_answered_again(ha: HomeScript) -> None:
    ha.at(0).feed(ha.laptop.native(over_ipv6(ha.laptop)))
    ha.at(1).feed(ha.laptop.native(over_ipv6(ha.laptop, lifetime=0)))
    ha.at(2).feed(ha.laptop.native(over_ipv6(ha.laptop, lifetime=0))).quiet()
    assert ha.answer().status == BindingStatus.ACCEPTED


def test_a_mobile_node_that_leaves_home_again_at_once_is_not_probed_for(probing: HomeScript) -> None:
    ha = probing
    ha.at(0).feed(ha.laptop.native(over_ipv6(ha.laptop))).probed(LAPTOP)
    ha.at(1).feed(ha.laptop.native(ha.laptop.update(lifetime=0), care_of=LAPTOP))
    ha.at(5).feed(ha.laptop.native(over_ipv6(ha.laptop)))
    assert ha.answer().status == BindingStatus.ACCEPTED


# ---- moves ------------------------------------------------------------------------------------


def test_packets_under_way_on_the_old_path_are_taken_in_for_two_seconds(ha: HomeScript) -> None:
    ha.at(0).feed(ha.laptop.udp(over_ipv4(ha.laptop, home4(), care_of=PRIVATE4), NAT4, 61000))
    ha.at(10).feed(ha.laptop.native(over_ipv6(ha.laptop, home4())))
    for home in (LAPTOP, LAPTOP4):
        assert ha.carries(home, NAT4, 61000)
        assert ha.carries(home, COA6, 0)
        route = ha.route(home)
        assert route is not None
        assert route.path.remote == COA6, "nothing is sent there any more"
    ha.at(12).wakes("old path ends")
    for home in (LAPTOP, LAPTOP4):
        assert not ha.carries(home, NAT4, 61000)
        assert ha.carries(home, COA6, 0)


def test_only_the_last_old_path_is_still_open(ha: HomeScript) -> None:
    ha.at(0).feed(ha.laptop.native(over_ipv6(ha.laptop)))
    ha.at(1).feed(ha.laptop.native(over_ipv6(ha.laptop, care_of=OTHER_COA6), OTHER_COA6))
    ha.at(2).feed(ha.laptop.udp(over_ipv4(ha.laptop)))
    assert not ha.carries(LAPTOP, COA6, 0)
    assert ha.carries(LAPTOP, OTHER_COA6, 0)
    assert ha.carries(LAPTOP, COA4, 0)
    ha.at(3).feed(ha.laptop.native(over_ipv6(ha.laptop, lifetime=0)))
    assert not ha.carries(LAPTOP, OTHER_COA6, 0), "after a release nothing is open"
    ha.at(13).wakes("released binding is forgotten")


# ---- probes -----------------------------------------------------------------------------------


def test_a_new_home_address_is_bound_after_nobody_on_the_home_link_claimed_it(probing: HomeScript) -> None:
    ha = probing
    ha.at(0).feed(ha.laptop.native(over_ipv6(ha.laptop, home4()))).quiet()
    assert ha.only(ProbeAddresses).addresses == {LAPTOP, LAPTOP4}
    assert ha.records[LAPTOP].binding is None
    ha.at(1).probed(LAPTOP)
    assert ha.answer().status == BindingStatus.ACCEPTED
    assert set(ha.defended) == {LAPTOP, LAPTOP4}
    ha.at(100).feed(ha.laptop.native(over_ipv6(ha.laptop, home4())))
    assert ha.answer().status == BindingStatus.ACCEPTED, "a refresh is not probed for"


def test_134_answers_when_somebody_else_has_the_home_address(probing: HomeScript) -> None:
    ha = probing
    ha.at(0).feed(ha.laptop.native(over_ipv6(ha.laptop, home4())))
    ha.at(1).probed(LAPTOP, LAPTOP).quiet()
    assert ha.answer().status == BindingStatus.DUPLICATE_ADDRESS
    assert ha.agent.deadline() is None


def test_134_answers_when_somebody_else_has_the_link_local_address(probing: HomeScript) -> None:
    ha = probing
    ha.at(0).feed(ha.laptop.native(over_ipv6(ha.laptop, flags=HOME | UpdateFlag.LINK_LOCAL)))
    ha.at(1).probed(LAPTOP, IPv6Address("fe80::77"))
    assert ha.answer().status == BindingStatus.DUPLICATE_ADDRESS


def test_a_static_ipv4_address_in_use_does_not_refuse_the_ipv6_binding(probing: HomeScript) -> None:
    ha = probing
    ha.at(0).feed(ha.laptop.native(over_ipv6(ha.laptop, home4())))
    ha.at(1).probed(LAPTOP, LAPTOP4)
    ack = ha.answer()
    assert ack.status == BindingStatus.ACCEPTED
    assert every(ack.options, Ipv4AddressAck) == (Ipv4AddressAck(128, LAPTOP4, 0),)
    assert ha.route(LAPTOP4) is None


def test_a_dynamic_address_in_use_is_passed_over_for_the_next_one(probing: HomeScript) -> None:
    ha = probing
    ha.at(0).feed(ha.tablet.native(over_ipv6(ha.tablet, home4(DYNAMIC))))
    ha.at(1).probed(TABLET, FIRST_DYNAMIC)
    second = IPv4Address("203.0.113.129")
    assert ha.only(ProbeAddresses).addresses == {second}
    ha.at(2).probed(TABLET)
    assert every(ha.answer().options, Ipv4AddressAck) == (Ipv4AddressAck(0, second, 32),)


def test_a_retransmission_during_the_probe_is_what_gets_answered(probing: HomeScript) -> None:
    ha = probing
    ha.at(0).feed(ha.laptop.native(over_ipv6(ha.laptop, sequence=7)))
    asked = ha.only(ProbeAddresses).addresses
    moved = ha.laptop.native(over_ipv6(ha.laptop, sequence=8, care_of=OTHER_COA6), OTHER_COA6)
    ha.at(0.5).feed(moved).silent()
    ha.at(0.6).feed(ha.laptop.native(over_ipv6(ha.laptop, sequence=7))).silent()
    ha.at(1).feed(Probed(LAPTOP, asked, frozenset()))
    assert ha.answer().sequence == 8
    route = ha.route(LAPTOP)
    assert route is not None
    assert route.path.remote == OTHER_COA6


def test_a_mobile_node_that_leaves_during_the_probe_is_not_bound(probing: HomeScript) -> None:
    ha = probing
    ha.at(0).feed(ha.laptop.native(over_ipv6(ha.laptop)))
    asked = ha.only(ProbeAddresses).addresses
    ha.at(0.5).feed(ha.laptop.native(over_ipv6(ha.laptop, lifetime=0)))
    assert ha.answer().status == BindingStatus.NOT_HOME_AGENT
    ha.at(1).feed(Probed(LAPTOP, asked, frozenset())).silent()


def test_a_probe_that_is_never_answered_is_given_up(probing: HomeScript) -> None:
    ha = probing
    ha.at(0).feed(ha.laptop.native(over_ipv6(ha.laptop)))
    ha.at(5).wakes("probe is given up").silent()
    assert ha.agent.deadline() is None


# ---- the operator -----------------------------------------------------------------------------


def test_a_revoked_binding_ends_and_its_mobile_node_is_told(ha: HomeScript) -> None:
    ha.at(0).feed(ha.laptop.udp(over_ipv4(ha.laptop, home4(), care_of=PRIVATE4), NAT4, 61000))
    ha.at(1).revoked(LAPTOP)
    message = ha.answered().message
    assert message == BindingError(1, LAPTOP)
    assert ha.via().remote_port == 61000
    assert ha.route(LAPTOP) is None
    assert ha.records[LAPTOP].binding is None
    ha.at(2).feed(ha.laptop.udp(over_ipv4(ha.laptop, home4(), care_of=PRIVATE4), NAT4, 61000))
    assert ha.answer().status == BindingStatus.ACCEPTED, "a mobile node that lives comes back"


def test_revoking_what_is_not_bound_does_nothing(ha: HomeScript) -> None:
    ha.at(0).revoked(LAPTOP).silent()


# ---- remembered -------------------------------------------------------------------------------


def test_a_record_survives_as_plain_data(ha: HomeScript) -> None:
    ha.feed(ha.router.udp(over_ipv4(ha.router, home4(DYNAMIC), flags=HOME | UpdateFlag.ROUTER)))
    record = ha.records[ha.router.home_address]
    assert record.binding is not None
    assert record.binding.prefixes
    assert record.leases
    assert from_document(to_document(record)) == record


@pytest.mark.parametrize(
    "path", [("binding",), ("memory",), ("leases",), ("home_address",), ("binding", "local")]
)
def test_damaged_data_is_a_value_error(ha: HomeScript, path: tuple[str, ...]) -> None:
    ha.feed(ha.laptop.native(over_ipv6(ha.laptop)))
    for wrong in ("x", ["y"], {"z": 1}):
        document = to_document(ha.records[LAPTOP])
        at = document
        for key in path[:-1]:
            at = at[key]
        at[path[-1]] = wrong
        with pytest.raises(ValueError):  # noqa: PT011
            from_document(document)


def test_a_configuration_that_takes_something_away_does_not_get_it_back(ha: HomeScript) -> None:
    ha.feed(ha.laptop.native(over_ipv6(ha.laptop, home4())))
    records = list(ha.records.values())
    for change in ({'"203.0.113.77"': '"203.0.113.76"'}, {"interface": "interface"}):
        again = HomeScript(configured(change), records)
        assert (again.route(LAPTOP) is None) == (change != {"interface": "interface"})
    assert HomeScript(configured(laptop="enabled = false"), records).route(LAPTOP) is None


def test_an_agenda_keeps_the_latest_instant_of_each_key() -> None:
    agenda = Agenda()
    for at in range(1000):
        agenda.set(LAPTOP, at)
        agenda.set(TABLET, 2000 - at)
    assert agenda.first() == (999, LAPTOP)
    assert len(agenda._heap) < 200
    agenda.cancel(LAPTOP)
    assert agenda.first() == (1001, TABLET)
    assert agenda.pop_due(1000) is None
    assert agenda.pop_due(1001) == TABLET
    assert agenda.first() is None


@given(
    st.lists(
        st.tuples(st.sampled_from((LAPTOP, TABLET, ROUTER)), st.one_of(st.none(), st.integers(0, 20))),
        max_size=60,
    )
)
def test_an_agenda_is_a_dictionary_with_its_least_value_at_hand(
    steps: list[tuple[IPv6Address, int | None]],
) -> None:
    agenda, model = Agenda(), dict[IPv6Address, float]()
    for home, at in steps:
        if at is None:
            agenda.cancel(home)
            model.pop(home, None)
        else:
            agenda.set(home, at)
            model[home] = at
        first = agenda.first()
        assert (first and first[0]) == min(model.values(), default=None)
    due = []
    while (home := agenda.pop_due(10)) is not None:
        due.append(model.pop(home))
    assert due == sorted(due)
    assert all(at > 10 for at in model.values())
