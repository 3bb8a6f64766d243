"""UDP datagrams over either family.

Pure. RFC 768, RFC 8200 section 8.1, RFC 8085.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Self

from wire.checksum import Octets, internet_checksum, pseudo_header4, pseudo_header6, word_sum
from wire.ip import PROTOCOL_UDP
from wire.reader import DecodeError

UDP_HEADER = 8

_UDP = struct.Struct("!HHHH")


@dataclass(frozen=True, slots=True)
class UdpHeader:
    """The 8 octets; `length` counts them and the payload, `checksum` is zero where none was computed."""

    source_port: int
    destination_port: int
    length: int
    checksum: int

    def encode(self) -> bytes:
        return _UDP.pack(self.source_port, self.destination_port, self.length, self.checksum)

    @classmethod
    def decode(cls, data: Octets) -> Self:
        """Read the header at the start of `data`; `verify_udp` judges the checksum."""
        if len(data) < UDP_HEADER:
            raise DecodeError("shorter than a UDP header")
        header = cls(*_UDP.unpack_from(data))
        if not UDP_HEADER <= header.length <= len(data):
            raise DecodeError("UDP length does not fit the packet")
        return header


def encode_udp(
    source: IPv4Address | IPv6Address,
    destination: IPv4Address | IPv6Address,
    source_port: int,
    destination_port: int,
    payload: Octets,
) -> bytes:
    """Header and payload, with the checksum over the pseudo-header of the addresses' family."""
    length = UDP_HEADER + len(payload)
    bare = _UDP.pack(source_port, destination_port, length, 0)
    initial = word_sum(_pseudo_header(source, destination, length)) + word_sum(bare)
    checksum = internet_checksum(payload, initial) or 0xFFFF  # zero on the wire means "none"
    return _UDP.pack(source_port, destination_port, length, checksum) + payload


def verify_udp(
    source: IPv4Address | IPv6Address, destination: IPv4Address | IPv6Address, datagram: Octets
) -> bool:
    """Whether the checksum of a whole datagram is right; zero is right on IPv4 and wrong on IPv6."""
    if datagram[6:8] == b"\0\0":
        return source.version == 4
    initial = word_sum(_pseudo_header(source, destination, len(datagram)))
    return internet_checksum(datagram, initial) == 0


def _pseudo_header(
    source: IPv4Address | IPv6Address, destination: IPv4Address | IPv6Address, length: int
) -> bytes:
    if isinstance(source, IPv4Address) and isinstance(destination, IPv4Address):
        return pseudo_header4(source, destination, length, PROTOCOL_UDP)
    if isinstance(source, IPv6Address) and isinstance(destination, IPv6Address):
        return pseudo_header6(source, destination, length, PROTOCOL_UDP)
    raise ValueError("source and destination are of two families")
