"""Registration: timers, sequence numbers, statuses (RFC 6275 sections 11.7 and 11.8, draft section 4.4)."""

from __future__ import annotations

import pytest

from mn_agent.actions import AskPathUse, Finished
from mn_agent.events import PathLastUsed, Refresh, Stop
from runtime.node import Deadline
from tests.machines.mobile_node_script import CAFE4, HOME4, MOBILE4, OFFICE6, Script, configuration, link
from tunnel.path import Encapsulation
from wire.mobility import AckFlag, BindingStatus, UpdateFlag
from wire.options import (
    AlternateCareOfAddress,
    BindingRefreshAdvice,
    Ipv4AddressAck,
    Ipv4CareOfAddress,
    Ipv4HomeAddress,
    first,
)

OFFICE = link("eth0", OFFICE6)
CAFE = link("eth0", CAFE4)
MOBILE = link("eth0", MOBILE4)
UNUSED_STATUSES = [s for s in BindingStatus if s >= 128]


@pytest.mark.requirement("R001", "R020", "R021", "R068", "R097")
def test_on_an_ipv6_link_the_update_has_home_address_option_and_alternate_care_of_address() -> None:
    script = Script().at(0.0).links(OFFICE)
    sent = script.one()
    assert sent.protected
    assert sent.packet.source == OFFICE6
    assert sent.packet.home_address_option == script.config.home.ipv6
    assert first(sent.update.options, AlternateCareOfAddress) == AlternateCareOfAddress(OFFICE6)
    assert sent.update.flags == UpdateFlag.ACKNOWLEDGE | UpdateFlag.HOME, "no M: a MAP is not asked for"
    assert first(sent.update.options, Ipv4HomeAddress) == Ipv4HomeAddress(HOME4)
    assert first(sent.update.options, Ipv4CareOfAddress) is None


@pytest.mark.requirement("R033", "R034", "R035", "R036", "R087a", "R096b", "R096c", "R096d", "R096e")
def test_on_an_ipv4_link_the_update_comes_from_the_home_address_and_names_its_care_of_address() -> None:
    script = Script().at(0.0).links(CAFE)
    sent = script.one()
    assert sent.packet.source == script.config.home.ipv6
    assert sent.packet.home_address_option is None
    assert sent.action.care_of == CAFE4
    assert sent.action.port == 4191
    assert first(sent.update.options, Ipv4CareOfAddress) == Ipv4CareOfAddress(CAFE4)
    assert first(sent.update.options, Ipv4HomeAddress) == Ipv4HomeAddress(HOME4)
    assert first(sent.update.options, AlternateCareOfAddress) is None


def test_the_first_registration_is_retried_after_1_5_seconds_doubling_to_32() -> None:
    script = Script().at(0.0).links(OFFICE)
    sequences = [script.one().update.sequence]
    for at in (1.5, 4.5, 10.5, 22.5, 46.5, 78.5, 110.5):
        script.at(at).wakes("binding update retry")
        sequences.append(script.one().update.sequence)
    assert sequences == list(range(100, 108))


def test_a_refresh_is_retried_soon_where_answers_come_soon_doubling_and_data_flows_meanwhile() -> None:
    script = Script()
    script.bind(OFFICE)
    due = script.node.deadline()
    assert due is not None
    assert due.reason == "binding refresh"
    assert 0.76 * 420 <= due.at <= 0.8 * 420
    script.at(due.at).wakes("binding refresh").one()
    for after in (0.15, 1.1, 1.7, 2.9, 5.3, 10.1, 19.7, 38.9):
        assert script.sleep() == "binding update retry"
        assert script.now == pytest.approx(due.at + after)
        script.one()
        assert script.state == "bound"


@pytest.mark.parametrize(
    ("took", "timeout"),
    [(0.0, 0.15), (0.1, 0.15), (0.4, 0.6), (1.02, 0.15), (1.4, 0.6)],
    ids=["at once", "0.1", "0.4", "after duplicate address detection", "that and 0.4"],
)
def test_the_first_timeout_is_one_and_a_half_round_trips_that_were_measured(
    took: float, timeout: float
) -> None:
    """The home agent takes a second to look for duplicates before it answers a first registration."""
    script = Script().at(0.0).links(OFFICE)
    script.at(took).answer(script.one())
    script.at(50.0).links(MOBILE)
    assert script.node.deadline() == Deadline(pytest.approx(50.0 + timeout), "binding update retry")


def test_a_round_trip_through_another_network_is_learnt_with_each_answer() -> None:
    script = Script()
    script.bind(OFFICE)
    script.at(50.0).links(MOBILE)
    sent = script.one()
    script.at(50.15).wakes("binding update retry")
    script.at(50.8).answer(sent)
    script.at(60.0).feed(Refresh())
    assert script.node.deadline() == Deadline(pytest.approx(61.2), "binding update retry")
    script.at(60.1).answer(script.one())
    script.at(70.0).feed(Refresh())
    assert script.node.deadline() == Deadline(pytest.approx(70.15), "binding update retry")


