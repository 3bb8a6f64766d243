"""Wire profiles as data: what tells the dialects apart."""

from __future__ import annotations

import pytest

from wire.profile import (
    DRAFT_00,
    DRAFT_TLV_TYPES,
    PROFILES,
    RFC5555,
    RFC5555_TLV,
    Profile,
    TlvLayout,
    UpdateFlag,
    profile_named,
)


@pytest.mark.parametrize(
    ("name", "profile"),
    [("rfc5555", RFC5555), ("rfc5555+rfc5845-tlv", RFC5555_TLV), ("draft-00", DRAFT_00)],
)
def test_a_profile_is_found_by_its_name(name: str, profile: Profile) -> None:
    assert profile_named(name) is profile


def test_an_unknown_name_is_answered_with_the_choices() -> None:
    with pytest.raises(ValueError, match=r"rfc5555, rfc5555\+rfc5845-tlv, draft-00"):
        profile_named("rfc6275")


def test_only_profiles_with_a_layout_have_the_tlv_flag() -> None:
    assert [profile.tlv for profile in PROFILES] == [None, TlvLayout.RFC5845, TlvLayout.DRAFT]
    for profile in PROFILES:
        assert (UpdateFlag.TLV in profile.update_flags) == (profile.tlv is not None)


def test_the_draft_asks_its_own_service_name_first_and_the_standard_one_after_it() -> None:
    assert RFC5555.srv_names == ("_mip6._ipv6",)
    assert DRAFT_00.srv_names == ("mip6ha.ipv6", "_mip6._ipv6")


def test_no_two_flags_of_a_profile_share_a_bit() -> None:
    for profile in PROFILES:
        for table, width in ((profile.update_flags, 16), (profile.ack_flags, 8)):
            bits = list(table.values())
            assert len(set(bits)) == len(bits)
            assert all(bit.bit_count() == 1 and bit < 1 << width for bit in bits)


def test_the_types_of_the_drafts_tlv_header() -> None:
    assert dict(DRAFT_TLV_TYPES) == {4: 1, 41: 2, 50: 3, 47: 4}
