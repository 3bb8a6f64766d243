"""A probe: an echo request of a chosen size, and its answer, which is as long.

Pure. RFC 4443 sections 4.1 and 4.2. Checksums are the kernel's: it writes them into what its sockets send,
and looks at them before it hands a message over.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Self

from wire.ip import IPV6_HEADER
from wire.reader import DecodeError, Reader

ECHO_REQUEST, ECHO_REPLY = 128, 129
NONCE_SIZE = 8

_HEAD = struct.Struct("!BBHHH")
LEAST_SIZE = IPV6_HEADER + _HEAD.size + NONCE_SIZE
"""Octets of the smallest packet that carries a `Probe`."""


@dataclass(frozen=True, slots=True)
class Probe:
    """`size` counts the octets of the whole IPv6 packet; `nonce` makes an answer hard to guess."""

    identifier: int
    sequence: int
    nonce: bytes
    size: int

    def request(self) -> bytes:
        """The ICMPv6 message without its checksum. ValueError if `size` or `nonce` is not possible."""
        if self.size < LEAST_SIZE or len(self.nonce) != NONCE_SIZE:
            raise ValueError(f"a probe needs {LEAST_SIZE} octets and a nonce of {NONCE_SIZE}")
        head = _HEAD.pack(ECHO_REQUEST, 0, 0, self.identifier, self.sequence)
        return head + self.nonce + bytes(self.size - LEAST_SIZE)

    @classmethod
    def of_reply(cls, message: bytes) -> Self:
        """What an echo reply answers. DecodeError if `message` is none, or none of ours."""
        reader = Reader(message)
        kind, code = reader.u8(), reader.u8()
        reader.skip(2)
        if (kind, code) != (ECHO_REPLY, 0):
            raise DecodeError(f"ICMPv6 type {kind} code {code} is no echo reply")
        return cls(reader.u16(), reader.u16(), bytes(reader.take(NONCE_SIZE)), IPV6_HEADER + len(message))
