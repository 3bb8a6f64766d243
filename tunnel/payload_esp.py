"""ESP around whole inner packets: tunnel mode with AES-256-GCM, one association a direction.

Pure (the random half of the initialisation vectors comes from an injected source, os.urandom by default).
RFC 4303, RFC 4106, RFC 8221. Keys are derived anew for every session (tunnel.protection), never read from a
file: under one GCM key no nonce may ever come twice. A nonce is the association's salt, then the IV: four
octets drawn once per sealer, and the sequence number. Within one sealer the number never repeats; a second
sealer for the same key is made nowhere, and would still have to draw the same four octets.
"""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tunnel.path import PAYLOAD_ESP_ALIGNMENT, Drop
from tunnel.replay import MAX_SEQUENCE, ReplayWindow
from tunnel.security import BAD_ICV, FIRST_FREE_SPI, MALFORMED, REPLAYED
from wire.esp import ESP_HEADER, append_trailer, split_trailer
from wire.ip import NO_NEXT_HEADER, PROTOCOL_IPV4, PROTOCOL_IPV6
from wire.reader import DecodeError

KEY_SIZE, SALT_SIZE = 32, 4
WINDOW = 1024
"""Sequence numbers that may arrive out of order: for 100 ms of ten thousand packets a second."""

_IV = 8
_ICV = 16
_HEAD = struct.Struct("!II4sI")
"""SPI, sequence number, and the IV: the sealer's four octets and the number again."""
_SEQUENCE = struct.Struct("!I")
_SHORTEST = ESP_HEADER + _IV + PAYLOAD_ESP_ALIGNMENT + _ICV


def _trailers(next_header: int) -> tuple[bytes, ...]:
    """Padding, pad length and next header by the last two bits of the inner length."""
    return tuple(append_trailer(bytes(size), next_header)[size:] for size in range(PAYLOAD_ESP_ALIGNMENT))


_AFTER_IPV4, _AFTER_IPV6 = _trailers(PROTOCOL_IPV4), _trailers(PROTOCOL_IPV6)
_DUMMY = append_trailer(b"", NO_NEXT_HEADER)

SEALED_BEFORE, SEALED_AFTER = ESP_HEADER + _IV, _ICV
"""Octets that sealing puts around inner packet and trailer."""


def trailer(version: int, length: int) -> bytes:
    """What is sealed behind an inner packet of this version and length in octets."""
    return (_AFTER_IPV6 if version == 6 else _AFTER_IPV4)[length & 3]


@dataclass(frozen=True, slots=True)
class PayloadAssociation:
    """What both ends of one direction share for one session. The key never shows in a repr."""

    spi: int
    key: bytes = field(repr=False)
    salt: bytes = field(repr=False)

    def __post_init__(self) -> None:
        """ValueError says in words which value does not fit."""
        if not FIRST_FREE_SPI <= self.spi <= 0xFFFFFFFF:
            raise ValueError(f"spi must be between {FIRST_FREE_SPI:#x} and 0xffffffff, not {self.spi:#x}")
        if len(self.key) != KEY_SIZE or len(self.salt) != SALT_SIZE:
            raise ValueError(f"AES-256-GCM needs {KEY_SIZE} octets of key and {SALT_SIZE} of salt")


class AssociationExhausted(OSError):
    """All 2**32 - 1 sequence numbers of an association are used. Like a socket that can send no more."""

    def __init__(self) -> None:
        super().__init__(errno.EKEYEXPIRED, "the keys of the payload are used up")


