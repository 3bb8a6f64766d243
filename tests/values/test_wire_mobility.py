"""Mobility messages, octet by octet: worked examples, checksums, order of checks, what is refused and how."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address, IPv6Network

import pytest

from tests.fuzz.targets import HOME, HOME_AGENT, with_mobility_checksum
from wire.mobility import (
    MAX_LIFETIME,
    BindingAck,
    BindingError,
    BindingRefreshRequest,
    BindingStatus,
    BindingUpdate,
    CareOfTest,
    HomeTest,
    HomeTestInit,
    Message,
    UnknownMessage,
    UpdateFlag,
    decode_message,
    encode_message,
    status_text,
)
from wire.options import (
    AlternateCareOfAddress,
    Ipv4AddressAck,
    Ipv4CareOfAddress,
    Ipv4HomeAddress,
    MobileNetworkPrefix,
    NatDetection,
)
from wire.profile import DRAFT_00, RFC5555, RFC5555_TLV, AckFlag, Profile
from wire.reader import DecodeError

AH = UpdateFlag.ACKNOWLEDGE | UpdateFlag.HOME

# The sheet gives the octets of its worked examples, but not the addresses. Both its checksums follow from
# any two whose words add up to 0x5c87, such as these.
WORKED_HOME = IPv6Address("2001:db8::114")
WORKED_HOME_AGENT = IPv6Address("2001:db8::1")


def refused(data: bytes, profile: Profile = RFC5555) -> DecodeError:
    with pytest.raises(DecodeError) as refusal:
        decode_message(data, HOME, HOME_AGENT, profile)
    return refusal.value


def raw(kind: int, body: str, payload_protocol: int = 59, length: int | None = None) -> bytes:
    """A mobility header with its right checksum; `body` in hexadecimal from octet 6."""
    octets = bytes.fromhex(body)
    units = (6 + len(octets)) // 8 - 1 if length is None else length
    return with_mobility_checksum(bytes((payload_protocol, units, kind, 0, 0, 0)) + octets)


@pytest.mark.requirement("R059", "R060", "R067")
def test_the_worked_update_of_an_ipv4_link_has_exactly_these_octets() -> None:
    update = BindingUpdate(
        sequence=2,
        lifetime=400,
        flags=AH,
        options=(
            Ipv4HomeAddress(IPv4Address("198.51.100.100")),
            Ipv4CareOfAddress(IPv4Address("203.0.113.50")),
        ),
    )
    octets = bytes.fromhex("3b0305007d8d 0002c0000064 1d068000c6336464 20060000cb007132 01020000")

    assert encode_message(update, WORKED_HOME, WORKED_HOME_AGENT, RFC5555) == octets
    assert decode_message(octets, WORKED_HOME, WORKED_HOME_AGENT, RFC5555) == update


@pytest.mark.requirement("R071", "R077")
def test_the_worked_acknowledgement_behind_a_nat_has_exactly_these_octets() -> None:
    ack = BindingAck(
        status=BindingStatus.ACCEPTED,
        sequence=4,
        lifetime=400,
        options=(Ipv4AddressAck(0, IPv4Address("198.51.100.100")), NatDetection(False, 110)),
    )
    octets = bytes.fromhex("3b030600f7d1 000000040064 1e060080c6336464 1f0600000000006e 01020000")

    assert encode_message(ack, WORKED_HOME_AGENT, WORKED_HOME, RFC5555) == octets
    assert decode_message(octets, WORKED_HOME_AGENT, WORKED_HOME, RFC5555) == ack


def test_an_update_without_options_ends_in_four_octets_of_padding() -> None:
    octets = encode_message(BindingUpdate(1, 4, AH), HOME, HOME_AGENT, RFC5555)

    assert octets[6:] == bytes.fromhex("0001c0000001 01020000")


def test_an_alternate_care_of_address_comes_after_two_octets_of_padding() -> None:
    option = AlternateCareOfAddress(IPv6Address("2001:db8:1::5"))
    octets = encode_message(BindingUpdate(1, 4, AH, (option,)), HOME, HOME_AGENT, RFC5555)

    assert octets[12:] == bytes.fromhex("0100 0310 20010db8000100000000000000000005")


@pytest.mark.parametrize(
    ("message", "home", "checksum"),
    [
        (BindingUpdate(0, 12, AH | UpdateFlag.KEY_MANAGEMENT), "::", 0xEE60),
        (
            BindingUpdate(
                0,
                168,
                AH | UpdateFlag.KEY_MANAGEMENT,
                (AlternateCareOfAddress(IPv6Address("::")), MobileNetworkPrefix(IPv6Network("::/64"))),
            ),
            "2001:db8::cafe",
            0xEAF2,
        ),
    ],
)
def test_the_checksum_takes_the_home_address_for_the_source(
    message: Message, home: str, checksum: int
) -> None:
    """Values from scapy's own tests: packets from ::1 to ::1 with these home address options."""
    octets = encode_message(message, IPv6Address(home), IPv6Address("::1"), RFC5555)

    assert int.from_bytes(octets[4:6], "big") == checksum


