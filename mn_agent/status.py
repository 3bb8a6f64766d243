"""The mobile node as `mnctl` shows it: plain values of the shapes in docs/control.md.

Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from ipaddress import IPv4Address, IPv6Address
from typing import Any

from mn_agent.binding_update_list import Binding, Target
from mn_agent.desired import home_addresses
from mn_agent.handover import Handover
from mn_agent.messages import candidate_paths
from mn_agent.node import MobileNode
from mn_agent.registration_states import Refusing, Registering
from mn_agent.router_status import router_option_texts, router_problems, router_status
from tunnel.path import Encapsulation, TunnelPath
from tunnel.plane import Counters
from tunnel.protection import PROTECTION_NAME
from wire.mobility import BindingUpdate, UpdateFlag, status_text
from wire.options import Ipv4CareOfAddress, Ipv4HomeAddress, first

_FLAG_LETTERS = {
    UpdateFlag.ACKNOWLEDGE: "A",
    UpdateFlag.HOME: "H",
    UpdateFlag.ROUTER: "R",
    UpdateFlag.FORCE_UDP: "F",
    UpdateFlag.TLV: "T",
}


@dataclass(frozen=True, slots=True)
class Clocks:
    """`now` in seconds of CLOCK_BOOTTIME and `wall` in seconds since 1970, read together."""

    now: float
    wall: float

    def stamp(self, at: float) -> str:
        """RFC 3339 in UTC, with milliseconds."""
        moment = datetime.fromtimestamp(self.wall + at - self.now, UTC)
        return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def status(
    node: MobileNode, counters: Counters, protection: str, version: str, clocks: Clocks
) -> dict[str, object]:
    """`mnctl/status/1`."""
    state, reason = node.summary()
    now = clocks.now
    binding = node.registration.binding
    last = node.journal.last
    return {
        "schema": "mnctl/status/1",
        "time": clocks.stamp(now),
        "state": state,
        "reason": reason,
        "at_home": state == "home",
        "version": version,
        "uptime_s": round(now - node.started_at, 1),
        "home": _home(node, now),
        "router": router_status(node),
        "home_agent": _home_agent(node, binding),
        "path": _path(node, binding, now),
        "binding": _binding(node, binding, protection, now),
        "binding_update_list": [] if binding is None else [_entry(entry, now) for entry in binding.entries],
        "last_handover": None if last is None else _handover(last, clocks),
        "networks": _networks(node, clocks),
        "standby": _standby(node),
        "totals": _totals(node, counters),
        "health": [*_health(node, clocks), *_findings(node, counters, clocks)],
    }


def plan(node: MobileNode, target: Target) -> dict[str, object]:
    """What `mnctl roam --dry-run` shows: the Binding Update for `target`, of exact size."""
    registration, configuration = node.registration, node.configuration
    lifetime = 0 if target.at_home else configuration.binding.lifetime
    packet = registration.compose(target, lifetime, registration.next_sequence)
    update = packet.message
    assert isinstance(update, BindingUpdate)
    binding = registration.binding
    mtu_now = None if binding is None else node.surroundings().limited(binding.path).inner_mtu
    path = None if target.at_home else candidate_paths(target, configuration)[-1]
    link_mtu = target.attachment.mtu
    return {
        "from": None if binding is None else _end(binding.path, binding.nat),
        "to": {
            "interface": target.attachment.interface,
            "care_of": str(target.care_of),
            "encap": None,
            "nat": None,
        },
        "binding_update": {
            "sequence": update.sequence,
            "flags": [letter for flag, letter in _FLAG_LETTERS.items() if flag in update.flags],
            "lifetime_s": update.lifetime,
            "options": _option_texts(update),
            "size_bytes": node.sealed_size(packet),
        },
        "commands": [],
        "mtu": {
            "from": mtu_now,
            "to": link_mtu if path is None else path.inner_mtu,
            "path_bytes": link_mtu,
            "overhead_bytes": 0 if path is None else path.overhead,
        },
    }


def encapsulation_name(path: TunnelPath) -> str:
    """udp4, udp4-tlv, udp4-tlv-draft, ipip4, ipip6, esp-udp4 or esp6."""
    names = {
        Encapsulation.IP_IN_IP: "ipip",
        Encapsulation.UDP: "udp",
        Encapsulation.UDP_TLV: "udp",
        Encapsulation.UDP_TLV_DRAFT: "udp",
        Encapsulation.ESP_UDP: "esp-udp",
        Encapsulation.ESP: "esp",
    }
    suffix = {Encapsulation.UDP_TLV: "-tlv", Encapsulation.UDP_TLV_DRAFT: "-tlv-draft"}
    return f"{names[path.encapsulation]}{path.local.version}{suffix.get(path.encapsulation, '')}"


def _home(node: MobileNode, now: float) -> dict[str, object]:
    around = node.surroundings()
    homes = home_addresses(around)
    binding = node.registration.binding
    return {
        "v6": [f"{home}/128" for home in homes if isinstance(home, IPv6Address)],
        "v4": [f"{home}/32" for home in homes if isinstance(home, IPv4Address)],
        "device": node.configuration.tunnel.device,
        "mtu": None if binding is None else around.limited(binding.path).inner_mtu,
        "prefix": node.enquiries.prefixes.describe(now),
    }


def _home_agent(node: MobileNode, binding: Binding | None) -> dict[str, object] | None:
    target = node.target
    known = node.discovery.home_agents
    agent = target.home_agent if target is not None else (known[0] if known else None)
    if agent is None:
        return None
    return {
        "name": agent.name,
        "v6": None if agent.ipv6 is None else str(agent.ipv6),
        "v4": None if agent.ipv4 is None else str(agent.ipv4),
        "rtt_ms": None if binding is None else _ms(_round_trip(node, binding)),
        "source": _source(node),
    }


def _round_trip(node: MobileNode, binding: Binding) -> float:
    """Of the last update, or of the test of the path: a new binding waits for the home link to be asked."""
    registered, tested = binding.accepted_at - binding.sent_at, node.paths.round_trip
    return registered if tested is None else min(registered, tested)


def _source(node: MobileNode) -> str:
    section = node.configuration.home_agent
    if section.ipv6 is not None:
        return "address"
    if node.discovery.source == "anycast":
        return "anycast"
    kind = "name" if section.name is not None else "srv"
    return kind if node.discovery.source == "dns" else f"{kind}-cache"


def _path(node: MobileNode, binding: Binding | None, now: float) -> dict[str, object] | None:
    if binding is not None:
        here = node.limits.present(binding.target.attachment)
        return {
            **_end(binding.path, binding.nat),
            "observed": binding.observed,
            "protection": _payload_protection(node),
            "verified": node.paths.verified,
            "pmtu_bytes": node.limits.mtu_at(here, now),
            "pmtu_source": node.limits.source(here, now),
            "keepalive_s": binding.keepalive,
            "nat_lifetime_s": node.registration.mappings.learnt(binding, now) if binding.nat else None,
        }
    target = node.target
    if target is None:
        return None
    attachment = target.attachment
    return {
        "interface": attachment.interface,
        "care_of": None if target.at_home else str(attachment.care_of),
        "observed": None,
        "encap": None,
        "nat": None,
        "protection": _payload_protection(node),
        "verified": None,
        "pmtu_bytes": node.limits.mtu_at(node.limits.present(attachment), now),
        "pmtu_source": node.limits.source(node.limits.present(attachment), now),
        "keepalive_s": None,
        "nat_lifetime_s": None,
    }


def _payload_protection(node: MobileNode) -> str:
    return PROTECTION_NAME if node.configuration.tunnel.protect_payload else "none"


def _end(path: TunnelPath, nat: bool | None) -> dict[str, object]:
    return {
        "interface": path.interface,
        "care_of": str(path.local),
        "encap": encapsulation_name(path),
        "nat": None if nat is None else ("detected" if nat else "none"),
    }


def _binding(node: MobileNode, binding: Binding | None, protection: str, now: float) -> dict[str, object]:
    state = node.registration.state
    attempts = state.unanswered + 1 if isinstance(state, Registering) else None
    refused = state.status if isinstance(state, Refusing) else None
    following = node.registration.deadline()
    retrying = isinstance(state, Registering | Refusing) and following is not None
    status_code = refused if refused is not None else (None if binding is None else int(binding.status))
    return {
        "sequence": node.registration.next_sequence - 1 & 0xFFFF if binding is None else binding.sequence,
        "lifetime_s": None if binding is None else binding.lifetime,
        "expires_in_s": None if binding is None else round(binding.expires_at - now, 1),
        "refresh_in_s": None if binding is None else round(max(0.0, binding.refresh_at - now), 1),
        "last_ba_ms_ago": None if binding is None else round((now - binding.accepted_at) * 1000, 1),
        "ba_status": status_code,
        "ba_text": None if status_code is None else status_text(status_code),
        "attempts": attempts,
        "next_try_in_s": round(following.at - now, 1) if retrying and following is not None else None,
        "protection": protection,
    }


def _entry(entry: Any, now: float) -> dict[str, object]:
    return {
        "home_address": str(entry.home_address),
        "care_of": str(entry.care_of),
        "encap": entry.encapsulation,
        "expires_in_s": round(entry.expires_at - now, 1),
    }


def _handover(last: Handover, clocks: Clocks) -> dict[str, object]:
    ended = last.ended_at if last.ended_at is not None else last.started_at
    return {**last.describe(), "at": clocks.stamp(ended), "ago_s": round(clocks.now - ended, 1)}


def _networks(node: MobileNode, clocks: Clocks) -> list[dict[str, object]]:
    """What was recognised where, and how."""
    given = {confirmed.interface: str(confirmed.candidate.address) for confirmed in node.recognition.leases}
    return [
        {
            "interface": found.interface,
            "network": found.confirmation.what,
            "by": found.confirmation.by,
            "at": clocks.stamp(found.confirmation.at),
            "ago_s": round(clocks.now - found.confirmation.at, 1),
            "address_set": given.get(found.interface) if found.confirmation.by == "arp" else None,
        }
        for found in node.recognition.recognised
    ]


def _standby(node: MobileNode) -> list[dict[str, object]]:
    target = node.target
    used = None if target is None else (target.attachment.interface, target.care_of)
    known = node.discovery.home_agents
    return [
        {
            "interface": attachment.interface,
            "care_of": str(attachment.care_of),
            "rtt_ms": _ms(node.choice.round_trip(attachment)),
            "ready": any(agent.serves(attachment.care_of) for agent in known),
            "why": node.choice.reservation(attachment),
        }
        for attachment in node.attachments
        if (attachment.interface, attachment.care_of) != used
    ]


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 1)


def _totals(node: MobileNode, counters: Counters) -> dict[str, object]:
    worst = node.journal.worst_outage
    drops: Mapping[str, int] = {**counters.drops, **node.drops}
    return {
        "handovers": node.journal.count,
        "failed": node.journal.failed,
        "worst_outage_ms": None if worst is None else round(worst * 1000, 1),
        "rx_bytes": counters.rx_bytes,
        "tx_bytes": counters.tx_bytes,
        "rx_packets": counters.rx_packets,
        "tx_packets": counters.tx_packets,
        "profile_mismatches": node.dialect.mismatches,
        "drops": dict(drops),
    }


def _findings(node: MobileNode, counters: Counters, clocks: Clocks) -> list[dict[str, object]]:
    """What messages and packets of the home agent say about its configuration."""
    items, alike = [], "set [wire] profile alike at both ends"
    if node.dialect.found:
        ours = node.configuration.wire.profile
        text = f"the home agent seems to have {node.dialect.found}, while this node has {ours}"
        items.append(_item("wire-profile", "medium", text, alike, clocks, node.dialect.since))
    tlv = sum(counters.drops.get(reason, 0) for reason in ("tlv-not-negotiated", "tlv-length", "tlv-type"))
    if tlv:
        text = f"{tlv} packets had a TLV header that this wire profile does not know"
        items.append(_item("tlv-format", "medium", text, alike, clocks))
    in_clear = counters.drops.get("payload-unprotected", 0)
    if in_clear:
        text = f"{in_clear} packets came in the clear, though payload is to be protected, and were dropped"
        items.append(_item("payload-unprotected", "medium", text, "look who sends them", clocks))
    return items


def _health(node: MobileNode, clocks: Clocks) -> list[dict[str, object]]:
    items = []
    wanted_ipv4 = node.configuration.requested_ipv4 is not None
    binding = node.registration.binding
    if binding is not None and wanted_ipv4 and binding.ipv4_home_address is None:
        code = binding.ipv4_status
        why = (
            "the home agent does not support it"
            if code is None
            else f"the home agent refused it (status {code})"
        )
        items.append(
            _item(
                "no-ipv4-home-address",
                "high",
                f"the IPv4 home address is not bound: {why}",
                "hactl bindings",
                clocks,
            )
        )
    if node.discovery.problem is not None:
        items.append(_item("dns", "medium", node.discovery.problem, "mnctl events", clocks))
    if node.key_problem is not None:
        fix = "compare the key files of both ends"
        items.append(_item("keys", "high", node.key_problem, fix, clocks))
    items += [_item(code, "high", text, fix, clocks) for code, text, fix in router_problems(node)]
    for interface, url, since in node.portals.standing():
        text = f"{interface} is behind a captive portal: nothing leaves before somebody logs in"
        fix = f"open {url}" if url else f"open any web page through {interface}"
        items.append(_item("captive-portal", "high", text, fix, clocks, since))
    items += [_item(code, severity, text, fix, clocks) for code, severity, text, fix in node.paths.problems()]
    problems = node.enquiries.problems(clocks.now)
    items += [_item(code, "medium", text, fix, clocks) for code, text, fix in problems]
    return items


def _item(
    code: str, severity: str, text: str, fix: str, clocks: Clocks, since: float | None = None
) -> dict[str, object]:
    return {
        "code": code,
        "severity": severity,
        "impacts_connectivity": severity == "high",
        "since": clocks.stamp(clocks.now if since is None else since),
        "text": text,
        "fix": fix,
    }


def _option_texts(update: BindingUpdate) -> list[str]:
    texts = []
    home = first(update.options, Ipv4HomeAddress)
    if home is not None and home.prefix_length == 32:
        texts.append(f"IPv4-HoA {home.address}")
    if (care_of := first(update.options, Ipv4CareOfAddress)) is not None:
        texts.append(f"IPv4-CoA {care_of.address}")
    return texts + router_option_texts(update)
