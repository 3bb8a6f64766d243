"""`mnctl roam` for people: the steps, then the verdict; or what a dry run would do.

Pure. Reads `mnctl/roam/1` of docs/control.md, of which any field may be null or absent.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cli.exits import Exit
from cli.paint import Paint
from cli.why_screen import render_candidates
from cli.words import at, attachment, clean, count, items_at, milliseconds, number_at, paragraphs, text_at

Roam = Mapping[str, Any]


def exit_of(roam: Roam) -> Exit:
    return Exit.HANDOVER_FAILED if roam.get("result") == "failed" else Exit.OK


def render_roam(roam: Roam, paint: Paint, explain: bool = False) -> str:
    """`explain`: also what there was to choose from, where the daemon tells."""
    explained = _explained(roam, paint) if explain else []
    if isinstance(roam.get("dry_run"), Mapping):
        return paragraphs(explained, _plan(roam["dry_run"]))
    return paragraphs(explained, [*_steps(roam), *_verdict(roam, paint)])


def _explained(roam: Roam, paint: Paint) -> list[str]:
    explained = roam.get("explained")
    if not isinstance(explained, Mapping):
        return []
    return [*render_candidates(explained, paint), f"  {text_at(explained, 'text')}"]


def _steps(roam: Roam) -> list[str]:
    steps = items_at(roam, "steps")
    if not steps:
        return _phases(roam)
    lines = []
    for number, step in enumerate(steps):
        when = number_at(step, "at_ms")
        line = f"{milliseconds(when or 0.0):>7}  {text_at(step, 'phase'):<9} {text_at(step, 'text')}"
        lines.append(f"{line}   {text_at(roam, 'mode')}".rstrip() if number == 0 else line.rstrip())
    return lines


def _phases(roam: Roam) -> list[str]:
    phases = at(roam, "phases_ms")
    if not isinstance(phases, Mapping):
        return []
    known = ((clean(str(name)), took) for name, took in phases.items() if isinstance(took, int | float))
    return [f"{milliseconds(took):>7}  {name}" for name, took in known]


def _verdict(roam: Roam, paint: Paint) -> list[str]:
    origin, destination = text_at(roam, "from"), text_at(roam, "to")
    message = text_at(roam, "message")
    match roam.get("result"):
        case "ok" if origin == destination and (places := _places(roam)):
            return [f"{paint.good('✔')} roamed {places}{_cost(roam)}"]
        case "ok":
            return [f"{paint.good('✔')} roamed {origin or 'no network'} → {destination}{_cost(roam)}"]
        case "failed":
            stayed = f"stayed on {origin}: nothing was interrupted" if origin else "still without a network"
            why = message or f"no answer from the home agent through {destination}"
            return [f"{paint.bad('✘')} {why}", f"  {stayed}"]
        case "unchanged":
            return [message or f"already on {destination or origin}: nothing to do"]
        case _:
            return [f"? {text_at(roam, 'result') or 'no result'} {message}".rstrip()]


def _places(roam: Roam) -> str:
    """On one interface it is the family that differs."""
    origin, destination = text_at(roam, "from_attachment"), text_at(roam, "to_attachment")
    return f"{attachment(origin)} → {attachment(destination)}" if origin and destination else ""


def _cost(roam: Roam) -> str:
    words = []
    total, outage, lost = (number_at(roam, name) for name in ("total_ms", "outage_ms", "lost_packets"))
    if total is not None:
        words.append(f"in {milliseconds(total)}")
    if outage is not None:
        words.append(f"outage {milliseconds(outage)}")
    if lost is not None:
        words.append(f"{count(lost, 'packet')} lost")
    handover = text_at(roam, "handover")
    return (" " if total is not None else ", " if words else "") + ", ".join(words) + (
        f"   [handover {handover}]" if handover else ""
    )


def _plan(plan: Mapping[str, Any]) -> list[str]:
    origin, destination = _end(at(plan, "from")), _end(at(plan, "to"))
    move = f"move care-of {origin} → {destination}" if origin else f"register care-of {destination}"
    lines = [f"Would {move}" if destination else "Would change nothing"]
    if update := _update(plan):
        lines.append(f"  BU   {update}")
    lines += [f"  run  {clean(str(command))}" for command in items_at(plan, "commands")]
    if mtu := _mtu(plan):
        lines.append(f"  mtu  {mtu}")
    return [*lines, "Nothing changed. Run without --dry-run to do it."]


def _end(end: object) -> str:
    address, interface = text_at(end, "care_of"), text_at(end, "interface")
    if not address and not interface:
        return ""
    nat = " via NAT" if text_at(end, "nat") not in ("", "none") else ""
    encapsulation = text_at(end, "encap")
    notes = ", ".join(one for one in (interface, f"{encapsulation}{nat}" if encapsulation else "") if one)
    return f"{address} ({notes})" if address else notes


def _update(plan: Mapping[str, Any]) -> str:
    words = []
    if sequence := text_at(plan, "binding_update.sequence"):
        words.append(f"seq {sequence}")
    if flags := items_at(plan, "binding_update.flags"):
        words.append(f"flags {' '.join(clean(str(flag)) for flag in flags)}")
    if lifetime := text_at(plan, "binding_update.lifetime_s"):
        words.append(f"lifetime {lifetime}")
    words += [clean(str(option)) for option in items_at(plan, "binding_update.options")]
    if octets := text_at(plan, "binding_update.size_bytes"):
        words.append(f"{octets} bytes")
    return "  ".join(words)


def _mtu(plan: Mapping[str, Any]) -> str:
    before, after = text_at(plan, "mtu.from"), text_at(plan, "mtu.to")
    if not after:
        return ""
    path, overhead = text_at(plan, "mtu.path_bytes"), text_at(plan, "mtu.overhead_bytes")
    notes = ", ".join(
        one for one in (f"path {path}" if path else "", f"overhead {overhead}" if overhead else "") if one
    )
    return (f"{before} → {after}" if before else after) + (f" ({notes})" if notes else "")
