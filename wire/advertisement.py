"""What a router advertisement says about the way out: a captive portal, and prefixes of a NAT64.

Pure. RFC 4861 section 4.2, RFC 8910 section 2.3 (option 37), RFC 8781 section 4 (option 38).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from ipaddress import IPv6Address, IPv6Network

from wire.reader import DecodeError

ROUTER_SOLICITATION, ROUTER_ADVERTISEMENT = 133, 134
CAPTIVE_PORTAL, PREF64 = 37, 38
NO_PORTAL = "urn:ietf:params:capport:unrestricted"
"""What a network says that has no portal (RFC 8910 section 2)."""
MAX_OPTIONS = 64
MAX_PREFIXES = 4

_HEADER = struct.Struct("!BBHBBHII")
_PREFIX_LENGTHS = (96, 64, 56, 48, 40, 32)
SOLICITATION = struct.pack("!BBHI", ROUTER_SOLICITATION, 0, 0, 0)
"""A router solicitation; the kernel adds the checksum."""


@dataclass(frozen=True, slots=True)
class WayOut:
    """`portal` is the URL of the captive portal's API, "" where the network says that there is none.

    `nat64` holds prefixes, the first the most preferred. None and () where nothing is said.
    """

    portal: str | None = None
    nat64: tuple[IPv6Network, ...] = ()


def decode_way_out(message: bytes) -> WayOut:
    """An ICMPv6 message that starts at its type. DecodeError unless it is a router advertisement.

    Options that are malformed in themselves are ignored; one without a length spoils the whole message.
    """
    if len(message) < _HEADER.size or message[:2] != bytes((ROUTER_ADVERTISEMENT, 0)):
        raise DecodeError("no router advertisement")
    portal: str | None = None
    nat64: list[IPv6Network] = []
    rest = message[_HEADER.size :]
    for _ in range(MAX_OPTIONS):
        if not rest:
            break
        size = 8 * rest[1] if len(rest) >= 2 else 0
        if not 0 < size <= len(rest):
            raise DecodeError("an option of a router advertisement is cut short")
        kind, option, rest = rest[0], rest[2:size], rest[size:]
        if kind == CAPTIVE_PORTAL and portal is None:
            portal = portal_of(option)
        elif kind == PREF64 and len(option) == 14 and len(nat64) < MAX_PREFIXES:
            nat64 += _prefix(option)
    return WayOut(portal, tuple(dict.fromkeys(nat64)))


def portal_of(option: bytes) -> str | None:
    """The content of the option, which is the same in DHCP (RFC 8910 section 2); None if it is no URL."""
    try:
        url = option.rstrip(b"\0").decode("ascii")
    except UnicodeDecodeError:
        return None
    if url == NO_PORTAL:
        return ""
    well_formed = url.isprintable() and " " not in url and url.partition("://")[0] in ("http", "https")
    return url if well_formed else None


def _prefix(option: bytes) -> list[IPv6Network]:
    """Lifetime in units of eight seconds (13 bits), code of the length (3 bits), the highest 96 bits."""
    scaled, code = divmod(int.from_bytes(option[:2], "big"), 8)
    if not scaled or code >= len(_PREFIX_LENGTHS):
        return []
    return [IPv6Network((IPv6Address(option[2:] + bytes(4)), _PREFIX_LENGTHS[code]), strict=False)]
