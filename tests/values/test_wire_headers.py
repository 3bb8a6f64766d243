"""Fixed headers, checksums, serial numbers, ESP framing and port 4500: known octets and refusals."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

import pytest

from wire.checksum import internet_checksum, pseudo_header4, pseudo_header6, word_sum
from wire.esp import EspHeader, NatTraversal, append_trailer, classify_port_4500, split_trailer
from wire.ip import PROTOCOL_UDP, IPv4Header, IPv6Header
from wire.reader import DecodeError, Reader
from wire.serial import is_newer16, next16
from wire.udp import UdpHeader, encode_udp, verify_udp

A4, B4 = IPv4Address("192.0.2.1"), IPv4Address("198.51.100.2")
A6, B6 = IPv6Address("2001:db8::1"), IPv6Address("2001:db8::2")


def naive_checksum(data: bytes) -> int:
    """RFC 1071 as it is written."""
    padded = data + b"\0" * (len(data) % 2)
    total = sum(int.from_bytes(padded[at : at + 2], "big") for at in range(0, len(padded), 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def test_the_checksum_of_the_example_in_rfc_1071() -> None:
    assert internet_checksum(bytes.fromhex("0001f203f4f5f6f7")) == 0xFFFF - 0xDDF2


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0",
        b"\0\0",
        b"\xff\xff",
        b"\xff\xff\0\0",
        b"\x01",
        b"\xff" * 1500,
        bytes(range(256)) * 5,
        b"abc",
    ],
)
def test_the_checksum_equals_the_naive_one(data: bytes) -> None:
    assert internet_checksum(data) == naive_checksum(data)
    assert internet_checksum(memoryview(data)) == naive_checksum(data)


def test_a_checksum_continues_from_the_sum_of_what_precedes() -> None:
    head, tail = b"0123456789", b"the rest"

    assert internet_checksum(tail, word_sum(head)) == internet_checksum(head + tail)


def test_pseudo_headers_have_their_layout() -> None:
    assert pseudo_header4(A4, B4, 9, 17) == A4.packed + B4.packed + b"\0\x11\0\x09"
    assert pseudo_header6(A6, B6, 9, 135) == A6.packed + B6.packed + b"\0\0\0\x09\0\0\0\x87"


def test_an_ipv6_header_has_its_octets() -> None:
    header = IPv6Header(A6, B6, 135, 32, hop_limit=64, traffic_class=0xB8, flow_label=0x12345)

    assert header.encode() == bytes.fromhex("6b812345 0020 87 40") + A6.packed + B6.packed
    assert IPv6Header.decode(header.encode() + bytes(32)) == header


def test_an_ipv4_header_has_its_octets_and_its_checksum() -> None:
    """The well-known example header with checksum 0xb861."""
    header = IPv4Header(IPv4Address("192.168.0.1"), IPv4Address("192.168.0.199"), 17, 115)
    octets = bytes.fromhex("45000073 00004000 4011b861 c0a80001 c0a800c7")

    assert header.encode() == octets
    assert IPv4Header.decode(octets + bytes(95)) == header


def test_fragments_and_options_of_ipv4_are_seen() -> None:
    header = IPv4Header(
        A4, B4, 41, 60, dont_fragment=False, more_fragments=True, fragment_offset=185, options=b"\x94\4\0\0"
    )
    decoded = IPv4Header.decode(header.encode() + bytes(36))

    assert decoded == header
    assert decoded.is_fragment
    assert decoded.header_length == 24
    assert IPv4Header(A4, B4, 41, 60, more_fragments=True).is_fragment
    assert IPv4Header(A4, B4, 41, 60, fragment_offset=1).is_fragment
    assert not IPv4Header(A4, B4, 41, 60).is_fragment
    with pytest.raises(ValueError, match="words"):
        IPv4Header(A4, B4, 41, 60, options=b"123").encode()


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda octets: octets[:19], "shorter"),
        (lambda octets: b"\x65" + octets[1:], "version"),
        (lambda octets: b"\x44" + octets[1:], "header length"),
        (lambda octets: b"\x4f" + octets[1:], "header length"),
        (lambda octets: octets[:-1], "exceeds"),
        (lambda octets: octets[:8] + b"\x01" + octets[9:], "checksum"),
    ],
)
def test_a_damaged_ipv4_header_is_refused(damage: object, reason: str) -> None:
    assert callable(damage)
    octets = IPv4Header(A4, B4, 4, 28).encode() + bytes(8)

    with pytest.raises(DecodeError, match=reason):
        IPv4Header.decode(damage(octets))


def test_a_damaged_ipv6_header_is_refused() -> None:
    octets = IPv6Header(A6, B6, 41, 8).encode() + bytes(8)

    for damaged, reason in (
        (octets[:39], "shorter"),
        (b"\x45" + octets[1:], "version"),
        (octets[:-1], "exceeds"),
    ):
        with pytest.raises(DecodeError, match=reason):
            IPv6Header.decode(damaged)


@pytest.mark.parametrize(("source", "destination"), [(A4, B4), (A6, B6)])
def test_a_datagram_carries_a_checksum_that_the_receiver_finds_right(
    source: IPv4Address | IPv6Address, destination: IPv4Address | IPv6Address
) -> None:
    datagram = encode_udp(source, destination, 40000, 4191, b"payload")

    assert UdpHeader.decode(datagram) == UdpHeader(
        40000, 4191, len(datagram), int.from_bytes(datagram[6:8], "big")
    )
    assert verify_udp(source, destination, datagram)
    assert not verify_udp(source, destination, datagram[:-1] + b"!")


def test_a_checksum_of_zero_is_sent_as_all_ones() -> None:
    """Zero says "no checksum", so a sum that comes out as zero is sent as its other form."""
    bare = encode_udp(A4, B4, 1, 2, b"\0\0")
    payload = bare[6:8]  # makes the sum all ones and the checksum zero
    datagram = encode_udp(A4, B4, 1, 2, payload)

    assert datagram[6:8] == b"\xff\xff"
    assert verify_udp(A4, B4, datagram)


def test_no_checksum_is_right_on_ipv4_and_wrong_on_ipv6() -> None:
    assert verify_udp(A4, B4, UdpHeader(1, 2, 9, 0).encode() + b"x")
    assert not verify_udp(A6, B6, UdpHeader(1, 2, 9, 0).encode() + b"x")


def test_udp_of_a_wrong_length_or_of_two_families_is_refused() -> None:
    for octets in (bytes(7), UdpHeader(1, 2, 7, 0).encode(), UdpHeader(1, 2, 9, 0).encode()):
        with pytest.raises(DecodeError):
            UdpHeader.decode(octets)
    with pytest.raises(ValueError, match="families"):
        encode_udp(A4, B6, 1, 2, b"")


@pytest.mark.parametrize(
    ("candidate", "last", "newer"),
    [
        (15, 15, False),
        (0, 15, False),
        (16, 15, True),
        (32782, 15, True),
        (32783, 15, False),
        (65535, 15, False),
        (0, 65535, True),
        (32766, 65535, True),
        (32767, 65535, False),
    ],
)
def test_sequence_numbers_compare_modulo_their_size(candidate: int, last: int, newer: bool) -> None:
    assert is_newer16(candidate, last) is newer


def test_the_next_sequence_number_is_always_newer() -> None:
    assert next16(65535) == 0
    assert all(is_newer16(next16(last), last) for last in range(0, 65536, 257))


@pytest.mark.parametrize("block", [4, 8, 16])
@pytest.mark.parametrize("length", range(20))
def test_an_esp_trailer_fills_the_block_and_comes_off_again(length: int, block: int) -> None:
    payload = bytes(range(100, 100 + length))
    plaintext = append_trailer(payload, 135, block)

    assert len(plaintext) % block == 0
    assert len(plaintext) - length <= block + 1
    assert split_trailer(plaintext) == (135, payload)


def test_esp_padding_counts_from_one() -> None:
    assert append_trailer(b"abc", 59, 8) == b"abc\x01\x02\x03\x03\x3b"
    assert append_trailer(b"abc", 59) == b"abc\x01\x02\x03\x03\x3b"
    assert append_trailer(b"ab", 59) == b"ab\0\x3b"


def test_a_damaged_esp_trailer_is_refused() -> None:
    for plaintext in (b"", b"\x3b", b"\x01\x3b", b"\xff\xff", b"abc\x01\x02\x04\x03\x3b", b"\0\x01\x3b"):
        with pytest.raises(DecodeError):
            split_trailer(plaintext)


def test_an_esp_header_has_eight_octets_and_a_real_spi() -> None:
    header = EspHeader(0x1001, 7)

    assert header.encode() == bytes.fromhex("00001001 00000007")
    assert EspHeader.decode(header.encode()) == header
    assert EspHeader.decode(header.encode() + b"more") == header
    for octets in (header.encode()[:7], EspHeader(0, 7).encode()):
        with pytest.raises(DecodeError):
            EspHeader.decode(octets)


@pytest.mark.parametrize(
    ("datagram", "kind"),
    [
        (b"\xff", NatTraversal.KEEPALIVE),
        (b"\xfe", NatTraversal.MALFORMED),
        (b"", NatTraversal.MALFORMED),
        (bytes(8), NatTraversal.MALFORMED),
        (bytes(4) + b"an IKE header", NatTraversal.IKE),
        (bytes.fromhex("00001001 00000007") + bytes(20), NatTraversal.ESP),
        (b"\xff" * 20, NatTraversal.ESP),
    ],
)
def test_port_4500_is_shared_by_keepalives_ike_and_esp(datagram: bytes, kind: NatTraversal) -> None:
    assert classify_port_4500(datagram) is kind


def test_a_reader_never_reads_past_its_end() -> None:
    reader = Reader(bytes(range(1, 30)), 1, 28)

    assert (reader.u8(), reader.u16(), reader.u32()) == (2, 0x0304, 0x05060708)
    assert reader.ipv4() == IPv4Address("9.10.11.12")
    assert (reader.position, reader.remaining) == (12, 16)
    assert reader.ipv6() == IPv6Address(bytes(range(13, 29)))
    for read in (reader.u8, reader.u16, reader.u32, reader.ipv4, reader.ipv6):
        with pytest.raises(DecodeError, match="needs"):
            read()
    assert reader.rest() == b""


def test_a_refusal_says_why_and_where() -> None:
    refusal = DecodeError("broken", pointer=42, code=2)

    assert (str(refusal), refusal.reason, refusal.pointer, refusal.code) == ("broken", "broken", 42, 2)
    assert isinstance(refusal, ValueError)


def test_protocol_numbers_are_those_of_the_packets() -> None:
    assert encode_udp(A4, B4, 1, 2, b"")[4:6] == b"\0\x08"
    assert PROTOCOL_UDP == 17
