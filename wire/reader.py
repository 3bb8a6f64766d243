"""DecodeError, the one refusal of every decoder, and Reader, a bounds-checked cursor over octets.

Pure.
"""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv6Address

_U16 = struct.Struct("!H")
_U32 = struct.Struct("!I")


class DecodeError(ValueError):
    """Octets that are not what they should be.

    `pointer` is the offset of the offending octet in the octets given to the decoder when the RFC wants an
    ICMPv6 Parameter Problem sent about it, with `code` as its code; None means: discard silently.
    """

    __slots__ = ("code", "pointer", "reason")

    def __init__(self, reason: str, pointer: int | None = None, code: int = 0) -> None:
        super().__init__(reason)
        self.reason = reason
        self.pointer = pointer
        self.code = code


class Reader:
    """A cursor over `data[start:end]`. Integers are big-endian; reading past the end is a DecodeError."""

    __slots__ = ("_data", "_end", "position")

    def __init__(self, data: bytes, start: int = 0, end: int | None = None) -> None:
        self._data = data
        self._end = len(data) if end is None else min(end, len(data))
        self.position = start

    @property
    def remaining(self) -> int:
        return self._end - self.position

    def take(self, count: int) -> bytes:
        return self._data[self._advance(count) : self.position]

    def rest(self) -> bytes:
        return self.take(self.remaining)

    def skip(self, count: int) -> None:
        self._advance(count)

    def u8(self) -> int:
        return self._data[self._advance(1)]

    def u16(self) -> int:
        value: int = _U16.unpack_from(self._data, self._advance(2))[0]
        return value

    def u32(self) -> int:
        value: int = _U32.unpack_from(self._data, self._advance(4))[0]
        return value

    def ipv4(self) -> IPv4Address:
        return IPv4Address(self.take(4))

    def ipv6(self) -> IPv6Address:
        return IPv6Address(self.take(16))

    def _advance(self, count: int) -> int:
        start = self.position
        if count > self._end - start:
            raise DecodeError(f"needs {count} octets at {start}, has {self._end - start}")
        self.position = start + count
        return start
