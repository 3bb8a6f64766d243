"""ESP in transport mode with manual keys: one association a direction, seal and open.

Pure (the initialisation vectors of AES-CBC come from an injected source, os.urandom by default).
RFC 4303, RFC 3602 (AES-CBC), RFC 2404 (HMAC-SHA-1-96), RFC 4868 (HMAC-SHA-256-128), RFC 3776, RFC 4877.
"""

from __future__ import annotations

import hmac
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import assert_never

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC

from tunnel.path import Drop
from tunnel.replay import MAX_SEQUENCE, ReplayWindow
from wire.esp import ESP_HEADER, EspHeader, append_trailer, split_trailer
from wire.ip import NO_NEXT_HEADER
from wire.reader import DecodeError

FIRST_FREE_SPI = 256  # 1..255 are reserved by IANA, 0 is for local use; RFC 4303 section 2.1

_AES_BLOCK = 16
_AES_KEY_SIZES = (16, 24, 32)

MALFORMED = Drop("esp-malformed")
UNKNOWN_SPI = Drop("esp-unknown-spi")
REPLAYED = Drop("esp-replayed")
BAD_ICV = Drop("esp-bad-icv")
DUMMY = Drop("esp-dummy")


class Integrity(Enum):
    """How a packet is authenticated. There is no "none": RFC 4877 wants integrity for every BU and BA."""

    HMAC_SHA1_96 = "hmac-sha1-96"
    HMAC_SHA256_128 = "hmac-sha256-128"

    digest: str
    key_size: int
    """Octets: the digest's own length, which both RFCs fix."""
    icv_size: int
    """Octets of the digest that travel."""

    def __init__(self, name: str) -> None:
        sha1 = name == "hmac-sha1-96"
        self.digest, self.key_size, self.icv_size = ("sha1", 20, 12) if sha1 else ("sha256", 32, 16)


class Encryption(Enum):
    """How a packet is kept secret, or not."""

    NULL = "null"
    AES_CBC = "aes-cbc"

    key_sizes: tuple[int, ...]
    block: int
    """What the padded plaintext is a multiple of, in octets."""
    iv_size: int

    def __init__(self, name: str) -> None:
        aes = name == "aes-cbc"
        self.key_sizes = _AES_KEY_SIZES if aes else (0,)
        self.block, self.iv_size = (_AES_BLOCK, _AES_BLOCK) if aes else (4, 0)


@dataclass(frozen=True, slots=True)
class SecurityAssociation:
    """What both ends of one direction share. Keys never show in a repr, so they cannot reach a log."""

    spi: int
    integrity: Integrity
    integrity_key: bytes = field(repr=False)
    encryption: Encryption = Encryption.NULL
    encryption_key: bytes = field(default=b"", repr=False)

    def __post_init__(self) -> None:
        """ValueError says in words which value does not fit."""
        if not FIRST_FREE_SPI <= self.spi <= 0xFFFFFFFF:
            raise ValueError(f"spi must be between {FIRST_FREE_SPI:#x} and 0xffffffff, not {self.spi:#x}")
        if len(self.integrity_key) != self.integrity.key_size:
            raise ValueError(
                f"{self.integrity.value} needs a key of {self.integrity.key_size} octets, "
                f"not {len(self.integrity_key)}"
            )
        if len(self.encryption_key) not in self.encryption.key_sizes:
            sizes = " or ".join(str(size) for size in self.encryption.key_sizes)
            raise ValueError(
                f"{self.encryption.value} needs a key of {sizes} octets, not {len(self.encryption_key)}"
            )

    def icv(self, authenticated: bytes) -> bytes:
        """Over SPI, sequence number, IV and ciphertext."""
        digest = hmac.digest(self.integrity_key, authenticated, self.integrity.digest)
        return digest[: self.integrity.icv_size]


