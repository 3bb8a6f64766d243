"""Which acknowledgement answers which request for an IPv4 home address or prefix."""

from __future__ import annotations

from ipaddress import IPv4Address

import pytest

from mn_agent.ipv4_answers import address_answer, ipv4_answers
from wire.mobility import BindingAck, BindingUpdate, UpdateFlag
from wire.options import Ipv4AddressAck, Ipv4HomeAddress

HOME, ANY, LAN = IPv4Address("203.0.113.77"), IPv4Address("0.0.0.0"), IPv4Address("10.64.0.0")
ADDRESS, DYNAMIC = Ipv4HomeAddress(HOME), Ipv4HomeAddress(ANY)
PREFIX, FIRST_PREFIX = Ipv4HomeAddress(LAN, 24), Ipv4HomeAddress(ANY, 24, prefix_request=True)
HOME_ACK, LAN_ACK = Ipv4AddressAck(0, HOME), Ipv4AddressAck(0, LAN, 24)


def update(*asked: Ipv4HomeAddress) -> BindingUpdate:
    return BindingUpdate(1, 420, UpdateFlag.ACKNOWLEDGE | UpdateFlag.HOME, asked)


def ack(*answers: Ipv4AddressAck) -> BindingAck:
    return BindingAck(0, 1, 420, options=answers)


@pytest.mark.requirement("R066")
@pytest.mark.parametrize("asked", [(ADDRESS, PREFIX), (DYNAMIC, FIRST_PREFIX), (ADDRESS, FIRST_PREFIX)])
@pytest.mark.parametrize("turned", [False, True])
def test_two_requests_get_their_answers_in_any_order(
    asked: tuple[Ipv4HomeAddress, Ipv4HomeAddress], turned: bool
) -> None:
    answers = (LAN_ACK, HOME_ACK) if turned else (HOME_ACK, LAN_ACK)
    found = ipv4_answers(update(*asked), ack(*answers))
    assert found == ((asked[0], HOME_ACK), (asked[1], LAN_ACK))


def test_a_prefix_that_was_cut_down_is_still_the_answer() -> None:
    smaller = Ipv4AddressAck(0, IPv4Address("10.64.0.128"), 28)
    assert ipv4_answers(update(PREFIX, ADDRESS), ack(HOME_ACK, smaller))[0] == (PREFIX, smaller)


def test_refusals_are_taken_by_name_and_then_in_order() -> None:
    no_prefix, no_address = Ipv4AddressAck(133, ANY, 0), Ipv4AddressAck(130, HOME, 0)
    assert ipv4_answers(update(FIRST_PREFIX, ADDRESS), ack(no_address, no_prefix)) == (
        (FIRST_PREFIX, no_prefix),
        (ADDRESS, no_address),
    )


def test_what_is_not_answered_stays_without_answer() -> None:
    assert ipv4_answers(update(ADDRESS, FIRST_PREFIX), ack(HOME_ACK)) == (
        (ADDRESS, HOME_ACK),
        (FIRST_PREFIX, None),
    )
    assert address_answer(update(FIRST_PREFIX), ack(LAN_ACK)) is None, "a prefix is no home address"


@pytest.mark.parametrize("useless", ["0.0.0.0", "224.0.0.1", "127.0.0.1"])
def test_a_home_address_that_no_host_can_have_is_none(useless: str) -> None:
    assert address_answer(update(DYNAMIC), ack(Ipv4AddressAck(0, IPv4Address(useless)))) is None
    refused = Ipv4AddressAck(132, IPv4Address(useless), 0)
    assert address_answer(update(DYNAMIC), ack(refused)) == refused
