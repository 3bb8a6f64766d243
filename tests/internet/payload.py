"""Inner packets with a number in them, so that each can be followed to where it ends.

Pure.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address

from tests.internet.weather import Address
from wire.ip import PROTOCOL_UDP, IPv4Header, IPv6Header

_PORTS = bytes.fromhex("13881389")


def packet(source: Address, destination: Address, number: int, size: int = 0) -> bytes:
    """An IP packet of UDP shape that carries `number`, with `size` octets more."""
    body = _PORTS + (16 + size).to_bytes(2, "big") + bytes(2) + number.to_bytes(8, "big") + bytes(size)
    if isinstance(source, IPv6Address):
        assert isinstance(destination, IPv6Address)
        return IPv6Header(source, destination, PROTOCOL_UDP, len(body)).encode() + body
    assert isinstance(destination, IPv4Address)
    return IPv4Header(source, destination, PROTOCOL_UDP, 20 + len(body)).encode() + body


def addresses_of(octets: bytes) -> tuple[Address, Address]:
    """(source, destination)."""
    if octets[0] >> 4 == 6:
        return ip_address(octets[8:24]), ip_address(octets[24:40])
    return ip_address(octets[12:16]), ip_address(octets[16:20])


def number_of(octets: bytes) -> int:
    start = 48 if octets[0] >> 4 == 6 else 28
    return int.from_bytes(octets[start : start + 8], "big")
