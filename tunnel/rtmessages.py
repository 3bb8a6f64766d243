"""Routes, rules, neighbours and addresses <-> rtnetlink messages.

Pure: interface indices are the caller's business. RFC 3549.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network
from socket import AF_INET, AF_INET6, AF_UNSPEC

from tunnel.kernel import (
    PROTOCOL,
    TABLE_INGRESS,
    TABLE_LOCAL,
    TABLE_MAIN,
    Address,
    AddressOnLink,
    KernelRoute,
    Network,
    ProxyNeighbour,
    RouteType,
    Rule,
)
from wire import rtnetlink
from wire.netlink import (
    ACK,
    CREATE,
    DUMP,
    EXCLUSIVE,
    REQUEST,
    Attribute,
    attributes,
    message,
    number_in,
    text,
    text_in,
    u8,
    u32,
)
from wire.rtnetlink import (
    AddressAttribute,
    Kind,
    LinkAttribute,
    NeighbourAttribute,
    RouteAttribute,
    RuleAttribute,
)

_FAMILY = {4: AF_INET, 6: AF_INET6}
_EVERYTHING = {AF_INET: ip_network("0.0.0.0/0"), AF_INET6: ip_network("::/0")}
_SCOPE_UNIVERSE, _SCOPE_LINK, _SCOPE_NOWHERE = 0, 253, 255
_UNICAST, _UNREACHABLE = 1, 7
_TO_TABLE, _ANSWER_UNREACHABLE = 1, 7
_PROXY, _PERMANENT, _NO_DAD, _UP, _INCOMPLETE = 0x8, 0x80, 0x2, 0x1, 0x1
_WHOLE_MARK = 0xFFFFFFFF

_OVER_LINKS = (TABLE_LOCAL, TABLE_INGRESS, TABLE_MAIN)
_ALREADY = frozenset({errno.EEXIST})
_GONE = frozenset({errno.ESRCH, errno.ENOENT, errno.EADDRNOTAVAIL, errno.ENODEV, errno.EAFNOSUPPORT})
_LINK_CHANGED = frozenset({errno.ENETDOWN, errno.ENETUNREACH, errno.ENODEV, errno.EINVAL})


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
    message = _rule_message(rule, Kind.NEW_RULE, CREATE | EXCLUSIVE)
    return Change(f"add {rule_text(rule)}", message, _ALREADY)


def delete_rule(rule: Rule) -> Change:
    return Change(f"delete {rule_text(rule)}", _rule_message(rule, Kind.DELETE_RULE, 0), _GONE)


def add_route(route: KernelRoute, index: int | None) -> Change:
    """A route over a link may be late: its link just went down or lost the address. It is not needed then."""
    message = _route_message(route, index, Kind.NEW_ROUTE, CREATE)
    fine = _ALREADY | _LINK_CHANGED if route.table in _OVER_LINKS else _ALREADY
    return Change(f"add {route_text(route)}", message, fine)


def delete_route(route: KernelRoute, index: int | None) -> Change:
    return Change(f"delete {route_text(route)}", _route_message(route, index, Kind.DELETE_ROUTE, 0), _GONE)


def add_proxy(proxy: ProxyNeighbour, index: int) -> Change:
    message = _proxy_message(proxy, index, Kind.NEW_NEIGHBOUR, CREATE)
    return Change(f"add the proxied neighbour {proxy.address}", message, _ALREADY)


def delete_proxy(proxy: ProxyNeighbour, index: int) -> Change:
    message = _proxy_message(proxy, index, Kind.DELETE_NEIGHBOUR, 0)
    return Change(f"delete the proxied neighbour {proxy.address}", message, _GONE)


def add_address(address: Address, prefix_length: int, index: int) -> Change:
    """No duplicate address detection: the home agent defends it, and the TUN device has no neighbours."""
    flags = _NO_DAD if address.version == 6 else 0
    message = _address_message(address, prefix_length, index, Kind.NEW_ADDRESS, CREATE | EXCLUSIVE, flags)
    return Change(f"add address {address}", message, _ALREADY)


def add_on_link(placed: AddressOnLink, index: int, now: float) -> Change:
    """No duplicate address detection here either: the home agent sees to it that nobody else has it."""
    left = None if placed.valid_until is None else max(1, int(placed.valid_until - now))
    flags = _NO_DAD if placed.address.version == 6 else 0
    message = _address_message(
        placed.address, placed.length, index, Kind.NEW_ADDRESS, CREATE | EXCLUSIVE, flags, PROTOCOL, left
    )
    return Change(f"add address {placed.address} to {placed.interface}", message, _ALREADY | _LINK_CHANGED)


def delete_on_link(placed: AddressOnLink, index: int) -> Change:
    message = _address_message(placed.address, placed.length, index, Kind.DELETE_ADDRESS, 0, 0)
    return Change(f"delete address {placed.address} from {placed.interface}", message, _GONE)


def forget_neighbour(address: Address, index: int) -> Change:
    """With it goes what waits for it."""
    fixed = rtnetlink.NEIGHBOUR.pack(_FAMILY[address.version], index, 0, 0, 0)
    what = [(NeighbourAttribute.DESTINATION, address.packed)]
    forget = message(Kind.DELETE_NEIGHBOUR, REQUEST | ACK, fixed, what)
    return Change(f"forget the neighbour {address}", forget, _GONE)


def delete_address(address: Address, prefix_length: int, index: int) -> Change:
    message = _address_message(address, prefix_length, index, Kind.DELETE_ADDRESS, 0, 0)
    return Change(f"delete address {address}", message, _GONE)


def set_device(device: Device) -> Change:
    fixed = rtnetlink.LINK.pack(AF_UNSPEC, 0, device.index, _UP if device.up else 0, _UP)
    mtu = [(LinkAttribute.MTU, u32(device.mtu))]
    what = f"bring the device {'up' if device.up else 'down'}, MTU {device.mtu}"
    return Change(what, message(Kind.NEW_LINK, REQUEST | ACK, fixed, mtu), frozenset())


def limit_super_packets(index: int, octets: int) -> Change:
    """What is larger is cut by the kernel before the device gets it."""
    fixed = rtnetlink.LINK.pack(AF_UNSPEC, 0, index, 0, 0)
    most = [(LinkAttribute.SUPER_PACKET_MAX, u32(octets))]
    what = f"limit super-packets to {octets} octets"
    return Change(what, message(Kind.NEW_LINK, REQUEST | ACK, fixed, most), frozenset())


def list_rules() -> tuple[bytes, ...]:
    families = _FAMILY.values()
    return tuple(_query(Kind.GET_RULE, rtnetlink.RULE.pack(family, 0, 0, 0, 0, 0, 0)) for family in families)


def list_routes() -> tuple[bytes, ...]:
    """The kernel sends only those of our protocol number, on a socket with strict checking."""
    fixed = (rtnetlink.ROUTE.pack(family, 0, 0, 0, 0, PROTOCOL, 0, 0, 0) for family in _FAMILY.values())
    return tuple(_query(Kind.GET_ROUTE, only) for only in fixed)


def list_proxies() -> tuple[bytes, ...]:
    return (_query(Kind.GET_NEIGHBOUR, rtnetlink.NEIGHBOUR.pack(AF_UNSPEC, 0, 0, _PROXY, 0)),)


def list_addresses(index: int) -> tuple[bytes, ...]:
    return (_query(Kind.GET_ADDRESS, rtnetlink.ADDRESS.pack(AF_UNSPEC, 0, 0, 0, index)),)


def list_all_addresses() -> tuple[bytes, ...]:
    return list_addresses(0)


def list_neighbours() -> tuple[bytes, ...]:
    fixed = (rtnetlink.NEIGHBOUR.pack(family, 0, 0, 0, 0) for family in _FAMILY.values())
    return tuple(_query(Kind.GET_NEIGHBOUR, family) for family in fixed)


def get_device(index: int) -> bytes:
    return message(Kind.GET_LINK, REQUEST, rtnetlink.LINK.pack(AF_UNSPEC, 0, index, 0, 0))


def our_rule(body: bytes) -> Rule | None:
    """The rule in the body of a message, None if it does not carry our protocol number."""
    family, to_length, from_length, _, _, action, _ = rtnetlink.RULE.unpack_from(body)
    found = attributes(body, rtnetlink.RULE.size)
    if number_in(found.get(RuleAttribute.PROTOCOL)) != PROTOCOL:
        return None
    return Rule(
        family=4 if family == AF_INET else 6,
        priority=number_in(found.get(RuleAttribute.PRIORITY)) or 0,
        table=None if action == _ANSWER_UNREACHABLE else number_in(found.get(RuleAttribute.TABLE)),
        mark=number_in(found.get(RuleAttribute.MARK)),
        source=_prefix(found.get(RuleAttribute.SOURCE), from_length),
        destination=_prefix(found.get(RuleAttribute.DESTINATION), to_length),
        out_interface=text_in(found.get(RuleAttribute.OUT_INTERFACE)),
    )


def our_route(body: bytes, name: Callable[[int], str]) -> KernelRoute | None:
    """The route in the body of a message, None if it does not carry our protocol number."""
    family, to_length, _, _, table, protocol, _, kind, _ = rtnetlink.ROUTE.unpack_from(body)
    if protocol != PROTOCOL:
        return None
    found = attributes(body, rtnetlink.ROUTE.size)
    unreachable = kind == _UNREACHABLE
    return KernelRoute(
        destination=_prefix(found.get(RouteAttribute.DESTINATION), to_length) or _EVERYTHING[family],
        device=None if unreachable else name(number_in(found.get(RouteAttribute.OUT_INTERFACE)) or 0),
        table=number_in(found.get(RouteAttribute.TABLE)) or table,
        type=RouteType.UNREACHABLE if unreachable else RouteType.UNICAST,
        metric=number_in(found.get(RouteAttribute.PRIORITY)) or 0,
        source=_address(found.get(RouteAttribute.PREFERRED_SOURCE)),
        gateway=_address(found.get(RouteAttribute.GATEWAY)),
    )


def our_proxy(body: bytes, name: Callable[[int], str]) -> ProxyNeighbour | None:
    """The proxied neighbour in the body of a message, None if it does not carry our protocol number."""
    _, index, _, flags, _ = rtnetlink.NEIGHBOUR.unpack_from(body)
    found = attributes(body, rtnetlink.NEIGHBOUR.size)
    address = _address(found.get(NeighbourAttribute.DESTINATION))
    ours = number_in(found.get(NeighbourAttribute.PROTOCOL)) == PROTOCOL
    return ProxyNeighbour(address, name(index)) if flags & _PROXY and ours and address is not None else None


def unresolved_neighbour(body: bytes) -> tuple[Address, int] | None:
    """The neighbour in the body of a message, and the index of its interface; None unless its link-layer
    address is being asked for.
    """
    _, index, state, _, _ = rtnetlink.NEIGHBOUR.unpack_from(body)
    address = _address(attributes(body, rtnetlink.NEIGHBOUR.size).get(NeighbourAttribute.DESTINATION))
    return (address, index) if state == _INCOMPLETE and address is not None else None


def device_address(body: bytes, index: int) -> tuple[Address, int] | None:
    """Address and prefix length in the body of a message, None if it is on another device."""
    _, length, _, _, there = rtnetlink.ADDRESS.unpack_from(body)
    address = _own_address(attributes(body, rtnetlink.ADDRESS.size))
    return (address, length) if there == index and address is not None else None


def our_address_on_link(body: bytes, name: Callable[[int], str]) -> AddressOnLink | None:
    """The address in the body of a message, None if it does not carry our protocol number."""
    _, length, _, _, index = rtnetlink.ADDRESS.unpack_from(body)
    found = attributes(body, rtnetlink.ADDRESS.size)
    address = _own_address(found)
    if number_in(found.get(AddressAttribute.PROTOCOL)) != PROTOCOL or address is None:
        return None
    return AddressOnLink(address, name(index), -1 if length == address.max_prefixlen else length)


def device_state(body: bytes) -> Device:
    _, _, index, flags, _ = rtnetlink.LINK.unpack_from(body)
    mtu = number_in(attributes(body, rtnetlink.LINK.size).get(LinkAttribute.MTU)) or 0
    return Device(index, mtu, bool(flags & _UP))


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


def _rule_message(rule: Rule, request: Kind, flags: int) -> bytes:
    source, destination = rule.source, rule.destination
    to_length = destination.prefixlen if destination is not None else 0
    from_length = source.prefixlen if source is not None else 0
    action = _ANSWER_UNREACHABLE if rule.table is None else _TO_TABLE
    fixed = rtnetlink.RULE.pack(_FAMILY[rule.family], to_length, from_length, 0, 0, action, 0)
    said: list[Attribute] = [
        (RuleAttribute.PRIORITY, u32(rule.priority)),
        (RuleAttribute.PROTOCOL, u8(PROTOCOL)),
    ]
    if rule.table is not None:
        said.append((RuleAttribute.TABLE, u32(rule.table)))
    if rule.mark is not None:
        said += [(RuleAttribute.MARK, u32(rule.mark)), (RuleAttribute.MARK_MASK, u32(_WHOLE_MARK))]
    if source is not None:
        said.append((RuleAttribute.SOURCE, source.network_address.packed))
    if destination is not None:
        said.append((RuleAttribute.DESTINATION, destination.network_address.packed))
    if rule.out_interface:
        said.append((RuleAttribute.OUT_INTERFACE, text(rule.out_interface)))
    return message(request, REQUEST | ACK | flags, fixed, said)


def _route_message(route: KernelRoute, index: int | None, request: Kind, flags: int) -> bytes:
    destination = route.destination
    if request is Kind.DELETE_ROUTE:
        scope = _SCOPE_NOWHERE
    elif destination.version == 4 and route.device is not None and route.gateway is None:
        scope = _SCOPE_LINK
    else:
        scope = _SCOPE_UNIVERSE
    kind = _UNICAST if route.type is RouteType.UNICAST else _UNREACHABLE
    family = _FAMILY[destination.version]
    fixed = rtnetlink.ROUTE.pack(family, destination.prefixlen, 0, 0, 0, PROTOCOL, scope, kind, 0)
    said: list[Attribute] = [
        (RouteAttribute.DESTINATION, destination.network_address.packed),
        (RouteAttribute.TABLE, u32(route.table)),
        (RouteAttribute.PRIORITY, u32(route.metric)),
    ]
    if index is not None:
        said.append((RouteAttribute.OUT_INTERFACE, u32(index)))
    if route.source is not None:
        said.append((RouteAttribute.PREFERRED_SOURCE, route.source.packed))
    if route.gateway is not None:
        said.append((RouteAttribute.GATEWAY, route.gateway.packed))
    return message(request, REQUEST | ACK | flags, fixed, said)


def _proxy_message(proxy: ProxyNeighbour, index: int, request: Kind, flags: int) -> bytes:
    fixed = rtnetlink.NEIGHBOUR.pack(_FAMILY[proxy.address.version], index, _PERMANENT, _PROXY, 0)
    said = [
        (NeighbourAttribute.DESTINATION, proxy.address.packed),
        (NeighbourAttribute.PROTOCOL, u8(PROTOCOL)),
    ]
    return message(request, REQUEST | ACK | flags, fixed, said)


def _address_message(
    address: Address,
    prefix_length: int,
    index: int,
    request: Kind,
    flags: int,
    address_flags: int,
    protocol: int = 0,
    left: int | None = None,
) -> bytes:
    fixed = rtnetlink.ADDRESS.pack(_FAMILY[address.version], prefix_length, address_flags, 0, index)
    said = [(AddressAttribute.LOCAL, address.packed), (AddressAttribute.ADDRESS, address.packed)]
    if protocol:
        said.append((AddressAttribute.PROTOCOL, u8(protocol)))
    if left is not None:
        said.append((AddressAttribute.LIFETIMES, rtnetlink.LIFETIMES.pack(left, left, 0, 0)))
    return message(request, REQUEST | ACK | flags, fixed, said)


def _query(request: Kind, fixed: bytes, only: Iterable[Attribute] = ()) -> bytes:
    return message(request, REQUEST | DUMP, fixed, only)


def _own_address(found: Mapping[int, bytes]) -> Address | None:
    """Where both ends of a link have an address, LOCAL is this one."""
    return _address(found.get(AddressAttribute.LOCAL) or found.get(AddressAttribute.ADDRESS))


def _address(packed: bytes | None) -> Address | None:
    """The address of 4 or 16 octets; None for an attribute that is not there, or is something else."""
    if packed is None or len(packed) not in (4, 16):
        return None
    return IPv4Address(packed) if len(packed) == 4 else IPv6Address(packed)


def _prefix(packed: bytes | None, length: int) -> Network | None:
    address = _address(packed)
    if isinstance(address, IPv4Address):
        return IPv4Network((address, length))
    return None if address is None else IPv6Network((address, length))
