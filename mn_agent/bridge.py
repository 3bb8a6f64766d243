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
        if handover is None or handover.lost_at is None:
            return packet
        return with_interruption(packet, now - handover.lost_at + self._in_flight)

    def accepted(self, bound: Bound, handover: Handover | None) -> list[SendAgain]:
        """What to send again now that there is a path: it was lost in a break, or it had to wait."""
        binding = bound.binding
        self._in_flight = min(self._in_flight, LATE_NOTICE + binding.accepted_at - binding.sent_at)
        homes = tuple(as_network(entry.home_address) for entry in binding.entries)
        if bound.woken_at is not None:
            return [SendAgain(homes, bound.woken_at - BEFORE_WAKING)]
        if handover is None or handover.lost_at is None:
            return []
        return [SendAgain(homes, handover.lost_at - LATE_NOTICE)]

    def home(
        self, homes: tuple[Network, ...], interface: str, handover: Handover | None
    ) -> list[SendOnLink | DeliverKept]:
        """The same at home: what was lost, and what came there before the home agent had let go."""
        arrived = DeliverKept(homes)
        if handover is None or handover.lost_at is None:
            return [arrived]
        return [arrived, SendOnLink(homes, handover.lost_at - LATE_NOTICE, interface)]
