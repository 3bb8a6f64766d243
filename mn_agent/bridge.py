"""Bridging a break: both ends send again what went into the path that was gone.

Pure. Not in the RFCs, see ARCHITECTURE.md; the home agent is told by an option of RFC 5094 (wire.vendor).
"""

from __future__ import annotations

from mn_agent.actions import DeliverKept, SendAgain, SendOnLink
from mn_agent.handover import Handover
from mn_agent.messages import with_interruption
from mn_agent.registration_states import Bound
from tunnel.envelope import ControlPacket
from tunnel.prefixes import Network, as_network

LATE_NOTICE = 0.03
"""Seconds for which a link may be dead before the kernel says so. Ours."""
QUIET = 0.3
"""... and seconds of silence before it says so that are put down to the link. Ours."""
MOST_IN_FLIGHT = 0.1
"""Seconds: what was sent that long before a path was known to be lost is not sent again. Ours."""


BEFORE_WAKING = 0.5
"""Seconds that may pass between a packet that has to wait and word of it. Nothing was sent before. Ours."""


class Bridge:
    """Knows how long packets are under way at least, and what a handover has interrupted."""

    def __init__(self) -> None:
        self._in_flight = MOST_IN_FLIGHT

    def told(self, packet: ControlPacket, handover: Handover | None, now: float) -> ControlPacket:
        """The Binding Update with word of a break, if `handover` is one."""
        broken_at = _broken_at(handover)
        return packet if broken_at is None else with_interruption(packet, now - broken_at + self._in_flight)

    def accepted(self, bound: Bound, handover: Handover | None) -> list[SendAgain]:
        """What to send again now that there is a path: it was lost in a break, or it had to wait."""
        binding = bound.binding
        self._in_flight = min(self._in_flight, LATE_NOTICE + binding.accepted_at - binding.sent_at)
        homes = tuple(as_network(entry.home_address) for entry in binding.entries)
        if bound.woken_at is not None:
            return [SendAgain(homes, bound.woken_at - BEFORE_WAKING)]
        broken_at = _broken_at(handover)
        return [] if broken_at is None else [SendAgain(homes, broken_at - LATE_NOTICE)]

    def home(
        self, homes: tuple[Network, ...], interface: str, handover: Handover | None
    ) -> list[SendOnLink | DeliverKept]:
        """The same at home: what was lost, and what came there before the home agent had let go."""
        arrived = DeliverKept(homes)
        broken_at = _broken_at(handover)
        if broken_at is None:
            return [arrived]
        return [arrived, SendOnLink(homes, broken_at - LATE_NOTICE, interface)]


def _broken_at(handover: Handover | None) -> float | None:
    """When the old path broke; None if it did not.

    A driver waits for a link that might come back at once, and a busy kernel takes a while to say that it did
    not. Where payload came in until shortly before, the silence tells better.
    """
    if handover is None or handover.lost_at is None:
        return None
    is_recent = handover.lost_at - QUIET < handover.heard_at < handover.lost_at
    return handover.heard_at if is_recent else handover.lost_at
