"""What is pure of the kernel tier: the assembler, shapes that both sides share, headers for sending again."""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv6Address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunnel.bpf import layout
from tunnel.bpf.again import offload_header
from tunnel.bpf.assembler import R0, R1, R2, R3, R10, Assembler, Helper, If, Op
from tunnel.bpf.egress import egress_program
from tunnel.bpf.ingress import ingress_program
from tunnel.bpf.inspection import Side
from tunnel.bpf.layout import Descriptors, Exit, KernelPeer, Wrapping, encode_route, key_of, network_key_of
from tunnel.bpf.memory import recall
from tunnel.path import Encapsulation, TunnelPath
from wire.ip import IPv4Header, IPv6Header
from wire.udp import encode_udp

HOME4, CN4 = IPv4Address("203.0.113.77"), IPv4Address("192.0.2.9")
HOME6, CN6 = IPv6Address("2001:db8:99::77"), IPv6Address("2001:db8:9::9")
MAPS = Descriptors(3, 4, 5, 6, 7, 8)


def assembled() -> str:
    """A little program, as hexadecimal of a little-endian machine."""
    a = Assembler()
    a.move(R0, 0)
    a.jump_if(If.ABOVE, R1, R2, "end")
    a.alu(Op.ADD, R0, 7, width=32)
    a.label("end")
    a.exit()
    return a.assemble("little").hex()


def test_instructions_golden() -> None:
    # As llvm-mc prints them: r0 = 0; if r1 > r2 goto +1; w0 += 7; exit
    assert assembled() == "b7000000000000002d2101000000000004000000070000009500000000000000"


def test_every_kind_of_instruction_golden_in_both_byte_orders() -> None:
    a = Assembler()
    a.load(4, R1, R2, 16)
    a.store(2, R10, -8, R1)
    a.store(1, R10, -4, 255)
    a.to_network_order(R1, 16)
    a.atomic_add(R2, 8, R3, fetch=True)
    a.map(R1, 9)
    a.map_value(R2, 9, 64)
    a.constant(R3, 0x0102030405060708)
    a.jump_if(If.EQUAL, R1, 0x80000000, "end", width=32)
    a.call(Helper.REDIRECT)
    a.label("end")
    a.exit(2)
    little = (
        "6121100000000000 6b1af8ff00000000 720afcffff000000 dc01000010000000 db32080001000000"
        + " 1811000009000000 0000000000000000 1822000009000000 0000000040000000"
        + " 1803000008070605 0000000004030201 1601010000000080 8500000017000000"
        + " b700000002000000 9500000000000000"
    )
    assert a.assemble("little").hex() == little.replace(" ", "")
    assert a.assemble("big")[:8].hex() == "6112001000000000"
    assert len(a.assemble("big")) == len(a.assemble("little"))


def test_labels_are_there_once() -> None:
    a = Assembler()
    a.label("here")
    with pytest.raises(ValueError, match="label here is there twice"):
        a.label("here")
    a.jump("nowhere")
    with pytest.raises(ValueError, match="label nowhere is nowhere"):
        a.assemble()


def test_programs_are_small() -> None:
    for side in Side:
        for program in (egress_program(MAPS, side, 1, 2, 1.8), ingress_program(MAPS, side, 14)):
            assert 300 * 8 < len(program) < 1000 * 8


def test_keys_of_the_families_do_not_meet() -> None:
    assert key_of(HOME4) == bytes(12) + HOME4.packed
    assert key_of(HOME6) == HOME6.packed
    assert network_key_of(ip_network("203.0.113.0/24")) == struct.pack("=I", 120) + key_of(
        IPv4Address("203.0.113.0")
    )
    assert network_key_of(ip_network("2001:db8::/32"))[:4] == struct.pack("=I", 32)


