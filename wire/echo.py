"""ICMP echo, by which a path is asked whether it answers.

Pure. RFC 792 (echo), RFC 4443 section 4. The checksum of ICMPv6 is the kernel's, which has the addresses.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from wire.checksum import internet_checksum
from wire.reader import DecodeError

ECHO_REQUEST4, ECHO_REPLY4 = 8, 0
ECHO_REQUEST6, ECHO_REPLY6 = 128, 129
MAX_DATA = 64
"""Octets that an echo of ours may hold; a longer answer is none of ours."""

_HEADER = struct.Struct("!BBHHH")


@dataclass(frozen=True, slots=True)
class Echo:
    """A request or its reply: `data` comes back as it was sent."""

    identifier: int
    sequence: int
    data: bytes

    def request(self, version: int) -> bytes:
        """The ICMP message without an IP header. In IPv6 its checksum is zero."""
        kind = ECHO_REQUEST4 if version == 4 else ECHO_REQUEST6
        unsummed = _HEADER.pack(kind, 0, 0, self.identifier, self.sequence) + self.data
        checksum = internet_checksum(unsummed) if version == 4 else 0
        return _HEADER.pack(kind, 0, checksum, self.identifier, self.sequence) + self.data


def decode_reply(message: bytes, version: int) -> Echo:
    """An ICMP message that starts at its type. DecodeError unless it is an echo reply that we may want."""
    if not _HEADER.size <= len(message) <= _HEADER.size + MAX_DATA:
        raise DecodeError(f"{len(message)} octets are no answer to an echo of ours")
    kind, code, _, identifier, sequence = _HEADER.unpack_from(message)
    if (kind, code) != ((ECHO_REPLY4 if version == 4 else ECHO_REPLY6), 0):
        raise DecodeError(f"ICMP type {kind} code {code} is no echo reply")
    if version == 4 and internet_checksum(message):
        raise DecodeError("wrong checksum of an echo reply")
    return Echo(identifier, sequence, message[_HEADER.size :])
