"""What in a message speaks for another wire profile: every bit that means two things."""

from __future__ import annotations

from ipaddress import IPv6Address

import pytest

from wire.dialect import in_ack, in_update
from wire.mobility import AckFlag, BindingAck, BindingUpdate, UpdateFlag, decode_message, encode_message
from wire.options import UnknownOption
from wire.profile import DRAFT_00, PROFILES, RFC5555, RFC5555_TLV, Profile

HOME, AGENT = IPv6Address("2001:db8:99::77"), IPv6Address("2001:db8:99::2")
BASE = UpdateFlag.ACKNOWLEDGE | UpdateFlag.HOME
HOME_NETWORK_PREFIX = UnknownOption(22, bytes(18))
NO_FLAGS = AckFlag(0)


def update_as_read(flags: UpdateFlag, written_in: Profile, read_in: Profile) -> BindingUpdate:
    octets = encode_message(BindingUpdate(1, 400, flags), HOME, AGENT, written_in)
    message = decode_message(octets, HOME, AGENT, read_in)
    assert isinstance(message, BindingUpdate)
    return message


def ack_as_read(flags: AckFlag, written_in: Profile, read_in: Profile) -> BindingAck:
    octets = encode_message(BindingAck(0, 1, 400, flags), AGENT, HOME, written_in)
    message = decode_message(octets, AGENT, HOME, read_in)
    assert isinstance(message, BindingAck)
    return message


@pytest.mark.parametrize("profile", PROFILES, ids=lambda profile: profile.name)
def test_what_a_profile_writes_itself_never_looks_odd(profile: Profile) -> None:
    for flag in profile.update_flags:
        if flag is not UpdateFlag.PROXY:
            assert in_update(update_as_read(BASE | flag, profile, profile), profile, native=False) == ""
    for ack_flag in profile.ack_flags:
        if ack_flag is not AckFlag.PROXY:
            assert in_ack(ack_as_read(ack_flag, profile, profile), profile, tlv_asked=True) == ""


@pytest.mark.parametrize(
    ("flag", "written_in", "read_in", "native", "named"),
    [
        (UpdateFlag.FORCE_UDP, DRAFT_00, RFC5555, False, "draft-00"),
        (UpdateFlag.FORCE_UDP, DRAFT_00, RFC5555_TLV, False, "draft-00"),
        (UpdateFlag.TLV, DRAFT_00, RFC5555, True, "draft-00"),
        (UpdateFlag.TLV, DRAFT_00, RFC5555_TLV, True, "draft-00"),
        (UpdateFlag.TLV, RFC5555_TLV, RFC5555, False, "rfc5555+rfc5845-tlv"),
        (UpdateFlag.TLV, RFC5555_TLV, DRAFT_00, False, "rfc5555+rfc5845-tlv"),
    ],
)
def test_an_update_of_another_profile_is_recognised(
    flag: UpdateFlag, written_in: Profile, read_in: Profile, native: bool, named: str
) -> None:
    found = in_update(update_as_read(BASE | flag, written_in, read_in), read_in, native)
    assert found.startswith(f"wire profile {named} (0x")


def test_one_bit_cannot_be_told_apart() -> None:
    """The draft's T over IPv4 is RFC 5555's F, and the other way round: nothing speaks against either."""
    as_forced = update_as_read(BASE | UpdateFlag.TLV, DRAFT_00, RFC5555)
    assert in_update(as_forced, RFC5555, native=False) == ""
    as_tlv = update_as_read(BASE | UpdateFlag.FORCE_UDP, RFC5555, DRAFT_00)
    assert in_update(as_tlv, DRAFT_00, native=False) == ""


def test_a_real_proxy_is_none_of_the_draft() -> None:
    proxy = BindingUpdate(1, 400, BASE | UpdateFlag.PROXY, (HOME_NETWORK_PREFIX,))
    assert in_update(proxy, RFC5555, native=True) == ""
    assert in_ack(BindingAck(0, 1, 400, AckFlag.PROXY, (HOME_NETWORK_PREFIX,)), RFC5555, False) == ""


@pytest.mark.parametrize(
    ("written_in", "read_in", "named"),
    [
        (DRAFT_00, RFC5555, "draft-00"),
        (DRAFT_00, RFC5555_TLV, "draft-00"),
        (RFC5555_TLV, RFC5555, "rfc5555+rfc5845-tlv"),
        (RFC5555_TLV, DRAFT_00, "rfc5555+rfc5845-tlv"),
    ],
)
def test_a_t_bit_of_another_profile_in_an_answer_is_recognised(
    written_in: Profile, read_in: Profile, named: str
) -> None:
    found = in_ack(ack_as_read(AckFlag.TLV, written_in, read_in), read_in, tlv_asked=True)
    assert found.startswith(f"wire profile {named} (0x")


@pytest.mark.requirement("R086b")
@pytest.mark.parametrize("profile", [RFC5555_TLV, DRAFT_00])
def test_a_t_bit_that_nobody_asked_for_is_odd(profile: Profile) -> None:
    ack = ack_as_read(AckFlag.TLV, profile, profile)
    assert "without having been asked" in in_ack(ack, profile, tlv_asked=False)
    assert in_ack(ack_as_read(NO_FLAGS, profile, profile), profile, tlv_asked=False) == ""
