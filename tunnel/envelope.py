"""A mobility message in its envelope: IPv6 header, home address option or type 2 routing header, ESP.

Pure. RFC 6275 sections 6.1, 6.3, 6.4, 6.7 and 6.8, RFC 3776, RFC 4877, RFC 5555 section 4. The
layout is IPv6 / [destination options | routing] / [ESP] / mobility header, whatever carries the IPv6
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
from wire.extension import Extensions, home_address_option, parse_extensions, routing_header
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
class Unsealed:
    """A control packet out of its protection, its message not yet read. `spi` as in `OpenedControl`."""

    header: IPv6Header
    extensions: Extensions
    spi: int | None
    next_header: int
    payload: bytes


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
    return seal_encoded(packet, *encode_control(packet, profile), sealer)


def encode_control(packet: ControlPacket, profile: Profile) -> tuple[int, bytes]:
    """(next header, octets) of the message of `packet`."""
    source, destination = packet.home_side_source, packet.final_destination
    if isinstance(packet.message, PrefixMessage):
        return PROTOCOL_ICMPV6, encode_icmp6(packet.message, source, destination)
    return PROTOCOL_MOBILITY, encode_message(packet.message, source, destination, profile)


def seal_encoded(packet: ControlPacket, next_header: int, payload: bytes, sealer: Sealer | None) -> bytes:
    """The whole IPv6 packet, if its message is encoded already."""
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
    unsealed = unseal_control(data, openers)
    return unsealed if isinstance(unsealed, Drop) else read_control(unsealed, profile)


def unseal_control(
    data: bytes, openers: Mapping[int, Opener] | Callable[[int], Opener | None]
) -> Unsealed | Drop:
    """The first half of `open_control`: headers, then ESP."""
    try:
        header = IPv6Header.decode(data)
        end = IPV6_HEADER + header.payload_length
        extensions = parse_extensions(header.next_header, data[IPV6_HEADER:end])
    except DecodeError:
        return MALFORMED
    next_header, payload = extensions.next_header, extensions.payload
    if next_header != PROTOCOL_ESP:
        return Unsealed(header, extensions, None, next_header, payload)
    if len(payload) < ESP_HEADER:
        return ESP_MALFORMED
    spi = int.from_bytes(payload[:4], "big")
    opener = openers(spi) if callable(openers) else openers.get(spi)
    if opener is None:
        return UNKNOWN_SPI
    opened = opener.open(payload)
    return opened if isinstance(opened, Drop) else Unsealed(header, extensions, spi, *opened)


def read_control(unsealed: Unsealed, profile: Profile) -> OpenedControl | Drop:
    """The second half: the message."""
    header, extensions, payload = unsealed.header, unsealed.extensions, unsealed.payload
    source = extensions.home_address or header.source
    destination = extensions.routing_home_address or header.destination
    message = _message_in(unsealed.next_header, payload, source, destination, profile)
    if isinstance(message, Drop):
        return message
    packet = ControlPacket(
        header.source,
        header.destination,
        message,
        extensions.home_address,
        extensions.routing_home_address,
    )
    return OpenedControl(packet, unsealed.spi, payload)


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
