"""Mobility options as values.

Pure. RFC 6275 section 6.2, RFC 5555 section 3, RFC 3963, RFC 4283, RFC 4285, RFC 5568, RFC 5648.
Their octets are the business of `wire.option_codec`; Pad1 and PadN never become values.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from ipaddress import IPv4Address, IPv6Address, IPv6Network
from typing import TypeVar

NATKATIMEOUT = 110
"""Seconds between keepalives behind a NAT, unless the home agent suggests another period."""

NO_KEEPALIVE = 0xFFFFFFFF
"""The refresh time of a NatDetection that says: no NAT was detected."""


class Ipv4AckStatus(IntEnum):
    """Below 128 the IPv4 home address is bound, from 128 on it is not, known code or not."""

    ACCEPTED = 0
    UNSPECIFIED = 128
    PROHIBITED = 129
    INCORRECT_HOME_ADDRESS = 130
    INVALID_ADDRESS = 131
    DYNAMIC_NOT_AVAILABLE = 132
    PREFIX_NOT_AUTHORISED = 133


@dataclass(frozen=True, slots=True)
class BindingRefreshAdvice:
    """`interval` in seconds, a multiple of 4 once it crossed the wire."""

    interval: int


@dataclass(frozen=True, slots=True)
class AlternateCareOfAddress:
    address: IPv6Address


@dataclass(frozen=True, slots=True)
class NonceIndices:
    home: int
    care_of: int


@dataclass(frozen=True, slots=True)
class BindingAuthorization:
    """The 12 octets of the authenticator; always the last option of its message."""

    authenticator: bytes


@dataclass(frozen=True, slots=True)
class MobileNetworkPrefix:
    prefix: IPv6Network


@dataclass(frozen=True, slots=True)
class MobileNodeLinkLayerAddress:
    """`data` is the option code and the link-layer address (RFC 5568 section 6.4.4)."""

    data: bytes


@dataclass(frozen=True, slots=True)
class MobileNodeIdentifier:
    """`subtype` 1 is a network access identifier (RFC 4283)."""

    subtype: int
    identifier: bytes


@dataclass(frozen=True, slots=True)
class Authentication:
    """`subtype` 1 is mobile node to home agent, 2 mobile node to AAA (RFC 4285)."""

    subtype: int
    spi: int
    data: bytes


@dataclass(frozen=True, slots=True)
class MessageIdentification:
    """`timestamp` is a 64-bit NTP time: seconds since 1900 in the high half."""

    timestamp: int


@dataclass(frozen=True, slots=True)
class Ipv4HomeAddress:
    """The IPv4 home address or, with `prefix_request`, a mobile network prefix of that length.

    0.0.0.0 asks for a dynamic one. A prefix length from the wire is 0..63: 0 and above 32 are the peer's
    errors, which the receiver answers; they cannot be encoded.
    """

    address: IPv4Address
    prefix_length: int = 32
    prefix_request: bool = False


@dataclass(frozen=True, slots=True)
class Ipv4AddressAck:
    """What became of an Ipv4HomeAddress. On failure (`status` >= 128) the prefix length is 0 on the wire."""

    status: int
    address: IPv4Address
    prefix_length: int = 32

    @property
    def accepted(self) -> bool:
        return self.status < 128


@dataclass(frozen=True, slots=True)
class NatDetection:
    """`refresh` in seconds; 0 suggests none, NO_KEEPALIVE says that no NAT was detected."""

    force_udp: bool
    refresh: int


@dataclass(frozen=True, slots=True)
class Ipv4CareOfAddress:
    address: IPv4Address


@dataclass(frozen=True, slots=True)
class BindingIdentifier:
    """One of several care-of addresses (RFC 5648); `home` is the H flag."""

    identifier: int
    status: int
    home: bool
    care_of: IPv4Address | IPv6Address | None


@dataclass(frozen=True, slots=True)
class UnknownOption:
    """An option without a class here; `type` as on the wire, `data` without type and length."""

    type: int
    data: bytes


Option = (
    BindingRefreshAdvice
    | AlternateCareOfAddress
    | NonceIndices
    | BindingAuthorization
    | MobileNetworkPrefix
    | MobileNodeLinkLayerAddress
    | MobileNodeIdentifier
    | Authentication
    | MessageIdentification
    | Ipv4HomeAddress
    | Ipv4AddressAck
    | NatDetection
    | Ipv4CareOfAddress
    | BindingIdentifier
    | UnknownOption
)

OptionT = TypeVar("OptionT", bound=Option)


def first(options: Iterable[Option], kind: type[OptionT]) -> OptionT | None:
    """The first option of a class, or None."""
    for option in options:
        if isinstance(option, kind):
            return option
    return None


def every(options: Iterable[Option], kind: type[OptionT]) -> tuple[OptionT, ...]:
    """All options of a class, in their order."""
    return tuple(option for option in options if isinstance(option, kind))
