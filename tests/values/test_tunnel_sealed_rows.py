"""Protected payload opened in numbers: nothing may come of it that one by one would not have been taken."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain, groupby

from hypothesis import given
from hypothesis import strategies as st

from tests.values.test_tunnel_endpoint import CARE_OF4, CN4, CN6, HOME4, HOME6, OTHER6, packet4, packet6
from tests.values.test_tunnel_endpoint_protected import OTHER_SPI, SPI, end, pair
from tunnel.endpoint import Endpoint, Role
from tunnel.path import Drop
from tunnel.payload_esp import WINDOW, PayloadSealer
from tunnel.trains.sealed import Opened, OpenedRows, SealedRows

PEER = (str(CARE_OF4), 4500)
_MINE = (
    packet4(HOME4, CN4),
    packet6(HOME6, CN6),
    packet4(HOME4, CN4) + bytes(2),
    packet4(HOME4, CN4, size=102),
)


def _sealed() -> list[bytes]:
    """Packets of two senders, of a few lengths and both IP versions, a leap ahead, and what is damaged."""
    mine, others = PayloadSealer(pair().inbound), PayloadSealer(pair(OTHER_SPI, 2).inbound)
    sealed = [mine.seal(_MINE[n // 8 % len(_MINE)]) for n in range(40)]
    mine.next_sequence += WINDOW
    sealed += [mine.seal(_MINE[0]) for _ in range(8)] + [others.seal(packet6(OTHER6, CN6)) for _ in range(8)]
    damaged = [each[:-1] + bytes((each[-1] ^ 1,)) for each in sealed[::7]]
    return sealed + damaged + [mine.seal(b""), b"\xff", b"", b"\0\0\0\0IKE", sealed[0][:12], sealed[3][:-3]]


SEALED = _sealed()


def taken(
    endpoint: Endpoint, rows: SealedRows, opened: Iterable[Iterable[OpenedRows | Opened]]
) -> list[bytes]:
    """The inner packets that the endpoint would let pass."""
    verdicts: list[bytes | Drop] = []
    for found in chain.from_iterable(opened):
        inner = [found.packet] if isinstance(found, Opened) else []
        if isinstance(found, OpenedRows):
            starts = range(found.begin, found.begin + found.number * found.stride, found.stride)
            inner = [bytes(rows.octets[start : start + found.size]) for start in starts]
        verdicts += [endpoint.inbound_opened(found.spi, found.next_header, packet) for packet in inner]
    return [verdict for verdict in verdicts if isinstance(verdict, bytes)]


def trains_of(packets: Sequence[bytes]) -> list[tuple[bytes, int]]:
    """As the kernel joins datagrams: of one length, the last perhaps shorter."""
    trains: list[tuple[bytes, int]] = []
    closed = True
    for packet in packets:
        size = trains[-1][1] if trains else 0
        if closed or len(packet) > size or not packet:
            trains.append((packet, max(len(packet), 1)))
            closed = not packet
        else:
            trains[-1] = (trains[-1][0] + packet, size)
            closed = len(packet) < size
    return trains


def state_of(endpoint: Endpoint) -> object:
    """All that packets can have changed."""
    sessions = [endpoint.receiver(spi) for spi in (SPI, OTHER_SPI)]
    windows = [(s.opener.window.highest, s.opener.window.bitmap, s.ports) for s in sessions if s]
    return endpoint.drops, windows


PICKED = st.tuples(st.lists(st.integers(0, len(SEALED) - 1), max_size=60), st.booleans()).map(
    lambda drawn: [SEALED[number] for number in (sorted(drawn[0]) if drawn[1] else drawn[0])]
)


@given(PICKED)
def test_a_train_is_taken_like_its_packets_one_by_one(packets: list[bytes]) -> None:
    ours, reference = end(Role.HOME_AGENT), end(Role.HOME_AGENT)
    rows = SealedRows(ours)
    opened = (rows.open_datagrams(PEER, memoryview(train), size) for train, size in trains_of(packets))
    verdicts = [reference.inbound_4500(PEER, packet) for packet in packets]
    assert taken(ours, rows, opened) == [verdict for verdict in verdicts if isinstance(verdict, bytes)]
    assert state_of(ours) == state_of(reference)


@given(PICKED)
def test_packets_in_slots_are_taken_like_one_by_one(packets: list[bytes]) -> None:
    ours, reference = end(Role.HOME_AGENT), end(Role.HOME_AGENT)
    rows, peer, stride = SealedRows(ours), (PEER[0], 0), 256
    batches = [list(alike) for _, alike in groupby(packets, len)]
    opened = (
        rows.open(
            peer, memoryview(b"".join(each.ljust(stride, b"?") for each in batch)), stride, len(batch[0])
        )
        for batch in batches
    )
    ours_only = [packet for packet in packets if reference.has_keys(int.from_bytes(packet[:4], "big"))]
    verdicts = [reference.inbound_protected(peer, packet) for packet in ours_only]
    assert taken(ours, rows, opened) == [verdict for verdict in verdicts if isinstance(verdict, bytes)]
    assert state_of(ours) == state_of(reference)


def test_a_train_of_one_stream_is_opened_at_once() -> None:
    sealer = PayloadSealer(pair().inbound)
    sealed = [sealer.seal(packet4(HOME4, CN4)) for _ in range(45)]
    rows = SealedRows(end(Role.HOME_AGENT))
    (found,) = rows.open_datagrams(PEER, memoryview(b"".join(sealed)), len(sealed[0]))
    assert isinstance(found, OpenedRows)
    assert (found.number, found.size) == (45, 100)
