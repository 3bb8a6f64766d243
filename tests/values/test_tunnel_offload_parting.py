"""A super-packet parted in two stands for the packets that it stood for before."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings

from tests.values.offload_packets import segments, super_packet
from tests.values.test_tunnel_offload_segment import CASES, ROUTER_ALERT, TIMESTAMPS
from tunnel.offload.parting import parted
from tunnel.offload.vnet import NEEDS_CHECKSUM, VNET, VNET_HEADER, Kind, SuperPacket, complete_checksum


def packets(described: bytes, payload: bytes) -> list[bytes]:
    """What a device makes of a part: many segments are cut, of one the checksum is finished."""
    flags, kind, _, size, start, offset = VNET.unpack_from(described)
    part = described[VNET_HEADER:] + payload
    assert flags == NEEDS_CHECKSUM
    if kind == Kind.NONE:
        octets = bytearray(part)
        assert complete_checksum(octets, start, offset)
        return [bytes(octets)]
    packet = SuperPacket.of(kind, size, start, part[:512], len(part))
    assert packet is not None
    assert packet.last == packet.size, "the segments of the first part are equal"
    return segments(part, packet)


def parts(whole: bytes, packet: SuperPacket) -> list[bytes]:
    first, last = parted(whole[:512], packet)
    return [
        *packets(first, whole[packet.headers : -packet.last]),
        *packets(last, whole[-packet.last :]),
    ]


@settings(max_examples=80, deadline=None)
@given(CASES)
def test_both_parts_together_are_cut_into_the_same_packets(case: dict[str, Any]) -> None:
    whole, packet = super_packet(**case)
    if packet.segments > 1 and packet.last != packet.size:
        assert parts(whole, packet) == segments(whole, packet)


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("size", [1400, 2999])
def test_numbers_that_wrap_and_headers_with_options(version: int, size: int) -> None:
    """One full segment is a packet, more are a super-packet again."""
    network = ROUTER_ALERT if version == 4 else b""
    whole, packet = super_packet(
        version, bytes(range(250)) * 12, size, options=TIMESTAMPS, sequence=0xFFFFFFFF, flags=0x99,
        identification=0xFFFF, network=network,
    )  # fmt: skip
    assert parts(whole, packet) == segments(whole, packet)
