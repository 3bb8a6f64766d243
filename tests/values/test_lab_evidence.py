"""Capture files, and what their frames show."""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest

from lab.access import through_nat64
from lab.evidence import Kind, Observer, Seen, Sighting
from lab.pcap import CaptureError, Frame, GrowingCapture
from tunnel.path import Encapsulation
from wire.extension import home_address_option, routing_header
from wire.ip import IPv4Header, IPv6Header
from wire.udp import encode_udp

HOME = IPv6Address("2001:db8:99::77")
AGENT6, AGENT4 = IPv6Address("2001:db8:99::2"), IPv4Address("203.0.113.2")
CARE_OF6, CARE_OF4 = IPv6Address("2001:db8:1::5"), IPv4Address("192.168.7.36")
OBSERVER = Observer((AGENT6, AGENT4), 4191)
ESP = bytes(48)


def ipv6(source: IPv6Address, destination: IPv6Address, next_header: int, payload: bytes) -> bytes:
    return IPv6Header(source, destination, next_header, len(payload)).encode() + payload


def ipv4(source: IPv4Address, destination: IPv4Address, protocol: int, payload: bytes) -> bytes:
    return IPv4Header(source, destination, protocol, 20 + len(payload)).encode() + payload


def udp(source: IPv4Address, destination: IPv4Address, ports: tuple[int, int], payload: bytes) -> bytes:
    return ipv4(source, destination, 17, encode_udp(source, destination, *ports, payload))


def observed(packet: bytes) -> Sighting | None:
    kind = b"\x86\xdd" if packet[0] >> 4 == 6 else b"\x08\x00"
    return OBSERVER.observe(Frame(7, bytes(12) + kind + packet))


def test_an_update_over_ipv6_has_a_home_address_option() -> None:
    packet = ipv6(CARE_OF6, AGENT6, 60, home_address_option(50, HOME) + ESP)
    assert observed(packet) == Sighting(7, Kind.UPDATE, True, None, CARE_OF6, 0)


def test_an_acknowledgement_over_ipv6_has_a_routing_header() -> None:
    packet = ipv6(AGENT6, CARE_OF6, 43, routing_header(50, HOME) + ESP)
    assert observed(packet) == Sighting(7, Kind.ACK, False, None, CARE_OF6, 0)


def test_signalling_over_ipv4_is_ipv6_with_esp_in_udp() -> None:
    update = udp(CARE_OF4, AGENT4, (40000, 4191), ipv6(HOME, AGENT6, 50, ESP))
    ack = udp(AGENT4, CARE_OF4, (4191, 40000), ipv6(AGENT6, HOME, 50, ESP))
    assert observed(update) == Sighting(7, Kind.UPDATE, True, Encapsulation.UDP, CARE_OF4, 40000)
    assert observed(ack) == Sighting(7, Kind.ACK, False, Encapsulation.UDP, CARE_OF4, 40000)


def test_through_a_nat64_the_same_goes_in_udp_over_ipv6() -> None:
    agent = through_nat64(AGENT4)
    assert str(agent) == "2001:db8:64:ff9b::cb00:7102"
    observer = Observer((AGENT6, AGENT4, agent), 4191)
    header = (40000).to_bytes(2) + (4191).to_bytes(2) + bytes(4)
    inside = (Kind.UPDATE, ipv6(HOME, AGENT6, 50, ESP)), (Kind.PAYLOAD, ipv6(HOME, CARE_OF6, 6, ESP))
    for kind, inner in inside:
        packet = ipv6(CARE_OF6, agent, 17, header + inner)
        seen = observer.observe(Frame(7, bytes(12) + b"\x86\xdd" + packet))
        assert seen == Sighting(7, kind, True, Encapsulation.UDP, CARE_OF6, 40000)


