"""The authentication option: a mobility message that proves its sender by itself, instead of inside ESP.

Pure. RFC 4285 sections 5 and 6, RFC 4283 (identifier). The octets under the authenticator are the care-of
address, the home address, and the mobility header with a checksum of zero up to and including the SPI.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv6Address

from tunnel.envelope import ControlMessage, ControlPacket, OpenedControl, enclose
from tunnel.security import FIRST_FREE_SPI, KeyPair
from wire.checksum import internet_checksum, pseudo_header6, word_sum
from wire.ip import PROTOCOL_MOBILITY
from wire.mobility import (
    BindingAck,
    BindingError,
    BindingRefreshRequest,
    BindingUpdate,
    Message,
    encode_message,
)
from wire.option_codec import AUTHENTICATION, last_place
from wire.options import (
    AlternateCareOfAddress,
    Authentication,
    Ipv4CareOfAddress,
    MessageIdentification,
    MobileNodeIdentifier,
    Option,
    every,
    first,
)
from wire.profile import Profile

KEY_SIZE = 16
AUTHENTICATOR_SIZE = 12
"""Octets of the HMAC-SHA-1 that travel."""
CLOSE_ENOUGH = 7.0
"""Seconds by which the clocks of both ends may differ (RFC 4285 section 5.1)."""
WITH_HOME_AGENT, ACCESS_IDENTIFIER = 1, 1
"""Subtypes: an association of mobile node and home agent; a network access identifier."""

_CHECKSUM = slice(4, 6)
_SPI_END = 7
"""Octets of the option up to and including its SPI."""
_MAPPED = bytes(10) + b"\xff\xff"

Authenticated = BindingUpdate | BindingAck | BindingRefreshRequest | BindingError
"""Messages that we authenticate. The RFC names the first two; the others would else be anybody's."""


@dataclass(frozen=True, slots=True)
class AuthenticationAssociation:
    """What both ends share. The key never shows in a repr, so it cannot reach a log.

    `identifier` is a network access identifier like laptop@example.net, which then every message carries.
    """

    spi: int
    key: bytes = field(repr=False)
    identifier: str = ""

    def __post_init__(self) -> None:
        """ValueError says in words which value does not fit."""
        if not FIRST_FREE_SPI <= self.spi <= 0xFFFFFFFF:
            raise ValueError(f"spi must be between {FIRST_FREE_SPI:#x} and 0xffffffff, not {self.spi:#x}")
        if len(self.key) != KEY_SIZE:
            raise ValueError(f"key must be {KEY_SIZE} octets long, not {len(self.key)}")
        if len(self.identifier) > 253 or not self.identifier.isascii() or not self.identifier.isprintable():
            raise ValueError("identifier must be at most 253 printable ASCII characters")

    def authenticator(self, care_of: IPv6Address, home_address: IPv6Address, covered: bytes) -> bytes:
        """Over the mobility data of RFC 4285 section 5.1; `covered` is its third part."""
        digest = hmac.digest(self.key, care_of.packed + home_address.packed + covered, "sha1")
        return digest[:AUTHENTICATOR_SIZE]


Keys = KeyPair | AuthenticationAssociation
"""What a key file holds: the two ways to authenticate Binding Updates and Binding Acknowledgements."""


def protection(keys: Keys) -> str:
    """The method and its algorithms, as a status shows them."""
    if isinstance(keys, AuthenticationAssociation):
        return "authentication-option hmac-sha1-96"
    return f"esp {keys.update.encryption.value} {keys.update.integrity.value}"


@dataclass(frozen=True, slots=True)
class Evidence:
    """The authentication option of a received message, and what it speaks for."""

    spi: int
    authenticator: bytes
    covered: bytes

    def proves(
        self, association: AuthenticationAssociation, care_of: IPv6Address, home_address: IPv6Address
    ) -> bool:
        """Whether the sender knows the key. The SPI has been compared before."""
        expected = association.authenticator(care_of, home_address, self.covered)
        return hmac.compare_digest(expected, self.authenticator)


def as_care_of(address: IPv4Address | IPv6Address) -> IPv6Address:
    """The sixteen octets of a care-of address. RFC 4285 knows no IPv4: ours is the IPv4-mapped one."""
    return address if isinstance(address, IPv6Address) else IPv6Address(_MAPPED + address.packed)


