"""A translation: an IPv6 address that a NAT64 makes an IPv4 one of.

Pure. RFC 6877 (an IPv4 stance on an IPv6 link).
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv6Address, IPv6Network

EXTRA_HEADER = 20
"""Octets by which an IPv6 header is longer than an IPv4 one."""


@dataclass(frozen=True, slots=True)
class Translation:
    """`source` is the address on the link, `prefix` that of the NAT64."""

    source: IPv6Address
    prefix: IPv6Network