@dataclass(frozen=True, slots=True)
class KeyPair:
    """The associations of one mobile node at one home agent."""

    update: SecurityAssociation
    """Mobile node to home agent: protects the BindingUpdate."""
    ack: SecurityAssociation
    """Home agent to mobile node: protects the BindingAck."""


class SequenceExhausted(Exception):
    """All 2**32 - 1 sequence numbers of an association are used; it needs new keys (RFC 4303, 3.3.3)."""


class Sealer:
    """The sending end of an association.

    `next_sequence` is the number of the next packet. With manual keys it must never run backwards, across
    restarts too: the daemon persists it ahead of use.
    """

    __slots__ = ("_iv_source", "association", "next_sequence")

    def __init__(
        self,
        association: SecurityAssociation,
        next_sequence: int = 1,
        iv_source: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self.association = association
        self.next_sequence = next_sequence
        self._iv_source = iv_source

    def seal(self, next_header: int, payload: bytes) -> bytes:
        """A whole ESP packet, from SPI to ICV, around `payload`."""
        if not 0 < self.next_sequence <= MAX_SEQUENCE:
            raise SequenceExhausted(f"security association {self.association.spi:#x} needs new keys")
        association = self.association
        header = EspHeader(association.spi, self.next_sequence).encode()
        self.next_sequence += 1
        plaintext = append_trailer(payload, next_header, association.encryption.block)
        iv = self._iv_source(association.encryption.iv_size)
        authenticated = header + iv + _encrypt(association, iv, plaintext)
        return authenticated + association.icv(authenticated)


class Opener:
    """The receiving end of an association, with the memory that makes a replayed packet worthless."""

    __slots__ = ("association", "window")

    def __init__(self, association: SecurityAssociation, window: ReplayWindow) -> None:
        self.association = association
        self.window = window

    def open(self, esp: bytes) -> tuple[int, bytes] | Drop:
        """(next header, payload) of a packet that is authentic and new.

        The window is asked before the ICV is computed and told only after it was right, so that neither a
        replay costs a digest nor a forgery moves the window.
        """
        association = self.association
        if len(esp) < ESP_HEADER + association.integrity.icv_size:
            return MALFORMED
        spi, sequence = int.from_bytes(esp[:4], "big"), int.from_bytes(esp[4:8], "big")
        if spi != association.spi:
            return UNKNOWN_SPI
        if not self.window.check(sequence):
            return REPLAYED
        split = len(esp) - association.integrity.icv_size
        if not hmac.compare_digest(association.icv(esp[:split]), esp[split:]):
            return BAD_ICV
        self.window.accept(sequence)
        return _reveal(association, esp[ESP_HEADER:split])


def _reveal(association: SecurityAssociation, body: bytes) -> tuple[int, bytes] | Drop:
    iv, ciphertext = body[: association.encryption.iv_size], body[association.encryption.iv_size :]
    if len(body) < association.encryption.iv_size or len(ciphertext) % association.encryption.block:
        return MALFORMED
    try:
        next_header, payload = split_trailer(_decrypt(association, iv, ciphertext))
    except DecodeError:
        return MALFORMED
    if next_header == NO_NEXT_HEADER:
        return DUMMY
    return next_header, payload


def _encrypt(association: SecurityAssociation, iv: bytes, plaintext: bytes) -> bytes:
    match association.encryption:
        case Encryption.NULL:
            return plaintext
        case Encryption.AES_CBC:
            encryptor = Cipher(AES(association.encryption_key), CBC(iv)).encryptor()
            return encryptor.update(plaintext) + encryptor.finalize()
        case _:
            assert_never(association.encryption)


def _decrypt(association: SecurityAssociation, iv: bytes, ciphertext: bytes) -> bytes:
    match association.encryption:
        case Encryption.NULL:
            return ciphertext
        case Encryption.AES_CBC:
            decryptor = Cipher(AES(association.encryption_key), CBC(iv)).decryptor()
            return decryptor.update(ciphertext) + decryptor.finalize()
        case _:
            assert_never(association.encryption)
