"""Routes, rules, neighbours and addresses <-> rtnetlink messages.

Pure: interface indices are the caller's business. RFC 3549. The only module here that knows pyroute2,
which serves as codec.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from socket import AF_INET, AF_INET6, AF_UNSPEC
from typing import Any

from pyroute2.netlink.rtnl.fibmsg import fibmsg
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.ndmsg import ndmsg
from pyroute2.netlink.rtnl.rtmsg import rtmsg

from tunnel.kernel import (
    PROTOCOL,
    TABLE_INGRESS,
    TABLE_LOCAL,
    Address,
    AddressOnLink,
    KernelRoute,
    Network,
    ProxyNeighbour,
    RouteType,
    Rule,
)

ERROR, DONE = 2, 3
_HEADER = struct.Struct("=IHHII")
HEADER_SIZE = _HEADER.size
_REQUEST, _ACK, _DUMP, _EXCLUSIVE, _CREATE = 0x1, 0x4, 0x300, 0x200, 0x400
_NEW_LINK, _GET_LINK, _NEW_ADDRESS, _DELETE_ADDRESS, _GET_ADDRESS = 16, 18, 20, 21, 22
_NEW_ROUTE, _DELETE_ROUTE, _GET_ROUTE = 24, 25, 26
_NEW_NEIGHBOUR, _DELETE_NEIGHBOUR, _GET_NEIGHBOUR = 28, 29, 30
_NEW_RULE, _DELETE_RULE, _GET_RULE = 32, 33, 34

_FAMILY = {4: AF_INET, 6: AF_INET6}
_EVERYTHING = {AF_INET: ip_network("0.0.0.0/0"), AF_INET6: ip_network("::/0")}
_SCOPE_UNIVERSE, _SCOPE_LINK, _SCOPE_NOWHERE = 0, 253, 255
_UNICAST, _UNREACHABLE = 1, 7
_TO_TABLE, _ANSWER_UNREACHABLE = 1, 7
_PROXY, _PERMANENT, _NO_DAD, _UP, _INCOMPLETE = 0x8, 0x80, 0x2, 0x1, 0x1

_ALREADY = frozenset({errno.EEXIST})
_GONE = frozenset({errno.ESRCH, errno.ENOENT, errno.EADDRNOTAVAIL, errno.ENODEV, errno.EAFNOSUPPORT})
_LINK_CHANGED = frozenset({errno.ENETDOWN, errno.ENETUNREACH, errno.ENODEV, errno.EINVAL})

Attributes = list[tuple[str, object]]


@dataclass(frozen=True, slots=True)
class Change:
    """One request: its message (sequence number zero), and the errors which say that it is done already."""

    what: str
    message: bytes
    fine: frozenset[int]


@dataclass(frozen=True, slots=True)
class Device:
    """The state of a network device that matters here."""

    index: int
    mtu: int
    up: bool


def add_rule(rule: Rule) -> Change:
    message = _rule_message(rule, _NEW_RULE, _CREATE | _EXCLUSIVE)
    return Change(f"add {rule_text(rule)}", message, _ALREADY)


def delete_rule(rule: Rule) -> Change:
    return Change(f"delete {rule_text(rule)}", _rule_message(rule, _DELETE_RULE, 0), _GONE)


def add_route(route: KernelRoute, index: int | None) -> Change:
    """A local route may be late: its link just went down or lost the address. It is not needed then."""
    message = _route_message(route, index, _NEW_ROUTE, _CREATE)
    fine = _ALREADY | _LINK_CHANGED if route.table in (TABLE_LOCAL, TABLE_INGRESS) else _ALREADY
    return Change(f"add {route_text(route)}", message, fine)


def delete_route(route: KernelRoute, index: int | None) -> Change:
    return Change(f"delete {route_text(route)}", _route_message(route, index, _DELETE_ROUTE, 0), _GONE)


def add_proxy(proxy: ProxyNeighbour, index: int) -> Change:
    message = _proxy_message(proxy, index, _NEW_NEIGHBOUR, _CREATE)
    return Change(f"add the proxied neighbour {proxy.address}", message, _ALREADY)


def delete_proxy(proxy: ProxyNeighbour, index: int) -> Change:
    message = _proxy_message(proxy, index, _DELETE_NEIGHBOUR, 0)
    return Change(f"delete the proxied neighbour {proxy.address}", message, _GONE)


def add_address(address: Address, prefix_length: int, index: int) -> Change:
    """No duplicate address detection: the home agent defends it, and the TUN device has no neighbours."""
    flags = _NO_DAD if address.version == 6 else 0
    message = _address_message(address, prefix_length, index, _NEW_ADDRESS, _CREATE | _EXCLUSIVE, flags)
    return Change(f"add address {address}", message, _ALREADY)


def add_on_link(placed: AddressOnLink, index: int) -> Change:
    """No duplicate address detection here either: the home agent sees to it that nobody else has it."""
    flags = _NO_DAD if placed.address.version == 6 else 0
    message = _address_message(
        placed.address, placed.length, index, _NEW_ADDRESS, _CREATE | _EXCLUSIVE, flags, PROTOCOL
    )
    return Change(f"add address {placed.address} to {placed.interface}", message, _ALREADY | _LINK_CHANGED)


def delete_on_link(placed: AddressOnLink, index: int) -> Change:
    message = _address_message(placed.address, placed.length, index, _DELETE_ADDRESS, 0, 0)
    return Change(f"delete address {placed.address} from {placed.interface}", message, _GONE)


def forget_neighbour(address: Address, index: int) -> Change:
    """With it goes what waits for it."""
    fields = {"family": _FAMILY[address.version], "ifindex": index}
    message = _message(ndmsg, _DELETE_NEIGHBOUR, _REQUEST | _ACK, fields, [("NDA_DST", str(address))])
    return Change(f"forget the neighbour {address}", message, _GONE)


def delete_address(address: Address, prefix_length: int, index: int) -> Change:
    message = _address_message(address, prefix_length, index, _DELETE_ADDRESS, 0, 0)
    return Change(f"delete address {address}", message, _GONE)


def set_device(device: Device) -> Change:
    fields = {"index": device.index, "flags": _UP if device.up else 0, "change": _UP}
    message = _message(ifinfmsg, _NEW_LINK, _REQUEST | _ACK, fields, [("IFLA_MTU", device.mtu)])
    return Change(f"bring the device {'up' if device.up else 'down'}, MTU {device.mtu}", message, frozenset())


def list_rules() -> tuple[bytes, ...]:
    return tuple(_query(fibmsg, _GET_RULE, family) for family in _FAMILY.values())


def list_routes() -> tuple[bytes, ...]:
    """The kernel sends only those of our protocol number, on a socket with strict checking."""
    return tuple(_query(rtmsg, _GET_ROUTE, family, {"proto": PROTOCOL}) for family in _FAMILY.values())


def list_proxies() -> tuple[bytes, ...]:
    return (_query(ndmsg, _GET_NEIGHBOUR, AF_UNSPEC, {"flags": _PROXY}),)


def list_addresses(index: int) -> tuple[bytes, ...]:
    return (_query(ifaddrmsg, _GET_ADDRESS, AF_UNSPEC, {"index": index}),)


def list_all_addresses() -> tuple[bytes, ...]:
    return (_query(ifaddrmsg, _GET_ADDRESS, AF_UNSPEC),)


def list_neighbours(index: int) -> tuple[bytes, ...]:
    only: Attributes = [("NDA_IFINDEX", index)]
    return tuple(
        _message(ndmsg, _GET_NEIGHBOUR, _REQUEST | _DUMP, {"family": family}, only)
        for family in _FAMILY.values()
    )


def get_device(index: int) -> bytes:
    return _message(ifinfmsg, _GET_LINK, _REQUEST, {"index": index}, [])


def our_rule(data: bytes) -> Rule | None:
    """The rule in a message, None if it does not carry our protocol number."""
    message = _decoded(fibmsg, data)
    if message.get_attr("FRA_PROTOCOL") != PROTOCOL:
        return None
    return Rule(
        family=4 if message["family"] == AF_INET else 6,
        priority=message.get_attr("FRA_PRIORITY") or 0,
        table=None if message["action"] == _ANSWER_UNREACHABLE else message.get_attr("FRA_TABLE"),
        mark=message.get_attr("FRA_FWMARK"),
        source=_prefix(message, "FRA_SRC", "src_len"),
        destination=_prefix(message, "FRA_DST", "dst_len"),
        out_interface=message.get_attr("FRA_OIFNAME") or "",
    )


def our_route(data: bytes, name: Callable[[int], str]) -> KernelRoute | None:
    """The route in a message, None if it does not carry our protocol number."""
    message = _decoded(rtmsg, data)
    if message["proto"] != PROTOCOL:
        return None
    unreachable = message["type"] == _UNREACHABLE
    source, gateway = message.get_attr("RTA_PREFSRC"), message.get_attr("RTA_GATEWAY")
    return KernelRoute(
        destination=_prefix(message, "RTA_DST", "dst_len") or _EVERYTHING[message["family"]],
        device=None if unreachable else name(message.get_attr("RTA_OIF") or 0),
        table=message.get_attr("RTA_TABLE") or message["table"],
        type=RouteType.UNREACHABLE if unreachable else RouteType.UNICAST,
        metric=message.get_attr("RTA_PRIORITY") or 0,
        source=None if source is None else ip_address(source),
        gateway=None if gateway is None else ip_address(gateway),
    )


def our_proxy(data: bytes, name: Callable[[int], str]) -> ProxyNeighbour | None:
    """The proxied neighbour in a message, None if it does not carry our protocol number."""
    message = _decoded(ndmsg, data)
    if not message["flags"] & _PROXY or message.get_attr("NDA_PROTOCOL") != PROTOCOL:
        return None
    return ProxyNeighbour(ip_address(message.get_attr("NDA_DST")), name(message["ifindex"]))


def unresolved_neighbour(data: bytes, index: int) -> Address | None:
    """The neighbour in a message, None unless its link-layer address on this interface is being asked for."""
    message = _decoded(ndmsg, data)
    if message["ifindex"] != index or message["state"] != _INCOMPLETE:
        return None
    return ip_address(message.get_attr("NDA_DST"))


def device_address(data: bytes, index: int) -> tuple[Address, int] | None:
    """Address and prefix length in a message, None if it is on another device."""
    message = _decoded(ifaddrmsg, data)
    if message["index"] != index:
        return None
    return ip_address(message.get_attr("IFA_LOCAL") or message.get_attr("IFA_ADDRESS")), message["prefixlen"]


def our_address_on_link(data: bytes, name: Callable[[int], str]) -> AddressOnLink | None:
    """The address in a message, None if it does not carry our protocol number."""
    message = _decoded(ifaddrmsg, data)
    if message.get_attr("IFA_PROTO") != PROTOCOL:
        return None
    address = ip_address(message.get_attr("IFA_LOCAL") or message.get_attr("IFA_ADDRESS"))
    length = message["prefixlen"]
    return AddressOnLink(address, name(message["index"]), -1 if length == address.max_prefixlen else length)


def device_state(data: bytes) -> Device:
    message = _decoded(ifinfmsg, data)
    return Device(message["index"], message.get_attr("IFLA_MTU"), bool(message["flags"] & _UP))


def split(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Type, sequence number and whole bytes of each netlink message in `data`."""
    at = 0
    while at + _HEADER.size <= len(data):
        length, kind, _, sequence, _ = _HEADER.unpack_from(data, at)
        yield kind, sequence, data[at : at + length]
        at += (max(length, _HEADER.size) + 3) & ~3