class PayloadSealer:
    """The sending end of an association."""

    __slots__ = ("_encrypt", "_encrypt_into", "_instance", "_salt", "_spi", "next_sequence")

    def __init__(
        self, association: PayloadAssociation, random_bytes: Callable[[int], bytes] = os.urandom
    ) -> None:
        cipher = AESGCM(association.key)
        self._encrypt, self._encrypt_into = cipher.encrypt, cipher.encrypt_into
        self._instance = random_bytes(_IV - _SEQUENCE.size)
        self._salt = association.salt
        self._spi = association.spi
        self.next_sequence = 1

    def seal(self, packet: bytes) -> bytes:
        """From SPI to ICV. An empty packet becomes a dummy, which only shows that this end is there.

        Raises AssociationExhausted instead of ever using a number twice.
        """
        plaintext = packet + trailer(packet[0] >> 4, len(packet)) if packet else _DUMMY
        head = self._next_head()
        return head + self._encrypt(self._salt + head[ESP_HEADER:], plaintext, head[:ESP_HEADER])

    def seal_rows(self, rows: memoryview, width: int, target: memoryview) -> int:
        """The same for inner packets that have their trailers already, each of `width` octets but the last.

        Each is SEALED_BEFORE and SEALED_AFTER octets longer in `target`, which is elsewhere; returns the
        octets used there. Raises AssociationExhausted, and uses nothing up, if there are not enough numbers.
        """
        first, end, length = self.next_sequence, 0, len(rows)
        following = first - (-length // width)
        if following - 1 > MAX_SEQUENCE:
            raise AssociationExhausted
        self.next_sequence = following
        encrypt_into, pack = self._encrypt_into, _SEQUENCE.pack
        spi, instance, nonce = self._spi.to_bytes(4, "big"), self._instance, self._salt + self._instance
        for sequence, start in zip(range(first, following), range(0, length, width), strict=True):
            row, number = rows[start : start + width], pack(sequence)
            begin, end = end, end + len(row) + SEALED_BEFORE + SEALED_AFTER
            head, body = spi + number, begin + SEALED_BEFORE
            target[begin:body] = head + instance + number
            encrypt_into(nonce + number, row, head, target[body:end])
        return end

    def _next_head(self) -> bytes:
        sequence = self.next_sequence
        if sequence > MAX_SEQUENCE:
            raise AssociationExhausted
        self.next_sequence = sequence + 1
        return _HEAD.pack(self._spi, sequence, self._instance, sequence)


@lru_cache(64)
def _heads(stride: int) -> struct.Struct:
    """SPI, sequence number and IV of a packet, and whatever there is until the next one."""
    return struct.Struct(f"!4sI8s{stride - SEALED_BEFORE}x")


class PayloadOpener:
    """The receiving end of an association. `newest` says whether the last packet was ahead of all before."""

    __slots__ = ("_decrypt_into", "_salt", "newest", "window")

    def __init__(self, association: PayloadAssociation, window: ReplayWindow | None = None) -> None:
        cipher = AESGCM(association.key)
        self._decrypt_into = cipher.decrypt_into
        self._salt = association.salt
        self.window = window or ReplayWindow(size=WINDOW)
        self.newest = False

    def open(self, esp: bytes) -> tuple[int, bytes] | Drop:
        """(next header, inner packet) of a packet that is authentic and new.

        As for signalling, the window is asked before the ICV is computed and told only after it was right.
        The caller has found this opener by the SPI.
        """
        plaintext = bytearray(max(len(esp) - SEALED_BEFORE - SEALED_AFTER, 0))
        refused = self.open_into(memoryview(esp), memoryview(plaintext))
        if refused is not None:
            return refused
        try:
            return split_trailer(bytes(plaintext))
        except DecodeError:
            return MALFORMED

    def open_into(self, esp: memoryview, target: memoryview) -> Drop | None:
        """The same, with inner packet and trailer left in `target`, which has exactly the room for them.

        A refusal may leave anything there.
        """
        head, length, window = bytes(esp[:SEALED_BEFORE]), len(esp), self.window
        if length < _SHORTEST or length % PAYLOAD_ESP_ALIGNMENT:
            return MALFORMED
        sequence = int.from_bytes(head[4:ESP_HEADER], "big")
        newest = sequence > window.highest
        if not newest and not window.check(sequence):
            return REPLAYED
        try:
            self._decrypt_into(self._salt + head[ESP_HEADER:], esp[SEALED_BEFORE:], head[:ESP_HEADER], target)
        except InvalidTag:
            return BAD_ICV
        self.newest = newest
        window.accept(sequence)
        return None

    def open_rows(
        self, packets: memoryview, stride: int, size: int, target: memoryview
    ) -> tuple[int, Drop | None]:
        """Open packets of `size` octets, one every `stride`, as long as each is like the first and newer.

        Their inner packets and trailers follow each other in `target`. Returns how many there are, and why
        the one behind them is refused; None if that has to be asked of `open_into`, or there is none.
        """
        if size < _SHORTEST or size % PAYLOAD_ESP_ALIGNMENT:
            return 0, None
        decrypt_into, salt, highest = self._decrypt_into, self._salt, self.window.highest
        width, end, begin, refused = size - SEALED_BEFORE - SEALED_AFTER, 0, 0, None
        sequences: list[int] = []
        association = packets[:4]
        for spi, sequence, iv in _heads(stride).iter_unpack(packets):
            if sequence <= highest or spi != association:
                break
            body = begin + SEALED_BEFORE
            row = target[end : end + width]
            try:
                decrypt_into(
                    salt + iv, packets[body : begin + size], packets[begin : begin + ESP_HEADER], row
                )
            except InvalidTag:
                refused = BAD_ICV
                break
            highest = sequence
            sequences.append(sequence)
            begin += stride
            end += width
        if sequences:
            self.newest = True
            self._accept(sequences)
        return len(sequences), refused

    def _accept(self, sequences: list[int]) -> None:
        """Numbers that go up, from above all before."""
        if sequences[-1] - sequences[0] + 1 == len(sequences):
            self.window.accept_run(sequences[0], sequences[-1])
            return
        for sequence in sequences:
            self.window.accept(sequence)
