"""The fixed IPv4 and IPv6 headers, and the protocol numbers that this protocol meets in them.

Pure. RFC 791, RFC 8200 section 3.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Self

from wire.checksum import Octets, internet_checksum
from wire.reader import DecodeError

ETHERTYPES = {4: 0x0800, 6: 0x86DD}
"""What a link calls a packet, by its IP version."""
PROTOCOL_HOP_BY_HOP = 0
PROTOCOL_ICMP = 1
PROTOCOL_IPV4 = 4
PROTOCOL_TCP = 6
PROTOCOL_UDP = 17
PROTOCOL_IPV6 = 41
PROTOCOL_ROUTING = 43
PROTOCOL_FRAGMENT = 44
PROTOCOL_ESP = 50
PROTOCOL_ICMPV6 = 58
NO_NEXT_HEADER = 59
PROTOCOL_DESTINATION_OPTIONS = 60
PROTOCOL_MOBILITY = 135

IPV4_HEADER = 20
IPV6_HEADER = 40

_V4 = struct.Struct("!BBHHHBBH4s4s")
_V6 = struct.Struct("!IHBB16s16s")
_DONT_FRAGMENT = 0x4000
_MORE_FRAGMENTS = 0x2000


@dataclass(frozen=True, slots=True)
class IPv6Header:
    """The 40 octets of the fixed header; `payload_length` counts everything after them."""

    source: IPv6Address
    destination: IPv6Address
    next_header: int
    payload_length: int
    hop_limit: int = 64
    traffic_class: int = 0
    flow_label: int = 0

    def encode(self) -> bytes:
        return _V6.pack(
            6 << 28 | self.traffic_class << 20 | self.flow_label,
            self.payload_length,
            self.next_header,
            self.hop_limit,
            self.source.packed,
            self.destination.packed,
        )

    @classmethod
    def decode(cls, data: Octets) -> Self:
        """Read the header at the start of `data`; octets behind the payload (link padding) are allowed."""
        if len(data) < IPV6_HEADER:
            raise DecodeError("shorter than an IPv6 header")
        first, payload_length, next_header, hop_limit, source, destination = _V6.unpack_from(data)
        if first >> 28 != 6:
            raise DecodeError("not IP version 6")
        if payload_length > len(data) - IPV6_HEADER:
            raise DecodeError("IPv6 payload length exceeds the packet")
        return cls(
            IPv6Address(source),
            IPv6Address(destination),
            next_header,
            payload_length,
            hop_limit,
            first >> 20 & 0xFF,
            first & 0xFFFFF,
        )


@dataclass(frozen=True, slots=True)
class IPv4Header:
    """An IPv4 header; `total_length` counts it and its payload, `fragment_offset` units of 8 octets."""

    source: IPv4Address
    destination: IPv4Address
    protocol: int
    total_length: int
    ttl: int = 64
    tos: int = 0
    identification: int = 0
    dont_fragment: bool = True
    more_fragments: bool = False
    fragment_offset: int = 0
    options: bytes = b""

    @property
    def header_length(self) -> int:
        return IPV4_HEADER + len(self.options)

    @property
    def is_fragment(self) -> bool:
        return self.more_fragments or self.fragment_offset > 0

    def encode(self) -> bytes:
        """The header with its checksum; options must fill whole 32-bit words."""
        if len(self.options) % 4 or len(self.options) > 40:
            raise ValueError("IPv4 options fill whole words, at most ten")
        flags = _DONT_FRAGMENT * self.dont_fragment | _MORE_FRAGMENTS * self.more_fragments
        fields = (
            0x40 | self.header_length // 4,
            self.tos,
            self.total_length,
            self.identification,
            flags | self.fragment_offset,
            self.ttl,
            self.protocol,
        )
        addresses = (self.source.packed, self.destination.packed)
        checksum = internet_checksum(_V4.pack(*fields, 0, *addresses) + self.options)
        return _V4.pack(*fields, checksum, *addresses) + self.options

    @classmethod
    def decode(cls, data: Octets) -> Self:
        """Read and verify the header at the start of `data`; octets behind the packet are allowed."""
        if len(data) < IPV4_HEADER:
            raise DecodeError("shorter than an IPv4 header")
        first, tos, total_length, identification, fragment, ttl, protocol, _, source, destination = (
            _V4.unpack_from(data)
        )
        if first >> 4 != 4:
            raise DecodeError("not IP version 4")
        header_length = (first & 0x0F) * 4
        if not IPV4_HEADER <= header_length <= total_length:
            raise DecodeError("IPv4 header length does not fit the total length")
        if total_length > len(data):
            raise DecodeError("IPv4 total length exceeds the packet")
        if internet_checksum(data[:header_length]):
            raise DecodeError("IPv4 header checksum is wrong")
        return cls(
            IPv4Address(source),
            IPv4Address(destination),
            protocol,
            total_length,
            ttl,
            tos,
            identification,
            bool(fragment & _DONT_FRAGMENT),
            bool(fragment & _MORE_FRAGMENTS),
            fragment & 0x1FFF,
            bytes(data[IPV4_HEADER:header_length]),
        )
