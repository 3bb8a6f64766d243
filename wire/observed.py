"""The observed address: from where the home agent received a Binding Update, told back in its answer.

Pure. RFC 5094 (vendor-specific mobility option, type 19). Peers that do not know it skip it; ours show it,
so that a user sees the address translation on the way (threat: RFC 5555 section 5.1, rewritten outer header).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from ipaddress import IPv4Address

from wire.options import Option, UnknownOption

VENDOR_SPECIFIC = 19
VENDOR = 32473
"""The enterprise number of RFC 5612; this project has none of its own."""
OBSERVED_IPV4 = 1

_LAYOUT = struct.Struct("!IB4sH")


def observed_option(address: IPv4Address, port: int) -> UnknownOption:
    """The option for a Binding Acknowledgement over UDP: vendor, subtype 1, address, port (11 octets)."""
    return UnknownOption(VENDOR_SPECIFIC, _LAYOUT.pack(VENDOR, OBSERVED_IPV4, address.packed, port))


def observed_in(options: Iterable[Option]) -> tuple[IPv4Address, int] | None:
    """Address and port in the first such option; None when there is none."""
    for option in options:
        if not isinstance(option, UnknownOption) or option.type != VENDOR_SPECIFIC:
            continue
        if len(option.data) != _LAYOUT.size:
            continue
        vendor, subtype, address, port = _LAYOUT.unpack(option.data)
        if (vendor, subtype) == (VENDOR, OBSERVED_IPV4):
            return IPv4Address(address), port
    return None
