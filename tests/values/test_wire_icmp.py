"""ICMP messages octet by octet, and the packets that answer one which is too big or wrong."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, IPv6Network

import pytest

from wire.checksum import internet_checksum
from wire.icmp import (
    DestinationUnreachable,
    HomeAgentDiscoveryReply,
    HomeAgentDiscoveryRequest,
    IcmpMessage,
    MobilePrefixAdvertisement,
    MobilePrefixSolicitation,
    PacketTooBig,
    ParameterProblem,
    PrefixInformation,
    UnknownIcmp,
    decode_icmp6,
    deserves_error,
    encode_icmp6,
    home_agents_anycast,
    packet_too_big,
    parameter_problem,
)
from wire.ip import PROTOCOL_ICMP, PROTOCOL_ICMPV6, PROTOCOL_UDP, IPv4Header, IPv6Header
from wire.reader import DecodeError

A4, B4 = IPv4Address("192.0.2.1"), IPv4Address("198.51.100.2")
A6, B6 = IPv6Address("2001:db8::1"), IPv6Address("2001:db8::2")
ROUTER6 = IPv6Address("2001:db8:99::2")
ROUTER4 = IPv4Address("203.0.113.2")


def packet4(protocol: int = PROTOCOL_UDP, payload: bytes = bytes(1500), **changes: object) -> bytes:
    fields: dict[str, object] = {"source": A4, "destination": B4, "protocol": protocol}
    header = IPv4Header(total_length=20 + len(payload), **(fields | changes))  # type: ignore[arg-type]
    return header.encode() + payload


def packet6(next_header: int = PROTOCOL_UDP, payload: bytes = bytes(1500), **changes: object) -> bytes:
    fields: dict[str, object] = {"source": A6, "destination": B6, "next_header": next_header}
    header = IPv6Header(payload_length=len(payload), **(fields | changes))  # type: ignore[arg-type]
    return header.encode() + payload


PREFIX = PrefixInformation(IPv6Address("2001:db8:99::2"), 64, True, True, True, 86400, 14400)


@pytest.mark.parametrize(
    ("message", "octets"),
    [
        (HomeAgentDiscoveryRequest(0x0102), "9000 0102 0000"),
        (HomeAgentDiscoveryRequest(0x0102, mobile_router=True), "9000 0102 8000"),
        (HomeAgentDiscoveryReply(0x0102, (ROUTER6,), True), "9100 0102 8000" + ROUTER6.packed.hex()),
        (MobilePrefixSolicitation(0x0102), "9200 0102 0000"),
        (
            MobilePrefixAdvertisement(0x0102, True, False, (PREFIX,)),
            "9300 0102 8000 0304 40e0 00015180 00003840 00000000" + PREFIX.prefix.packed.hex(),
        ),
        (MobilePrefixAdvertisement(0x0102, False, True, ()), "9300 0102 4000"),
        (PacketTooBig(1280, b"packet"), "0200 00000500" + b"packet".hex()),
        (ParameterProblem(2, 46, b"packet"), "0402 0000002e" + b"packet".hex()),
        (DestinationUnreachable(4, b"packet"), "0104 00000000" + b"packet".hex()),
        (UnknownIcmp(128, 0, b"ping"), "8000" + b"ping".hex()),
    ],
)
def test_each_message_has_its_octets(message: IcmpMessage, octets: str) -> None:
    encoded = encode_icmp6(message, A6, B6)

    assert encoded[:2] + encoded[4:] == bytes.fromhex(octets)
    assert decode_icmp6(encoded, A6, B6) == message


@pytest.mark.parametrize(
    ("message", "source", "destination", "checksum"),
    [
        (HomeAgentDiscoveryRequest(42, True), "2001:db8::1", "2001:db8::fdff:ffff:ffff:fffe", 0x9620),
        (MobilePrefixSolicitation(0), "::1", "::1", 0x6DBB),
    ],
)
def test_checksums_agree_with_those_in_the_tests_of_scapy(
    message: IcmpMessage, source: str, destination: str, checksum: int
) -> None:
    octets = encode_icmp6(message, IPv6Address(source), IPv6Address(destination))

    assert int.from_bytes(octets[2:4], "big") == checksum


def test_home_agents_are_asked_at_the_anycast_address_of_their_prefix() -> None:
    assert home_agents_anycast(IPv6Network("2001:db8:99::/64")) == IPv6Address(
        "2001:db8:99:0:fdff:ffff:ffff:fffe"
    )


def test_a_reply_names_as_many_home_agents_as_a_link_can_have() -> None:
    reply = HomeAgentDiscoveryReply(7, (ROUTER6,) * 64)

    assert decode_icmp6(encode_icmp6(reply, A6, B6), A6, B6) == reply


@pytest.mark.parametrize("length", [0, 128])
def test_a_prefix_may_have_any_length_of_an_address(length: int) -> None:
    prefix = PrefixInformation(ROUTER6, length, False, False, False, 0xFFFFFFFF, 0)
    message = MobilePrefixAdvertisement(7, False, False, (prefix,))

    assert decode_icmp6(encode_icmp6(message, A6, B6), A6, B6) == message


def test_unknown_neighbour_discovery_options_of_an_advertisement_are_ignored() -> None:
    plain = encode_icmp6(MobilePrefixAdvertisement(7, False, False, (PREFIX,)), A6, B6)
    padded = encode_icmp6(UnknownIcmp(147, 0, plain[4:8] + b"\x05\x01" + bytes(6) + plain[8:]), A6, B6)

    assert decode_icmp6(padded, A6, B6) == decode_icmp6(plain, A6, B6)


@pytest.mark.parametrize(
    ("kind", "code", "body"),
    [
        (144, 1, bytes(4)),
        (144, 0, bytes(3)),
        (145, 0, bytes(4 + 15)),
        (145, 0, bytes(4 + 16 * 65)),
        (146, 0, b""),
        (147, 0, bytes(4) + b"\x05\0" + bytes(6)),  # an option of length zero
        (147, 0, bytes(4) + b"\x03\x04" + bytes(29)),  # one that overruns
        (147, 0, bytes(4) + b"\x03\x01" + bytes(6)),  # a short prefix information
        (147, 0, bytes(4) + b"\x03\x04\x81" + bytes(29)),  # prefix length 129
        (147, 0, bytes(4) + (b"\x05\x01" + bytes(6)) * 65),
        (2, 0, bytes(3)),
    ],
)
def test_malformed_messages_are_refused(kind: int, code: int, body: bytes) -> None:
    octets = encode_icmp6(UnknownIcmp(kind, code, body), A6, B6)

    with pytest.raises(DecodeError):
        decode_icmp6(octets, A6, B6)


def test_a_wrong_checksum_is_refused() -> None:
    octets = bytearray(encode_icmp6(MobilePrefixSolicitation(7), A6, B6))
    octets[5] ^= 1

    with pytest.raises(DecodeError, match="checksum"):
        decode_icmp6(bytes(octets), A6, B6)


def test_what_the_wire_cannot_say_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="HomeAgentDiscoveryRequest"):
        encode_icmp6(HomeAgentDiscoveryRequest(65536), A6, B6)


def test_an_ipv6_packet_that_is_too_big_is_answered_with_the_mtu_and_its_beginning() -> None:
    offending = packet6()
    answer = packet_too_big(offending, 1452, ROUTER6)
    header = IPv6Header.decode(answer)

    assert len(answer) == 1280
    assert (header.source, header.destination, header.next_header) == (ROUTER6, A6, PROTOCOL_ICMPV6)
    assert decode_icmp6(answer[40:], ROUTER6, A6) == PacketTooBig(1452, offending[:1232])


def test_an_ipv4_packet_that_is_too_big_is_answered_with_the_mtu_and_its_beginning() -> None:
    offending = packet4()
    answer = packet_too_big(offending, 1472, ROUTER4)
    header = IPv4Header.decode(answer)

    assert len(answer) == 576
    assert (header.source, header.destination, header.protocol) == (ROUTER4, A4, PROTOCOL_ICMP)
    assert answer[20:22] == b"\x03\x04"
    assert internet_checksum(answer[20:]) == 0
    assert answer[24:28] == b"\0\0\x05\xc0"
    assert answer[28:] == offending[:548]


def test_a_wrong_packet_is_answered_with_the_octet_that_is_wrong() -> None:
    offending = packet6(payload=bytes(40))
    answer = parameter_problem(offending, 46, 2, ROUTER6)

    assert decode_icmp6(answer[40:], ROUTER6, A6) == ParameterProblem(2, 46, offending)


def test_what_is_no_packet_of_the_family_of_the_answer_is_refused() -> None:
    for source in (ROUTER4, ROUTER6):
        for octets in (b"", bytes(60), packet6()[:30]):
            with pytest.raises(DecodeError):
                packet_too_big(octets, 1280, source)
    with pytest.raises(DecodeError):
        packet_too_big(packet4(), 1280, ROUTER6)


@pytest.mark.parametrize(
    ("packet", "deserved"),
    [
        (packet4(), True),
        (packet4(more_fragments=True), True),  # the first fragment
        (packet4(fragment_offset=8), False),
        (packet4(destination=IPv4Address("224.0.0.1")), False),
        (packet4(destination=IPv4Address("255.255.255.255")), False),
        (packet4(source=IPv4Address("0.0.0.0")), False),
        (packet4(source=IPv4Address("224.0.0.1")), False),
        (packet4(source=IPv4Address("255.255.255.255")), False),
        (packet4(PROTOCOL_ICMP, b"\x08" + bytes(1500)), True),
        (packet4(PROTOCOL_ICMP, b"\x03" + bytes(1500)), False),
        (packet4(PROTOCOL_ICMP, b""), False),
        (packet6(), True),
        (packet6(destination=IPv6Address("ff02::1")), False),
        (packet6(source=IPv6Address("::")), False),
        (packet6(source=IPv6Address("ff02::1")), False),
        (packet6(PROTOCOL_ICMPV6, b"\x80" + bytes(1500)), True),
        (packet6(PROTOCOL_ICMPV6, b"\x02" + bytes(1500)), False),
        (packet6(PROTOCOL_ICMPV6, b"\x89" + bytes(1500)), False),
        (packet6(PROTOCOL_ICMPV6, b""), False),
        (b"", False),
        (b"\x45", False),
        (b"\x00" * 60, False),
    ],
)
def test_only_a_whole_unicast_packet_that_is_no_error_deserves_an_error(
    packet: bytes, deserved: bool
) -> None:
    assert deserves_error(packet) is deserved
