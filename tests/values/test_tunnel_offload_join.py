"""Joining segments: what was cut comes together again, and whatever is not alike stays apart."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.values.offload_packets import ACK, CWR, ECE, PSH, SOURCE4, segments, super_packet
from tunnel.offload.bulk import Joiner, Run, runs
from tunnel.offload.vnet import KIND, NEEDS_CHECKSUM, VNET, VNET_HEADER, Kind, SuperPacket
from wire.checksum import internet_checksum

TIMESTAMPS = bytes.fromhex("0101080a0102030405060708")
TLV = bytes.fromhex("00040400")


def runs_of(packets: list[bytes], tail: bytes = b"", before: bytes = b"", gap: int = 0) -> list[Run]:
    """The runs among packets of one length, as they lie behind each other with `gap` octets between."""
    size = len(before) + len(packets[0])
    octets = bytearray(b"".join(before + packet + bytes(gap) for packet in packets))
    return list(runs(octets, 0, size + gap, size, len(packets), tail))


def written(run: Run) -> bytes:
    return bytes(Joiner().join(run))


def recut(joined: bytes) -> list[bytes]:
    """What Linux would make of a super-packet that is written."""
    flags, kind, headers, size, start, _ = VNET.unpack_from(joined)
    assert flags == NEEDS_CHECKSUM
    packet = joined[VNET_HEADER:]
    described = SuperPacket.of(kind & KIND, size, start, packet[:256], len(packet))
    assert described is not None
    assert described.headers == headers
    return segments(packet, described)


@settings(max_examples=150, deadline=None)
@given(
    version=st.sampled_from([4, 6]),
    count=st.integers(6, 44),
    last=st.integers(1, 200),
    size=st.integers(200, 1448),
    options=st.sampled_from([b"", TIMESTAMPS]),
    sequence=st.integers(0, 0xFFFFFFFF),
    flags=st.sampled_from([ACK, ACK | PSH, ACK | ECE]),
    identification=st.integers(0, 0xFF00),
    gap=st.sampled_from([0, 1, 64]),
)
def test_what_was_cut_comes_together_again(
    version: int, count: int, last: int, size: int, gap: int, **fields: Any
) -> None:
    payload = random.Random(size).randbytes((count - 1) * size + last)
    whole, described = super_packet(version, payload, size, **fields)
    *full, short = segments(whole, described)
    if len(full[0]) * count > 65535 or checksum_wraps(full[0], count):
        return
    found = runs_of(full, short if last < size else b"", gap=gap)
    if last < size:
        assert [run.count for run in found] == [count]
        assert recut(written(found[0])) == [*full, short]
        assert written(found[0])[VNET_HEADER:] == whole
    else:
        assert [run.count for run in found] == [count - 1]
        assert recut(written(found[0])) == full


def checksum_wraps(packet: bytes, count: int) -> bool:
    """Then the segments go up one by one, once in a thousand times."""
    return packet[0] >> 4 == 4 and int.from_bytes(packet[10:12], "big") < count


def test_a_wrapped_identification_is_not_joined_and_nothing_is_lost() -> None:
    whole, described = super_packet(4, bytes(10_000), 1000, identification=0xFFFA)
    packets = segments(whole, described)
    found = runs_of(packets)
    assert sum(run.count for run in found) == 10
    assert [octets for run in found for octets in (run.first, *run.others())] == packets


def altered(change: Callable[[bytearray], None], version: int = 4, number: int = 5) -> list[Run]:
    """Ten segments, one of them changed and its IP header's checksum made right again."""
    whole, described = super_packet(version, bytes(range(250)) * 40, 1000, options=TIMESTAMPS)
    packets = [bytearray(packet) for packet in segments(whole, described)]
    change(packets[number])
    if version == 4:
        packets[number][10:12] = bytes(2)
        packets[number][10:12] = internet_checksum(packets[number][:20]).to_bytes(2, "big")
    return runs_of([bytes(packet) for packet in packets])


def put(place: int, value: int) -> Callable[[bytearray], None]:
    def change(packet: bytearray) -> None:
        packet[place] = value

    return change


def fix_tcp(packet: bytearray) -> None:
    """Make the checksum of TCP right."""
    start = 20 if packet[0] >> 4 == 4 else 40
    length = len(packet) - start
    addresses = packet[12:20] if start == 20 else packet[8:40]
    packet[start + 16 : start + 18] = bytes(2)
    pseudo = bytes(addresses) + length.to_bytes(4, "big") + bytes((0, 0, 0, 6))
    packet[start + 16 : start + 18] = internet_checksum(pseudo + packet[start:]).to_bytes(2, "big")


