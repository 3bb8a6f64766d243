"""Messages written by another author: the Zeek project's traces (see tests/data/zeek/README.md)."""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

import pytest

from wire.extension import Extensions, parse_extensions
from wire.ip import PROTOCOL_IPV4, PROTOCOL_IPV6, PROTOCOL_MOBILITY, PROTOCOL_UDP, IPv4Header, IPv6Header
from wire.mobility import (
    BindingAck,
    BindingError,
    BindingRefreshRequest,
    BindingUpdate,
    CareOfTest,
    CareOfTestInit,
    HomeTest,
    HomeTestInit,
    Message,
    UpdateFlag,
    decode_message,
    encode_message,
)
from wire.profile import RFC5555, AckFlag
from wire.reader import DecodeError
from wire.udp import verify_udp

TRACES = Path(__file__).parent.parent / "data" / "zeek"
HOME = IPv6Address("2001:78:1:32::1")


def packet(name: str) -> bytes:
    """The IP packet in the only Ethernet frame of a trace."""
    pcap = (TRACES / f"{name}.pcap").read_bytes()
    (length,) = struct.unpack_from("<I", pcap, 24 + 8)
    return pcap[40 + 14 : 40 + length]


def mobility_header(name: str) -> tuple[bytes, IPv6Address, IPv6Address]:
    octets = packet(name)
    header = IPv6Header.decode(octets)
    assert header.next_header == PROTOCOL_MOBILITY
    return octets[40 : 40 + header.payload_length], header.source, header.destination


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mip6_brr", BindingRefreshRequest()),
        ("mip6_hoti", HomeTestInit(bytes(7) + b"\x01")),
        ("mip6_coti", CareOfTestInit(bytes(7) + b"\x01")),
        ("mip6_hot", HomeTest(13, bytes(7) + b"\x0f", bytes(7) + b"\xff")),
        ("mip6_cot", CareOfTest(13, bytes(7) + b"\x0f", bytes(7) + b"\xff")),
        (
            "mip6_bu",
            BindingUpdate(37, 12, UpdateFlag.ACKNOWLEDGE | UpdateFlag.HOME | UpdateFlag.KEY_MANAGEMENT),
        ),
        ("mip6_back", BindingAck(0, 42, 32, AckFlag.KEY_MANAGEMENT)),
        ("mip6_be", BindingError(1, HOME)),
        ("mip6-good-mh-chksum", BindingError(1, HOME)),
    ],
)
def test_a_message_of_each_type_is_read_and_written_octet_for_octet(name: str, message: Message) -> None:
    octets, source, destination = mobility_header(name)

    assert decode_message(octets, source, destination, RFC5555) == message
    assert encode_message(message, source, destination, RFC5555) == octets


def test_the_checksum_that_is_wrong_on_purpose_is_refused() -> None:
    octets, source, destination = mobility_header("mip6-bad-mh-chksum")

    with pytest.raises(DecodeError, match="checksum"):
        decode_message(octets, source, destination, RFC5555)


def extensions_of(name: str) -> tuple[IPv6Header, Extensions]:
    octets = packet(name)
    header = IPv6Header.decode(octets)
    return header, parse_extensions(header.next_header, octets[40:])


def test_a_home_address_option_is_read_and_counts_as_the_source() -> None:
    header, extensions = extensions_of("ipv6-mobile-hoa")

    assert extensions.home_address == HOME
    assert extensions.next_header == PROTOCOL_UDP
    assert verify_udp(HOME, header.destination, extensions.payload)


def test_a_type_2_routing_header_is_read_and_counts_as_the_destination() -> None:
    header, extensions = extensions_of("ipv6-mobile-routing")

    assert extensions.routing_home_address == HOME
    assert extensions.next_header == PROTOCOL_UDP
    assert verify_udp(header.source, HOME, extensions.payload)


@pytest.mark.parametrize(
    ("name", "outer", "inner"), [("4in4", 4, 4), ("4in6", 6, 4), ("6in4", 4, 6), ("6in6", 6, 6)]
)
def test_ip_in_ip_of_each_pair_of_families_is_read(name: str, outer: int, inner: int) -> None:
    octets = packet(name)
    protocol, length, family = outer_header(octets)

    assert family == outer
    assert protocol == (PROTOCOL_IPV4 if inner == 4 else PROTOCOL_IPV6)
    assert outer_header(octets[length:])[2] == inner


def outer_header(octets: bytes) -> tuple[int, int, int]:
    """(protocol, length, family) of the header at the start."""
    if octets[0] >> 4 == 4:
        header4 = IPv4Header.decode(octets)
        assert isinstance(header4.source, IPv4Address)
        return header4.protocol, header4.header_length, 4
    return IPv6Header.decode(octets).next_header, 40, 6