def test_a_wrong_checksum_is_refused_in_silence() -> None:
    octets = bytearray(encode_message(BindingUpdate(1, 400, AH), HOME, HOME_AGENT, RFC5555))
    octets[5] ^= 1
    refusal = refused(bytes(octets))

    assert refusal.reason == "mobility header checksum is wrong"
    assert refusal.pointer is None


def test_a_message_for_other_addresses_is_refused() -> None:
    octets = encode_message(BindingUpdate(1, 400, AH), HOME, HOME_AGENT, RFC5555)

    with pytest.raises(DecodeError, match="checksum"):
        decode_message(octets, IPv6Address("2001:db8:99::78"), HOME_AGENT, RFC5555)


def test_a_checksum_is_judged_before_the_type_and_the_type_before_everything_else() -> None:
    assert decode_message(raw(42, "0000", payload_protocol=6), HOME, HOME_AGENT, RFC5555) == UnknownMessage(
        42, bytes(2)
    )
    assert refused(raw(5, "000000000000 01020000", payload_protocol=6, length=1)).pointer == 0
    assert refused(raw(5, "0000", payload_protocol=6)).pointer == 0
    assert refused(bytes((6, 0, 42, 0, 0, 0, 0, 0))).reason == "mobility header checksum is wrong"


@pytest.mark.parametrize(("kind", "minimum"), [(1, 1), (2, 1), (3, 2), (4, 2), (5, 1), (6, 1), (7, 2)])
def test_a_header_shorter_than_its_type_is_a_parameter_problem_of_the_length(kind: int, minimum: int) -> None:
    refusal = refused(raw(kind, "00" * (8 * minimum - 6)))

    assert (refusal.pointer, refusal.code) == (1, 0)
    decode_message(raw(kind, "00" * (8 * minimum + 2)), HOME, HOME_AGENT, RFC5555)


@pytest.mark.parametrize("data", [b"", b"\x3b", bytes(7), bytes((59, 1, 5, 0, 0, 0, 0, 0))])
def test_a_header_that_does_not_fit_its_packet_is_refused_in_silence(data: bytes) -> None:
    assert refused(data).pointer is None


def test_octets_behind_the_header_are_ignored() -> None:
    message = BindingRefreshRequest()
    octets = encode_message(message, HOME, HOME_AGENT, RFC5555)

    assert decode_message(octets + b"link padding", HOME, HOME_AGENT, RFC5555) == message


