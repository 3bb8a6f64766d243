"""Home address option and type 2 routing header: octets, order, refusals with their parameter problems."""

from __future__ import annotations

from ipaddress import IPv6Address

import pytest

from wire.checksum import internet_checksum, pseudo_header6
from wire.extension import home_address_option, parse_extensions, routing_header
from wire.ip import (
    PROTOCOL_DESTINATION_OPTIONS,
    PROTOCOL_ESP,
    PROTOCOL_FRAGMENT,
    PROTOCOL_HOP_BY_HOP,
    PROTOCOL_ICMPV6,
    PROTOCOL_MOBILITY,
    PROTOCOL_ROUTING,
)
from wire.reader import DecodeError

HOME = IPv6Address("2001:db8:99::77")
OTHER = IPv6Address("2001:db8:99::78")


def options(octets: str, next_header: int = PROTOCOL_MOBILITY) -> bytes:
    """A destination options header with these options, which must fill it."""
    body = bytes.fromhex(octets)
    return bytes((next_header, (len(body) + 2) // 8 - 1)) + body


def test_the_home_address_option_has_exactly_these_octets() -> None:
    assert home_address_option(135, HOME) == bytes.fromhex("8702 01020000 c910") + HOME.packed


def test_the_type_2_routing_header_has_exactly_these_octets() -> None:
    assert routing_header(50, HOME) == bytes.fromhex("32020201 00000000") + HOME.packed


def test_the_routing_home_address_stands_for_the_destination_in_checksums() -> None:
    """scapy's vector: an echo request from 2001:db8::2 by way of 2001:db8::1 to 2001:db8::3."""
    source, final = IPv6Address("2001:db8::2"), IPv6Address("2001:db8::3")
    extensions = parse_extensions(
        PROTOCOL_ROUTING, routing_header(PROTOCOL_ICMPV6, final) + b"\x80" + bytes(7)
    )

    assert extensions.routing_home_address == final
    pseudo = pseudo_header6(source, final, 8, PROTOCOL_ICMPV6)
    assert internet_checksum(pseudo + extensions.payload) == 0x2446


def test_what_stands_in_front_of_a_message_is_read_in_any_order() -> None:
    both = parse_extensions(
        PROTOCOL_ROUTING,
        routing_header(PROTOCOL_DESTINATION_OPTIONS, OTHER)
        + home_address_option(PROTOCOL_ESP, HOME)
        + b"esp",
    )

    assert (both.home_address, both.routing_home_address) == (HOME, OTHER)
    assert (both.next_header, both.payload) == (PROTOCOL_ESP, b"esp")


def test_a_packet_without_extension_headers_is_all_payload() -> None:
    bare = parse_extensions(PROTOCOL_MOBILITY, b"message")

    assert (bare.home_address, bare.routing_home_address) == (None, None)
    assert (bare.next_header, bare.payload) == (PROTOCOL_MOBILITY, b"message")


def test_options_that_may_be_skipped_are_skipped() -> None:
    octets = options("1e02ffff 00 0100 01030000 00 c910" + HOME.packed.hex() + "00" * 8)

    assert parse_extensions(PROTOCOL_DESTINATION_OPTIONS, octets).home_address == HOME


@pytest.mark.parametrize(
    ("kind", "pointer"), [(0x5E, None), (0x9E, 2), (0xDE, 2)], ids=["discard", "report", "report if unicast"]
)
def test_an_unknown_option_says_by_itself_how_it_is_refused(kind: int, pointer: int | None) -> None:
    with pytest.raises(DecodeError) as refusal:
        parse_extensions(PROTOCOL_DESTINATION_OPTIONS, options(f"{kind:02x}0400000000"))

    assert refusal.value.pointer == pointer
    assert refusal.value.code == (2 if pointer else 0)


@pytest.mark.parametrize("address", ["::", "::1", "fe80::1", "febf::1", "ff02::1"])
def test_a_home_address_that_cannot_be_one_is_refused_in_silence(address: str) -> None:
    for kind, header in (
        (PROTOCOL_DESTINATION_OPTIONS, home_address_option(135, IPv6Address(address))),
        (PROTOCOL_ROUTING, routing_header(135, IPv6Address(address))),
    ):
        with pytest.raises(DecodeError, match="unicast") as refusal:
            parse_extensions(kind, header)
        assert refusal.value.pointer is None


@pytest.mark.parametrize(
    "address", ["2001:db8::", "2001:db8::1", "::2", "fdff::1", "fec0::1", "2001:db8::fe80"]
)
def test_any_routable_unicast_address_can_be_a_home_address(address: str) -> None:
    home = IPv6Address(address)

    assert parse_extensions(60, home_address_option(135, home)).home_address == home
    assert parse_extensions(43, routing_header(135, home)).routing_home_address == home


@pytest.mark.parametrize(
    ("header", "pointer"),
    [
        ("87020001 00000000", 2),  # another type with segments left
        ("87040201 00000000" + "00" * 16, 1),  # another length
        ("87020202 00000000", 3),  # more than one segment
    ],
)
def test_a_wrong_routing_header_is_reported_at_its_octet(header: str, pointer: int) -> None:
    octets = bytes.fromhex(header) + HOME.packed
    with pytest.raises(DecodeError) as refusal:
        parse_extensions(PROTOCOL_ROUTING, octets)

    assert (refusal.value.pointer, refusal.value.code) == (pointer, 0)


def test_a_pointer_counts_from_the_start_of_the_extension_headers() -> None:
    octets = options("0104 00000000", PROTOCOL_ROUTING) + bytes.fromhex("87020202 00000000") + HOME.packed
    with pytest.raises(DecodeError) as refusal:
        parse_extensions(PROTOCOL_DESTINATION_OPTIONS, octets)

    assert refusal.value.pointer == 8 + 3


@pytest.mark.parametrize("kind", [0, 2, 4])
def test_a_routing_header_whose_segments_are_done_is_ignored(kind: int) -> None:
    octets = bytes((PROTOCOL_MOBILITY, 2, kind, 0)) + bytes(4) + HOME.packed + b"message"
    extensions = parse_extensions(PROTOCOL_ROUTING, octets)

    assert extensions.routing_home_address is None
    assert extensions.payload == b"message"


TWO_HOME_ADDRESSES = options("01020000" + ("c910" + HOME.packed.hex()) * 2 + "0104" + "00" * 4)


@pytest.mark.parametrize(
    ("next_header", "octets", "reason"),
    [
        (PROTOCOL_HOP_BY_HOP, bytes(8), "extension header 0"),
        (PROTOCOL_FRAGMENT, bytes(8), "extension header 44"),
        (PROTOCOL_DESTINATION_OPTIONS, b"", "no room"),
        (PROTOCOL_DESTINATION_OPTIONS, bytes(7), "no room"),
        (PROTOCOL_ROUTING, b"\x87\x02\x02\x01" + bytes(12), "exceeds the packet"),
        (PROTOCOL_DESTINATION_OPTIONS, options("000000 01ff 00"), "overruns"),
        (PROTOCOL_DESTINATION_OPTIONS, options("0000000000c9"), "without a length"),
        (PROTOCOL_DESTINATION_OPTIONS, options("c904 00000000"), "wrong length"),
        (PROTOCOL_DESTINATION_OPTIONS, options("0100" * 131), "too many destination options"),
        (PROTOCOL_DESTINATION_OPTIONS, TWO_HOME_ADDRESSES, "two home address"),
        (PROTOCOL_DESTINATION_OPTIONS, home_address_option(60, HOME) * 2, "two home address"),
        (PROTOCOL_ROUTING, routing_header(PROTOCOL_ROUTING, HOME) * 2, "two type 2"),
        (PROTOCOL_DESTINATION_OPTIONS, options("010400000000", 60) * 9, "too many extension headers"),
    ],
)
def test_headers_that_do_not_belong_there_or_do_not_fit_are_refused(
    next_header: int, octets: bytes, reason: str
) -> None:
    with pytest.raises(DecodeError, match=reason) as refusal:
        parse_extensions(next_header, octets)

    assert refusal.value.pointer is None
