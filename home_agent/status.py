"""What the home agent tells about itself: results of the control methods as JSON-ready data.

Pure. docs/control.md describes every field; addresses are text and instants RFC 3339 from here on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from ipaddress import IPv4Address, IPv6Address
from typing import Any, TypeVar

from home_agent.address_pool import Lease
from home_agent.binding_cache import Binding
from home_agent.config import MobileNode
from home_agent.node import HomeAgent
from tunnel.path import Arrival, Encapsulation
from tunnel.plane import Counters
from tunnel.protection import PROTECTION_NAME
from wire.mobility import status_text

Json = dict[str, Any]
T = TypeVar("T")

PAGE = 1000
"""Bindings or leases in one result; so many fit a line of the control protocol."""


@dataclass(frozen=True, slots=True)
class Moment:
    """Now on both clocks: `boot` in seconds of CLOCK_BOOTTIME, `wall` in seconds since 1970."""

    boot: float
    wall: float

    def text(self, at: float) -> str:
        """The instant `at` (CLOCK_BOOTTIME) as people write it."""
        moment = datetime.fromtimestamp(self.wall + at - self.boot, UTC)
        return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")

    def head(self, schema: str) -> Json:
        return {"schema": f"hactl/{schema}/1", "time": self.text(self.boot)}


def status(
    agent: HomeAgent, now: Moment, state: str, version: str, counters: Counters, health: list[Json]
) -> Json:
    own, link = agent.configuration.home_agent, agent.configuration.home_link
    used = sum(1 for lease in agent.books.addresses.leases if lease.until > now.boot)
    return {
        **now.head("status"),
        "state": state,
        "reason": None if own.accepting else "accepting = false: every registration is answered with 131",
        "version": version,
        "uptime_s": round(now.boot - agent.started_at, 3),
        "home_agent": {
            "v6": str(own.ipv6),
            "v4": str(own.ipv4),
            "interface": own.interface,
            "port": own.port,
            "second_port": agent.second_port,
        },
        "home_link": {
            "ipv6_prefix": str(link.ipv6_prefix),
            "ipv4_prefix": _text(link.ipv4_prefix),
            "ipv4_pool": _text(link.ipv4_pool),
        },
        "profile": agent.configuration.wire.profile,
        "bindings": len(agent.books.cache),
        "mobile_nodes": len(agent.nodes),
        "leases": {"used": used, "size": _pool_size(agent)},
        "totals": {
            "updates_accepted": agent.tally.accepted,
            "updates_rejected": _by_text(agent.tally.refused),
            "updates_ignored": dict(agent.tally.ignored),
            "profile_mismatches": agent.tally.mismatches,
            "rx_bytes": counters.rx_bytes,
            "tx_bytes": counters.tx_bytes,
            "rx_packets": counters.rx_packets,
            "tx_packets": counters.tx_packets,
            "drops": dict(counters.drops),
        },
        "health": health,
    }


def bindings(agent: HomeAgent, now: Moment, after: str | None = None) -> Json:
    """All bindings in the order of home addresses, from the one behind the cursor `after`."""
    ordered = sorted(agent.books.cache, key=lambda binding: binding.home_address)
    page, following = _page(ordered, lambda binding: str(binding.home_address), after)
    return {
        **now.head("bindings"),
        "bindings": [_binding(agent, one, now) for one in page],
        "next": following,
    }


def leases(agent: HomeAgent, now: Moment, after: str | None = None) -> Json:
    """Every IPv4 home address that belongs to a mobile node, static ones included, and pool prefixes."""
    entries = [entry for node in agent.nodes.values() for entry in _leases_of(agent, node, now)]
    page, following = _page(entries, lambda entry: f"{entry['home_v6']} {entry['v4']}", after)
    return {
        **now.head("leases"),
        "pool": _text(agent.configuration.home_link.ipv4_pool),
        "size": _pool_size(agent),
        "used": sum(1 for lease in agent.books.addresses.leases if lease.until > now.boot),
        "leases": page,
        "next": following,
    }


def show(agent: HomeAgent, node: MobileNode, now: Moment) -> Json:
    binding, account = agent.books.cache.get(node.home_address), agent.tally.accounts[node.home_address]
    lease = next(iter(_leases_of(agent, node, now)), None)
    last = account.last
    return {
        **now.head("show"),
        "node": node.label,
        "home": {"v6": str(node.home_address), "v4": lease["v4"] if lease is not None else None},
        "binding": None if binding is None else _binding(agent, binding, now),
        "lease": lease,
        "protection": agent.protections.get(node.home_address),
        "last_update": None
        if last is None
        else {
            "at": now.text(last.at),
            "ago_s": round(now.boot - last.at, 3),
            "status": last.status,
            "text": status_text(last.status),
            "from": _peer(last.arrival),
        },
        "totals": {
            "updates_accepted": account.accepted,
            "updates_rejected": _by_text(account.refused),
            "updates_ignored": dict(account.ignored),
            "profile_mismatches": account.mismatches,
        },
    }


def find_node(agent: HomeAgent, name: str) -> MobileNode | None:
    """The mobile node with this name or home address of either family."""
    for node in agent.nodes.values():
        if name in (node.name, str(node.home_address)):
            return node
    try:
        address = IPv6Address(name) if ":" in name else IPv4Address(name)
    except ValueError:
        return None
    for node in agent.nodes.values():
        binding = agent.books.cache.get(node.home_address)
        bound = binding.ipv4_home_address if binding is not None else None
        if address in (node.home_address, node.ipv4, bound):
            return node
    return None


def _binding(agent: HomeAgent, binding: Binding, now: Moment) -> Json:
    return {
        "node": agent.nodes[binding.home_address].label,
        "home": {"v6": str(binding.home_address), "v4": _text(binding.ipv4_home_address)},
        "prefixes": [str(prefix) for prefix in binding.prefixes],
        "care_of": str(binding.care_of),
        "observed": _peer(binding.arrival),
        "encap": _encapsulation(binding),
        "nat": binding.nat,
        "path_mtu": binding.path_mtu,
        "protection": PROTECTION_NAME if binding.encapsulation.protected else "none",
        "router": binding.router,
        "sequence": binding.sequence,
        "lifetime_s": binding.lifetime,
        "expires_in_s": round(binding.expires_at - now.boot, 3),
        "registered_at": now.text(binding.since),
        "updated_ago_s": round(now.boot - binding.updated_at, 3),
    }


def _leases_of(agent: HomeAgent, node: MobileNode, now: Moment) -> list[Json]:
    home, entries = node.home_address, []
    binding = agent.books.cache.get(home)
    lease = agent.books.addresses.lease_of(home)
    if isinstance(node.ipv4, IPv4Address):
        bound = binding is not None and binding.ipv4_home_address == node.ipv4
        left = round(binding.expires_at - now.boot, 3) if bound and binding is not None else None
        state = "bound" if bound else "reserved"
        entries.append(_lease(node, str(node.ipv4), "static", state, left))
    elif lease is not None:
        bound = binding is not None and binding.ipv4_home_address == lease.network.network_address
        entries.append(_dynamic(node, lease, str(lease.network.network_address), bound, now))
    prefix = agent.books.prefixes.lease_of(home)
    if prefix is not None:
        bound = binding is not None and prefix.network in binding.prefixes
        entries.append(_dynamic(node, prefix, str(prefix.network), bound, now))
    return entries


def _dynamic(node: MobileNode, lease: Lease, text: str, bound: bool, now: Moment) -> Json:
    left = lease.until - now.boot
    state = "bound" if bound else "reserved" if left > 0 else "invalid"
    return _lease(node, text, "dynamic", state, round(left, 3))


def _lease(node: MobileNode, text: str, kind: str, state: str, left: float | None) -> Json:
    head: Json = {"node": node.label, "v4": text, "home_v6": str(node.home_address)}
    return {**head, "kind": kind, "state": state, "expires_in_s": left}


def _encapsulation(binding: Binding) -> str:
    match binding.encapsulation:
        case Encapsulation.IP_IN_IP:
            return f"ipip{binding.arrival.local.version}"
        case Encapsulation.UDP:
            return "udp4"
        case Encapsulation.UDP_TLV:
            return "udp4-tlv"
        case Encapsulation.UDP_TLV_DRAFT:
            return "udp4-tlv-draft"
        case Encapsulation.ESP_UDP:
            return "esp-udp4"
        case Encapsulation.ESP:
            return "esp6"


def _peer(arrival: Arrival) -> str:
    return f"{arrival.remote}:{arrival.remote_port}" if arrival.remote_port else str(arrival.remote)


def _by_text(statuses: Mapping[int, int]) -> Json:
    return {status_text(status): count for status, count in statuses.items()}


def _pool_size(agent: HomeAgent) -> int:
    pool = agent.configuration.home_link.ipv4_pool
    return 0 if pool is None else pool.num_addresses


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _page(items: list[T], key: Callable[[T], str], after: str | None) -> tuple[list[T], str | None]:
    """At most PAGE items behind the one called `after`, and the cursor for the rest."""
    start = next((i + 1 for i, item in enumerate(items) if key(item) == after), 0)
    page = items[start : start + PAGE]
    return page, key(page[-1]) if start + PAGE < len(items) else None