def test_reserved_octets_are_zero_when_sent_and_ignored_when_received() -> None:
    assert decode_message(raw(0, "ffff"), HOME, HOME_AGENT, RFC5555) == BindingRefreshRequest()
    assert decode_message(raw(1, "ffff" + "61" * 8), HOME, HOME_AGENT, RFC5555) == HomeTestInit(b"a" * 8)
    assert decode_message(raw(7, "02ff" + HOME.packed.hex()), HOME, HOME_AGENT, RFC5555) == BindingError(
        2, HOME
    )
    assert encode_message(BindingError(2, HOME), HOME, HOME_AGENT, RFC5555)[7] == 0


def test_test_messages_carry_index_cookie_and_token_in_this_order() -> None:
    for message, kind in (
        (HomeTest(0x0102, b"cookie__", b"token___"), 3),
        (CareOfTest(0x0102, b"cookie__", b"token___"), 4),
    ):
        octets = encode_message(message, HOME, HOME_AGENT, RFC5555)
        assert octets[:4] == bytes((59, 2, kind, 0))
        assert octets[6:] == b"\x01\x02cookie__token___"


@pytest.mark.parametrize(
    ("profile", "flag", "bit"),
    [
        (RFC5555, UpdateFlag.PROXY, 0x0200),
        (RFC5555, UpdateFlag.FORCE_UDP, 0x0100),
        (RFC5555_TLV, UpdateFlag.FORCE_UDP, 0x0100),
        (RFC5555_TLV, UpdateFlag.TLV, 0x0080),
        (DRAFT_00, UpdateFlag.FORCE_UDP, 0x0200),
        (DRAFT_00, UpdateFlag.TLV, 0x0100),
        *((profile, UpdateFlag.ACKNOWLEDGE, 0x8000) for profile in (RFC5555, DRAFT_00)),
        *((profile, UpdateFlag.HOME, 0x4000) for profile in (RFC5555, DRAFT_00)),
        *((profile, UpdateFlag.LINK_LOCAL, 0x2000) for profile in (RFC5555, DRAFT_00)),
        *((profile, UpdateFlag.KEY_MANAGEMENT, 0x1000) for profile in (RFC5555, DRAFT_00)),
        *((profile, UpdateFlag.MAP, 0x0800) for profile in (RFC5555, DRAFT_00)),
        *((profile, UpdateFlag.ROUTER, 0x0400) for profile in (RFC5555, DRAFT_00)),
    ],
)
def test_each_update_flag_is_one_bit_of_its_profile(profile: Profile, flag: UpdateFlag, bit: int) -> None:
    octets = encode_message(BindingUpdate(0, 0, flag), HOME, HOME_AGENT, profile)

    assert int.from_bytes(octets[8:10], "big") == bit


@pytest.mark.parametrize(
    ("profile", "flag", "bit"),
    [
        (RFC5555, AckFlag.KEY_MANAGEMENT, 0x80),
        (RFC5555, AckFlag.ROUTER, 0x40),
        (RFC5555, AckFlag.PROXY, 0x20),
        (RFC5555_TLV, AckFlag.TLV, 0x10),
        (DRAFT_00, AckFlag.TLV, 0x20),
    ],
)
def test_each_ack_flag_is_one_bit_of_its_profile(profile: Profile, flag: AckFlag, bit: int) -> None:
    octets = encode_message(BindingAck(0, 0, 0, flag), HOME, HOME_AGENT, profile)

    assert octets[7] == bit


def test_flags_without_a_name_survive_a_round_trip() -> None:
    decoded = decode_message(raw(5, "0001 c0ff 0064 01020000"), HOME, HOME_AGENT, RFC5555)

    assert decoded == BindingUpdate(1, 400, AH, unknown_flags=0x00FF)
    assert encode_message(decoded, HOME, HOME_AGENT, RFC5555)[8:10] == b"\xc0\xff"
    acknowledged = decode_message(raw(6, "00 1f 0001 0064 01020000"), HOME, HOME_AGENT, RFC5555)
    assert acknowledged == BindingAck(0, 1, 400, unknown_flags=0x1F)