@pytest.mark.parametrize(
    ("packet", "encapsulation"),
    [
        (ipv6(CARE_OF6, AGENT6, 41, bytes(40)), Encapsulation.IP_IN_IP),
        (ipv6(CARE_OF6, AGENT6, 4, bytes(40)), Encapsulation.IP_IN_IP),
        (ipv4(CARE_OF4, AGENT4, 41, bytes(40)), Encapsulation.IP_IN_IP),
        (udp(CARE_OF4, AGENT4, (40000, 4191), b"\x45" + bytes(39)), Encapsulation.UDP),
        (udp(CARE_OF4, AGENT4, (40000, 4191), ipv6(HOME, CARE_OF6, 6, ESP)), Encapsulation.UDP),
        (udp(CARE_OF4, AGENT4, (40000, 4191), b"\x01" + bytes(39)), Encapsulation.UDP_TLV),
        (udp(CARE_OF4, AGENT4, (40000, 4500), ESP), Encapsulation.ESP_UDP),
        (udp(AGENT4, CARE_OF4, (4500, 40000), ESP), Encapsulation.ESP_UDP),
        (ipv6(CARE_OF6, AGENT6, 50, ESP), Encapsulation.ESP),
    ],
)
def test_payload_is_told_apart_by_how_it_is_wrapped(packet: bytes, encapsulation: Encapsulation) -> None:
    sighting = observed(packet)
    assert sighting is not None
    assert (sighting.kind, sighting.encapsulation) == (Kind.PAYLOAD, encapsulation)


@pytest.mark.parametrize(
    "packet",
    [
        ipv6(CARE_OF6, IPv6Address("2001:db8:cc::10"), 41, bytes(40)),
        ipv6(CARE_OF6, AGENT6, 58, bytes(8)),
        udp(CARE_OF4, AGENT4, (40000, 53), bytes(40)),
        udp(CARE_OF4, IPv4Address("192.0.2.53"), (40000, 53), bytes(40)),
        ipv4(CARE_OF4, AGENT4, 1, bytes(8)),
    ],
)
def test_other_traffic_is_none_of_the_tunnels(packet: bytes) -> None:
    assert observed(packet) is None


def test_bare_esp_of_a_home_address_is_signalling_on_the_home_link() -> None:
    packet = ipv6(HOME, AGENT6, 50, ESP)
    frame = Frame(7, bytes(12) + b"\x86\xdd" + packet)
    assert Observer((AGENT6, AGENT4), 4191, [HOME]).observe(frame) == Sighting(
        7, Kind.UPDATE, True, None, HOME, 0
    )


def test_short_frames_show_nothing() -> None:
    for length in range(14 + 40):
        whole = bytes(12) + b"\x86\xdd" + ipv6(CARE_OF6, AGENT6, 41, b"")
        OBSERVER.observe(Frame(0, whole[:length]))


def test_payload_is_counted_and_signalling_kept() -> None:
    seen = Seen()
    for at in (1, 2, 150_000_000):
        seen.add(Sighting(at, Kind.PAYLOAD, True, Encapsulation.UDP, ip_address("192.0.2.1"), 1))
    seen.add(Sighting(5, Kind.UPDATE, True, None, CARE_OF6, 0))
    assert dict(seen.payload) == {(0, 4, Encapsulation.UDP): 2, (1, 4, Encapsulation.UDP): 1}
    assert len(seen.signals) == 1


def capture_file(frames: list[tuple[int, int, bytes]], magic: int = 0xA1B23C4D) -> bytes:
    head = struct.pack("<IHHiIII", magic, 2, 4, 0, 0, 320, 1)
    return head + b"".join(struct.pack("<IIII", s, f, len(d), len(d) + 9) + d for s, f, d in frames)


def test_a_capture_is_read_in_any_pieces() -> None:
    octets = capture_file([(1, 5, b"abc"), (2, 6, b""), (3, 7, b"defgh")])
    expected = [Frame(1_000_000_005, b"abc"), Frame(2_000_000_006, b""), Frame(3_000_000_007, b"defgh")]
    for size in (1, 2, 3, 7, 1000):
        growing = GrowingCapture()
        pieces = [octets[i : i + size] for i in range(0, len(octets), size)]
        assert [frame for piece in pieces for frame in growing.feed(piece)] == expected


def test_microseconds_and_nanoseconds_are_told_apart() -> None:
    assert next(GrowingCapture().feed(capture_file([(1, 5, b"a")], 0xA1B2C3D4))).at_ns == 1_000_005_000


def test_another_format_is_refused() -> None:
    with pytest.raises(CaptureError, match="unknown capture format"):
        list(GrowingCapture().feed(bytes(40)))
