"""`mnctl why` for people: the verdict, the candidates, and the decisions before.

Pure. Reads `mnctl/why/1` of docs/control.md, of which any field may be null or absent.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cli.paint import Paint
from cli.words import attachment, columns, items_at, milliseconds, number_at, paragraphs, seconds, text_at

Why = Mapping[str, Any]
_HEADER = ("", "candidate", "care-of", "round trip", "score", "because")


def render_why(why: Why, last: int, paint: Paint) -> str:
    """The present choice and the last few; `last` of them."""
    decisions = items_at(why, "decisions")[:last]
    return paragraphs(
        [_verdict(why, paint)],
        [*render_candidates(why, paint)],
        [line for decision in decisions for line in _decision(decision, paint)],
    )


def render_candidates(explained: Why, paint: Paint) -> list[str]:
    """A table, best first, each with what speaks against it."""
    candidates = items_at(explained, "candidates")
    if not candidates:
        return []
    header, *rows = columns(_HEADER, [_row(candidate) for candidate in candidates])
    return [f"  {paint.faint(header)}", *(f"  {row}" for row in rows)]


def _verdict(why: Why, paint: Paint) -> str:
    used, best = text_at(why, "in_use"), text_at(why, "best")
    place = attachment(used) if used else "nothing"
    sign = paint.good("●") if used else paint.bad("○")
    text = text_at(why, "text")
    wish = text_at(why, "wish")
    lines = [f"{paint.strong(f'{sign} {place}')} — {text}"]
    if used and best and best != used:
        lines.append(f"  on the way to {attachment(best)}")
    if wish:
        lines.append(f"  asked for: {wish}")
    return "\n".join(lines)


def _row(candidate: Why) -> tuple[str, ...]:
    rtt, score = number_at(candidate, "rtt_ms"), number_at(candidate, "score")
    mark = "▶" if candidate.get("best") else "·" if candidate.get("present") else " "
    return (
        mark,
        attachment(text_at(candidate, "name")),
        text_at(candidate, "care_of"),
        "" if rtt is None else milliseconds(rtt),
        "" if score is None else f"{score:,.0f}",
        _because(candidate),
    )


def _because(candidate: Why) -> str:
    """The heaviest things first; what somebody said in place of what it is called."""
    if held := text_at(candidate, "held"):
        return f"held: {held}"
    said = {text_at(o, "verdict"): text_at(o, "why") for o in items_at(candidate, "opinions")}
    words = []
    for part in items_at(candidate, "parts"):
        name, points = text_at(part, "part"), number_at(part, "points")
        if name != "round-trip" and points is not None:
            words.append(f"{said.get(name) or text_at(part, 'text')} ({points:,.0f})")
    return "; ".join(words) or "nothing speaks against it"


def _decision(decision: Why, paint: Paint) -> list[str]:
    ago, number = number_at(decision, "ago_s"), text_at(decision, "handover")
    when = "" if ago is None else f"{seconds(ago)} ago"
    origin, best = text_at(decision, "from"), text_at(decision, "best")
    moved = origin and origin.removesuffix("-nat") != best
    move = f"{attachment(origin)} → {attachment(best)}" if moved else attachment(best)
    name = f"   [handover {number}]" if number else ""
    head = f"  {when:>12}  {move}   {text_at(decision, 'cause')}{name}"
    below = [line for line in (text_at(decision, "text"), _scores(decision)) if line]
    return [head, *(f"  {'':>12}  {paint.faint(line)}" for line in below)]


def _scores(decision: Why) -> str:
    """Of all candidates at that time, best first, with the round trips that were known."""
    words = []
    for candidate in items_at(decision, "candidates"):
        score, rtt = number_at(candidate, "score"), number_at(candidate, "rtt_ms")
        if score is None:
            continue
        measured = "" if rtt is None else f" ({milliseconds(rtt)})"
        words.append(f"{text_at(candidate, 'name')} {score:,.0f}{measured}")
    return f"scores: {', '.join(words)}" if len(words) > 1 else ""
