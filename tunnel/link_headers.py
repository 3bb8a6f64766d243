"""How long the headers are that stand before an IP packet on a link.

Performs I/O. Everything here happens in one network namespace, that of the thread that calls.
"""

from __future__ import annotations

import fcntl
import socket
import struct

_SIOCGIFHWADDR = 0x8927
_LINK_HEADERS = {1: 14, 65534: 0, 512: 0, 519: 0}
"""ARPHRD_ETHER; NONE, PPP and RAWIP, where packets begin with their IP header."""


def link_header_of(interface: str) -> int | None:
    """Octets before the IP header on this device; None if it has another kind of header, or none at all."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            told = fcntl.ioctl(probe, _SIOCGIFHWADDR, struct.pack("16s24x", interface.encode()))
        except OSError:
            return None
    return _LINK_HEADERS.get(struct.unpack_from("=H", told, 16)[0])
