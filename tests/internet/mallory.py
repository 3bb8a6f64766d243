"""What Mallory knows: where the home agent is, and which of the packets that she hears are messages.

Pure.
"""

from __future__ import annotations

from tests.internet.cast import HA4, HA6
from tests.internet.weather import Datagram
from tests.internet.world import World
from wire.ip import PROTOCOL_DESTINATION_OPTIONS, PROTOCOL_ESP, PROTOCOL_MOBILITY, PROTOCOL_ROUTING
from wire.mobility import UpdateFlag

_PROTECTED = (PROTOCOL_ESP, PROTOCOL_MOBILITY)
HOME = UpdateFlag.ACKNOWLEDGE | UpdateFlag.HOME


def to_home_agent(datagram: Datagram) -> bool:
    """A control message on its way to the home agent, as an eavesdropper tells it: by its protection."""
    if datagram.destination not in (HA6, HA4):
        return False
    return datagram.protocol == PROTOCOL_DESTINATION_OPTIONS or _is_message_in_udp(datagram)


def from_home_agent(datagram: Datagram) -> bool:
    if datagram.source not in (HA6, HA4):
        return False
    return datagram.protocol == PROTOCOL_ROUTING or _is_message_in_udp(datagram)


def state(world: World) -> tuple[object, ...]:
    agent = world.agent
    return world.binding(), agent.plane.endpoint.table.routes, agent.answers, agent.node.tally.accepted


def _is_message_in_udp(datagram: Datagram) -> bool:
    return datagram.in_udp and datagram.payload[6] in _PROTECTED
