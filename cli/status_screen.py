"""`mnctl status` for people: one verdict, then what it rests on.

Pure. Reads `mnctl/status/1` of docs/control.md, of which any field may be null or absent.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cli.exits import Exit
from cli.paint import Paint
from cli.words import (
    attachment,
    clean,
    count,
    data_plane,
    items_at,
    milliseconds,
    number_at,
    paragraphs,
    seconds,
    size,
    text_at,
)

_ENCAPSULATIONS = {
    "udp4": "UDP/4191 over IPv4",
    "udp4-tlv": "UDP/4191 over IPv4 with TLV header",
    "udp4-tlv-draft": "UDP/4191 over IPv4 with the draft's TLV header",
    "ipip4": "IP-in-IP over IPv4",
    "ipip6": "IP-in-IP over IPv6",
    "esp-udp4": "UDP/4500 over IPv4",
    "esp6": "IPv6",
}
_PROTECTIONS = {"esp-aes256gcm": "ESP AES-GCM-256"}
_REACHABLE = ("bound", "home")

Status = Mapping[str, Any]


def exit_of(status: Status) -> Exit:
    """0 only while the home addresses are reachable and nothing is known to impair that."""
    impaired = any(item.get("impacts_connectivity") for item in items_at(status, "health"))
    return Exit.OK if status.get("state") in _REACHABLE and not impaired else Exit.NOT_BOUND


def render_status(status: Status, paint: Paint) -> str:
    rows = [
        ("Home", _home(status)),
        ("Networks", _networks(status)),
        ("Home agent", _home_agent(status)),
        ("Care-of", _care_of(status)),
        ("Tunnel", _tunnel(status)),
        ("Data plane", data_plane(status)),
        ("Binding", _binding(status)),
        ("Handover", _handover(status, paint)),
        *_recognised(status),
        *_standby(status),
        ("Uptime", _uptime(status)),
    ]
    known = [f"  {paint.faint(name.ljust(10))} {text}" for name, text in rows if text]
    return paragraphs([_verdict(status, paint)], known, _health(status, paint))


def _verdict(status: Status, paint: Paint) -> str:
    state = text_at(status, "state")
    reason = text_at(status, "reason")
    match state:
        case "bound":
            how = f"home addresses reachable through {_where(status)}{_distance(status)}"
            well = exit_of(status) is Exit.OK
            sign = paint.good("● bound") if well else paint.fair("◐ bound, with a problem")
        case "home":
            sign = paint.good("● at home")
            how = f"home addresses reachable directly{_via(status)}, nothing tunnelled"
        case "registering":
            sign, how = paint.fair("◌ registering"), _registering(status)
        case "resolving":
            name = text_at(status, "home_agent.name") or "the home agent"
            sign, how = paint.fair("◌ resolving"), reason or f"asking DNS for {name}"
        case "starting":
            sign, how = paint.fair("◌ starting"), reason or "reading the network"
        case "rejected":
            sign, how = paint.bad("✘ rejected"), _rejected(status)
        case "no-network":
            sign, how = paint.bad("○ no network"), reason or "no link with an address and a default router"
        case "stopped":
            how = reason or "deregistered; the home addresses are not reachable"
            sign = paint.bad("○ stopped")
        case _:
            sign, how = paint.fair(f"? {state}"), reason or "a state that this mnctl does not know"
    return f"{paint.strong(sign)} — {how}"


def _where(status: Status) -> str:
    interface = text_at(status, "path.interface") or "an unknown link"
    family = _family(status)
    return f"{interface} ({family})" if family else interface


def _family(status: Status) -> str:
    care_of = text_at(status, "path.care_of")
    if ":" in care_of:
        return "IPv6"
    if not care_of:
        return ""
    behind = text_at(status, "path.nat") not in ("", "none")
    return "IPv4 behind NAT" if behind else "IPv4"


def _via(status: Status) -> str:
    interface = text_at(status, "path.interface")
    return f" through {interface}" if interface else ""


def _distance(status: Status) -> str:
    rtt = number_at(status, "home_agent.rtt_ms")
    return f", {milliseconds(rtt)} to home agent" if rtt is not None else ""


def _registering(status: Status) -> str:
    reason = text_at(status, "reason") or "waiting for the home agent"
    words = f"{reason}{_via(status)}"
    attempts = number_at(status, "binding.attempts")
    if attempts is not None and attempts > 1:
        words += f", try {attempts:.0f}"
    return words + _next_try(status)


def _rejected(status: Status) -> str:
    reason = text_at(status, "reason")
    if not reason:
        code = text_at(status, "binding.ba_status")
        text = text_at(status, "binding.ba_text") or "no reason given"
        reason = f"the home agent refused: {text}{f' ({code})' if code else ''}"
    return reason + _next_try(status)


def _next_try(status: Status) -> str:
    following = number_at(status, "binding.next_try_in_s")
    return f", next try in {seconds(max(0.0, following))}" if following is not None else ""


def _home(status: Status) -> str:
    addresses = [clean(str(one)) for one in (*items_at(status, "home.v6"), *items_at(status, "home.v4"))]
    if not addresses:
        return ""
    device, mtu = text_at(status, "home.device"), text_at(status, "home.mtu")
    place = f"   on {device}{f' (MTU {mtu})' if mtu else ''}" if device else ""
    return "  ".join(addresses) + place


def _networks(status: Status) -> str:
    """The networks behind a mobile router."""
    prefixes = [clean(str(one)) for one in items_at(status, "router.prefixes")]
    interfaces = ", ".join(clean(str(one)) for one in items_at(status, "router.interfaces"))
    if not prefixes and not interfaces:
        return ""
    place = f"   behind {interfaces}" if interfaces else ""
    registered = (status.get("router") or {}).get("registered")
    return "  ".join(prefixes) + place + ("" if registered else "   not registered")


def _home_agent(status: Status) -> str:
    addresses = [one for one in (text_at(status, "home_agent.v4"), text_at(status, "home_agent.v6")) if one]
    name, source = text_at(status, "home_agent.name"), text_at(status, "home_agent.source")
    shown = [name if name not in addresses else "", " · ".join(addresses)]
    return "  ".join(one for one in shown if one) + (f"   ({source})" if source and any(shown) else "")


def _care_of(status: Status) -> str:
    address = text_at(status, "path.care_of")
    if not address:
        return ""
    words = f"{address} on {text_at(status, 'path.interface') or '?'}"
    observed = text_at(status, "path.observed")
    if observed and observed != address:
        words += f"  →  seen by home agent as {observed}"
    nat = text_at(status, "path.nat")
    return words + (f"   NAT: {nat}" if nat else "")


def _tunnel(status: Status) -> str:
    encapsulation = text_at(status, "path.encap")
    if not encapsulation:
        return ""
    words = [_ENCAPSULATIONS.get(encapsulation, encapsulation)]
    protection = text_at(status, "path.protection")
    if protection and protection != "none":
        words[0] += f" + {_PROTECTIONS.get(protection, protection)}"
    for name, field in (("rx", "totals.rx_bytes"), ("tx", "totals.tx_bytes")):
        octets = number_at(status, field)
        if octets is not None:
            words.append(f"{name} {size(octets)}")
    keepalive = number_at(status, "path.keepalive_s")
    if keepalive is not None:
        words.append(f"keepalive {seconds(keepalive)}")
    octets, source = number_at(status, "path.pmtu_bytes"), text_at(status, "path.pmtu_source")
    if octets is not None and source in ("measured", "remembered"):
        words.append(f"path MTU {octets:.0f} {source}")
    drops = status.get("totals") or {}
    dropped = sum(n for n in (drops.get("drops") or {}).values() if isinstance(n, int))
    if dropped:
        words.append(f"{count(dropped, 'packet')} refused")
    return "   ".join(words)


def _binding(status: Status) -> str:
    words: list[str] = []
    sequence, lifetime = text_at(status, "binding.sequence"), number_at(status, "binding.lifetime_s")
    if lifetime is None:
        return ""
    if sequence:
        words.append(f"seq {sequence}")
    words.append(f"lifetime {lifetime:.0f} s")
    refresh, expires = number_at(status, "binding.refresh_in_s"), number_at(status, "binding.expires_in_s")
    if refresh is not None:
        words.append(f"refresh in {seconds(refresh)}")
    elif expires is not None:
        words.append(f"expires in {seconds(expires)}")
    answered = number_at(status, "binding.last_ba_ms_ago")
    if answered is not None:
        words.append(f"last BA {seconds(answered / 1000)} ago")
    protection = text_at(status, "binding.protection")
    return ", ".join(words) + (f"   {protection}" if protection else "")


def _handover(status: Status, paint: Paint) -> str:
    if not isinstance(status.get("last_handover"), Mapping):
        return ""
    words = []
    ago = number_at(status, "last_handover.ago_s")
    if ago is not None:
        words.append(f"{seconds(ago)} ago")
    origin, destination = text_at(status, "last_handover.from"), text_at(status, "last_handover.to")
    result = text_at(status, "last_handover.result")
    if result == "failed" and origin == destination:
        words.append(f"stayed on {attachment(origin)}")
    else:
        words.append(f"{attachment(origin) or 'no network'} → {attachment(destination) or 'no network'}")
    if result == "failed":
        words.append(paint.bad(f"failed{_because(status)}"))
    elif result == "under way":
        words.append("under way")
    else:
        words.append(_cost(status))
    return "  ".join(word for word in words if word)


def _because(status: Status) -> str:
    message = text_at(status, "last_handover.message")
    return f": {message}" if message else ""


def _cost(status: Status) -> str:
    outage = number_at(status, "last_handover.outage_ms")
    lost = number_at(status, "last_handover.lost_packets")
    words = []
    if outage is not None:
        words.append(f"outage {milliseconds(outage)}")
    if lost is not None:
        words.append(f"{count(lost, 'packet')} lost")
    return ", ".join(words)


def _recognised(status: Status) -> list[tuple[str, str]]:
    """Only where the agent has set the address itself: it explains an address that DHCP has not given."""
    rows: list[tuple[str, str]] = []
    for item in items_at(status, "networks"):
        address = text_at(item, "address_set")
        if address:
            since = seconds(number_at(item, "ago_s") or 0.0)
            words = f"{text_at(item, 'interface')}: {address} set {since} ago, when its router had answered"
            rows.append(("" if rows else "Recognised", words))
    return rows


def _standby(status: Status) -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    for item in items_at(status, "standby"):
        notes = ["ready" if item.get("ready") else text_at(item, "why") or "not ready"]
        rtt = number_at(item, "rtt_ms")
        if rtt is not None:
            notes.append(milliseconds(rtt))
        place = f"{text_at(item, 'interface') or '?'} {text_at(item, 'care_of')}".rstrip()
        rows.append(("" if rows else "Standby", f"{place} ({', '.join(notes)})"))
    return rows


def _uptime(status: Status) -> str:
    words = []
    uptime = number_at(status, "uptime_s")
    if uptime is not None:
        words.append(seconds(uptime))
    handovers, failed = number_at(status, "totals.handovers"), number_at(status, "totals.failed")
    if handovers is not None:
        words.append(count(handovers, "handover"))
    if failed is not None and handovers:
        words.append(f"{failed:.0f} failed")
    worst = number_at(status, "totals.worst_outage_ms")
    if worst is not None and handovers:
        words.append(f"worst outage {milliseconds(worst)}")
    return ", ".join(words)


def _health(status: Status, paint: Paint) -> list[str]:
    lines = []
    for number, item in enumerate(items_at(status, "health")):
        head = paint.faint(("Health" if number == 0 else "").ljust(10))
        mark = paint.bad("!") if item.get("impacts_connectivity") else paint.fair("!")
        lines.append(f"  {head} {mark} {text_at(item, 'code')}  {text_at(item, 'text')}")
        if fix := text_at(item, "fix"):
            lines.append(f"  {'':10}   → {fix}")
    return lines
