"""Probes in the simulated Internet: as packets of the tunnel, and what the kernel of a home agent answers.

Pure.
"""

from __future__ import annotations

from dataclasses import replace

from mn_agent.actions import SendProbe
from wire.ip import IPV6_HEADER, PROTOCOL_ICMPV6, IPv6Header
from wire.probe import ECHO_REPLY, ECHO_REQUEST, Probe


def request_of(action: SendProbe) -> bytes:
    """The whole inner packet."""
    message = action.probe.request()
    header = IPv6Header(action.home_address, action.home_agent, PROTOCOL_ICMPV6, len(message))
    return header.encode() + message


def answer_to(packet: bytes) -> bytes | None:
    """The answer to an echo request; None if `packet` is none."""
    header = IPv6Header.decode(packet)
    if header.next_header != PROTOCOL_ICMPV6 or packet[IPV6_HEADER] != ECHO_REQUEST:
        return None
    back = replace(header, source=header.destination, destination=header.source)
    return back.encode() + bytes((ECHO_REPLY,)) + packet[IPV6_HEADER + 1 :]


def answer_in(packet: bytes) -> Probe | None:
    """What an inner packet answers; None if it is no echo reply."""
    if packet[0] >> 4 != 6 or packet[6] != PROTOCOL_ICMPV6 or packet[IPV6_HEADER] != ECHO_REPLY:
        return None
    return Probe.of_reply(packet[IPV6_HEADER:])
