"""The shape of a TCP segment that can be joined with its neighbours: where its headers end.

Pure. Asked before anything is done with arrays, which most packets need not.
"""

from __future__ import annotations

from typing import NamedTuple

from tunnel.offload.vnet import TCP_HEADER
from wire.ip import IPV4_HEADER, IPV6_HEADER, PROTOCOL_TCP

_PSH, _ACK, _ECE, _FLAGS = 0x08, 0x10, 0x40, 13
_ALONE = 0xFF & ~(_PSH | _ACK | _ECE)
"""Flags that keep a segment alone."""
_DONT_FRAGMENT = 0x40


class Shape(NamedTuple):
    """Where the headers of a joinable segment end."""

    version: int
    transport: int
    headers: int


def shape_of(packet: bytes | memoryview) -> Shape | None:
    """The shape of a segment that can be joined with its neighbours; None for all other packets."""
    size = len(packet)
    if size < IPV4_HEADER + TCP_HEADER:
        return None
    if packet[0] == 0x45:
        whole = packet[2] << 8 | packet[3] == size and not packet[6] & ~_DONT_FRAGMENT and not packet[7]
        if packet[9] != PROTOCOL_TCP or not whole:
            return None
        version, transport = 4, IPV4_HEADER
    elif packet[0] >> 4 == 6:
        if packet[6] != PROTOCOL_TCP or packet[4] << 8 | packet[5] != size - IPV6_HEADER:
            return None
        version, transport = 6, IPV6_HEADER
    else:
        return None
    if size < transport + TCP_HEADER:
        return None
    headers = transport + (packet[transport + 12] >> 4) * 4
    flags = packet[transport + _FLAGS]
    if flags & _ALONE or not flags & _ACK or not transport + TCP_HEADER <= headers < size:
        return None
    return Shape(version, transport, headers)
