"""Cutting super-packets: what Linux would make of them, with this project's own codec and scapy as judges."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.packet import Raw

from tests.values.offload_packets import (
    ACK,
    CWR,
    DESTINATION4,
    DESTINATION6,
    ECE,
    PSH_FIN,
    SOURCE4,
    SOURCE6,
    segments,
    super_packet,
)
from tunnel.encapsulation import demultiplex
from tunnel.framing import framing_of
from tunnel.offload.single import single_packets
from tunnel.offload.vnet import VNET, Kind, SuperPacket, complete_checksum, moved
from tunnel.path import Encapsulation
from wire.checksum import internet_checksum, pseudo_header4, pseudo_header6, word_sum
from wire.profile import TlvLayout

TIMESTAMPS = bytes.fromhex("0101080a0102030405060708")
SACK = bytes.fromhex("0101050a0000000100000002")
ROUTER_ALERT = bytes.fromhex("94040000")
DESTINATION_OPTIONS = bytes.fromhex("0600010400000000")


def _case(size: int, octets: int, rest: dict[str, Any]) -> dict[str, Any]:
    payload = bytes(i * 7 % 251 for i in range(min(octets, 30 * size)))
    return {"size": size, "payload": payload, **rest}


CASES = st.builds(
    _case,
    st.integers(1, 1500),
    st.integers(1, 5000),
    st.fixed_dictionaries(
        {
            "version": st.sampled_from([4, 6]),
            "udp": st.booleans(),
            "options": st.sampled_from([b"", TIMESTAMPS, SACK]),
            "sequence": st.integers(0, 0xFFFFFFFF),
            "flags": st.sampled_from([ACK, ACK | PSH_FIN, ACK | CWR, ACK | ECE | 8]),
            "identification": st.integers(0, 0xFFFF),
        }
    ),
)


@settings(max_examples=60, deadline=None)
@given(CASES, st.integers(0, 7))
def test_segments_are_what_the_sender_would_have_sent_one_by_one(case: dict[str, Any], step: int) -> None:
    whole, packet = super_packet(**case)
    version, transport = case["version"], packet.transport
    payload = b""
    rows = segments(whole, packet, step=step)
    assert len(rows) == packet.segments
    for number, row in enumerate(rows):
        last = number == len(rows) - 1
        parsed = IP(row) if version == 4 else IPv6(row)
        again = parsed.__class__(bytes(rebuilt(parsed)))
        assert bytes(again) == row, "scapy computes the same lengths and checksums"
        if version == 4:
            assert parsed.id == (case["identification"] + number) & 0xFFFF
            assert (parsed.ttl, parsed.tos, parsed.flags.DF) == (64, 0x2A, True)
        layer4 = parsed[UDP if case["udp"] else TCP]
        if not case["udp"]:
            assert layer4.seq == (case["sequence"] + number * case["size"]) & 0xFFFFFFFF
            expected = case["flags"] & ~((0 if last else PSH_FIN) | (CWR if number else 0))
            assert int(layer4.flags) == expected
            assert row[transport + 20 : packet.headers] == case["options"]
        payload += row[packet.headers :]
    assert payload == case["payload"]


def rebuilt(packet: Any) -> Any:
    """The packet with everything that is computed left to scapy."""
    copy = packet.copy()
    for layer, fields in (
        (IP, ("len", "chksum")),
        (IPv6, ("plen",)),
        (TCP, ("chksum",)),
        (UDP, ("len", "chksum")),
    ):
        if layer in copy:
            for name in fields:
                copy[layer].delfieldval(name)
    return copy


@settings(max_examples=60, deadline=None)
@given(CASES)
def test_every_checksum_verifies_by_the_codec(case: dict[str, Any]) -> None:
    whole, packet = super_packet(**case)
    for row in segments(whole, packet):
        length = len(row) - packet.transport
        protocol = 17 if case["udp"] else 6
        if case["version"] == 4:
            assert internet_checksum(row[: packet.transport]) == 0
            pseudo = pseudo_header4(SOURCE4, DESTINATION4, length, protocol)
        else:
            pseudo = pseudo_header6(SOURCE6, DESTINATION6, length, protocol)
        assert internet_checksum(row[packet.transport :], word_sum(pseudo)) == 0


@pytest.mark.parametrize(("version", "network"), [(4, ROUTER_ALERT), (6, DESTINATION_OPTIONS)])
@pytest.mark.parametrize("udp", [False, True])
def test_options_of_the_internet_header_are_repeated(version: int, network: bytes, udp: bool) -> None:
    whole, packet = super_packet(version, bytes(range(250)), 100, network=network, udp=udp)
    rows = segments(whole, packet)
    assert [len(row) - packet.headers for row in rows] == [100, 100, 50]
    for row in rows:
        length = len(row) - packet.transport
        protocol = 17 if udp else 6
        pseudo = (
            pseudo_header4(SOURCE4, DESTINATION4, length, protocol)
            if version == 4
            else pseudo_header6(SOURCE6, DESTINATION6, length, protocol)
        )
        assert internet_checksum(row[packet.transport :], word_sum(pseudo)) == 0
        if version == 4:
            assert row[20:24] == ROUTER_ALERT
            assert internet_checksum(row[:24]) == 0
        else:
            assert row[40:48] == bytes([protocol]) + DESTINATION_OPTIONS[1:]


@pytest.mark.parametrize("layout", list(TlvLayout))
@pytest.mark.parametrize("length", [3000, 3100, 150])
def test_rows_carry_the_header_of_the_negotiated_layout(layout: TlvLayout, length: int) -> None:
    kind = Encapsulation.UDP_TLV if layout is TlvLayout.RFC5845 else Encapsulation.UDP_TLV_DRAFT
    whole, packet = super_packet(6, bytes(length), 1000)
    plain = segments(whole, packet)
    assert [demultiplex(row, layout) for row in segments(whole, packet, framing_of(kind))] == plain


@pytest.mark.parametrize("length", range(2000, 2005))
def test_rows_that_will_be_sealed_end_with_their_trailer(length: int) -> None:
    whole, packet = super_packet(4, bytes(length), 1000)
    for plain, row in zip(
        segments(whole, packet), segments(whole, packet, framing_of(Encapsulation.ESP)), strict=True
    ):
        assert row[: len(plain)] == plain
        padding = row[len(plain) : -2]
        assert row[len(plain) :] == bytes(range(1, len(padding) + 1)) + bytes([len(padding), 4])
        assert len(row) % 4 == 0


def test_headers_that_contradict_themselves_are_refused() -> None:
    whole, _ = super_packet(4, bytes(3000), 1000)
    of = SuperPacket.of
    assert of(Kind.TCP4, 1000, 20, whole[:60], 3040) is not None
    assert of(Kind.TCP6, 1000, 20, whole[:60], 3040) is None, "another version"
    assert of(3, 1000, 20, whole[:60], 3040) is None, "fragments of a datagram"
    assert of(Kind.TCP4, 0, 20, whole[:60], 3040) is None, "nothing in a segment"
    assert of(Kind.TCP4, 1000, 18, whole[:60], 3040) is None, "TCP inside the IP header"
    assert of(Kind.TCP4, 1000, 20, whole[:39], 3040) is None, "half a header"
    assert of(Kind.TCP4, 1000, 20, whole[:60], 40) is None, "no payload"
    assert of(Kind.TCP4, 1000, 20, b"", 3040) is None
    short = bytearray(whole)
    short[32] = 0x40
    assert of(Kind.TCP4, 1000, 20, bytes(short[:60]), 3040) is None, "four words of TCP header"


@given(st.binary(max_size=200), st.integers(0, 220), st.integers(0, 40))
def test_a_checksum_is_completed_or_nothing_is_touched(octets: bytes, start: int, offset: int) -> None:
    packet = bytearray(octets)
    done = complete_checksum(packet, start, offset)
    assert done == (start + offset + 2 <= len(octets))
    if not done:
        assert packet == octets


def test_a_completed_checksum_is_the_one_of_scapy() -> None:
    for odd in (0, 1):
        for layer, place in ((UDP(sport=1, dport=2), 6), (TCP(sport=1, dport=2), 16)):
            packet = bytearray(
                bytes(IP(src=str(SOURCE4), dst=str(DESTINATION4)) / layer / Raw(bytes(99 + odd)))
            )
            right = bytes(packet)
            pseudo = pseudo_header4(SOURCE4, DESTINATION4, len(packet) - 20, packet[9])
            packet[20 + place : 22 + place] = (word_sum(pseudo) % 0xFFFF).to_bytes(2, "big")
            assert complete_checksum(packet, 20, place)
            assert packet == right


@settings(max_examples=60, deadline=None)
@given(CASES, st.sampled_from([0, 14]))
def test_without_arrays_the_same_packets_come_out(case: dict[str, Any], link_header: int) -> None:
    whole, packet = super_packet(**case)
    before = VNET.pack(1, packet.kind, 0, packet.size, packet.transport + link_header, 0)
    assert list(single_packets(moved(before, -link_header), whole)) == segments(whole, packet)


def test_without_arrays_a_checksum_is_finished_and_nonsense_gives_nothing() -> None:
    whole, packet = super_packet(4, bytes(99), 1000)
    begun = VNET.pack(1, 0, 0, 0, packet.transport, 16)
    assert single_packets(begun, whole) == tuple(segments(whole, packet))
    assert single_packets(bytes(10), whole) == (whole,)
    assert single_packets(VNET.pack(1, 0, 0, 0, len(whole), 16), whole) == ()
    assert single_packets(VNET.pack(1, Kind.TCP6, 0, 1000, 20, 16), whole) == ()
