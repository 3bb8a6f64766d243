"""ESP framing without keys, and what shares UDP port 4500 with it.

Pure. RFC 4303 section 2, RFC 3948 section 2.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import Enum
from typing import Self

from wire.checksum import Octets
from wire.reader import DecodeError

ESP_HEADER = 8
ESP_TRAILER = 2
UDP_PORT_NAT_TRAVERSAL = 4500

_HEADER = struct.Struct("!II")
_PADDING = bytes(range(1, 256))


@dataclass(frozen=True, slots=True)
class EspHeader:
    """The first 8 octets of an ESP packet."""

    spi: int
    sequence: int

    def encode(self) -> bytes:
        return _HEADER.pack(self.spi, self.sequence)

    @classmethod
    def decode(cls, data: Octets) -> Self:
        if len(data) < ESP_HEADER:
            raise DecodeError("shorter than an ESP header")
        header = cls(*_HEADER.unpack_from(data))
        if header.spi == 0:
            raise DecodeError("ESP with SPI zero")
        return header


def append_trailer(payload: bytes, next_header: int, block: int = 4) -> bytes:
    """Payload, padding 1, 2, 3..., pad length, next header: a multiple of `block` (4, or more by cipher)."""
    pad_length = -(len(payload) + ESP_TRAILER) % block
    return payload + _PADDING[:pad_length] + bytes((pad_length, next_header))


def split_trailer(plaintext: bytes) -> tuple[int, bytes]:
    """(next header, payload) of a deciphered packet, padding verified and removed."""
    if len(plaintext) < ESP_TRAILER:
        raise DecodeError("no room for an ESP trailer")
    pad_length, next_header = plaintext[-2], plaintext[-1]
    end = len(plaintext) - ESP_TRAILER - pad_length
    if end < 0:
        raise DecodeError("ESP pad length exceeds the packet")
    if plaintext[end:-ESP_TRAILER] != _PADDING[:pad_length]:
        raise DecodeError("ESP padding is not 1, 2, 3...")
    return next_header, plaintext[:end]


class NatTraversal(Enum):
    """What a datagram on UDP port 4500 is."""

    KEEPALIVE = "keepalive"
    IKE = "ike"
    """Four zero octets (the non-ESP marker), then an IKE message."""
    ESP = "esp"
    MALFORMED = "malformed"


def classify_port_4500(datagram: Octets) -> NatTraversal:
    """Tell apart the payloads of a datagram on port 4500 (RFC 3948 section 2)."""
    if len(datagram) == 1 and datagram[0] == 0xFF:
        return NatTraversal.KEEPALIVE
    if len(datagram) <= ESP_HEADER:
        return NatTraversal.MALFORMED
    if datagram[:4] == b"\0\0\0\0":
        return NatTraversal.IKE
    return NatTraversal.ESP
