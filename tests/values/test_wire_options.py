"""Mobility options, octet by octet: layout, alignment, reserved bits, malformed ones."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, IPv6Network

import pytest

from wire.option_codec import MAX_OPTIONS, decode_options, encode_options
from wire.options import (
    NATKATIMEOUT,
    NO_KEEPALIVE,
    AlternateCareOfAddress,
    Authentication,
    BindingAuthorization,
    BindingIdentifier,
    BindingRefreshAdvice,
    Ipv4AckStatus,
    Ipv4AddressAck,
    Ipv4CareOfAddress,
    Ipv4HomeAddress,
    MessageIdentification,
    MobileNetworkPrefix,
    MobileNodeIdentifier,
    MobileNodeLinkLayerAddress,
    NatDetection,
    NonceIndices,
    Option,
    UnknownOption,
    every,
    first,
)
from wire.profile import HOME_AGENT_PORT
from wire.reader import DecodeError

ADDRESS4 = IPv4Address("198.51.100.100")
ADDRESS6 = IPv6Address("2001:db8:1::5")
UPDATE_OPTIONS = 12
"""Where the options of a binding update or acknowledgement begin."""


def encode(*options: Option, start: int = UPDATE_OPTIONS) -> str:
    return encode_options(options, start, {}).hex()


def decode(octets: str, start: int = UPDATE_OPTIONS) -> tuple[Option, ...]:
    return decode_options(bytes(start) + bytes.fromhex(octets), start, {})


@pytest.mark.parametrize(
    ("option", "octets"),
    [
        (BindingRefreshAdvice(400), "02020064"),
        (AlternateCareOfAddress(ADDRESS6), "01000310 20010db8000100000000000000000005"),
        (NonceIndices(1, 0x203), "0404 0001 020301040000 0000"),
        (BindingAuthorization(b"abcdefghijkl"), "01040000 0000050c 6162636465666768696a6b6c"),
        (
            MobileNetworkPrefix(IPv6Network("2001:db8:aa::/56")),
            "0612 0038 20010db800aa00000000000000000000",
        ),
        (MobileNodeLinkLayerAddress(b"\x02\1\2\3\4\5\6"), "0707 020102030405060101 00"),
        (MobileNodeIdentifier(1, b"mn@x"), "0805 01 6d6e407801030000 00"),
        (Authentication(1, 256, b"abcdefghijkl"), "000911 01 00000100 6162636465666768696a6b6c"),
        (MessageIdentification(0x0102030405060708), "01040000 00000a08 010203040506070801020000"),
        (Ipv4HomeAddress(ADDRESS4), "1d06 8000 c633646401020000"),
        (Ipv4HomeAddress(IPv4Address(0), 24, prefix_request=True), "1d06 6200 0000000001020000"),
        (Ipv4AddressAck(0, ADDRESS4), "1e06 0080 c633646401020000"),
        (NatDetection(False, 110), "1f06 0000 0000006e01020000"),
        (NatDetection(True, NO_KEEPALIVE), "1f06 8000 ffffffff01020000"),
        (Ipv4CareOfAddress(ADDRESS4), "2006 0000 c633646401020000"),
        (BindingIdentifier(7, 4, True, None), "2304 0007 04 8001040000 0000"),
        (BindingIdentifier(7, 0, False, ADDRESS4), "01040000 00002308 0007 00 00 c633646401020000"),
        (
            BindingIdentifier(7, 0, False, ADDRESS6),
            "01040000 00002314 0007 00 00 20010db8000100000000000000000005",
        ),
        (UnknownOption(200, b"later"), "c805 6c6174657201030000 00"),
    ],
)
@pytest.mark.requirement("R059", "R067", "R071", "R077")
def test_each_option_has_its_octets_and_its_alignment_in_an_update(option: Option, octets: str) -> None:
    octets = octets.replace(" ", "")

    assert encode(option) == octets
    assert decode(octets) == (option,)


@pytest.mark.requirement("R137")
def test_the_numbers_that_iana_and_the_rfc_gave() -> None:
    numbers = [
        bytes.fromhex(encode(option))[0]
        for option in (
            Ipv4HomeAddress(ADDRESS4),
            Ipv4AddressAck(0, ADDRESS4),
            NatDetection(False, 0),
            Ipv4CareOfAddress(ADDRESS4),
        )
    ]

    assert numbers == [29, 30, 31, 32]
    assert NATKATIMEOUT == 110
    assert HOME_AGENT_PORT == 4191


@pytest.mark.parametrize("start", range(8, 16))
@pytest.mark.parametrize(
    "option", [Ipv4HomeAddress(ADDRESS4), Ipv4AddressAck(0, ADDRESS4), NatDetection(True, 9)]
)
@pytest.mark.requirement("R059", "R071", "R077")
def test_dual_stack_options_start_at_a_multiple_of_four_wherever_they_stand(
    option: Option, start: int
) -> None:
    octets = bytes(start) + bytes.fromhex(encode(option, start=start))
    number = bytes.fromhex(encode(option))[0]
    at = octets.index(number)

    assert at % 4 == 0
    assert octets[at + 1] == 6
    assert len(octets) % 8 == 0


@pytest.mark.requirement("R060")
def test_a_single_address_has_prefix_length_32_unless_told_otherwise() -> None:
    assert Ipv4HomeAddress(ADDRESS4).prefix_length == 32
    assert bytes.fromhex(encode(Ipv4HomeAddress(ADDRESS4)))[2] == 0x80


@pytest.mark.requirement("R062")
def test_prefix_length_zero_is_never_sent_and_seen_for_what_it_is() -> None:
    for length in (0, 33, 63, 64, -1):
        with pytest.raises(ValueError, match="prefix length"):
            encode(Ipv4HomeAddress(ADDRESS4, length))
    assert decode("1d06 0000 c6336464 01020000") == (Ipv4HomeAddress(ADDRESS4, 0),)


@pytest.mark.requirement("R064")
def test_reserved_bits_of_the_home_address_are_sent_zero_and_ignored() -> None:
    assert decode("1d06 81ff c6336464 01020000") == (Ipv4HomeAddress(ADDRESS4),)
    assert bytes.fromhex(encode(Ipv4HomeAddress(ADDRESS4, 32, True)))[2:4] == b"\x82\x00"


@pytest.mark.requirement("R067")
def test_reserved_bits_of_the_care_of_address_are_sent_zero_and_ignored() -> None:
    assert decode("2006 ffff c6336464 01020000") == (Ipv4CareOfAddress(ADDRESS4),)
    assert bytes.fromhex(encode(Ipv4CareOfAddress(ADDRESS4)))[2:4] == b"\0\0"


@pytest.mark.requirement("R075")
def test_reserved_bits_of_the_acknowledgement_are_sent_zero_and_ignored() -> None:
    assert decode("1e06 0083 c6336464 01020000") == (Ipv4AddressAck(0, ADDRESS4),)
    assert bytes.fromhex(encode(Ipv4AddressAck(0, ADDRESS4)))[3] & 0x03 == 0


@pytest.mark.requirement("R073")
def test_the_prefix_length_of_a_failure_is_sent_zero_and_ignored() -> None:
    failure = Ipv4AddressAck(Ipv4AckStatus.INCORRECT_HOME_ADDRESS, ADDRESS4, 32)

    assert bytes.fromhex(encode(failure))[2:4] == b"\x82\x00"
    for status in (128, 130, 255):
        assert decode(f"1e06 {status:02x}60 c6336464 01020000") == (Ipv4AddressAck(status, ADDRESS4, 0),)
    assert decode("1e06 7f60 c6336464 01020000") == (Ipv4AddressAck(127, ADDRESS4, 24),)
    assert [int(status) for status in Ipv4AckStatus] == [0, *range(128, 134)]
    assert not failure.accepted
    assert Ipv4AddressAck(127, ADDRESS4).accepted
    assert not Ipv4AddressAck(128, ADDRESS4).accepted


@pytest.mark.requirement("R080")
def test_reserved_bits_of_nat_detection_are_sent_zero_and_ignored() -> None:
    assert decode("1f06 7fff 0000006e 01020000") == (NatDetection(False, 110),)
    assert decode("1f06 ffff 0000006e 01020000") == (NatDetection(True, 110),)
    assert bytes.fromhex(encode(NatDetection(True, 110)))[2:4] == b"\x80\x00"


@pytest.mark.requirement("R066")
def test_an_address_and_a_prefix_can_be_asked_for_in_one_message() -> None:
    both = (Ipv4HomeAddress(ADDRESS4), Ipv4HomeAddress(IPv4Address(0), 28, prefix_request=True))

    assert encode(*both) == "1d068000c63364641d0672000000000001020000"
    assert decode(encode(*both)) == both


def test_other_reserved_octets_are_ignored_too() -> None:
    assert decode("0612 ff38 20010db800aa00000000000000000000") == (
        MobileNetworkPrefix(IPv6Network("2001:db8:aa::/56")),
    )
    assert decode("2304 0007 04 ff 01040000 0000 0000") == (BindingIdentifier(7, 4, True, None),)


def test_host_bits_of_a_mobile_network_prefix_are_masked() -> None:
    assert decode("0612 0038 20010db800aa00000000000000000001") == (
        MobileNetworkPrefix(IPv6Network("2001:db8:aa::/56")),
    )


@pytest.mark.parametrize("identifier", range(9))
def test_an_authentication_option_ends_its_message_without_padding(identifier: int) -> None:
    """RFC 4285 wants it last, so its end decides where it starts: 5 modulo 8 with 12 octets of data."""
    octets = bytes.fromhex(
        encode(MobileNodeIdentifier(1, b"\xaa" * identifier), Authentication(1, 256, b"\xbb" * 12))
    )

    assert octets.endswith(b"\x09\x11\x01\0\0\x01\0" + b"\xbb" * 12)
    assert (UPDATE_OPTIONS + len(octets)) % 8 == 0
    assert (UPDATE_OPTIONS + len(octets) - 19) % 8 == 5


def test_an_authentication_option_that_cannot_end_its_message_still_starts_where_it_must() -> None:
    in_the_middle = encode(Authentication(1, 256, bytes(12)), Authentication(2, 256, bytes(12)))
    of_odd_length = encode(MobileNodeIdentifier(1, b"\xaa" * 2), Authentication(1, 256, b"\xbb" * 13))

    assert in_the_middle.startswith("000911")  # octet 13
    assert of_odd_length.startswith("080301aaaa0912")  # octet 17
    assert of_odd_length.endswith("bb" * 13 + "010100")


def test_binding_authorization_data_is_the_last_option_or_an_error() -> None:
    authorization = BindingAuthorization(bytes(12))

    with pytest.raises(ValueError, match="last"):
        encode(authorization, NonceIndices(1, 2))
    with pytest.raises(DecodeError, match="last"):
        decode("0000 050c" + "00" * 12 + "01020000")
    with pytest.raises(DecodeError, match="last"):
        decode("0000 050c" + "00" * 12 + "0404 0001 0002")


@pytest.mark.parametrize(
    "octets",
    [
        "1d068000c63364",  # the message ends within the option
        "1dff",  # a length far beyond it
        "1d",  # no length
        "0000001d",
        "0105 0000",  # padding overruns as well
        "1d04 8000 c633 0000",  # a known option of another length
        "1e08 0080 c6336464 0000 0000",
        "1f00",
        "2004 0000 c633",
        "0312" + "00" * 18,
        "0203 000000",
        "0403 000000",
        "050b" + "00" * 11,
        "0611" + "00" * 17,
        "0612 0081" + "00" * 16,  # prefix length 129
        "0800",
        "0904 01000000",
        "0a07" + "00" * 7,
        "2303 000000",
        "2305 0000000000",
    ],
)
def test_a_malformed_option_refuses_the_message_in_silence(octets: str) -> None:
    with pytest.raises(DecodeError) as refusal:
        decode(octets)
    assert refusal.value.pointer is None


def test_padding_is_skipped_whatever_it_contains() -> None:
    assert decode("0103 ffffff 00 00 00 0100 1d068000c6336464 00") == (Ipv4HomeAddress(ADDRESS4),)
    assert decode("") == ()
    assert decode("00" * 2000) == ()


def test_misaligned_options_are_accepted() -> None:
    assert decode("00 1d068000c6336464 00 00 00") == (Ipv4HomeAddress(ADDRESS4),)


def test_unknown_options_are_kept_and_their_neighbours_read() -> None:
    assert decode("f003 010203 00 2006 0000 c6336464") == (
        UnknownOption(240, b"\1\2\3"),
        Ipv4CareOfAddress(ADDRESS4),
    )


def test_a_message_holds_a_bounded_number_of_options() -> None:
    many = (UnknownOption(240, b""),) * MAX_OPTIONS

    assert decode(encode(*many)) == many
    with pytest.raises(ValueError, match="more than"):
        encode(*many, UnknownOption(240, b""))
    with pytest.raises(DecodeError, match="too many"):
        decode("f000" * 1000)


@pytest.mark.parametrize(
    "option",
    [
        UnknownOption(0, b""),
        UnknownOption(1, b""),
        UnknownOption(240, bytes(256)),
        BindingAuthorization(bytes(11)),
    ],
)
def test_an_option_that_has_no_octets_is_a_value_error(option: Option) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        encode(option)


def test_options_are_found_by_class_and_kept_in_order() -> None:
    address, prefix = Ipv4HomeAddress(ADDRESS4), Ipv4HomeAddress(IPv4Address(0), 24, True)
    options: tuple[Option, ...] = (NatDetection(False, 0), address, prefix)

    assert first(options, Ipv4HomeAddress) is address
    assert first(options, Ipv4CareOfAddress) is None
    assert every(options, Ipv4HomeAddress) == (address, prefix)
    assert every(options, UnknownOption) == ()
