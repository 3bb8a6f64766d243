"""Envelopes of what the home agent sends: back to a sender, or unasked to where a mobile node is.

Pure. RFC 6275 sections 6.4 and 9.5.4, RFC 5555 section 4.2: over IPv4 ESP, which the draft's figure does not
show, and no routing header, since there was no home address option.
"""

from __future__ import annotations

from ipaddress import IPv6Address

from home_agent.binding_cache import Binding
from tunnel.envelope import ControlPacket
from wire.mobility import Message


def reply_to(packet: ControlPacket, message: Message) -> ControlPacket:
    """To the sender of `packet`, whatever the binding cache says.

    With a routing header exactly if the sender used a home address option and is away from that address.
    """
    option = packet.home_address_option
    routed = option if option != packet.source else None
    return ControlPacket(packet.destination, packet.source, message, routing_home_address=routed)


def unasked(binding: Binding, own: IPv6Address, message: Message) -> ControlPacket:
    """Along the way of the last Binding Update of `binding`, from the home agent's address `own`."""
    home, remote = binding.home_address, binding.arrival.remote
    if binding.in_udp or not isinstance(remote, IPv6Address):
        return ControlPacket(own, home, message)
    routed = home if remote != home else None
    return ControlPacket(own, remote, message, routing_home_address=routed)
