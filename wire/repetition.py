"""Binding Updates and Acknowledgements that differ from others of their kind in the sequence number alone.

Pure. RFC 6275 sections 6.1.7 and 6.1.8. A mobility header begins with six octets that end in the checksum.
"""

from __future__ import annotations

import struct
from ipaddress import IPv6Address

from wire.checksum import internet_checksum, pseudo_header6, word_sum
from wire.ip import PROTOCOL_MOBILITY
from wire.mobility import BINDING_ACK, BINDING_UPDATE, UnknownMessage

_CHECKSUM, _BODY = 4, 6
_UPDATE_SEQUENCE_END = 8
_ACK_SEQUENCE = slice(2, 4)
"""In what follows the checksum."""
_SEQUENCE = struct.Struct("!H")


def update_apart(update: bytes) -> tuple[bytes, int]:
    """What a Binding Update says but for its sequence number, and that number; at least 8 octets."""
    return update[:_CHECKSUM] + update[_UPDATE_SEQUENCE_END:], int.from_bytes(update[_BODY:8], "big")


def is_intact(header: bytes, source: IPv6Address, destination: IPv6Address) -> bool:
    """Whether the checksum of a whole mobility header is right."""
    pseudo = pseudo_header6(source, destination, len(header), PROTOCOL_MOBILITY)
    return not internet_checksum(header, word_sum(pseudo))


def is_one_update(header: bytes) -> bool:
    """Whether these octets are a Binding Update, and `is_intact` is about all of them."""
    return len(header) >= 12 and header[2] == BINDING_UPDATE and (header[1] + 1) * 8 == len(header)


def ack_like(octets: bytes, sequence: int) -> UnknownMessage:
    """The acknowledgement in `octets`, which are those behind its checksum, with another sequence number."""
    return UnknownMessage(BINDING_ACK, octets[:2] + _SEQUENCE.pack(sequence) + octets[4:])


def behind_checksum(header: bytes) -> bytes:
    """What follows the checksum of a mobility header."""
    return header[_BODY:]
