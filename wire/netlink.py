"""Netlink: messages in a buffer, attributes in a message.

Pure. RFC 3549 section 2; linux/netlink.h. In the byte order of this machine, as the kernel speaks it.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

ERROR, DONE = 2, 3
"""Kinds of message that end an exchange: an acknowledgement or a refusal, and the end of a dump."""
REQUEST, ACK, DUMP, EXCLUSIVE, CREATE = 0x1, 0x4, 0x300, 0x200, 0x400
"""Flags of a request."""
MULTI, DUMP_INTERRUPTED = 0x2, 0x10
"""Flags of an answer: it is one of several; something changed while it was put together."""

_HEADER = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")
_U32 = struct.Struct("=I")
_ERRNO = struct.Struct("=i")
HEADER_SIZE = _HEADER.size
_TYPE_MASK = 0x3FFF  # above it: nested, and in network byte order

Attribute = tuple[int, bytes]


@dataclass(frozen=True, slots=True)
class Message:
    """A netlink message: fields of its header, and what follows it."""

    kind: int
    flags: int
    sequence: int
    port: int
    body: bytes

    @property
    def error(self) -> int:
        """The errno that ERROR or DONE carries, 0 for success."""
        if len(self.body) < _ERRNO.size:
            return 0
        number: int = -_ERRNO.unpack_from(self.body)[0]
        return number


def split(buffer: bytes) -> Iterator[Message]:
    """The messages in a received buffer. One that is cut short is the last."""
    at = 0
    while at + HEADER_SIZE <= len(buffer):
        length, kind, flags, sequence, port = _HEADER.unpack_from(buffer, at)
        if not HEADER_SIZE <= length <= len(buffer) - at:
            return
        yield Message(kind, flags, sequence, port, buffer[at + HEADER_SIZE : at + length])
        at += _aligned(length)


def message(kind: int, flags: int, fixed: bytes, attributes: Iterable[Attribute] = ()) -> bytes:
    """A request of `kind`: the fixed part of its body, then attributes. `numbered` gives it a number."""
    body = fixed + b"".join(_attribute(number, value) for number, value in attributes)
    return _HEADER.pack(HEADER_SIZE + len(body), kind, flags, 0, 0) + body


def numbered(messages: Iterable[bytes], first: int) -> bytes:
    """The messages as one buffer, with sequence numbers from `first` on."""
    data = bytearray()
    for number, one in enumerate(messages, first):
        at = len(data)
        data += one
        _U32.pack_into(data, at + 8, number)
    return bytes(data)


def attributes(body: bytes, start: int) -> dict[int, bytes]:
    """Number -> value of the attributes from `start` on. One that is cut short ends them."""
    found: dict[int, bytes] = {}
    while start + _ATTRIBUTE.size <= len(body):
        length, number = _ATTRIBUTE.unpack_from(body, start)
        if not _ATTRIBUTE.size <= length <= len(body) - start:
            break
        found[number & _TYPE_MASK] = body[start + _ATTRIBUTE.size : start + length]
        start += _aligned(length)
    return found


def u32(number: int) -> bytes:
    return _U32.pack(number)


def u8(number: int) -> bytes:
    return bytes((number,))


def text(name: str) -> bytes:
    """A string as the kernel wants it: with its zero."""
    return name.encode() + b"\0"


def number_in(value: bytes | None) -> int | None:
    """The unsigned number that an attribute holds, whatever its size; None if there is no such attribute."""
    return None if value is None else int.from_bytes(value, sys.byteorder)


def text_in(value: bytes | None) -> str:
    """The string that an attribute holds, "" if there is no such attribute."""
    return "" if value is None else value.split(b"\0", 1)[0].decode(errors="replace")


def _attribute(number: int, value: bytes) -> bytes:
    length = _ATTRIBUTE.size + len(value)
    return _ATTRIBUTE.pack(length, number) + value + bytes(_aligned(length) - length)


def _aligned(length: int) -> int:
    return (length + 3) & ~3