def error_number(data: bytes) -> int:
    """The errno in a message of type ERROR or DONE, 0 for success."""
    number: int = -struct.unpack_from("=i", data, _HEADER.size)[0]
    return number


def numbered(messages: Sequence[bytes], first: int) -> bytes:
    """The messages as one buffer, with sequence numbers from `first` on."""
    data = bytearray()
    for number, message in enumerate(messages, first):
        at = len(data)
        data += message
        struct.pack_into("=I", data, at + 8, number)
    return bytes(data)


def rule_text(rule: Rule) -> str:
    """The rule as `ip rule` writes it."""
    parts = [f"rule {rule.priority}: from {rule.source or 'all'}"]
    parts += [f"to {rule.destination}"] if rule.destination is not None else []
    parts += [f"fwmark {rule.mark:#x}"] if rule.mark is not None else []
    parts += [f"oif {rule.out_interface}"] if rule.out_interface else []
    parts += ["unreachable" if rule.table is None else f"lookup {rule.table}"]
    return " ".join(parts)


def route_text(route: KernelRoute) -> str:
    """The route as `ip route` writes it."""
    where = f"dev {route.device}" if route.device is not None else route.type.value
    where = where if route.gateway is None else f"via {route.gateway} {where}"
    return f"route {route.destination} {where} table {route.table}"


