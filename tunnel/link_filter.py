"""Which frames of a link a packet socket is to copy: those from, or to, a few addresses.

Pure. Classic BPF (linux/filter.h) for a packet socket. It looks at the last 32 bits of an IPv6 address;
whoever reads looks at the rest.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import IntEnum
from ipaddress import IPv4Address, IPv6Address

from wire.classic_bpf import Instruction, assembled
from wire.ip import ETHERTYPES

MOST = 500
"""Addresses. A program has at most 4096 instructions (BPF_MAXINSNS), and each frame runs through them."""

_LOAD_WORD, _LOAD_HALF, _IS, _RETURN = 0x20, 0x28, 0x15, 0x06
_PROTOCOL, _PACKET_TYPE = 0xFFFFF000, 0xFFFFF004  # SKF_AD_OFF + SKF_AD_PROTOCOL, SKF_AD_PKTTYPE
_NETWORK = 0xFFF00000  # SKF_NET_OFF: counted from the IP header
_EVERYTHING = 0x40000


class Towards(IntEnum):
    """Of which frames: PACKET_HOST, PACKET_OTHERHOST and PACKET_OUTGOING of linux/if_packet.h."""

    US = 0
    OTHERS = 3
    LINK = 4


@dataclass(frozen=True, slots=True)
class Watch:
    """What is to be kept of one link: frames in these directions with one of `homes` on one side."""

    interface: str
    directions: tuple[Towards, ...]
    homes: frozenset[IPv4Address | IPv6Address]
    by_source: bool
    """Whether the home address is the source of a packet, else it is the destination."""


def program(watch: Watch) -> bytes:
    """The instructions; ValueError if there are more than `MOST` addresses."""
    if len(watch.homes) > MOST:
        raise ValueError(f"{len(watch.homes)} addresses are too many to watch for")
    sides = {4: 12, 6: 20} if watch.by_source else {4: 16, 6: 36}  # of IPv6 the last word
    words = [(_LOAD_WORD, 0, 0, _PACKET_TYPE), *_one_of(watch.directions)]
    for version, side in sides.items():
        homes = sorted(int(home) & 0xFFFFFFFF for home in watch.homes if home.version == version)
        tests = [(_LOAD_WORD, 0, 0, _NETWORK + side), *_accepting(homes), (_RETURN, 0, 0, 0)]
        words += [(_LOAD_HALF, 0, 0, _PROTOCOL), *_unless(ETHERTYPES[version], len(tests)), *tests]
    return assembled((*words, (_RETURN, 0, 0, 0)))


def _one_of(values: Iterable[int]) -> Iterator[Instruction]:
    wanted = tuple(values)
    for number, value in enumerate(wanted):
        yield _IS, len(wanted) - number, 0, value
    yield _RETURN, 0, 0, 0


def _accepting(values: Iterable[int]) -> Iterator[Instruction]:
    for value in values:
        yield _IS, 0, 1, value
        yield _RETURN, 0, 0, _EVERYTHING


def _unless(value: int, instructions: int) -> Iterator[Instruction]:
    """Go on if it is `value`, else leave `instructions` out (further than a conditional jump reaches)."""
    yield _IS, 1, 0, value
    yield 0x05, 0, 0, instructions  # ja
