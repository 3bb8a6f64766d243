"""The authentication option: every octet that it should cover, and nothing is believed without it."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz import strategies
from tunnel.authentication import (
    AuthenticationAssociation,
    Evidence,
    as_care_of,
    claimed_care_of,
    evidence_in,
    names_its_sender,
    protection,
    sign,
    timestamp_in,
)
from tunnel.envelope import ControlPacket, OpenedControl, open_control, seal_control
from tunnel.security import Integrity, KeyPair, SecurityAssociation
from wire.checksum import internet_checksum, pseudo_header6, word_sum
from wire.mobility import (
    BindingAck,
    BindingError,
    BindingRefreshRequest,
    BindingUpdate,
    Message,
    UpdateFlag,
)
from wire.options import (
    AlternateCareOfAddress,
    Authentication,
    Ipv4CareOfAddress,
    Ipv4HomeAddress,
    MessageIdentification,
    MobileNodeIdentifier,
    Option,
    UnknownOption,
)
from wire.profile import DRAFT_00, RFC5555, RFC5555_TLV, Profile

HOME, AGENT = IPv6Address("2001:db8:99::77"), IPv6Address("2001:db8:99::2")
CARE_OF6, CARE_OF4 = IPv6Address("2001:db8:a::10"), IPv4Address("192.168.7.10")
KEY = bytes(range(16))
ASSOCIATION = AuthenticationAssociation(0x1003, KEY)
NAMED = AuthenticationAssociation(0x1003, KEY, "mn@example.net")
TIME = 0xEEF45080_12345678
AH = UpdateFlag.ACKNOWLEDGE | UpdateFlag.HOME


def update(*options: Option) -> BindingUpdate:
    return BindingUpdate(2, 400, AH, options)


IN_UDP = ControlPacket(HOME, AGENT, update(Ipv4HomeAddress(IPv4Address(0)), Ipv4CareOfAddress(CARE_OF4)))
NATIVE = ControlPacket(CARE_OF6, AGENT, update(AlternateCareOfAddress(CARE_OF6)), home_address_option=HOME)
ANSWER = ControlPacket(AGENT, CARE_OF6, BindingAck(0, 2, 400), routing_home_address=HOME)


def opened(data: bytes, profile: Profile = RFC5555) -> OpenedControl:
    result = open_control(data, {}, profile)
    assert isinstance(result, OpenedControl), result
    return result


def evidence(data: bytes, profile: Profile = RFC5555) -> Evidence:
    found = evidence_in(opened(data, profile), profile)
    assert found is not None
    return found


@pytest.mark.requirement("R096i")
def test_the_octets_of_an_update_over_ipv4_are_the_expected_ones() -> None:
    data = sign(IN_UDP, ASSOCIATION, as_care_of(CARE_OF4), TIME, RFC5555)
    header = data[40:]
    assert header[:4].hex() == "3b070500"
    fixed, home4, care_of4 = "0002c0000064", "1d06800000000000", "20060000c0a8070a"
    assert header[6:28].hex() == fixed + home4 + care_of4
    place = header.index(bytes.fromhex("0a08"))
    assert place % 8 == 2
    assert header[place + 2 : place + 10] == TIME.to_bytes(8, "big")
    assert header[-19:-12].hex() == "09110100001003"
    covered = header[:4] + b"\0\0" + header[6:-12]
    mobility_data = bytes(10) + b"\xff\xff" + CARE_OF4.packed + HOME.packed + covered
    assert header[-12:] == hmac.new(KEY, mobility_data, hashlib.sha1).digest()[:12]


def test_an_ipv6_care_of_address_stands_as_it_is() -> None:
    header = sign(NATIVE, ASSOCIATION, CARE_OF6, TIME, RFC5555)[64:]
    covered = CARE_OF6.packed + HOME.packed + header[:4] + b"\0\0" + header[6:-12]
    assert header[-12:] == hmac.new(KEY, covered, hashlib.sha1).digest()[:12]


def test_the_home_address_of_an_answer_is_where_it_ends() -> None:
    header = sign(ANSWER, ASSOCIATION, CARE_OF6, TIME, RFC5555)[64:]
    covered = CARE_OF6.packed + HOME.packed + header[:4] + b"\0\0" + header[6:-12]
    assert header[-12:] == hmac.new(KEY, covered, hashlib.sha1).digest()[:12]


@pytest.mark.parametrize("packet", [IN_UDP, NATIVE, ANSWER])
@pytest.mark.parametrize("profile", [RFC5555, RFC5555_TLV, DRAFT_00])
def test_what_is_signed_is_believed(packet: ControlPacket, profile: Profile) -> None:
    care_of = as_care_of(CARE_OF4) if packet is IN_UDP else CARE_OF6
    data = sign(packet, NAMED, care_of, TIME, profile)
    message = opened(data, profile).packet.message
    assert evidence(data, profile).proves(NAMED, care_of, HOME)
    assert evidence(data, profile).spi == NAMED.spi
    assert names_its_sender(message, NAMED)
    assert timestamp_in(message) == TIME


@given(
    st.one_of(strategies.updates(RFC5555), strategies.acks(RFC5555)),
    st.booleans(),
    st.one_of(st.none(), st.just(TIME)),
)
@settings(max_examples=200, deadline=None, derandomize=True)
def test_whatever_the_message_says_it_can_be_signed_and_verified(
    message: BindingUpdate | BindingAck, named: bool, timestamp: int | None
) -> None:
    options = tuple(o for o in message.options if not isinstance(o, Authentication) and not _last_by_law(o))
    message = replace(message, options=options)
    association = NAMED if named else ASSOCIATION
    ends = (HOME, AGENT) if isinstance(message, BindingUpdate) else (AGENT, HOME)
    data = sign(ControlPacket(*ends, message), association, CARE_OF6, timestamp, RFC5555)
    assert len(data) % 8 == 0
    assert evidence(data).proves(association, CARE_OF6, HOME)
    assert not evidence(data).proves(association, CARE_OF6, AGENT)
    assert not evidence(data).proves(association, AGENT, HOME)
    assert not evidence(data).proves(AuthenticationAssociation(0x1003, bytes(16)), CARE_OF6, HOME)


def _last_by_law(option: Option) -> bool:
    return type(option).__name__ == "BindingAuthorization"


@pytest.mark.parametrize("packet", [IN_UDP, NATIVE, ANSWER])
def test_no_bit_of_the_message_can_be_changed(packet: ControlPacket) -> None:
    care_of = as_care_of(CARE_OF4) if packet is IN_UDP else CARE_OF6
    data = sign(packet, NAMED, care_of, TIME, RFC5555)
    start = 40 if packet is IN_UDP else 64
    for position in range(start + 6, len(data)):
        for bit in range(8):
            changed = data[:position] + bytes([data[position] ^ 1 << bit]) + data[position + 1 :]
            found = open_control(_summed(changed, start), {}, RFC5555)
            if isinstance(found, OpenedControl):
                proof = evidence_in(found, RFC5555)
                believed = proof is not None and proof.spi == NAMED.spi and proof.proves(NAMED, care_of, HOME)
                assert not believed, (position, bit)


def _summed(data: bytes, start: int) -> bytes:
    """`data` with the right checksum: the attacker can compute one."""
    ends = (HOME, AGENT) if data[start + 2] == 5 else (AGENT, HOME)
    header = data[start : start + 4] + bytes(2) + data[start + 6 :]
    initial = word_sum(pseudo_header6(*ends, len(header), 135))
    return data[:start] + header[:4] + internet_checksum(header, initial).to_bytes(2, "big") + header[6:]


OPTION = Authentication(1, 0x1003, bytes(12))


@pytest.mark.parametrize(
    "message",
    [
        update(),
        update(OPTION, OPTION),
        update(OPTION, MessageIdentification(TIME)),
        update(OPTION, Authentication(2, 3, bytes(12))),
        update(Authentication(2, 3, bytes(12))),
        update(UnknownOption(200, b"\x09\x11\x01\x00\x00\x10\x03" + bytes(12))),
        BindingRefreshRequest(),
    ],
)
def test_an_option_that_is_not_the_only_last_one_is_as_good_as_none(message: Message) -> None:
    data = seal_control(ControlPacket(HOME, AGENT, message), None, RFC5555)
    assert evidence_in(opened(data), RFC5555) is None


def test_padding_behind_the_option_does_no_harm() -> None:
    """Other people align the option by its 4n+1 alone, and then fill up the header."""
    header = bytearray.fromhex("3b04050000000002c00000640009110100001003")
    header += bytes(12) + bytes.fromhex("0106000000000000")
    covered = CARE_OF6.packed + HOME.packed + bytes(header[:20])
    header[20:32] = hmac.new(KEY, covered, hashlib.sha1).digest()[:12]
    packet = ControlPacket(HOME, AGENT, update())
    data = seal_control(packet, None, RFC5555)[:40] + bytes(header)
    data = data[:4] + len(header).to_bytes(2, "big") + data[6:]
    assert evidence(_summed(data, 40)).proves(ASSOCIATION, CARE_OF6, HOME)


@pytest.mark.parametrize(
    "message",
    [
        BindingRefreshRequest(),
        BindingError(1, HOME),
        BindingRefreshRequest((UnknownOption(200, b"\x09"),)),
        BindingError(1, HOME, (UnknownOption(9 + 128, b"\x09\x11\x01"),)),
    ],
)
def test_other_messages_of_the_home_agent_are_signed_too(
    message: BindingRefreshRequest | BindingError,
) -> None:
    data = sign(ControlPacket(AGENT, HOME, message), ASSOCIATION, CARE_OF6, TIME, RFC5555)
    assert evidence(data).proves(ASSOCIATION, CARE_OF6, HOME)


def test_the_care_of_address_is_the_one_that_the_update_claims() -> None:
    assert claimed_care_of(IN_UDP) == IPv6Address("::ffff:192.168.7.10")
    assert claimed_care_of(NATIVE) == CARE_OF6
    behind = ControlPacket(CARE_OF6, AGENT, update(AlternateCareOfAddress(AGENT)), home_address_option=HOME)
    assert claimed_care_of(behind) == AGENT
    assert claimed_care_of(ControlPacket(HOME, AGENT, update())) == HOME, "at home, or without option 32"


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ((), False),
        ((MobileNodeIdentifier(1, b"mn@example.net"),), True),
        ((MobileNodeIdentifier(2, b"mn@example.net"),), False),
        ((MobileNodeIdentifier(1, b"nm@example.net"),), False),
        ((MobileNodeIdentifier(1, b"mn@example.net"), MobileNodeIdentifier(1, b"x")), False),
    ],
)
def test_the_identifier_has_to_be_the_configured_one(options: tuple[Option, ...], named: bool) -> None:
    assert names_its_sender(update(*options), NAMED) is named
    assert names_its_sender(update(*options), ASSOCIATION), "where none is configured, any is good"


def test_two_timestamps_are_none() -> None:
    one = MessageIdentification(TIME)
    assert timestamp_in(update(one)) == TIME
    assert timestamp_in(update(one, one)) is None


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ((255, KEY), "spi must be between"),
        ((256, KEY[1:]), "16 octets"),
        ((256, KEY, "ä"), "printable ASCII"),
    ],
)
def test_an_impossible_association_is_refused_in_words(fields: tuple[Any, ...], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        AuthenticationAssociation(*fields)


def test_the_method_has_a_name_for_people() -> None:
    pair = SecurityAssociation(256, Integrity.HMAC_SHA1_96, bytes(20))
    assert protection(KeyPair(pair, pair)) == "esp null hmac-sha1-96"
    assert protection(ASSOCIATION) == "authentication-option hmac-sha1-96"
