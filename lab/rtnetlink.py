"""What the kernel says about links, addresses and default routes: rtnetlink messages -> changes.

Pure. rtnetlink(7). An observer of its own, so that the agent under test is not asked about itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from struct import Struct

GROUPS = 0x1 | 0x10 | 0x40 | 0x100 | 0x400
"""RTMGRP_LINK, IPV4_IFADDR, IPV4_ROUTE, IPV6_IFADDR, IPV6_ROUTE."""

_NEWLINK, _DELLINK, _NEWADDR, _DELADDR, _NEWROUTE, _DELROUTE = 16, 17, 20, 21, 24, 25
_GETLINK, _GETADDR, _GETROUTE = 18, 22, 26
_REQUEST_DUMP = 0x1 | 0x300
_VERSION = {2: 4, 10: 6}
"""AF_INET and AF_INET6."""
_LOWER_UP = 0x10000
_SCOPE_GLOBAL = 0
_TENTATIVE, _OPTIMISTIC, _DAD_FAILED = 0x40, 0x04, 0x08
_MAIN_TABLE = 254

_HEADER = Struct("=IHHII")
_ATTRIBUTE = Struct("=HH")
_LINK = Struct("=BxHiII")
_ADDRESS = Struct("=BBBBI")
_ROUTE = Struct("=BBBBBBBBI")
_WORD = Struct("=I")

_IFLA_IFNAME = 3
_IFA_ADDRESS, _IFA_FLAGS = 1, 8
_RTA_OIF, _RTA_TABLE = 4, 15


@dataclass(frozen=True, slots=True)
class Carrier:
    """A link has or lost its carrier."""

    index: int
    name: str
    present: bool


@dataclass(frozen=True, slots=True)
class Address:
    """A global address is there and may be used, or is not."""

    index: int
    address: IPv4Address | IPv6Address
    present: bool


@dataclass(frozen=True, slots=True)
class DefaultRoute:
    """A default route of the main table through a link appeared or went."""

    index: int
    family: int
    """4 or 6."""
    present: bool


Change = Carrier | Address | DefaultRoute


def dump_requests() -> Iterator[bytes]:
    """One request each for all links, all addresses and all routes."""
    for sequence, kind in enumerate((_GETLINK, _GETADDR, _GETROUTE), 1):
        yield _HEADER.pack(_HEADER.size + 16, kind, _REQUEST_DUMP, sequence, 0) + bytes(16)


def changes(datagram: bytes) -> Iterator[Change]:
    """What the messages of one netlink datagram say."""
    offset = 0
    while offset + _HEADER.size <= len(datagram):
        length, kind, *_ = _HEADER.unpack_from(datagram, offset)
        if length < _HEADER.size:
            return
        change = _change(kind, datagram[offset + _HEADER.size : offset + length])
        if change is not None:
            yield change
        offset += (length + 3) & ~3


def _change(kind: int, body: bytes) -> Change | None:
    if kind in (_NEWLINK, _DELLINK):
        return _carrier(body, kind == _NEWLINK)
    if kind in (_NEWADDR, _DELADDR):
        return _address(body, kind == _NEWADDR)
    if kind in (_NEWROUTE, _DELROUTE):
        return _route(body, kind == _NEWROUTE)
    return None


def _carrier(body: bytes, new: bool) -> Carrier:
    _, _, index, flags, _ = _LINK.unpack_from(body)
    name = _attributes(body, _LINK.size).get(_IFLA_IFNAME, b"").rstrip(b"\0").decode()
    return Carrier(index, name, new and bool(flags & _LOWER_UP))


def _address(body: bytes, new: bool) -> Address | None:
    _, _, flags, scope, index = _ADDRESS.unpack_from(body)
    attributes = _attributes(body, _ADDRESS.size)
    if scope != _SCOPE_GLOBAL or _IFA_ADDRESS not in attributes:
        return None
    if _IFA_FLAGS in attributes:
        flags = _WORD.unpack(attributes[_IFA_FLAGS])[0]
    pending = flags & _TENTATIVE and not flags & _OPTIMISTIC
    usable = new and not pending and not flags & _DAD_FAILED
    return Address(index, ip_address(attributes[_IFA_ADDRESS]), usable)


def _route(body: bytes, new: bool) -> DefaultRoute | None:
    family, destination_length, _, _, table, _, _, _, _ = _ROUTE.unpack_from(body)
    attributes = _attributes(body, _ROUTE.size)
    if _RTA_TABLE in attributes:
        table = _WORD.unpack(attributes[_RTA_TABLE])[0]
    if destination_length or table != _MAIN_TABLE or _RTA_OIF not in attributes or family not in _VERSION:
        return None
    index = _WORD.unpack(attributes[_RTA_OIF])[0]
    return DefaultRoute(index, _VERSION[family], new)


def _attributes(body: bytes, offset: int) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    while offset + _ATTRIBUTE.size <= len(body):
        length, kind = _ATTRIBUTE.unpack_from(body, offset)
        if length < _ATTRIBUTE.size:
            break
        found[kind & 0x3FFF] = body[offset + _ATTRIBUTE.size : offset + length]
        offset += (length + 3) & ~3
    return found
