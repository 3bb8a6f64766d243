"""`hactl` for people: the home agent, its bindings, leases, one mobile node.

Pure. Reads the `hactl/...` results of docs/control.md, of which any field may be null or absent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cli.exits import Exit
from cli.paint import Paint
from cli.words import (
    at,
    clean,
    columns,
    count,
    data_plane,
    items_at,
    number_at,
    paragraphs,
    seconds,
    size,
    text_at,
)

Result = Mapping[str, Any]


def exit_of(status: Result) -> Exit:
    impaired = any(item.get("impacts_connectivity") for item in items_at(status, "health"))
    return Exit.OK if status.get("state") == "running" and not impaired else Exit.NOT_BOUND


def render_status(status: Result, paint: Paint) -> str:
    rows = [
        ("Home agent", _addresses(status)),
        ("Home link", _home_link(status)),
        ("Nodes", _nodes(status)),
        ("Updates", _updates(status)),
        ("Tunnel", _tunnel(at(status, "totals"))),
        ("Data plane", data_plane(status)),
        ("Uptime", _span(status, "uptime_s")),
    ]
    known = [f"  {paint.faint(name.ljust(10))} {text}" for name, text in rows if text]
    health: list[str] = []
    for item in items_at(status, "health"):
        health.append(f"  {paint.fair('!')} {text_at(item, 'code')}  {text_at(item, 'text')}")
        health += [f"    → {fix}" for fix in [text_at(item, "fix")] if fix]
    return paragraphs([_verdict(status, paint)], known, health)


def render_bindings(bindings: Sequence[Result]) -> str:
    header = ("NODE", "HOME ADDRESSES", "CARE-OF", "ENCAP", "SEQ", "EXPIRES", "UPDATED")
    rows = [
        (
            text_at(one, "node") or "?",
            _homes(one) + _networks(one),
            _care_of(one),
            text_at(one, "encap") or "?",
            text_at(one, "sequence"),
            _span(one, "expires_in_s", "in "),
            _span(one, "updated_ago_s", "", " ago"),
        )
        for one in bindings
    ]
    return "\n".join([*columns(header, rows), count(len(rows), "binding")]) if rows else "no bindings"


def render_leases(result: Result, leases: Sequence[Result]) -> str:
    header = ("NODE", "IPV4", "HOME ADDRESS", "KIND", "STATE", "EXPIRES")
    rows = [
        (
            text_at(one, "node") or "?",
            text_at(one, "v4"),
            text_at(one, "home_v6"),
            text_at(one, "kind"),
            text_at(one, "state"),
            _span(one, "expires_in_s", "in "),
        )
        for one in leases
    ]
    pool, used, total = text_at(result, "pool"), text_at(result, "used"), text_at(result, "size")
    foot = f"pool {pool}: {used or '?'} of {total or '?'} used" if pool else "no pool of dynamic addresses"
    return "\n".join([*columns(header, rows), foot]) if rows else f"no leases; {foot}"


def render_node(node: Result, paint: Paint) -> str:
    binding = at(node, "binding")
    bound = isinstance(binding, Mapping) and bool(binding)
    sign = paint.good("● bound") if bound else paint.fair("○ not bound")
    head = f"{paint.strong(text_at(node, 'node') or '?')}  {sign}"
    rows = [("Home", _homes(node)), ("IPv4", _lease(at(node, "lease"))), ("Last update", _last_update(node))]
    if bound:
        rows[1:1] = [
            ("Care-of", f"{_care_of(binding)}   {text_at(binding, 'encap')}".rstrip()),
            ("Binding", _binding(binding)),
            ("Payload", protection if (protection := text_at(binding, "protection")) != "none" else ""),
            ("Prefixes", _list(binding, "prefixes")),
        ]
    rows += [("Updates", _updates(node)), ("Protection", text_at(node, "protection"))]
    return paragraphs([head], [f"  {paint.faint(name.ljust(12))} {text}" for name, text in rows if text])


def _verdict(status: Result, paint: Paint) -> str:
    state, reason = text_at(status, "state"), text_at(status, "reason")
    bindings = number_at(status, "bindings")
    words = reason or (count(bindings, "binding") if bindings is not None else "")
    if state == "running":
        well = exit_of(status) is Exit.OK and not reason
        sign = paint.good("● running") if well else paint.fair("◐ running, with a problem")
    else:
        sign = paint.fair(f"◌ {state}")
    return f"{paint.strong(sign)} — {words}" if words else paint.strong(sign)


def _addresses(status: Result) -> str:
    addresses = [one for one in (text_at(status, "home_agent.v6"), text_at(status, "home_agent.v4")) if one]
    interface, port = text_at(status, "home_agent.interface"), text_at(status, "home_agent.port")
    words = " · ".join(addresses)
    words += (f"   on {interface}" if interface else "") + (f", UDP/{port}" if port else "")
    second = text_at(status, "home_agent.second_port")
    return words + (f", questions about NATs at UDP/{second}" if second else "")


def _home_link(status: Result) -> str:
    prefixes = [text_at(status, f"home_link.{name}") for name in ("ipv6_prefix", "ipv4_prefix")]
    pool = text_at(status, "home_link.ipv4_pool")
    return "  ".join(one for one in (*prefixes, f"pool {pool}" if pool else "") if one)


def _nodes(status: Result) -> str:
    words = []
    nodes, bindings = number_at(status, "mobile_nodes"), number_at(status, "bindings")
    if nodes is not None:
        words.append(f"{nodes:.0f} configured")
    if bindings is not None:
        words.append(f"{bindings:.0f} bound")
    used, total = text_at(status, "leases.used"), text_at(status, "leases.size")
    if used and total:
        words.append(f"{used} of {total} pool addresses in use")
    return ", ".join(words)


def _updates(status: Result) -> str:
    words = []
    accepted = number_at(status, "totals.updates_accepted")
    if accepted is not None:
        words.append(f"{accepted:.0f} accepted")
    for name, word in (("updates_rejected", "rejected"), ("updates_ignored", "ignored")):
        counts = at(status, f"totals.{name}")
        reasons = counts.items() if isinstance(counts, Mapping) else ()
        known = [(clean(str(why)), number) for why, number in reasons if isinstance(number, int) and number]
        if known:
            total = sum(number for _, number in known)
            words.append(f"{total} {word} ({', '.join(f'{why}: {number}' for why, number in known)})")
    return ", ".join(words)


def _tunnel(totals: Any) -> str:
    words = []
    for name in ("rx", "tx"):
        octets = number_at(totals, f"{name}_bytes")
        if octets is not None:
            words.append(f"{name} {size(octets)}")
    drops = at(totals, "drops") if isinstance(totals, Mapping) else None
    refused = sum(n for n in drops.values() if isinstance(n, int)) if isinstance(drops, Mapping) else 0
    return "   ".join([*words, *([f"{count(refused, 'packet')} refused"] if refused else [])])


def _homes(one: Result) -> str:
    return "  ".join(address for address in (text_at(one, "home.v6"), text_at(one, "home.v4")) if address)


def _networks(one: Result) -> str:
    """How many mobile network prefixes there are besides; `hactl show` names them."""
    number = len(items_at(one, "prefixes"))
    return f"  +{count(number, 'prefix', 'prefixes')}" if number else ""


def _care_of(one: Result) -> str:
    care_of, observed = text_at(one, "care_of"), text_at(one, "observed")
    return f"{care_of} → {observed}" if one.get("nat") and observed else care_of or observed


def _binding(binding: Result) -> str:
    words = [f"seq {sequence}" for sequence in [text_at(binding, "sequence")] if sequence]
    words += [f"lifetime {lifetime} s" for lifetime in [text_at(binding, "lifetime_s")] if lifetime]
    words += [one for one in [_span(binding, "expires_in_s", "expires in ")] if one]
    words += [f"since {since}" for since in [text_at(binding, "registered_at")] if since]
    return ", ".join(words)


def _lease(lease: Any) -> str:
    if not isinstance(lease, Mapping) or not text_at(lease, "v4"):
        return ""
    notes = [text_at(lease, "kind"), text_at(lease, "state"), _span(lease, "expires_in_s", "expires in ")]
    return f"{text_at(lease, 'v4')} ({', '.join(note for note in notes if note)})"


def _last_update(node: Result) -> str:
    if not isinstance(node.get("last_update"), Mapping):
        return ""
    status = text_at(node, "last_update.status")
    text = text_at(node, "last_update.text") or "?"
    peer = text_at(node, "last_update.from")
    words = [_span(node, "last_update.ago_s", "", " ago"), f"from {peer}" if peer else ""]
    return "  ".join(word for word in (*words, f"{text} ({status})" if status else text) if word)


def _list(one: Result, field: str) -> str:
    return "  ".join(clean(str(item)) for item in items_at(one, field))


def _span(one: Result, field: str, before: str = "", after: str = "") -> str:
    value = number_at(one, field)
    return f"{before}{seconds(max(0.0, value))}{after}" if value is not None else ""
