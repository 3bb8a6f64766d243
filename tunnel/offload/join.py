"""Segments of one TCP flow joined to one super-packet again, which the kernel takes as a whole.

Pure. Joins what Linux' own receive offload would: same flow, consecutive sequence numbers, the same options,
marks and hop limit, right checksums. What cutting would not restore stays as it is.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from tunnel.offload.headers import (
    BIG32,
    MODULUS,
    Octets,
    Words,
    counting,
    ipv4_steps,
    octets_sum,
    row_sums,
)
from tunnel.offload.shape import Shape, shape_of
from tunnel.offload.vnet import VNET_HEADER, Kind, SuperPacket, super_header
from wire.ip import IPV4_HEADER, IPV6_HEADER, PROTOCOL_TCP

_PSH, _FLAGS, _SEQUENCE, _CHECKSUM = 0x08, 13, 4, 16
_PSH_IN_WORD = _PSH << 16
_DONT_FRAGMENT = 0x40
LARGEST = 65535
"""Octets that a super-packet may have."""


@lru_cache(64)
def _mask(shape: Shape) -> Words:
    """Which bits of the headers are alike in neighbours, or count up: all but the checksum of TCP."""
    mask = np.full(shape.headers, 0xFF, np.uint8)
    place = shape.transport + _CHECKSUM
    mask[place : place + 2] = 0
    return mask.view(BIG32).astype(np.uint32)


def run_length(rows: Octets, before: int, size: int, shape: Shape, first: bytes) -> int:
    """How many of the first rows, with inner packets of `size` octets behind `before` others, are one run.

    `first` is the inner packet of the first, and `shape` its shape. All of a run share what is before as
    well. One, if the first stays alone.
    """
    flags, payload = (shape.transport + _FLAGS) // 4, size - shape.headers
    if first[shape.transport + _FLAGS] & _PSH:
        return 1
    rows = rows[: 1 + (LARGEST - size) // payload]
    steps = _network_steps(rows, before, shape, first)
    if steps is None:
        return 1
    steps += (((shape.transport + _SEQUENCE) // 4, payload),)
    inner = rows[:, before : before + shape.headers]
    words = inner.view(BIG32) - counting(len(rows), shape.headers // 4, steps)
    words &= _mask(shape)
    differing = words != words[0]
    sums = row_sums(rows[:, before:], size)
    sums %= MODULUS
    wrong = sums != _outside(first, size, shape)
    if before:
        wrong |= (rows[:, :before] != rows[0, :before]).any(1)
    # PSH ends a run, hence may make its last row differ.
    if differing[-1, flags] and int(words[-1, flags]) ^ int(words[0, flags]) == _PSH_IN_WORD:
        differing[-1, flags] = False
    if not np.count_nonzero(differing) and not np.count_nonzero(wrong):
        return len(rows)
    length = max(int((differing.any(1) | wrong).argmax()), 1)
    if length < len(rows) and not wrong[length]:
        length += _only_pushed(words[length], words[0], flags)
    return length


def _network_steps(
    rows: Octets, before: int, shape: Shape, first: bytes
) -> tuple[tuple[int, int], ...] | None:
    """How the words of the IP header change from row to row; None if the first has a wrong checksum.

    Identifications count up. Or they stay, if fragments are forbidden: then they mean nothing (RFC 6864).
    """
    if shape.version == 6:
        return ()
    if octets_sum(first[:IPV4_HEADER]):
        return None
    second = rows[min(1, len(rows) - 1), before + 4 : before + 6].tobytes()
    if first[6] & _DONT_FRAGMENT and second == first[4:6]:
        return ()
    return ipv4_steps(first, len(rows))


def _only_pushed(words: Words, first: Words, flags: int) -> bool:
    differing = words ^ first
    differing[flags] ^= _PSH_IN_WORD
    return not np.count_nonzero(differing)


def _outside(packet: bytes | bytearray, size: int, shape: Shape) -> int:
    """What a row with right checksums sums up to: the pseudo-header is not in it, an IPv6 header is."""
    length = octets_sum((size - shape.transport).to_bytes(2, "big") + bytes((0, PROTOCOL_TCP)))
    inside = octets_sum(packet[:8]) if shape.version == 6 else -octets_sum(packet[12:20])
    return (inside - length) % MODULUS


def joined(rows: Octets, before: int, size: int, shape: Shape, tail: bytes, target: bytearray) -> int:
    """Write header and super-packet of a run, and of the shorter segment `tail` behind it, to `target`.

    Returns the octets used. `tail` is empty, or was found by `continues`.
    """
    transport, headers, count = shape.transport, shape.headers, len(rows)
    payload = size - headers
    body = VNET_HEADER + headers
    end = body + count * payload
    place = np.ndarray((count, payload), np.uint8, target, body)
    place[:] = rows[:, before + headers : before + size]
    if tail:
        target[end : end + len(tail) - headers] = tail[headers:]
        end += len(tail) - headers
    header = bytearray(rows[0, before : before + headers].tobytes())
    total = end - VNET_HEADER
    last = tail[transport + _FLAGS] if tail else int(rows[-1, before + transport + _FLAGS])
    header[transport + _FLAGS] |= last & _PSH
    if shape.version == 4:
        header[2:4], header[10:12] = total.to_bytes(2, "big"), bytes(2)
        header[10:12] = (-int.from_bytes(header[:IPV4_HEADER], "big") % MODULUS).to_bytes(2, "big")
        pseudo = int.from_bytes(header[12:20], "big")
    else:
        header[4:6] = (total - IPV6_HEADER).to_bytes(2, "big")
        pseudo = int.from_bytes(header[8:40], "big")
    pseudo = (pseudo + PROTOCOL_TCP + total - transport) % MODULUS
    header[transport + _CHECKSUM : transport + _CHECKSUM + 2] = pseudo.to_bytes(2, "big")
    kind = Kind.TCP4 if shape.version == 4 else Kind.TCP6
    described = SuperPacket(kind, transport, headers, payload, total)
    target[:body] = super_header(described) + header
    return end


def continues(rows: Octets, before: int, size: int, shape: Shape, tail: bytes) -> bool:
    """Whether `tail`, a shorter packet, is the next segment of a whole run."""
    if len(tail) >= size or shape_of(tail) != shape:
        return False
    transport, headers, count = shape.transport, shape.headers, len(rows)
    if count * (size - headers) + len(tail) > LARGEST or rows[-1, before + transport + _FLAGS] & _PSH:
        return False
    expected, found = bytearray(rows[0, before : before + headers].tobytes()), bytearray(tail[:headers])
    place = transport + _SEQUENCE
    sequence = int.from_bytes(expected[place : place + 4], "big") + count * (size - headers)
    expected[place : place + 4] = (sequence & 0xFFFFFFFF).to_bytes(4, "big")
    expected[transport + _FLAGS] |= found[transport + _FLAGS] & _PSH
    place = transport + _CHECKSUM
    expected[place : place + 2] = found[place : place + 2]
    if shape.version == 4:
        number = int.from_bytes(expected[4:6], "big") + count
        expected[2:6] = len(tail).to_bytes(2, "big") + (number & 0xFFFF).to_bytes(2, "big")
        expected[10:12] = found[10:12]
        if octets_sum(found[:IPV4_HEADER]):
            return False
    else:
        expected[4:6] = found[4:6]  # asked for by the shape
    return expected == found and octets_sum(tail) == _outside(found, len(tail), shape)
