"""Which addresses may stand in a packet that crosses the tunnel: neither multicast nor of one link or host.

Pure. RFC 4291 section 2, RFC 6890; docs/security.md: open-tunnel.
"""

from __future__ import annotations

SUSPECT4 = bytes(1 if first in (0, 127, 169) or first >= 224 else 0 for first in range(256))
SUSPECT6 = bytes(1 if first in (0x00, 0xFE, 0xFF) else 0 for first in range(256))
"""First octets of addresses that deserve a closer look; looking once costs less than asking thrice."""


def routable6(packet: bytes) -> bool:
    """Neither end is multicast, link-local, loopback or unspecified."""
    return _is_routable6(packet[8:24]) and _is_routable6(packet[24:40])


def _is_routable6(address: bytes) -> bool:
    if address[0] == 0xFF or (address[0] == 0xFE and address[1] & 0xC0 == 0x80):
        return False
    return address[:15] != bytes(15) or address[15] > 1


def routable4(packet: bytes) -> bool:
    """Neither end is multicast, broadcast, link-local, loopback or unspecified."""
    return _is_routable4(packet[12:16]) and _is_routable4(packet[16:20])


def _is_routable4(address: bytes) -> bool:
    if address[0] in (0, 127) or address[0] >= 224:
        return False
    return address[:2] != b"\xa9\xfe"