def test_each_care_of_address_has_its_own_back_off() -> None:
    script = Script()
    script.bind(OFFICE)
    script.at(50.0).links(MOBILE)
    for at in (50.15, 51.1, 51.7):
        assert script.sleep() == "binding update retry"
        assert script.now == pytest.approx(at)
    script.at(52.2).links(CAFE).one()
    assert script.sleep() == "binding update retry"
    assert script.now == pytest.approx(52.8)


def test_there_are_never_more_than_three_updates_in_a_second_retransmissions_included() -> None:
    script = Script()
    script.bind(OFFICE)
    script.at(50.0).links(MOBILE).one()
    script.at(50.15).wakes("binding update retry").one()
    script.at(50.3).links(CAFE).one()
    script.at(51.25).wakes("binding update retry").one()
    script.at(51.55).wakes("binding update retry").one()


def test_a_binding_that_nobody_refreshes_expires_and_is_not_called_bound_any_more() -> None:
    script = Script()
    script.bind(OFFICE)
    names = []
    while script.now < 420:
        names.append(script.sleep())
    assert "binding expiry" in names
    assert script.state == "registering"


def test_lifetimes_count_from_the_transmission_of_the_accepted_update() -> None:
    script = Script().at(0.0).links(OFFICE)
    sent = script.one()
    script.at(1.0).answer(sent, lifetime=100)
    binding = script.node.registration.binding
    assert binding is not None
    assert binding.expires_at == 100.0


def test_a_refresh_advice_brings_the_refresh_forward() -> None:
    script = Script()
    script.bind(OFFICE, options=(BindingRefreshAdvice(40),))
    due = script.node.deadline()
    assert due is not None
    assert 38 <= due.at <= 40


def test_an_answer_to_an_earlier_transmission_is_accepted_and_a_stale_one_is_not() -> None:
    script = Script().at(0.0).links(OFFICE)
    first_try = script.one()
    script.at(1.5).wakes("binding update retry")
    script.answer(first_try, sequence=99)
    assert script.state == "registering"
    script.answer(first_try)
    assert script.state == "bound"


def test_unprotected_and_forged_answers_change_nothing_and_are_counted() -> None:
    script = Script().at(0.0).links(OFFICE)
    sent = script.one()
    script.answer(sent, protect=False)
    assert script.state == "registering"
    assert script.node.drops["control-unprotected"] == 1
    script.receive(b"\x60" + bytes(60), sent)
    assert script.state == "registering"
    assert sum(script.node.drops.values()) == 2


def test_an_answer_that_is_replayed_changes_nothing() -> None:
    script = Script().at(0.0).links(OFFICE)
    sent = script.one()
    script.answer(sent)
    script.agent_sealer.next_sequence = 1
    script.feed(Refresh())
    again = script.one()
    script.answer(again)
    assert script.node.drops["esp-replayed"] == 1
    assert script.state == "bound"


def test_status_135_continues_after_the_sequence_number_that_the_home_agent_named() -> None:
    script = Script().at(0.0).links(OFFICE)
    script.answer(script.one(), status=135, sequence=7000)
    assert script.one().update.sequence == 7001
    script.answer(script.one())
    assert script.state == "bound"


def test_a_home_agent_that_always_answers_135_gets_at_most_three_updates_a_second() -> None:
    script = Script().at(0.0).links(OFFICE)
    count = 0
    while script.now < 5.0:
        for sent in script.sent:
            count += 1
            script.answer(sent, status=135, sequence=(sent.update.sequence + 5) & 0xFFFF)
            if script.sent:
                break
        else:
            script.sleep()
    assert count <= 3 * 6


@pytest.mark.parametrize("status", [*UNUSED_STATUSES, 200, 255])
@pytest.mark.requirement("R099")
def test_every_refusal_leads_to_a_defined_state(status: int) -> None:
    script = Script().at(0.0).links(OFFICE)
    script.answer(script.one(), status=status)
    assert script.state in ("rejected", "registering")
    if status in (134, 146):
        assert script.node.registration.deadline() is None, "gives up until asked"
        script.feed(Refresh()).one()
    else:
        assert script.node.deadline() is not None
        assert script.sleep() in (
            "retry after refusal", "try again what failed", "binding update retry", "deregistration retry"
        )  # fmt: skip


@pytest.mark.parametrize("status", [0, 1, 2, 5, 127])
@pytest.mark.requirement("R072")
def test_any_status_below_128_is_an_acceptance(status: int) -> None:
    script = Script()
    script.bind(OFFICE, status=status)
    assert script.state == "bound"


