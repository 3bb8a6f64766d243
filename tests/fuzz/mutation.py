"""Mutations: from seeds to inputs that are almost right. Pure: the same random numbers, the same inputs."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

MAX_INPUT = 4096
_TELLING_OCTETS = b"\x00\x01\x02\x04\x05\x06\x07\x08\x0f\x10\x3b\x3c\x40\x45\x60\x7f\x80\x87\xc9\xfe\xff"


def mutate(seeds: tuple[bytes, ...], random: Random) -> bytes:
    """One of the seeds with one to four changes; now and then nothing but noise."""
    if random.random() < 0.02:
        return random.randbytes(random.randrange(64))
    data = bytearray(random.choice(seeds))
    for _ in range(random.randint(1, 4)):
        random.choice(_MUTATIONS)(data, seeds, random)
    return bytes(data[:MAX_INPUT])


def _flip_bit(data: bytearray, seeds: tuple[bytes, ...], random: Random) -> None:
    if data:
        data[random.randrange(len(data))] ^= 1 << random.randrange(8)


def _set_octet(data: bytearray, seeds: tuple[bytes, ...], random: Random) -> None:
    if data:
        data[random.randrange(len(data))] = random.randrange(256)


def _set_telling_octet(data: bytearray, seeds: tuple[bytes, ...], random: Random) -> None:
    if data:
        data[random.randrange(len(data))] = random.choice(_TELLING_OCTETS)


def _nudge_octet(data: bytearray, seeds: tuple[bytes, ...], random: Random) -> None:
    if data:
        at = random.randrange(len(data))
        data[at] = data[at] + random.choice((-8, -2, -1, 1, 2, 8)) & 0xFF


def _truncate(data: bytearray, seeds: tuple[bytes, ...], random: Random) -> None:
    del data[random.randrange(len(data) + 1) :]


def _remove(data: bytearray, seeds: tuple[bytes, ...], random: Random) -> None:
    start = random.randrange(len(data) + 1)
    del data[start : start + random.randint(1, 16)]


def _insert(data: bytearray, seeds: tuple[bytes, ...], random: Random) -> None:
    at = random.randrange(len(data) + 1)
    data[at:at] = random.randbytes(random.randint(1, 16))


def _repeat(data: bytearray, seeds: tuple[bytes, ...], random: Random) -> None:
    start = random.randrange(len(data) + 1)
    piece = data[start : start + random.randint(1, 32)]
    data[start:start] = piece * random.randint(1, 20)


def _splice(data: bytearray, seeds: tuple[bytes, ...], random: Random) -> None:
    other = random.choice(seeds)
    start = random.randrange(len(data) + 1)
    data[start:] = other[random.randrange(len(other) + 1) :]


def _zero(data: bytearray, seeds: tuple[bytes, ...], random: Random) -> None:
    start = random.randrange(len(data) + 1)
    stop = min(start + random.randint(1, 24), len(data))
    data[start:stop] = bytes(stop - start)


_MUTATIONS: tuple[Callable[[bytearray, tuple[bytes, ...], Random], None], ...] = (
    _flip_bit,
    _set_octet,
    _set_telling_octet,
    _nudge_octet,
    _nudge_octet,
    _truncate,
    _remove,
    _insert,
    _repeat,
    _splice,
    _zero,
)
