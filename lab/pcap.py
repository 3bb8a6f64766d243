"""A capture file as tcpdump writes it, read while it grows.

Pure. The classic pcap format, Ethernet, with microseconds or nanoseconds.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from struct import Struct

_FILE_HEADER = 24
_MAGIC = {b"\xd4\xc3\xb2\xa1": ("<", 1000), b"\x4d\x3c\xb2\xa1": ("<", 1)}
_ETHERNET = 1


@dataclass(frozen=True, slots=True)
class Frame:
    """One captured frame: nanoseconds since 1970, and its first octets from the Ethernet header on."""

    at_ns: int
    octets: bytes


class CaptureError(ValueError):
    """Not a capture file that this reader knows."""


class GrowingCapture:
    """Turns the octets of a capture file, fed as they come, into frames."""

    def __init__(self) -> None:
        self._pending = b""
        self._record: Struct | None = None
        self._unit = 1

    def feed(self, octets: bytes) -> Iterator[Frame]:
        """The frames that are complete now."""
        data = self._pending + octets
        offset = 0
        if self._record is None:
            if len(data) < _FILE_HEADER:
                self._pending = data
                return
            self._begin(data)
            offset = _FILE_HEADER
        assert self._record is not None
        while offset + self._record.size <= len(data):
            seconds, fraction, captured, _ = self._record.unpack_from(data, offset)
            start = offset + self._record.size
            if start + captured > len(data):
                break
            yield Frame(seconds * 1_000_000_000 + fraction * self._unit, data[start : start + captured])
            offset = start + captured
        self._pending = data[offset:]

    def _begin(self, data: bytes) -> None:
        if data[:4] not in _MAGIC:
            raise CaptureError(f"unknown capture format {data[:4].hex()}")
        order, self._unit = _MAGIC[data[:4]]
        (link_type,) = Struct(f"{order}I").unpack_from(data, 20)
        if link_type != _ETHERNET:
            raise CaptureError(f"not an Ethernet capture but link type {link_type}")
        self._record = Struct(f"{order}IIII")