@pytest.mark.requirement("R069", "R096g", "R100")
def test_status_144_makes_the_node_ask_again_without_forcing_udp() -> None:
    script = Script(configuration(more="[tunnel]\nforce_udp = true")).at(0.0).links(CAFE)
    first_try = script.one()
    assert UpdateFlag.FORCE_UDP in first_try.update.flags
    script.answer(first_try, status=144)
    second = script.one()
    assert UpdateFlag.FORCE_UDP not in second.update.flags
    assert second.update.sequence == first_try.update.sequence + 1


# ---- what an acceptance over IPv4 means ------------------------------------------------------
@pytest.mark.requirement("R089b", "R110")
def test_without_nat_payload_goes_ip_in_ip() -> None:
    script = Script()
    script.bind(MOBILE)
    assert script.path.encapsulation is Encapsulation.IP_IN_IP
    assert not [d for d in [script.node.registration.deadline()] if d and d.reason == "NAT keepalive"]


@pytest.mark.requirement("R088", "R102", "R103", "R086e")
def test_behind_a_nat_payload_goes_in_udp_and_the_binding_says_so() -> None:
    script = Script()
    script.bind(CAFE, refresh=110)
    assert script.path.encapsulation is Encapsulation.UDP
    binding = script.node.registration.binding
    assert binding is not None
    assert {entry.encapsulation for entry in binding.entries} == {"udp"}


@pytest.mark.requirement("R079", "R094")
def test_a_home_agent_that_forces_udp_gets_udp_and_no_keepalives() -> None:
    script = Script()
    script.bind(MOBILE, force_udp=True)
    assert script.path.encapsulation is Encapsulation.UDP
    due = script.node.deadline()
    assert due is not None
    assert due.reason == "binding refresh"


@pytest.mark.requirement("R070", "R086a", "R096h", "R108")
def test_tlv_is_used_only_if_both_ends_say_so_and_is_negotiated_anew_each_time() -> None:
    more = '[wire]\nprofile = "rfc5555+rfc5845-tlv"\n[tunnel]\ntlv = true'
    script = Script(configuration(more=more))
    sent = script.bind(CAFE, refresh=110, flags=AckFlag.TLV)
    assert UpdateFlag.TLV in sent.update.flags
    assert script.path.encapsulation is Encapsulation.UDP_TLV
    script.feed(Refresh())
    script.answer(script.one(), refresh=110)
    assert script.path.encapsulation is Encapsulation.UDP


@pytest.mark.requirement("R101", "R005")
def test_one_acknowledgement_makes_two_entries_in_the_binding_update_list() -> None:
    script = Script()
    script.bind(OFFICE)
    binding = script.node.registration.binding
    assert binding is not None
    assert [str(entry.home_address) for entry in binding.entries] == ["2001:db8:99::77", "203.0.113.77"]
    assert script.homes == {"2001:db8:99::77", "203.0.113.77"}


@pytest.mark.requirement("R025", "R026", "R104")
def test_a_home_agent_that_ignores_the_ipv4_home_address_is_not_asked_again() -> None:
    script = Script()
    script.bind(OFFICE, without_ipv4=True)
    binding = script.node.registration.binding
    assert binding is not None
    assert len(binding.entries) == 1
    script.feed(Refresh())
    assert first(script.one().update.options, Ipv4HomeAddress) is None


@pytest.mark.requirement("R105")
def test_it_is_asked_again_if_the_configuration_says_so() -> None:
    script = Script(configuration(more="[binding]\nretry_unacknowledged_ipv4 = true"))
    script.bind(OFFICE, without_ipv4=True)
    script.feed(Refresh())
    assert first(script.one().update.options, Ipv4HomeAddress) is not None


@pytest.mark.parametrize("status", range(128, 134))
@pytest.mark.requirement("R106", "R107", "R073")
def test_a_refused_ipv4_home_address_makes_no_entry(status: int) -> None:
    script = Script()
    script.bind(OFFICE, ipv4=Ipv4AddressAck(status, HOME4, 24))
    binding = script.node.registration.binding
    assert binding is not None
    assert len(binding.entries) == 1
    script.feed(Refresh())
    assert first(script.one().update.options, Ipv4HomeAddress) is not None


@pytest.mark.requirement("R056", "R096f", "R098")
def test_a_dynamic_ipv4_home_address_is_asked_for_with_zeros_and_kept_once_allocated() -> None:
    script = Script(configuration(ipv4='"dynamic"'))
    script.links(OFFICE)
    sent = script.one()
    asked = first(sent.update.options, Ipv4HomeAddress)
    assert asked is not None
    assert asked.address.is_unspecified
    assert asked.prefix_length == 32
    assert script.homes == {"2001:db8:99::77"}
    script.answer(sent, ipv4=Ipv4AddressAck(0, HOME4))
    assert script.homes == {"2001:db8:99::77", "203.0.113.77"}
    script.feed(Refresh())
    assert first(script.one().update.options, Ipv4HomeAddress) == Ipv4HomeAddress(HOME4)


