"""Protected payload that arrives in numbers: opened packet by packet, into rows of what belongs together.

Pure. RFC 4303 section 3.4, RFC 3948. Each packet passes the same checks as in `Endpoint.inbound_protected`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from tunnel.encapsulation import KEEPALIVE, esp_in
from tunnel.endpoint import Endpoint
from tunnel.forwarding import Peer
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


_NO_ROWS = OpenedRows(0, 0, 0, -1, 0, 0)
"""What no packet is like."""


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

    def open_datagrams(self, peer: Peer, datagrams: Iterable[memoryview]) -> Iterator[OpenedRows | Opened]:
        """The same for datagrams of UDP port 4500."""
        return self._opened(peer, datagrams, self._is_esp)

    def open(self, peer: Peer, packets: Iterable[memoryview]) -> Iterator[OpenedRows | Opened]:
        """What authentic packets from `peer` have inside; the others are counted."""
        return self._opened(peer, packets, _is_taken_for_esp)

    def _opened(
        self, peer: Peer, packets: Iterable[memoryview], is_esp: Callable[[memoryview], bool]
    ) -> Iterator[OpenedRows | Opened]:
        """Of an association, and of a row's trailer, is asked again only where they differ."""
        view, drop = self._view, self._endpoint.drop
        association, spi, session, heard = b"", 0, None, False
        rows, number, end, after = _NO_ROWS, 0, 0, b""
        for esp in packets:
            length = len(esp)
            if esp[:4] != association or length <= ESP_HEADER:
                if not is_esp(esp):
                    continue
                association, heard = bytes(esp[:4]), False
                spi = int.from_bytes(association, "big")
                session = self._endpoint.receiver(spi)
            if session is None:
                drop(UNKNOWN_SPI)
                continue
            stride = max(length - _AROUND, 0)
            row = view[end : end + stride]
            refused = session.opener.open_into(esp, row)
            if refused is not None:
                drop(refused)
                continue
            if not heard:
                session.hear(peer)
                heard = session.opener.newest
            if stride == rows.stride and row[rows.size :] == after and spi == rows.spi:
                number += 1
            else:
                if number:
                    yield rows._replace(number=number)
                opened = _read(spi, row, end)
                rows, number = _NO_ROWS, 0
                if isinstance(opened, OpenedRows):
                    rows, number, after = opened, 1, bytes(row[opened.size :])
                elif isinstance(opened, Opened):
                    yield opened
                else:
                    drop(opened)
            end = rows.begin + number * rows.stride
            if end + _LARGEST > _ROOM:
                yield rows._replace(number=number)
                rows, number, end = _NO_ROWS, 0, 0
        if number:
            yield rows._replace(number=number)

    def _is_esp(self, datagram: memoryview) -> bool:
        if len(datagram) > ESP_HEADER and datagram[:4] != _NO_ESP:
            return True
        other = esp_in(bytes(datagram))
        if isinstance(other, Drop) and other is not KEEPALIVE:
            self._endpoint.drop(other)
        return False


def _is_taken_for_esp(packet: memoryview) -> bool:
    """By its protocol number."""
    return True


def _read(spi: int, row: memoryview, begin: int) -> OpenedRows | Opened | Drop:
    """One row at `begin`, or one packet that has to be looked at more closely."""
    stride = len(row)
    size, version = stride - ESP_TRAILER - row[-2], row[0] >> 4
    if size >= ESP_TRAILER and version in (4, 6) and row[size:] == trailer(version, size):
        return OpenedRows(spi, row[-1], begin, stride, size, 1)
    try:
        return Opened(spi, *split_trailer(bytes(row)))
    except DecodeError:
        return MALFORMED
