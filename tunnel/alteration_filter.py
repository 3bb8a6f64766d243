"""Which word of the kernel may be about what is ours: filters for sockets that listen to rtnetlink and nft.

Pure. rtnetlink(7), linux/netlink.h, nf_tables.h. On a busy host routes and rules of others change all the
time; nobody is to be woken up for them.
"""

from __future__ import annotations

import sys

from tunnel.kernel import PROTOCOL
from wire.classic_bpf import assembled
from wire.netlink import HEADER_SIZE
from wire.rtnetlink import Kind

_KIND_AT, _PORT_AT = 4, 12
_ROUTE_PROTOCOL_AT = HEADER_SIZE + 5
NEW_CONFIGURATION = 80
"""RTM_NEWNETCONF: forwarding and the like of a link, or of all, have been set."""
NEW_GENERATION = 10 << 8 | 15
"""NFT_MSG_NEWGEN: the last message of every transaction of nftables."""


def accept_alterations(own_port: int) -> bytes:
    """Classic BPF: links, settings, and routes with our protocol number, unless changed by `own_port`."""
    whole = [Kind.NEW_LINK, Kind.DELETE_LINK, NEW_CONFIGURATION]
    routes = [Kind.NEW_ROUTE, Kind.DELETE_ROUTE]
    return assembled(
        (
            (0x20, 0, 0, _PORT_AT),  # ld [port]
            (0x15, 8, 0, _swapped(own_port, 4)),  # jeq own -> drop
            (0x28, 0, 0, _KIND_AT),  # ldh [kind]
            *((0x15, 7 - at, 0, _swapped(kind, 2)) for at, kind in enumerate(whole)),  # jeq -> accept
            (0x15, 1, 0, _swapped(routes[0], 2)),  # jeq -> look at the protocol
            (0x15, 0, 2, _swapped(routes[1], 2)),  # jeq, else drop
            (0x30, 0, 0, _ROUTE_PROTOCOL_AT),  # ldb [protocol]
            (0x15, 1, 0, PROTOCOL),  # jeq -> accept
            (0x06, 0, 0, 0),  # drop
            (0x06, 0, 0, 0x40000),  # accept
        )
    )


def accept_generations() -> bytes:
    """Classic BPF: that a transaction of nftables is over, and none of what was in it."""
    return assembled(
        (
            (0x28, 0, 0, _KIND_AT),  # ldh [kind]
            (0x15, 0, 1, _swapped(NEW_GENERATION, 2)),  # jeq, else drop
            (0x06, 0, 0, 0x40000),  # accept
            (0x06, 0, 0, 0),  # drop
        )
    )


def _swapped(number: int, octets: int) -> int:
    """As a load reads it, which is big-endian, while netlink is in the order of this machine."""
    return int.from_bytes(number.to_bytes(octets, sys.byteorder), "big")