@pytest.mark.requirement("R098")
def test_without_an_ipv4_home_address_no_option_is_sent() -> None:
    script = Script(configuration(ipv4="")).at(0.0).links(OFFICE)
    assert first(script.one().update.options, Ipv4HomeAddress) is None


@pytest.mark.requirement("R030", "R031", "R032")
def test_what_a_nat_is_there_for_is_learnt_from_each_answer_and_used_for_the_tunnel_only() -> None:
    script = Script()
    script.bind(MOBILE, refresh=110)
    behind = script.all_actions
    assert script.node.registration.binding is not None
    assert script.node.registration.binding.nat is True
    script.feed(Refresh())
    script.all_actions = []
    script.answer(script.one())
    assert script.node.registration.binding.nat is False
    assert script.path.encapsulation is Encapsulation.IP_IN_IP
    kinds = {type(action).__name__ for action in (*behind, *script.all_actions)}
    assert kinds <= {
        "KeepUnderlays", "ConfigureEndpoint", "InstallRoutes", "SendControl", "ConfigureKernel", "Remember",
        "AnnounceHome", "ExpectLinks", "WatchLink", "Report", "AskRouters", "AskDhcp", "SendProbe",
    }, "nothing but the registration asks about the NAT: not routers, and a probe is payload"  # fmt: skip


# ---- keepalives -----------------------------------------------------------------------------
@pytest.mark.parametrize(("refresh", "least", "most"), [(110, 98, 110), (20, 18, 20), (0, 98, 110)])
@pytest.mark.requirement("R052", "R081", "R091", "R092", "R093")
def test_an_idle_mapping_is_kept_alive_by_a_binding_update(refresh: int, least: int, most: int) -> None:
    script = Script()
    script.bind(CAFE, refresh=refresh)
    due = script.node.deadline()
    assert due is not None
    assert due.reason == "NAT keepalive"
    assert least <= due.at <= most
    script.at(due.at).wakes("NAT keepalive")
    assert any(isinstance(action, AskPathUse) for action in script.actions)
    script.feed(PathLastUsed(0.0, 0.0))
    kept = script.one()
    assert first(kept.update.options, Ipv4CareOfAddress) == Ipv4CareOfAddress(CAFE4)


@pytest.mark.requirement("R091")
def test_traffic_in_udp_defers_the_keepalive() -> None:
    script = Script()
    script.bind(CAFE, refresh=20)
    script.sleep()
    at = script.now
    script.feed(PathLastUsed(at - 1.0, at - 0.5)).nothing()
    due = script.node.deadline()
    assert due is not None
    assert due.reason == "NAT keepalive"
    assert at + 16 < due.at < at + 20


def test_traffic_that_only_leaves_does_not_defer_it_since_the_mapping_may_be_forgotten() -> None:
    script = Script()
    script.bind(CAFE, refresh=20)
    script.sleep()
    script.feed(PathLastUsed(script.now - 0.1, 0.0)).one()


@pytest.mark.requirement("R095")
def test_a_node_that_need_not_be_reachable_sends_no_keepalives() -> None:
    script = Script(configuration(more="[binding]\nreachable = false"))
    script.bind(CAFE, refresh=20)
    while (reason := script.sleep()) == "NAT keepalive":
        script.nothing().feed(PathLastUsed(0.0, 0.0)).nothing()
    assert reason == "binding refresh"


# ---- leaving --------------------------------------------------------------------------------
@pytest.mark.requirement("R090a", "R035")
def test_a_clean_stop_deregisters_with_lifetime_zero_and_the_same_format() -> None:
    script = Script()
    script.bind(CAFE, refresh=110)
    script.feed(Stop())
    last = script.one()
    assert last.update.lifetime == 0
    assert first(last.update.options, Ipv4CareOfAddress) == Ipv4CareOfAddress(CAFE4)
    script.answer(last, lifetime=0)
    assert any(isinstance(action, Finished) for action in script.actions)


def test_a_clean_stop_does_not_wait_for_ever() -> None:
    script = Script()
    script.bind(OFFICE)
    script.feed(Stop())
    while not any(isinstance(action, Finished) for action in script.actions):
        assert script.sleep() == "deregistration retry"
    assert script.now == pytest.approx(7.0)
    assert len([a for a in script.actions if isinstance(a, Finished)]) == 1


def test_an_acknowledgement_that_nobody_waits_for_is_ignored() -> None:
    script = Script()
    sent = script.bind(OFFICE)
    before = script.node.registration.state
    script.answer(sent, status=129)
    assert script.node.registration.state == before
