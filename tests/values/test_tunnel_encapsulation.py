"""Formats between the outer and the inner header, byte by byte; fragments and congestion marks."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.config import conf

conf.route_autoload = False
conf.route6_autoload = False

from scapy.layers.inet import IP, UDP, defragment  # noqa: E402
from scapy.layers.inet6 import IPv6, defragment6  # noqa: E402
from scapy.packet import Raw  # noqa: E402

from tunnel.encapsulation import (  # noqa: E402
    CONGESTED,
    EMPTY,
    TLV_DISABLED,
    TLV_LENGTH,
    TLV_TYPE,
    UNKNOWN_FORMAT,
    demultiplex,
    protocol_of,
    tos_of,
    with_outer_ecn,
    wrap,
)
from tunnel.fragmentation import fragment_ipv4, fragment_ipv6  # noqa: E402
from tunnel.outer import outer_fragments  # noqa: E402
from tunnel.path import Drop, Encapsulation, TunnelPath  # noqa: E402
from wire.ip import IPv4Header, IPv6Header  # noqa: E402
from wire.profile import TlvLayout  # noqa: E402
from wire.udp import verify_udp  # noqa: E402


def packet4(size: int = 100, tos: int = 0, **fields: object) -> bytes:
    header = IPv4Header(IPv4Address("198.51.100.7"), IPv4Address("203.0.113.9"), 17, size, tos=tos, **fields)  # type: ignore[arg-type]
    return header.encode() + bytes(index & 0xFF for index in range(size - header.header_length))


def packet6(size: int = 100, tos: int = 0) -> bytes:
    header = IPv6Header(
        IPv6Address("2001:db8:99::7"), IPv6Address("2001:db8:9::9"), 17, size - 40, traffic_class=tos
    )
    return header.encode() + bytes(index & 0xFF for index in range(size - 40))


def test_vanilla_and_ip_in_ip_put_nothing_in_front() -> None:
    for packet in (packet4(), packet6()):
        assert wrap(packet, Encapsulation.UDP) is packet
        assert wrap(packet, Encapsulation.IP_IN_IP) is packet
    assert (protocol_of(packet4()), protocol_of(packet6())) == (4, 41)


@pytest.mark.requirement("R086c", "R111")
def test_the_tlv_header_of_the_draft_octet_by_octet() -> None:
    assert wrap(packet4(100), Encapsulation.UDP_TLV_DRAFT) == bytes((1, 100, 0, 0)) + packet4(100)
    assert wrap(packet6(255), Encapsulation.UDP_TLV_DRAFT) == bytes((2, 255, 0, 0)) + packet6(255)
    assert wrap(packet6(256), Encapsulation.UDP_TLV_DRAFT) == bytes((2, 0, 0, 0)) + packet6(256)


def test_the_tlv_header_of_rfc_5845_octet_by_octet() -> None:
    assert wrap(packet4(100), Encapsulation.UDP_TLV) == bytes((0, 4, 0, 100)) + packet4(100)
    assert wrap(packet6(1400), Encapsulation.UDP_TLV) == bytes((0, 41, 5, 120)) + packet6(1400)


@pytest.mark.requirement("R083")
@pytest.mark.parametrize("layout", [None, *TlvLayout])
def test_the_version_nibble_tells_formats_apart(layout: TlvLayout | None) -> None:
    assert demultiplex(packet4(), layout) == packet4()
    assert demultiplex(packet6(), layout) == packet6()
    for first in range(0x10, 0x100):
        if first >> 4 not in (4, 6):
            assert demultiplex(bytes((first,)) + bytes(60), layout) is UNKNOWN_FORMAT
    assert demultiplex(b"", layout) is EMPTY


@pytest.mark.requirement("R086c")
@pytest.mark.parametrize("reserved", [0, 1, 0x1234, 0xFFFF])
def test_reserved_bits_of_a_tlv_header_are_ignored(reserved: int) -> None:
    draft = bytes((1, 100)) + reserved.to_bytes(2, "big") + packet4(100)
    assert demultiplex(draft, TlvLayout.DRAFT) == packet4(100)
    rfc = bytes((reserved & 0x0F, 41, 0, 100)) + packet6(100)
    assert demultiplex(rfc, TlvLayout.RFC5845) == packet6(100)


@pytest.mark.requirement("R086c")
def test_a_tlv_header_with_another_type_is_dropped() -> None:
    for kind in range(16):
        verdict = demultiplex(bytes((kind, 100, 0, 0)) + packet4(100), TlvLayout.DRAFT)
        assert verdict == (packet4(100) if kind == 1 else TLV_TYPE)
    for protocol in range(256):
        verdict = demultiplex(bytes((0, protocol, 0, 100)) + packet6(100), TlvLayout.RFC5845)
        assert verdict == (packet6(100) if protocol == 41 else TLV_TYPE)


def test_a_tlv_length_that_lies_is_dropped() -> None:
    for length in (1, 99, 101, 255):
        assert demultiplex(bytes((1, length, 0, 0)) + packet4(100), TlvLayout.DRAFT) is TLV_LENGTH
    assert demultiplex(bytes((1, 0, 0, 0)) + packet4(100), TlvLayout.DRAFT) == packet4(100)
    for length in (0, 99, 101, 0xFFFF):
        rfc = b"\0\4" + length.to_bytes(2, "big") + packet4(100)
        assert demultiplex(rfc, TlvLayout.RFC5845) is TLV_LENGTH
    for layout in TlvLayout:
        assert demultiplex(bytes(4), layout) is TLV_LENGTH


def test_a_tlv_header_that_was_not_negotiated_is_dropped() -> None:
    assert demultiplex(wrap(packet4(), Encapsulation.UDP_TLV), None) is TLV_DISABLED


@given(size=st.integers(40, 1500), six=st.booleans())
def test_demultiplexing_undoes_wrapping(size: int, six: bool) -> None:
    packet = packet6(size) if six else packet4(size)
    assert demultiplex(wrap(packet, Encapsulation.UDP), None) == packet
    assert demultiplex(wrap(packet, Encapsulation.UDP_TLV), TlvLayout.RFC5845) == packet
    assert demultiplex(wrap(packet, Encapsulation.UDP_TLV_DRAFT), TlvLayout.DRAFT) == packet


@given(st.binary(max_size=80))
def test_any_datagram_is_demultiplexed_or_dropped(datagram: bytes) -> None:
    for layout in (None, *TlvLayout):
        assert isinstance(demultiplex(datagram, layout), bytes | Drop)


def test_the_overhead_of_a_path_is_what_its_packets_really_carry() -> None:
    v4, v6 = (IPv4Address("192.0.2.1"), IPv4Address("192.0.2.2")), (IPv6Address("::1"), IPv6Address("::2"))
    expected = {
        Encapsulation.IP_IN_IP: 1480,
        Encapsulation.UDP: 1472,
        Encapsulation.UDP_TLV: 1468,
        Encapsulation.UDP_TLV_DRAFT: 1468,
    }
    for encapsulation, inner_mtu in expected.items():
        assert TunnelPath(*v4, encapsulation).inner_mtu == inner_mtu
        assert len(wrap(packet4(100), encapsulation)) == 100 + (4 if inner_mtu == 1468 else 0)
    assert TunnelPath(*v6, Encapsulation.IP_IN_IP).inner_mtu == 1460


@given(tos=st.integers(0, 255), six=st.booleans())
def test_the_traffic_class_is_found_in_either_family(tos: int, six: bool) -> None:
    assert tos_of(packet6(tos=tos) if six else packet4(tos=tos)) == tos


@pytest.mark.parametrize("six", [False, True])
@pytest.mark.parametrize(
    ("outer", "inner", "result"),
    # RFC 6040 figure 4, rows by inner, columns by outer; None: dropped.
    [
        *((outer, 0, expected) for outer, expected in ((0, 0), (1, 0), (2, 0), (3, None))),
        *((outer, 2, expected) for outer, expected in ((0, 2), (1, 1), (2, 2), (3, 3))),
        *((outer, 1, expected) for outer, expected in ((0, 1), (1, 1), (2, 1), (3, 3))),
        *((outer, 3, 3) for outer in range(4)),
    ],
)
def test_congestion_marks_leave_the_tunnel_as_rfc_6040_says(
    six: bool, outer: int, inner: int, result: int | None
) -> None:
    make = packet6 if six else packet4
    packet = make(100, 0xB8 | inner)
    verdict = with_outer_ecn(packet, 0x20 | outer)
    assert verdict == (CONGESTED if result is None else make(100, 0xB8 | result))


@given(
    size=st.integers(60, 4000),
    mtu=st.integers(68, 1500),
    identification=st.integers(0, 0xFFFF),
)
def test_fragments_fit_and_scapy_puts_them_together_again(size: int, mtu: int, identification: int) -> None:
    packet = packet4(size, identification=identification, dont_fragment=False)
    fragments = fragment_ipv4(packet, mtu)
    assert all(len(fragment) <= mtu for fragment in fragments)
    whole = defragment([IP(fragment) for fragment in fragments])
    assert [bytes(each)[20:] for each in whole] == [packet[20:]]
    for fragment in fragments:
        header = IPv4Header.decode(fragment)
        assert (header.identification, header.ttl, header.protocol) == (identification, 64, 17)


def test_a_fragment_is_cut_further_without_losing_its_place() -> None:
    middle = packet4(820, more_fragments=True, fragment_offset=100, dont_fragment=False)
    headers = [IPv4Header.decode(fragment) for fragment in fragment_ipv4(middle, 420)]
    assert [(h.fragment_offset, h.more_fragments) for h in headers] == [(100, True), (150, True)]


def test_only_copied_options_travel_in_later_fragments() -> None:
    record_route = bytes((7, 7, 4, 0, 0, 0, 0))
    security = bytes((130, 11)) + bytes(9)
    packet = packet4(400, options=record_route + b"\1" + security + b"\0", dont_fragment=False)
    first, second, *_ = (IPv4Header.decode(fragment) for fragment in fragment_ipv4(packet, 200))
    assert first.options == record_route + b"\1" + security + b"\0"
    assert second.options == security + b"\0"


@given(st.binary(max_size=40))
def test_any_options_and_any_octets_are_fragmented_or_refused(options: bytes) -> None:
    padded = options + bytes(-len(options) % 4)
    packet = packet4(300, options=padded, dont_fragment=False)
    assert all(len(fragment) <= 100 for fragment in fragment_ipv4(packet, 100))
    assert fragment_ipv4(options, 100) == ()


def test_a_packet_that_must_not_be_fragmented_is_not() -> None:
    assert fragment_ipv4(packet4(1000), 500) == ()
    assert fragment_ipv4(packet4(1000, dont_fragment=False), 67) == ()


def test_fragments_are_what_scapy_makes() -> None:
    packet = IP(src="198.51.100.7", dst="203.0.113.9", id=77) / UDP(sport=1, dport=2) / Raw(bytes(1000))
    expected = [bytes(each) for each in packet.fragment(fragsize=480)]
    assert list(fragment_ipv4(bytes(packet), 500)) == expected


@pytest.mark.parametrize("mtu", [1280, 1300, 1492])
def test_ipv6_fragments_of_the_source_are_put_together_by_somebody_elses_code(mtu: int) -> None:
    packet = packet6(3048)
    pieces = fragment_ipv6(IPv6Header.decode(packet), packet[40:], mtu, 0x12345678)
    assert len(pieces) == 3
    assert max(map(len, pieces)) <= mtu
    assert bytes(defragment6([IPv6(piece) for piece in pieces])) == packet


def test_an_ipv6_packet_that_fits_has_no_fragment_header() -> None:
    packet = packet6(1280)
    assert fragment_ipv6(IPv6Header.decode(packet), packet[40:], 1280, 7) == (packet,)


@pytest.mark.parametrize("kind", [Encapsulation.UDP, Encapsulation.IP_IN_IP, Encapsulation.UDP_TLV])
def test_outer_fragments_put_together_are_the_outer_packet(kind: Encapsulation) -> None:
    local, remote = IPv4Address("198.51.100.7"), IPv4Address("203.0.113.9")
    path = TunnelPath(local, remote, kind, 0, 4191, "eth0", 1280)
    pieces = outer_fragments(packet6(1280, tos=0x28), path, 5000, None, 64, 0x77777)
    assert max(map(len, pieces)) <= 1280
    whole = defragment([IP(piece) for piece in pieces])[0]
    assert (whole.src, whole.dst, whole.tos, whole.id) == (str(local), str(remote), 0x28, 0x7777)
    payload = bytes(whole.payload)
    if kind.in_udp:
        assert (whole.sport, whole.dport, verify_udp(local, remote, payload)) == (5000, 4191, True)
        payload = payload[8:]
    assert payload == wrap(packet6(1280, tos=0x28), kind)
