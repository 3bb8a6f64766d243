"""Protected payload that arrives in numbers: opened packet by packet, into rows of what belongs together.

Pure. RFC 4303 section 3.4, RFC 3948. Each packet passes the same checks as in `Endpoint.inbound_protected`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
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


class OpenedRows(NamedTuple):
    """`number` inner packets of `size` octets of one association, one every `stride` from `begin` on."""

    spi: int
    next_header: int
    begin: int
    stride: int
    size: int
    number: int

    def next(self) -> OpenedRows:
        """One more like these, right behind them."""
        begin = self.begin + self.number * self.stride
        return OpenedRows(self.spi, self.next_header, begin, self.stride, self.size, 1)

    def longer(self) -> OpenedRows:
        return self._replace(number=self.number + 1)


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
        return self.open(peer, filter(self._is_esp, datagrams))

    def open(self, peer: Peer, packets: Iterable[memoryview]) -> Iterator[OpenedRows | Opened]:
        """What authentic packets from `peer` have inside; the others are counted."""
        rows: OpenedRows | None = None
        end = 0
        for esp in packets:
            opened = self._open(peer, esp, end)
            if isinstance(opened, Drop):
                self._endpoint.drop(opened)
                continue
            if rows is not None and opened == rows.next():
                rows = rows.longer()
            else:
                if rows is not None:
                    yield rows
                rows = opened if isinstance(opened, OpenedRows) else None
                if isinstance(opened, Opened):
                    yield opened
            if rows is not None:
                end = rows.begin + rows.number * rows.stride
                if end + _LARGEST <= _ROOM:
                    continue
                yield rows
            rows, end = None, 0
        if rows is not None:
            yield rows

    def _is_esp(self, datagram: memoryview) -> bool:
        if len(datagram) > ESP_HEADER and datagram[:4] != _NO_ESP:
            return True
        other = esp_in(bytes(datagram))
        if isinstance(other, Drop) and other is not KEEPALIVE:
            self._endpoint.drop(other)
        return False

    def _open(self, peer: Peer, esp: memoryview, begin: int) -> OpenedRows | Opened | Drop:
        """One row at `begin`, or one packet that has to be looked at more closely."""
        spi = int.from_bytes(esp[:4], "big")
        session = self._endpoint.receiver(spi)
        if session is None:
            return UNKNOWN_SPI
        stride = max(len(esp) - SEALED_BEFORE - SEALED_AFTER, 0)
        row = self._view[begin : begin + stride]
        refused = session.opener.open_into(esp, row)
        if refused is not None:
            return refused
        session.hear(peer)
        size = stride - ESP_TRAILER - row[-2]
        version = row[0] >> 4
        if size >= ESP_TRAILER and version in (4, 6) and row[size:] == trailer(version, size):
            return OpenedRows(spi, row[-1], begin, stride, size, 1)
        try:
            return Opened(spi, *split_trailer(bytes(row)))
        except DecodeError:
            return MALFORMED