def _rule_message(rule: Rule, request: int, flags: int) -> bytes:
    action = _ANSWER_UNREACHABLE if rule.table is None else _TO_TABLE
    fields = {"family": _FAMILY[rule.family], "action": action}
    attributes: Attributes = [("FRA_PRIORITY", rule.priority), ("FRA_PROTOCOL", PROTOCOL)]
    if rule.table is not None:
        attributes.append(("FRA_TABLE", rule.table))
    if rule.mark is not None:
        attributes += [("FRA_FWMARK", rule.mark), ("FRA_FWMASK", 0xFFFFFFFF)]
    if rule.source is not None:
        fields["src_len"] = rule.source.prefixlen
        attributes.append(("FRA_SRC", str(rule.source.network_address)))
    if rule.destination is not None:
        fields["dst_len"] = rule.destination.prefixlen
        attributes.append(("FRA_DST", str(rule.destination.network_address)))
    if rule.out_interface:
        attributes.append(("FRA_OIFNAME", rule.out_interface))
    return _message(fibmsg, request, _REQUEST | _ACK | flags, fields, attributes)


def _route_message(route: KernelRoute, index: int | None, request: int, flags: int) -> bytes:
    if request == _DELETE_ROUTE:
        scope = _SCOPE_NOWHERE
    elif route.destination.version == 4 and route.device is not None and route.gateway is None:
        scope = _SCOPE_LINK
    else:
        scope = _SCOPE_UNIVERSE
    fields = {
        "family": _FAMILY[route.destination.version],
        "dst_len": route.destination.prefixlen,
        "proto": PROTOCOL,
        "scope": scope,
        "type": _UNICAST if route.type is RouteType.UNICAST else _UNREACHABLE,
    }
    attributes: Attributes = [
        ("RTA_DST", str(route.destination.network_address)),
        ("RTA_TABLE", route.table),
        ("RTA_PRIORITY", route.metric),
    ]
    if index is not None:
        attributes.append(("RTA_OIF", index))
    if route.source is not None:
        attributes.append(("RTA_PREFSRC", str(route.source)))
    if route.gateway is not None:
        attributes.append(("RTA_GATEWAY", str(route.gateway)))
    return _message(rtmsg, request, _REQUEST | _ACK | flags, fields, attributes)