def test_a_route_has_its_fields_where_programs_look() -> None:
    path = TunnelPath(HOME4, CN4, Encapsulation.UDP_TLV, 40001, 4191)
    peers = tuple(KernelPeer(CN4, HOME4, port, 40001) for port in range(1, 7))
    route = encode_route(5, Exit(path, 9), peers)
    assert len(route) == layout.ROUTE_SIZE
    number = struct.Struct("=I")
    assert [number.unpack_from(route, at)[0] for at in (layout.LANE, layout.IFINDEX, layout.LIMIT)] == [
        5,
        9,
        1468,
    ]
    assert (route[layout.WRAPPING], route[layout.OVERHEAD]) == (Wrapping.UDP_TLV, 32)
    assert route[layout.REMOTE_PORT :][:2] == (4191).to_bytes(2, "big")
    for place in range(layout.PEERS):
        peer = route[layout.FIRST_PEER + place * layout.PEER.size :][: layout.PEER.size]
        assert peer[layout.PEER_REMOTE :][:16] == key_of(CN4)
        assert peer[layout.PEER_REMOTE_PORT :][:4] == struct.pack("!HH", place + 1, 40001)
    only_inbound = encode_route(5, None, peers)
    assert only_inbound[layout.WRAPPING] == Wrapping.NONE
    assert only_inbound[layout.FIRST_PEER :] == route[layout.FIRST_PEER :]


@pytest.mark.parametrize("encapsulation", [Encapsulation.ESP, Encapsulation.ESP_UDP])
def test_protected_paths_are_not_for_programs(encapsulation: Encapsulation) -> None:
    assert layout.wrapping_of(TunnelPath(CN6, HOME6, encapsulation)) is Wrapping.NONE


def test_only_whole_and_recent_packets_are_recalled_oldest_first() -> None:
    memory = bytearray(layout.RECENT_SIZE)
    end = 3 * layout.OCTETS
    struct.pack_into("=QQQ", memory, 0, 4, end, 0)
    entries = [
        (3_000_000_000, end - 10, 10, 0),
        (2_000_000_000, end - 30, 20, 1400),
        (1_000_000_000, end - 40, 10, 0),  # too old
        (4_000_000_000, end - layout.OCTETS - 1, 9, 0),  # its place was used again
        (0, end - 60, 10, 0),  # not finished
    ]
    for index, entry in enumerate(entries):
        layout.ENTRY.pack_into(memory, layout.FIRST_ENTRY + index * layout.ENTRY.size, *entry)
    for position, octets in ((end - 10, b"a" * 10), (end - 30, b"b" * 20)):
        at = layout.FIRST_OCTET + position % layout.OCTETS
        memory[at : at + len(octets)] = octets
    found = list(recall(memoryview(memory), 1.5))
    assert [(one.at, one.packet, one.segment) for one in found] == [
        (2.0, b"b" * 20, 1400),
        (3.0, b"a" * 10, 0),
    ]


def with_pseudo_sum(packet: bytes, start: int, at: int, addresses: bytes, protocol: int) -> bytes:
    """As the kernel leaves a packet whose checksum the device is to make."""
    words = struct.unpack(f"!{len(addresses) // 2}H", addresses)
    total = sum(words) + protocol + len(packet) - start
    total = (total & 0xFFFF) + (total >> 16)
    total = (total & 0xFFFF) + (total >> 16)
    return packet[: start + at] + total.to_bytes(2, "big") + packet[start + at + 2 :]


def test_an_unfinished_checksum_is_told_from_a_finished_one() -> None:
    udp = encode_udp(HOME6, CN6, 1, 2, b"datagram")
    finished = IPv6Header(HOME6, CN6, 17, len(udp)).encode() + udp
    unfinished = with_pseudo_sum(finished, 40, 6, finished[8:40], 17)
    assert struct.unpack("=BBHHHH", offload_header(finished, 0)) == (0, 0, 0, 0, 0, 0)
    assert struct.unpack("=BBHHHH", offload_header(unfinished, 0)) == (1, 0, 0, 0, 40, 6)


@pytest.mark.parametrize(("flags", "kind"), [(0x10, 1), (0x90, 0x81)])
def test_segments_are_described_as_they_were(flags: int, kind: int) -> None:
    tcp = struct.pack("!HHIIBBHHH", 1, 2, 3, 4, 8 << 4, flags, 500, 0, 0) + bytes(12 + 3000)
    packet = IPv4Header(HOME4, CN4, 6, 20 + len(tcp)).encode() + tcp
    assert struct.unpack("=BBHHHH", offload_header(packet, 1400)) == (1, kind, 20 + 32, 1400, 20, 16)


@given(st.binary(min_size=1, max_size=120), st.integers(0, 65535))
def test_no_packet_is_too_strange_to_be_described(packet: bytes, segment: int) -> None:
    assert len(offload_header(packet, segment)) == 10
