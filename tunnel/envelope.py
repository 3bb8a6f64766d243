"""A mobility message in its envelope: IPv6 header, home address option or type 2 routing header, ESP.

Pure. RFC 6275 sections 6.1, 6.3, 6.4, 6.7 and 6.8, RFC 3776, RFC 4877, RFC 5555 section 4; layouts in
protocol.md 3.6: IPv6 / [destination options | routing] / [ESP] / mobility header, whatever carries the IPv6
packet. Mobile prefix solicitations and advertisements have the same envelope around ICMPv6.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv6Address

from tunnel.path import Drop
from tunnel.security import MALFORMED as ESP_MALFORMED
from tunnel.security import UNKNOWN_SPI, Opener, Sealer
from wire.esp import ESP_HEADER
from wire.extension import home_address_option, parse_extensions, routing_header
from wire.icmp import MobilePrefixAdvertisement, MobilePrefixSolicitation, decode_icmp6, encode_icmp6
from wire.ip import (
    IPV6_HEADER,
    PROTOCOL_DESTINATION_OPTIONS,
    PROTOCOL_ESP,
    PROTOCOL_ICMPV6,
    PROTOCOL_MOBILITY,
    PROTOCOL_ROUTING,
    IPv6Header,
)
from wire.mobility import Message, decode_message, encode_message
from wire.profile import Profile
from wire.reader import DecodeError

PrefixMessage = MobilePrefixSolicitation | MobilePrefixAdvertisement
"""ICMPv6 messages which the same security associations protect (draft section 2.2, inner selectors)."""
ControlMessage = Message | PrefixMessage

MALFORMED = Drop("control-malformed")
NOT_MOBILITY = Drop("control-not-mobility")


@dataclass(frozen=True, slots=True)
class ControlPacket:
    """A message and the addresses of its envelope. At most one of the two home addresses is given."""

    source: IPv6Address
    destination: IPv6Address
    message: ControlMessage
    home_address_option: IPv6Address | None = None
    """In a BU from an IPv6 care-of address: the home address, for which `source` only stands."""
    routing_home_address: IPv6Address | None = None
    """In a BA to an IPv6 care-of address: the home address, at which the packet really ends."""

    @property
    def home_side_source(self) -> IPv6Address:
        """Who sends the message: what checksum and security association are tied to."""
        return self.home_address_option or self.source

    @property
    def final_destination(self) -> IPv6Address:
        """Who the message is for: what checksum and security association are tied to."""
        return self.routing_home_address or self.destination


@dataclass(frozen=True, slots=True)
class OpenedControl:
    """A control packet as it was received. `spi` is None if nothing protected it; judge before believing.

    An association belongs to one home address: whether `spi` may speak for it is the caller's to check.
    """

    packet: ControlPacket
    spi: int | None
    octets: bytes = field(default=b"", repr=False, compare=False)
    """The mobility header as it was received, with its padding: what an authenticator is computed over."""


def seal_control(packet: ControlPacket, sealer: Sealer | None, profile: Profile) -> bytes:
    """The whole IPv6 packet. ValueError for what the wire cannot express, as of `encode_message`."""
    source, destination = packet.home_side_source, packet.final_destination
    if isinstance(packet.message, PrefixMessage):
        next_header, payload = PROTOCOL_ICMPV6, encode_icmp6(packet.message, source, destination)
    else:
        next_header = PROTOCOL_MOBILITY
        payload = encode_message(packet.message, source, destination, profile)
    if sealer is not None:
        payload = sealer.seal(next_header, payload)
        next_header = PROTOCOL_ESP
    return enclose(packet, next_header, payload)


def enclose(packet: ControlPacket, next_header: int, payload: bytes) -> bytes:
    """The whole IPv6 packet with the addresses of `packet` around `payload`."""
    if packet.home_address_option is not None:
        payload = home_address_option(next_header, packet.home_address_option) + payload
        next_header = PROTOCOL_DESTINATION_OPTIONS
    if packet.routing_home_address is not None:
        payload = routing_header(next_header, packet.routing_home_address) + payload
        next_header = PROTOCOL_ROUTING
    return IPv6Header(packet.source, packet.destination, next_header, len(payload)).encode() + payload


def open_control(
    data: bytes,
    openers: Mapping[int, Opener] | Callable[[int], Opener | None],
    profile: Profile,
) -> OpenedControl | Drop:
    """Read a whole IPv6 packet: headers, then ESP (ICV, replay, decryption), then the message.

    `openers` finds the association by SPI. Its replay window moves as soon as the ICV is right, also if the
    message inside turns out to be unreadable.
    """
    try:
        header = IPv6Header.decode(data)
        end = IPV6_HEADER + header.payload_length
        extensions = parse_extensions(header.next_header, data[IPV6_HEADER:end])
    except DecodeError:
        return MALFORMED
    next_header, payload, spi = extensions.next_header, extensions.payload, None
    if next_header == PROTOCOL_ESP:
        if len(payload) < ESP_HEADER:
            return ESP_MALFORMED
        spi = int.from_bytes(payload[:4], "big")
        opener = openers(spi) if callable(openers) else openers.get(spi)
        if opener is None:
            return UNKNOWN_SPI
        opened = opener.open(payload)
        if isinstance(opened, Drop):
            return opened
        next_header, payload = opened
    source = extensions.home_address or header.source
    destination = extensions.routing_home_address or header.destination
    message = _message_in(next_header, payload, source, destination, profile)
    if isinstance(message, Drop):
        return message
    packet = ControlPacket(
        header.source,
        header.destination,
        message,
        extensions.home_address,
        extensions.routing_home_address,
    )
    return OpenedControl(packet, spi, payload)


def _message_in(
    next_header: int, payload: bytes, source: IPv6Address, destination: IPv6Address, profile: Profile
) -> ControlMessage | Drop:
    try:
        if next_header == PROTOCOL_MOBILITY:
            return decode_message(payload, source, destination, profile)
        if next_header == PROTOCOL_ICMPV6:
            message = decode_icmp6(payload, source, destination)
            return message if isinstance(message, PrefixMessage) else NOT_MOBILITY
    except DecodeError:
        return MALFORMED
    return NOT_MOBILITY