def test_the_same_octets_mean_another_flag_in_the_other_profile() -> None:
    octets = raw(5, "0001 c200 0064 01020000")

    assert decode_message(octets, HOME, HOME_AGENT, RFC5555) == BindingUpdate(1, 400, AH | UpdateFlag.PROXY)
    assert decode_message(octets, HOME, HOME_AGENT, DRAFT_00) == BindingUpdate(
        1, 400, AH | UpdateFlag.FORCE_UDP
    )


@pytest.mark.parametrize(
    ("message", "profile"),
    [
        (BindingUpdate(1, 4, UpdateFlag.TLV), RFC5555),
        (BindingUpdate(1, 4, UpdateFlag.PROXY), DRAFT_00),
        (BindingUpdate(1, 4, AH, unknown_flags=0x8000), RFC5555),
        (BindingUpdate(1, 4, AH, unknown_flags=0x10000), RFC5555),
        (BindingUpdate(65536, 4, AH), RFC5555),
        (BindingUpdate(1, -4, AH), RFC5555),
        (BindingAck(256, 1, 4), RFC5555),
        (BindingAck(0, 1, 4, AckFlag.TLV), RFC5555),
        (HomeTestInit(b"short"), RFC5555),
        (UnknownMessage(16, bytes(3)), RFC5555),
        (UnknownMessage(256, bytes(2)), RFC5555),
        (UnknownMessage(16, bytes(2050)), RFC5555),
    ],
)
def test_what_the_wire_cannot_say_is_a_value_error(message: Message, profile: Profile) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        encode_message(message, HOME, HOME_AGENT, profile)


@pytest.mark.parametrize(
    ("seconds", "units"),
    [(0, 0), (3, 0), (4, 1), (7, 1), (420, 105), (MAX_LIFETIME, 0xFFFF), (MAX_LIFETIME + 4, 0xFFFF)],
)
def test_lifetimes_are_units_of_four_seconds_rounded_down_and_capped(seconds: int, units: int) -> None:
    update = encode_message(BindingUpdate(0, seconds, AH), HOME, HOME_AGENT, RFC5555)
    ack = encode_message(BindingAck(0, 0, seconds), HOME, HOME_AGENT, RFC5555)

    assert int.from_bytes(update[10:12], "big") == int.from_bytes(ack[10:12], "big") == units


def test_a_status_has_its_name_and_an_unknown_one_stays_a_number() -> None:
    for code, expected in (
        (135, BindingStatus.SEQUENCE_OUT_OF_WINDOW),
        (128, BindingStatus.UNSPECIFIED),
        (127, 127),
        (200, 200),
    ):
        ack = decode_message(raw(6, f"{code:02x}00 0001 0000 01020000"), HOME, HOME_AGENT, RFC5555)
        assert isinstance(ack, BindingAck)
        assert ack.status == expected
        assert ack.accepted == (code < 128)
    assert status_text(134) == "the home address is in use by another node"
    assert status_text(200) == "refused (status 200)"
    assert status_text(60) == "accepted (status 60)"
    assert [int(status) for status in BindingStatus] == [
        *range(6),
        *range(128, 152),
        *range(163, 170),
        174,
        176,
    ]
    assert all(status.text == status_text(status) for status in BindingStatus)


def test_option_numbers_can_be_those_of_a_peer_from_before_their_assignment() -> None:
    early = replace(DRAFT_00, option_types={29: 200, 32: 201})
    update = BindingUpdate(
        1, 400, AH, (Ipv4HomeAddress(IPv4Address(0)), Ipv4CareOfAddress(IPv4Address("10.0.0.5")))
    )
    octets = encode_message(update, HOME, HOME_AGENT, early)

    assert (octets[12], octets[20]) == (200, 201)
    assert decode_message(octets, HOME, HOME_AGENT, early) == update
    assert decode_message(octets, HOME, HOME_AGENT, DRAFT_00) != update
