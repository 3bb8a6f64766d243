"""nfnetlink: batches of changes to nf_tables, and what its notifications are known by.

Pure. linux/netfilter/nfnetlink.h, linux/netfilter/nf_tables.h.
"""

from __future__ import annotations

import struct

from wire.netlink import ACK, REQUEST, message, numbered, text

PROTOCOL = 12
"""Of the netlink socket."""
NOTIFICATIONS = 7
"""The group that hears of changes to nf_tables."""
NF_TABLES = 10
"""The subsystem: the high octet of a message's kind."""
FIXED_SIZE = 4
"""Octets between the header of a message and its attributes."""
TABLE_NAME = 1
"""The attribute, in messages about tables, chains, rules and sets alike."""
DELETIONS = frozenset({2, 5, 8, 11})
"""Low octets of the kinds that say what is gone: tables, chains, rules, sets."""

_BEGIN, _END = 0x10, 0x11
_DELETE_TABLE = 2
_INET = 1
_FIXED = struct.Struct("!BBH")


def table_removal(name: str) -> bytes:
    """A batch that deletes the inet table `name` with all that is in it; it gets one answer."""
    bracket = _FIXED.pack(0, 0, NF_TABLES)
    deletion = NF_TABLES << 8 | _DELETE_TABLE
    batch = (
        message(_BEGIN, REQUEST, bracket),
        message(deletion, REQUEST | ACK, _FIXED.pack(_INET, 0, 0), [(TABLE_NAME, text(name))]),
        message(_END, REQUEST, bracket),
    )
    return numbered(batch, 1)
