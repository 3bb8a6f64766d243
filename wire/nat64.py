"""Addresses of IPv4 hosts as a NAT64 shows them on IPv6 links, and its prefix read from an answer of DNS.

Pure. RFC 6052 section 2.2 (where the 32 bits stand), RFC 7050 section 3 (ipv4only.arpa).
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

LENGTHS = (32, 40, 48, 56, 64, 96)
IPV4_ONLY = "ipv4only.arpa"
WELL_KNOWN = (IPv4Address("192.0.0.170"), IPv4Address("192.0.0.171"))
"""What ipv4only.arpa has for A records, and nobody for an address."""
STANCES = IPv4Network("192.0.0.0/29")
"""IPv4 addresses that stand for an IPv6 one behind a NAT64 (RFC 7335). None of them is ever on a link."""
MAX_ANSWERS = 16

_RESERVED = 8
"""The octet of bits 64 to 71, which is zero wherever the address passes it."""


def synthesise(prefix: IPv6Network, address: IPv4Address) -> IPv6Address:
    """The IPv6 address by which a NAT64 with `prefix` reaches `address`."""
    octets = bytearray(prefix.network_address.packed)
    for place, octet in zip(_places(prefix.prefixlen), address.packed, strict=True):
        octets[place] = octet
    return IPv6Address(bytes(octets))


def embedded(prefix: IPv6Network, address: IPv6Address) -> IPv4Address | None:
    """The IPv4 address in one that `synthesise` could have made; None in any other."""
    found = _at(prefix.prefixlen, address)
    return found if synthesise(prefix, found) == address else None


def prefixes_in(answers: Iterable[IPv6Address]) -> tuple[IPv6Network, ...]:
    """The prefixes that the AAAA records of ipv4only.arpa show.

    A prefix counts if one of its lengths fits and no other does: an address in which the well-known one
    stands at two places tells nothing (RFC 7050 section 3).
    """
    found: list[IPv6Network] = []
    for answer in list(answers)[:MAX_ANSWERS]:
        lengths = [length for length in LENGTHS if _at(length, answer) in WELL_KNOWN]
        found += [IPv6Network((answer, lengths[0]), strict=False)] if len(lengths) == 1 else []
    return tuple(dict.fromkeys(found))


def _at(length: int, address: IPv6Address) -> IPv4Address:
    return IPv4Address(bytes(address.packed[place] for place in _places(length)))


def _places(length: int) -> list[int]:
    """The four octets that hold the IPv4 address."""
    if length not in LENGTHS:
        raise ValueError(f"a NAT64 prefix has no {length} bits")
    return [place for place in range(length // 8, 16) if place != _RESERVED][:4]
