"""Lane: the way of a path through the data plane; and what else can become of a packet that wants to leave.

Pure. RFC 1191, RFC 4459.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from tunnel.path import TunnelPath

if TYPE_CHECKING:
    from tunnel.plane import TrainSender

MIN_IPV6_MTU = 1280
"""No link of IPv6 is smaller, so below it the outer packet is fragmented instead (RFC 8200 section 5)."""

_PMTU_MEMORY = 600.0  # seconds that a reduced path MTU is believed, RFC 1191 section 6.3


class Lane:
    """What the data plane keeps about a path in use. `send` is its carrier's, None until it is connected."""

    __slots__ = ("limit", "path", "reduced_until", "send", "send_fragmented", "sent_at", "train")

    def __init__(self, path: TunnelPath) -> None:
        self.path = path
        self.limit = path.inner_mtu
        """The largest inner packet, in octets; less than the path's own while a router said so."""
        self.reduced_until = 0.0
        self.sent_at = 0.0
        """Seconds of CLOCK_BOOTTIME; the time of the drain, not of the packet."""
        self.send: Callable[[bytes], object] | None = None
        self.send_fragmented: Callable[[bytes], object] | None = None
        self.train: TrainSender | None = None
        """Set with `send`, and of no meaning while that is None."""

    def reduce(self, path_mtu: int, now: float) -> None:
        """Believe for a while that outer packets have to be at most `path_mtu` octets.

        Never below the least IPv6 MTU: whoever forges a smaller one only gets outer fragments.
        """
        self.limit = min(self.limit, max(self.path.room_in(path_mtu), MIN_IPV6_MTU))
        self.reduced_until = now + _PMTU_MEMORY


@dataclass(frozen=True, slots=True)
class Reply:
    """An ICMP error to write back to the TUN device: the packet was too big."""

    packet: bytes


@dataclass(frozen=True, slots=True)
class Pieces:
    """Inner fragments, or one packet whose outer packet has to be fragmented, for `lane`."""

    lane: Lane
    packets: tuple[bytes, ...]
    fragment_outer: bool = False


class Control(Enum):
    """The verdict on a control packet."""

    CONTROL = "control"


CONTROL = Control.CONTROL