def _proxy_message(proxy: ProxyNeighbour, index: int, request: int, flags: int) -> bytes:
    family = _FAMILY[proxy.address.version]
    fields = {"family": family, "ifindex": index, "state": _PERMANENT, "flags": _PROXY}
    attributes: Attributes = [("NDA_DST", str(proxy.address)), ("NDA_PROTOCOL", PROTOCOL)]
    return _message(ndmsg, request, _REQUEST | _ACK | flags, fields, attributes)


def _address_message(
    address: Address,
    prefix_length: int,
    index: int,
    request: int,
    flags: int,
    address_flags: int,
    protocol: int = 0,
) -> bytes:
    family = _FAMILY[address.version]
    fields = {"family": family, "prefixlen": prefix_length, "index": index, "flags": address_flags}
    attributes: Attributes = [("IFA_LOCAL", str(address)), ("IFA_ADDRESS", str(address))]
    if protocol:
        attributes.append(("IFA_PROTO", protocol))
    return _message(ifaddrmsg, request, _REQUEST | _ACK | flags, fields, attributes)


def _query(codec: Any, request: int, family: int, fields: Mapping[str, int] | None = None) -> bytes:
    return _message(codec, request, _REQUEST | _DUMP, {"family": family, **(fields or {})}, [])


def _message(
    codec: Any, request: int, flags: int, fields: Mapping[str, int], attributes: Attributes
) -> bytes:
    message = codec()
    for name, value in fields.items():
        message[name] = value
    message["attrs"] = attributes
    message["header"] = {"type": request, "flags": flags, "sequence_number": 0}
    message.encode()
    return bytes(message.data)


def _decoded(codec: Any, data: bytes) -> Any:
    message = codec(data)
    message.decode()
    return message


def _prefix(message: Any, attribute: str, length: str) -> Network | None:
    address = message.get_attr(attribute)
    return None if address is None else ip_network((address, message[length]))
