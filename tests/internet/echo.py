"""ICMP echo in the simulated Internet: datagrams of it, and what any host answers.

Pure. A NAT rewrites the identifier, so it is carried where other datagrams have their ports.
"""

from __future__ import annotations

from dataclasses import replace

from tests.internet.weather import Address, Datagram
from wire.checksum import internet_checksum
from wire.echo import ECHO_REPLY4, ECHO_REPLY6, ECHO_REQUEST4, ECHO_REQUEST6
from wire.ip import PROTOCOL_ICMP, PROTOCOL_ICMPV6

ECHO_PROTOCOLS = (PROTOCOL_ICMP, PROTOCOL_ICMPV6)
ECHO_REPLIES = (bytes([ECHO_REPLY4]), bytes([ECHO_REPLY6]))
_REPLY_TO = {ECHO_REQUEST4: ECHO_REPLY4, ECHO_REQUEST6: ECHO_REPLY6}


def echo_datagram(source: Address, destination: Address, message: bytes, identifier: int) -> Datagram:
    protocol = PROTOCOL_ICMP if source.version == 4 else PROTOCOL_ICMPV6
    return Datagram(source, destination, protocol, message, identifier, identifier)


def reply_to(datagram: Datagram) -> Datagram | None:
    """What a host answers to an echo request; None if it is none."""
    kind = _REPLY_TO.get(datagram.payload[0]) if datagram.payload and not datagram.damaged else None
    if datagram.protocol not in ECHO_PROTOCOLS or kind is None:
        return None
    unsummed = bytes([kind, 0, 0, 0]) + datagram.payload[4:]
    checksum = internet_checksum(unsummed) if datagram.source.version == 4 else 0
    message = unsummed[:2] + checksum.to_bytes(2, "big") + unsummed[4:]
    back = replace(datagram, source=datagram.destination, destination=datagram.source, payload=message)
    return replace(back, source_port=datagram.destination_port, destination_port=datagram.source_port)