def claimed_care_of(packet: ControlPacket) -> IPv6Address:
    """The care-of address that the Binding Update in `packet` claims.

    Over IPv4 that is the one in the option, which survives a NAT, not the outer source, which does not.
    """
    update = packet.message
    assert isinstance(update, BindingUpdate)
    ipv4, alternate = first(update.options, Ipv4CareOfAddress), first(update.options, AlternateCareOfAddress)
    if ipv4 is not None:
        return as_care_of(ipv4.address)
    return alternate.address if alternate is not None else packet.source


def sign(
    packet: ControlPacket,
    association: AuthenticationAssociation,
    care_of: IPv6Address,
    timestamp: int | None,
    profile: Profile,
) -> bytes:
    """The whole IPv6 packet: the message with its identifier, identification and authentication option.

    `timestamp` is left out where it is None: in an answer to an update that had none.
    """
    message = packet.message
    assert isinstance(message, Authenticated)
    options: list[Option] = [*message.options]
    if association.identifier:
        options.append(MobileNodeIdentifier(ACCESS_IDENTIFIER, association.identifier.encode("ascii")))
    if timestamp is not None:
        options.append(MessageIdentification(timestamp))
    options.append(Authentication(WITH_HOME_AGENT, association.spi, bytes(AUTHENTICATOR_SIZE)))
    source, destination = packet.home_side_source, packet.final_destination
    header = encode_message(replace(message, options=tuple(options)), source, destination, profile)
    home_address = source if isinstance(message, BindingUpdate) else destination
    covered = without_checksum(header)[:-AUTHENTICATOR_SIZE]  # the encoder lets this option end the message
    signed = covered + association.authenticator(care_of, home_address, covered)
    initial = word_sum(pseudo_header6(source, destination, len(signed), PROTOCOL_MOBILITY))
    checksum = internet_checksum(signed, initial).to_bytes(2, "big")
    return enclose(packet, PROTOCOL_MOBILITY, signed[:4] + checksum + signed[6:])


def evidence_in(opened: OpenedControl, profile: Profile) -> Evidence | None:
    """The authentication option between mobile node and home agent, if a message ends with it.

    What follows the option is not under its authenticator, so a message in which another option does is as
    good as one without it, and so is one that has two of them. (The option for an AAA server may follow by
    the RFC; no such server is asked here.)
    """
    message = opened.packet.message
    if not isinstance(message, Authenticated):
        return None
    found = [option for option in every(message.options, Authentication) if option.subtype == WITH_HOME_AGENT]
    if len(found) != 1 or message.options[-1] is not found[0]:
        return None
    header = opened.octets[: (opened.octets[1] + 1) * 8]
    number = profile.option_types.get(AUTHENTICATION, AUTHENTICATION)
    place = last_place(header, options_at(message), number)
    if place is None:
        return None
    covered = without_checksum(header)[: place + _SPI_END]
    return Evidence(found[0].spi, found[0].data, covered)


def names_its_sender(message: Message, association: AuthenticationAssociation) -> bool:
    """Whether a message carries the identifier of the association, where that has one."""
    assert isinstance(message, Authenticated)
    if not association.identifier:
        return True
    names = [o for o in every(message.options, MobileNodeIdentifier) if o.subtype == ACCESS_IDENTIFIER]
    return [name.identifier for name in names] == [association.identifier.encode("ascii")]


def timestamp_in(message: ControlMessage) -> int | None:
    """The NTP timestamp of a message, if it has exactly one."""
    assert isinstance(message, Authenticated)
    found = every(message.options, MessageIdentification)
    return found[0].timestamp if len(found) == 1 else None


def options_at(message: Authenticated) -> int:
    """The octet of the mobility header at which the options of such a message start."""
    match message:
        case BindingUpdate() | BindingAck():
            return 12
        case BindingRefreshRequest():
            return 8
        case BindingError():
            return 24


def without_checksum(header: bytes) -> bytes:
    """A mobility header with zeros in its checksum."""
    return header[: _CHECKSUM.start] + bytes(2) + header[_CHECKSUM.stop :]
