"""`mnctl netcheck` for people: a block for each interface, the verdict first.

Pure. Reads `mnctl/netcheck/1` of docs/control.md, of which any field may be null or absent.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cli.paint import Paint
from cli.words import at, clean, items_at, milliseconds, number_at, paragraphs, text_at

_SIGNS = {"in-use": "●", "ready": "✔", "unknown": "?", "poor": "✘", "held": "✘", "unusable": "○", "down": "○"}
_WAYS = (("udp_4191", "UDP 4191"), ("ip_in_ip", "IP in IP"), ("esp", "ESP"), ("udp_4500", "UDP 4500"))


def render_netcheck(result: Mapping[str, Any], paint: Paint) -> str:
    blocks = [_block(one, paint) for one in items_at(result, "interfaces")]
    return paragraphs(*blocks) if blocks else "no interfaces"


def _block(one: Mapping[str, Any], paint: Paint) -> list[str]:
    verdict = text_at(one, "verdict")
    colour = {"in-use": paint.good, "ready": paint.good, "poor": paint.bad, "held": paint.bad}
    sign = colour.get(verdict, paint.fair)(f"{_SIGNS.get(verdict, '?')} {text_at(one, 'interface')}")
    head = f"{sign} — {verdict}: {text_at(one, 'text')}"
    if verdict in ("down", "unusable"):
        return [head]
    rows = [
        ("IPv6", _family(one, "ipv6")),
        ("IPv4", _family(one, "ipv4")),
        ("NAT", _nat(one) if isinstance(at(one, "ipv4"), Mapping) else ""),
        ("Ways", "   ".join(f"{name} {_known(text_at(one, key))}" for key, name in _WAYS)),
        ("MTU", _mtu(one)),
        ("Portal", _portal(one)),
    ]
    lines = [f"  {paint.faint(name.ljust(7))} {text}" for name, text in rows if text]
    lines += [f"  {paint.faint('?'.ljust(7))} {paint.faint(line)}" for line in _unknown(one)]
    remarks = [f"  {paint.fair('!')} {clean(str(remark))}" for remark in items_at(one, "remarks")]
    return [head, *lines, *remarks]


def _family(one: Mapping[str, Any], name: str) -> str:
    family = at(one, name)
    if not isinstance(family, Mapping):
        return "no address"
    rtt = number_at(family, "rtt_ms")
    words = {"True": "home agent answers", "False": "home agent does not answer"}
    answers = words.get(text_at(family, "answers"), "home agent ?")
    if family.get("serves") is False:
        answers = "no home agent has an address of this family"
    prefix = text_at(family, "nat64")
    place = f"through the NAT64 {prefix}" if prefix else text_at(family, "care_of")
    return f"{place}   {answers}{f' in {milliseconds(rtt)}' if rtt is not None else ''}"


def _nat(one: Mapping[str, Any]) -> str:
    kind = text_at(one, "nat.kind")
    if not kind:
        return "?"
    keepalive, observed = number_at(one, "nat.keepalive_s"), text_at(one, "nat.observed")
    words = [kind, _mapping(one), f"seen as {observed}" if observed else ""]
    words.append(f"keepalive {keepalive:.0f} s" if keepalive is not None else "")
    return ", ".join(word for word in words if word)


def _mapping(one: Mapping[str, Any]) -> str:
    """A mapping per port is what others call symmetric."""
    words = {
        "port-independent": "one mapping for every port of the home agent",
        "port-dependent": "another mapping for every port (symmetric)",
        "unknown": "mapping ?",
    }
    word, why = words.get(text_at(one, "nat.mapping"), ""), text_at(one, "nat.mapping_unknown_why")
    return f"{word} ({why})" if word and why else word


def _unknown(one: Mapping[str, Any]) -> list[str]:
    """What is not known and why, ways that share a reason together."""
    names: dict[str, list[str]] = {}
    for key, name in _WAYS:
        if why := text_at(one, f"unknown_why.{key}"):
            names.setdefault(why, []).append(name)
    return [f"{', '.join(ways)}: {why}" for why, ways in names.items()]


def _mtu(one: Mapping[str, Any]) -> str:
    """What only the link says of a path that carries no payload is no knowledge of it."""
    known = {name: text_at(one, f"mtu.{name}") for name in ("link", "path", "inner")}
    source = text_at(one, "mtu.source")
    if source == "link" and not at(one, "mtu.tested"):
        known["path"] = "? (not tested)"
    elif source in ("measured", "remembered"):
        known["path"] += f" ({source})"
    return "   ".join(f"{name} {octets}" for name, octets in known.items() if octets)


def _portal(one: Mapping[str, Any]) -> str:
    words = {"unknown": "?", "open": "none, or open"}
    portal, url = text_at(one, "portal"), text_at(one, "portal_url")
    return " ".join(word for word in (words.get(portal, portal), url) if word)


def _known(word: str) -> str:
    return {"in-use": "in use", "unknown": "?", "carries": "✔", "blocked": "✘"}.get(word, word)