def both(*changes: Callable[[bytearray], None]) -> Callable[[bytearray], None]:
    def change(packet: bytearray) -> None:
        for each in changes:
            each(packet)

    return change


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(both(put(15, 9), fix_tcp), id="another source"),
        pytest.param(both(put(19, 77), fix_tcp), id="another destination"),
        pytest.param(both(put(21, 9), fix_tcp), id="another port"),
        pytest.param(both(put(31, 9), fix_tcp), id="another acknowledgement"),
        pytest.param(both(put(27, 9), fix_tcp), id="another sequence number"),
        pytest.param(both(put(35, 9), fix_tcp), id="another window"),
        pytest.param(both(put(47, 9), fix_tcp), id="another timestamp"),
        pytest.param(both(put(33, ACK | CWR), fix_tcp), id="congestion window reduced"),
        pytest.param(both(put(33, ACK | ECE), fix_tcp), id="echo of congestion"),
        pytest.param(both(put(33, ACK | 1), fix_tcp), id="end of the stream"),
        pytest.param(both(put(33, ACK | 4), fix_tcp), id="reset"),
        pytest.param(both(put(33, ACK | 0x20), fix_tcp), id="urgent"),
        pytest.param(put(1, 0x2B), id="congestion experienced"),
        pytest.param(put(8, 63), id="another time to live"),
        pytest.param(put(6, 0), id="may be fragmented"),
        pytest.param(put(5, 99), id="another identification"),
        pytest.param(put(300, 0), id="a damaged payload"),
        pytest.param(put(36, 1), id="a damaged checksum"),
    ],
)
def test_a_segment_that_differs_is_handed_on_as_it_is(change: Callable[[bytearray], None]) -> None:
    found = altered(change)
    counts = [run.count for run in found]
    assert sum(counts) == 10
    assert max(counts) <= 5
    alone = next(run for run in found if run.first == changed_packet(change))
    assert alone.count == 1


def changed_packet(change: Callable[[bytearray], None]) -> bytes:
    return altered_packets(change)[5]


def altered_packets(change: Callable[[bytearray], None]) -> list[bytes]:
    return [octets for run in altered(change) for octets in (run.first, *run.others())]


def test_a_damaged_header_checksum_stays_damaged() -> None:
    whole, described = super_packet(4, bytes(10_000), 1000)
    packets = segments(whole, described)
    packets[3] = packets[3][:10] + b"\xab\xcd" + packets[3][12:]
    found = runs_of(packets)
    assert [octets for run in found for octets in (run.first, *run.others())] == packets
    assert all(run.count == 1 for run in found if run.first == packets[3])
    first = runs_of([packets[3], *packets[:3], *packets[4:]])[0]
    assert (first.first, first.count) == (packets[3], 1)


@pytest.mark.parametrize("version", [4, 6])
def test_a_push_ends_a_run(version: int) -> None:
    start = 20 if version == 4 else 40
    found = altered(both(put(start + 13, ACK | PSH), fix_tcp), version)
    assert [run.count for run in found] == [6, 4]
    assert written(found[0])[VNET_HEADER + start + 13] == ACK | PSH
    assert written(found[1])[VNET_HEADER + start + 13] == ACK


def test_flows_that_alternate_are_joined_each_for_itself() -> None:
    whole4, described4 = super_packet(4, bytes(8000), 1000, options=TIMESTAMPS)
    other, described_other = super_packet(4, bytes([1]) * 8000, 1000, options=TIMESTAMPS, sequence=77)
    changed = [bytearray(packet) for packet in segments(other, described_other)]
    for packet in changed:
        packet[20:22] = b"\x12\x34"
        fix_tcp(packet)
    pairs = zip(segments(whole4, described4), map(bytes, changed), strict=True)
    mixed = [packet for pair in pairs for packet in pair]
    found = runs_of(mixed)
    assert [run.count for run in found] == [8, 8]
    assert recut(written(found[0])) == mixed[0::2]
    assert recut(written(found[1])) == mixed[1::2]


def test_a_header_before_is_left_out_and_has_to_be_alike() -> None:
    whole, described = super_packet(4, bytes(10_000), 1000)
    packets = segments(whole, described)
    (run,) = runs_of(packets, before=TLV)
    assert run.first == TLV + packets[0]
    assert written(run)[VNET_HEADER:] == whole
    octets = bytearray(b"".join(TLV + packet for packet in packets))
    octets[5 * 1044 + 1] = 9
    found = list(runs(octets, 0, 1044, 1044, 10, b""))
    assert [run.count for run in found] == [5, 1, 4]


@pytest.mark.parametrize("changed", ["udp", "fragment", "options", "length"])
def test_what_is_not_a_whole_segment_of_tcp_is_left_alone(changed: str) -> None:
    whole, described = super_packet(4, bytes(5000), 1000, udp=changed == "udp")
    packets = [bytearray(packet) for packet in segments(whole, described)]
    for packet in packets:
        match changed:
            case "fragment":
                packet[6] = 0x20
            case "options":
                packet[0] = 0x46
            case "length":
                packet[3] -= 1
    assert [run.count for run in runs_of([bytes(packet) for packet in packets])] == [1] * 5


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 80), st.integers(1, 20), st.integers(0, 3), st.binary(max_size=30), st.randoms())
def test_any_octets_come_out_once_each(
    size: int, count: int, gap: int, tail: bytes, chance: random.Random
) -> None:
    packets = [chance.randbytes(size) for _ in range(count)]
    tail = tail[: size - 1]
    found = runs_of(packets, tail, gap=gap)
    out = sorted(octets for run in found for octets in (run.first, *run.others()))
    assert out == sorted([*packets, *([tail] if tail else [])])


def test_what_is_joined_says_how_it_is_to_be_cut() -> None:
    whole, described = super_packet(4, bytes(10_000), 1000)
    (run,) = runs_of(segments(whole, described))
    _, kind, headers, size, start, offset = VNET.unpack_from(written(run))
    assert (kind, headers, size, start, offset) == (Kind.TCP4, 40, 1000, 20, 16)
    assert run.octets == 10 * 1040
    assert str(SOURCE4) == "203.0.113.77"
