"""A super-packet cut into the packets that it stands for, all at once, as rows of an array.

Pure. What comes out is, octet by octet, what Linux makes of the same super-packet in software: sequence
numbers and IPv4 identifications count up, CWR stays with the first segment, FIN and PSH with the last.
"""

from __future__ import annotations

import numpy as np

from tunnel.framing import Frame, Framing
from tunnel.offload.headers import (
    BIG32,
    LITTLE16,
    MODULUS,
    Octets,
    Words,
    complements,
    counting,
    ipv4_steps,
    octets_sum,
    row_sums,
    swapped,
)
from tunnel.offload.vnet import TCP_CHECKSUM, UDP_CHECKSUM, Kind, SuperPacket

_FIN_PSH, _CWR, _FLAGS = 0x09, 0x80, 13


def row_width(packet: SuperPacket, framing: Framing, version: int) -> int:
    """Octets from one row to the next: frame, headers and a full payload."""
    return packet.headers + packet.size + framing(version, packet.headers + packet.size).size


def cut(
    source: Octets, head: bytes, packet: SuperPacket, framing: Framing, target: Octets, first: int, count: int
) -> int:
    """Put `count` segments of `packet`, from number `first` on, into `target` as framed rows; octets used.

    `source` begins with the packet, `head` has the octets of its headers. Rows follow each other without a
    gap; the last segment's may be shorter, and ends what is used.
    """
    version = head[0] >> 4
    frame = framing(version, packet.headers + packet.size)
    before, headers, size = len(frame.before), packet.headers, packet.size
    width = headers + size + frame.size
    is_last = first + count == packet.segments
    short = packet.last if is_last and packet.last != size else 0
    full = count - 1 if short else count
    rows = target[: count * width].reshape(count, width)
    template, pseudo = _template(head, packet)
    inner = rows[:, before : before + headers]
    inner.view(BIG32)[:] = _headers(template, packet, first, count)
    if packet.kind is not Kind.UDP:
        flags = packet.transport + _FLAGS
        if first == 0:
            inner[0, flags] |= head[flags] & _CWR
        if is_last:
            inner[-1, flags] |= head[flags] & _FIN_PSH
    if before:
        rows[:, :before] = np.frombuffer(frame.before, np.uint8)
    if full:
        start = headers + first * size
        payload = source[start : start + full * size].reshape(full, size)
        rows[:full, before + headers : before + headers + size] = payload
        if frame.after:
            rows[:full, before + headers + size :] = np.frombuffer(frame.after, np.uint8)
        _finish(rows[:full, before:], template, packet, pseudo)
    if not short:
        return count * width
    end = full * width
    return end + _cut_last(source, packet, framing(version, headers + short), target[end:], before, pseudo)


def _template(head: bytes, packet: SuperPacket) -> tuple[bytearray, int]:
    """The headers of a full segment in the middle, its checksum zero, and the sum of its pseudo-header."""
    octets, transport = bytearray(head[: packet.headers]), packet.transport
    total = packet.headers + packet.size
    if head[0] >> 4 == 4:
        octets[2:4] = total.to_bytes(2, "big")
        octets[10:12] = bytes(2)
        octets[10:12] = (-int.from_bytes(octets[:transport], "big") % MODULUS).to_bytes(2, "big")
    else:
        octets[4:6] = (total - 40).to_bytes(2, "big")
    place = transport + _checksum_offset(packet)
    # The kernel has begun the checksum with the pseudo-header of the whole, so only the length is another.
    pseudo = int.from_bytes(head[place : place + 2], "big") - (packet.length - total)
    octets[place : place + 2] = bytes(2)
    if packet.kind is Kind.UDP:
        octets[transport + 4 : transport + 6] = (total - transport).to_bytes(2, "big")
    else:
        octets[transport + _FLAGS] &= ~(_FIN_PSH | _CWR)
    return octets, pseudo % MODULUS


def _headers(template: bytearray, packet: SuperPacket, first: int, count: int) -> Words:
    """The headers of all rows, without the flags of first and last segment."""
    version4, transport, end = template[0] >> 4 == 4, packet.transport, first + count
    steps = ipv4_steps(template, end) if version4 else ()
    numbered = steps is not None
    steps = steps or ()
    if packet.kind is not Kind.UDP:
        steps += (((transport + 4) // 4, packet.size),)
    words: Words = counting(end, len(template) // 4, steps)[first:] + np.frombuffer(template, BIG32)
    if not numbered:
        _number(words, template, transport, first)
    return words


def _number(words: Words, template: bytearray, transport: int, first: int) -> None:
    """Identifications and checksums of IPv4 where either wraps."""
    numbers = np.arange(first, first + len(words), dtype=np.uint32)
    numbers += int.from_bytes(template[4:6], "big")
    numbers &= 0xFFFF
    words[:, 1] = (words[:, 1] & 0xFFFF) | numbers << np.uint32(16)
    others = bytes(template[:4]) + bytes(template[6:10]) + bytes(template[12:transport])
    words[:, 2] = (words[:, 2] & 0xFFFF0000) | complements(numbers, int.from_bytes(others, "big"))


def _finish(inner: Octets, template: bytearray, packet: SuperPacket, pseudo: int) -> None:
    """Put the checksums of TCP or UDP into full rows."""
    # An IPv4 header with its own checksum sums up to nothing; an IPv6 header has none.
    outside = 0 if template[0] >> 4 == 4 else octets_sum(template[: packet.transport])
    sums = row_sums(inner, packet.headers + packet.size)
    checksums = complements(sums, swapped(pseudo) - outside)
    if packet.kind is Kind.UDP:
        checksums[checksums == 0] = MODULUS  # zero would mean that there is none
    place = packet.transport + _checksum_offset(packet)
    inner[:, place : place + 2].view(LITTLE16)[:, 0] = checksums


def _cut_last(
    source: Octets, packet: SuperPacket, frame: Frame, row: Octets, before: int, pseudo: int
) -> int:
    """Shorten the last row, whose headers are those of a full one, and return its width."""
    short, transport, headers = packet.last, packet.transport, packet.headers
    total = headers + short
    octets = bytearray(row[before : before + headers])
    if octets[0] >> 4 == 4:
        octets[2:4], octets[10:12] = total.to_bytes(2, "big"), bytes(2)
        octets[10:12] = (-int.from_bytes(octets[:transport], "big") % MODULUS).to_bytes(2, "big")
    else:
        octets[4:6] = (total - 40).to_bytes(2, "big")
    if packet.kind is Kind.UDP:
        octets[transport + 4 : transport + 6] = (total - transport).to_bytes(2, "big")
    payload = source[packet.length - short : packet.length].tobytes()
    rest = int.from_bytes(octets[transport:] + payload + bytes(total & 1), "big")
    checksum = -(rest + pseudo - (packet.size - short)) % MODULUS
    if packet.kind is Kind.UDP:
        checksum = checksum or MODULUS
    place = transport + _checksum_offset(packet)
    octets[place : place + 2] = checksum.to_bytes(2, "big")
    framed = frame.before + octets + payload + frame.after
    row[: len(framed)] = np.frombuffer(framed, np.uint8)
    return len(framed)


def _checksum_offset(packet: SuperPacket) -> int:
    return UDP_CHECKSUM if packet.kind is Kind.UDP else TCP_CHECKSUM
