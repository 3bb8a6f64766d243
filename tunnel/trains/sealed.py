"""Protected payload that arrives in numbers: opened packet by packet, into rows of what belongs together.

Pure. RFC 4303 section 3.4, RFC 3948. Each packet passes the checks of `Endpoint.inbound_protected`; the
association is looked for once for packets that follow each other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from tunnel.encapsulation import KEEPALIVE, esp_in
from tunnel.endpoint import Endpoint
from tunnel.forwarding import Peer
from tunnel.keyring import Session
from tunnel.path import Drop
from tunnel.payload_esp import SEALED_AFTER, SEALED_BEFORE, trailer
from tunnel.security import MALFORMED, UNKNOWN_SPI
from wire.esp import ESP_HEADER, ESP_TRAILER, split_trailer
from wire.reader import DecodeError

_ROOM = 131_072
_LARGEST = 65536
_NO_ESP = bytes(4)
_AROUND = SEALED_BEFORE + SEALED_AFTER


class OpenedRows(NamedTuple):
    """`number` inner packets of `size` octets of one association, one every `stride` from `begin` on."""

    spi: int
    next_header: int
    begin: int
    stride: int
    size: int
    number: int


class Opened(NamedTuple):
    """What was in a packet that is not like its neighbours."""

    spi: int
    next_header: int
    packet: bytes


class SealedRows:
    """`octets` is where the rows lie, until the iterator that `open` gave is asked for more."""

    __slots__ = ("_endpoint", "_view", "octets")

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self.octets = bytearray(_ROOM)
        self._view = memoryview(self.octets)

    def open_datagrams(self, peer: Peer, train: memoryview, size: int) -> Iterator[OpenedRows | Opened]:
        """The same for datagrams of UDP port 4500, all of `size` octets but the last, which may be less."""
        whole = len(train) // size * size
        yield from self._opened(peer, train[:whole], size, size, self._is_esp)
        if whole < len(train):
            rest = train[whole:]
            yield from self._opened(peer, rest, len(rest), len(rest), self._is_esp)
        elif not train:
            self._is_esp(train)  # counts it

    def open(self, peer: Peer, packets: memoryview, stride: int, size: int) -> Iterator[OpenedRows | Opened]:
        """What authentic packets from `peer` have inside, each of `size` octets, one every `stride`.

        The others are counted, but for those without keys here: that is signalling at home, which comes
        through the packet socket as well.
        """
        return self._opened(peer, packets, stride, size, self._has_keys)

    def _opened(
        self, peer: Peer, packets: memoryview, stride: int, size: int, is_ours: Callable[[memoryview], bool]
    ) -> Iterator[OpenedRows | Opened]:
        most = _ROOM // max(size - _AROUND, 1) * stride
        at = 0
        while at < len(packets):
            esp = packets[at : at + size]
            spi = int.from_bytes(esp[:4], "big")
            session = self._endpoint.receiver(spi) if (is_taken := is_ours(esp)) else None
            if session is None:
                if is_taken:
                    self._endpoint.drop(UNKNOWN_SPI)
                at += stride
                continue
            opened, settled = self._open_some(session, packets[at : at + most], stride, size)
            if opened:
                session.hear(peer)
                yield from self._read(spi, size - _AROUND, opened)
            at += settled * stride

    def _open_some(self, session: Session, packets: memoryview, stride: int, size: int) -> tuple[int, int]:
        """How many of the first packets are open now, and of how many it is known what they are.

        As many as belong together at once, and what is unlike them by itself.
        """
        opened, refused = session.opener.open_rows(packets, stride, size, self._view)
        if not opened and refused is None:
            refused = session.opener.open_into(packets[:size], self._view[: max(size - _AROUND, 0)])
            opened = int(refused is None)
        if refused is None:
            return opened, opened
        self._endpoint.drop(refused)
        return opened, opened + 1

    def _read(self, spi: int, stride: int, number: int) -> Iterator[OpenedRows | Opened]:
        """The first `number` rows, those that end alike together."""
        begin, end = 0, number * stride
        while begin < end:
            row = self._view[begin : begin + stride]
            size, version, count = stride - ESP_TRAILER - row[-2], row[0] >> 4, 1
            if size >= ESP_TRAILER and version in (4, 6) and row[size:] == trailer(version, size):
                count = _count_alike(self._view[begin + size : end], stride, stride - size)
                yield OpenedRows(spi, row[-1], begin, stride, size, count)
            else:
                try:
                    yield Opened(spi, *split_trailer(bytes(row)))
                except DecodeError:
                    self._endpoint.drop(MALFORMED)
            begin += count * stride

    def _is_esp(self, datagram: memoryview) -> bool:
        if len(datagram) > ESP_HEADER and datagram[:4] != _NO_ESP:
            return True
        other = esp_in(bytes(datagram))
        if isinstance(other, Drop) and other is not KEEPALIVE:
            self._endpoint.drop(other)
        return False

    def _has_keys(self, packet: memoryview) -> bool:
        return self._endpoint.has_keys(int.from_bytes(packet[:4], "big"))


def _count_alike(rows: memoryview, stride: int, octets: int) -> int:
    """How many rows begin with the same octets as the first."""
    first, count = rows[:octets], -(-len(rows) // stride)
    if all(rows[place::stride].tobytes() == bytes((first[place],)) * count for place in range(octets)):
        return count
    starts = range(0, len(rows), stride)
    return next(n for n, start in enumerate(starts) if rows[start : start + octets] != first)
