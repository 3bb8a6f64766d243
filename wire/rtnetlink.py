"""rtnetlink: the kinds of message about links, addresses, routes, neighbours and rules, and what is in them.

Pure. RFC 3549 section 3; linux/rtnetlink.h, if_link.h, if_addr.h, neighbour.h, fib_rules.h. The fixed parts
are `struct` formats, the attributes numbers: what they mean is the business of whoever asks.
"""

from __future__ import annotations

from enum import IntEnum
from struct import Struct

LINK = Struct("=BxHiII")
"""Family, type, index, flags, mask of the flags to change."""
ADDRESS = Struct("=BBBBI")
"""Family, prefix length, flags, scope, index."""
ROUTE = Struct("=BBBBBBBBI")
"""Family, lengths of destination and source, TOS, table, protocol, scope, type, flags."""
NEIGHBOUR = Struct("=BxxxiHBB")
"""Family, index, state, flags, type."""
RULE = Struct("=BBBBBxxBI")
"""Family, lengths of destination and source, TOS, table, action, flags."""
LIFETIMES = Struct("=IIII")
"""Of an address: preferred and valid, in seconds, FOREVER or what is left; when it was made and changed."""
FOREVER = 0xFFFFFFFF
NEXT_HOP = Struct("=HBBi")
"""Length with all that follows, flags, hops, index."""


class Kind(IntEnum):
    """What a message says, or asks for."""

    NEW_LINK = 16
    DELETE_LINK = 17
    GET_LINK = 18
    NEW_ADDRESS = 20
    DELETE_ADDRESS = 21
    GET_ADDRESS = 22
    NEW_ROUTE = 24
    DELETE_ROUTE = 25
    GET_ROUTE = 26
    NEW_NEIGHBOUR = 28
    DELETE_NEIGHBOUR = 29
    GET_NEIGHBOUR = 30
    NEW_RULE = 32
    DELETE_RULE = 33
    GET_RULE = 34


class LinkAttribute(IntEnum):
    HARDWARE = 1
    NAME = 3
    MTU = 4
    OPERATIONAL_STATE = 16
    EXTENSION_MASK = 29
    SUPER_PACKET_MAX = 41
    """IFLA_GSO_MAX_SIZE."""
    CARRIER_DOWN_COUNT = 48


class AddressAttribute(IntEnum):
    ADDRESS = 1
    LOCAL = 2
    LIFETIMES = 6
    FLAGS = 8
    PROTOCOL = 11


class RouteAttribute(IntEnum):
    DESTINATION = 1
    OUT_INTERFACE = 4
    GATEWAY = 5
    PRIORITY = 6
    PREFERRED_SOURCE = 7
    MULTIPATH = 9
    TABLE = 15
    VIA = 18


class NeighbourAttribute(IntEnum):
    DESTINATION = 1
    HARDWARE = 2
    PROTOCOL = 12


class RuleAttribute(IntEnum):
    DESTINATION = 1
    SOURCE = 2
    PRIORITY = 6
    MARK = 10
    TABLE = 15
    MARK_MASK = 16
    OUT_INTERFACE = 17
    PROTOCOL = 21
