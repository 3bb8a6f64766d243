"""What the tunnel itself puts around an inner packet, apart from the headers that the kernel writes.

Pure. RFC 5845 and draft-ietf-mext-nemo-v4traversal-00 (TLV header), RFC 4303 section 2.4 (trailer).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

from tunnel.encapsulation import tlv_header
from tunnel.path import Encapsulation
from tunnel.payload_esp import trailer


class Frame(NamedTuple):
    """Octets before and after. What is sealed is sealed with its trailer, which hence belongs to it."""

    before: bytes
    after: bytes

    @property
    def size(self) -> int:
        return len(self.before) + len(self.after)


Framing = Callable[[int, int], Frame]
"""The frame of an inner packet by its version, 4 or 6, and its length in octets."""


def framing_of(encapsulation: Encapsulation) -> Framing:
    """How packets are framed in this encapsulation. The answers are remembered: lengths repeat."""
    match encapsulation:
        case Encapsulation.UDP_TLV | Encapsulation.UDP_TLV_DRAFT as kind:
            return lru_cache(256)(lambda version, length: Frame(tlv_header(kind, version, length), b""))
        case Encapsulation.ESP | Encapsulation.ESP_UDP:
            return _sealed
        case Encapsulation.UDP | Encapsulation.IP_IN_IP:
            return _bare


def _bare(version: int, length: int) -> Frame:
    return _NOTHING


def _sealed(version: int, length: int) -> Frame:
    return Frame(b"", trailer(version, length))


_NOTHING = Frame(b"", b"")
