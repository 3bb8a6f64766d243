"""Why the mobile node is where it is: scores, what they rest on, and the rule that decided, as plain values.

Pure. The shapes of `mnctl/why/1` in docs/control.md.
"""

from __future__ import annotations

from mn_agent.choice import Ranked
from mn_agent.decisions import Decision
from mn_agent.handover import label
from mn_agent.node import MobileNode
from mn_agent.status import Clocks
from movement.weighing import Part, deciding

Shown = dict[str, object]


def why(node: MobileNode, clocks: Clocks) -> Shown:
    """`mnctl/why/1`: the choice as it would be made now, and those that were made lately, newest first."""
    state, reason = node.summary()
    ranking = node.ranking(clocks.now)
    target = node.target
    return {
        "schema": "mnctl/why/1",
        "time": clocks.stamp(clocks.now),
        "state": state,
        "reason": reason,
        "in_use": None if target is None else label(target),
        "wish": node.choice.wanted.text,
        **explained(ranking),
        "decisions": [_decision(one, clocks) for one in reversed(node.decisions.past)],
    }


def explained(ranking: tuple[Ranked, ...]) -> Shown:
    """The best candidate, the rule by which it is that, and every candidate with its score."""
    usable = [ranked for ranked in ranking if ranked.weighed.held is None]
    best = usable[0] if usable else None
    rule, text = _rule(usable)
    return {
        "best": None if best is None else label(best.target),
        "rule": rule,
        "text": text,
        "candidates": [_candidate(ranked, ranked is best) for ranked in ranking],
    }


def _decision(decision: Decision, clocks: Clocks) -> Shown:
    return {
        "at": clocks.stamp(decision.at),
        "ago_s": round(clocks.now - decision.at, 1),
        "cause": decision.cause,
        "from": decision.origin,
        "handover": decision.handover,
        **explained(decision.ranking),
    }


def _rule(usable: list[Ranked]) -> tuple[str, str]:
    if not usable:
        return "none", "there is no link from which a home agent may be asked"
    if len(usable) == 1:
        return "only", f"{label(usable[0].target)} is the only candidate"
    best, other = usable[0], usable[1]
    part = deciding(best.weighed, other.weighed)
    names = f"{label(best.target)} before {label(other.target)}"
    if part is None:
        return "order", f"{names}: equal in all, and it was there first"
    if part is Part.ROUND_TRIP:
        times = [(each.weighed.round_trip or 0.0) * 1000 for each in (best, other)]
        return _name(part), f"{names}: {times[0]:.0f} ms to the home agent against {times[1]:.0f} ms"
    bad = {Part.POOR: "poor", Part.UNSTEADY: "unsteady"}.get(part)
    said = next((o.why for o in other.weighed.opinions if o.verdict.value == bad), None)
    return _name(part), f"{names}; against {label(other.target)}: {said or part.text}"


def _candidate(ranked: Ranked, chosen: bool) -> Shown:
    target, weighed = ranked.target, ranked.weighed
    return {
        "name": label(target),
        "interface": target.attachment.interface,
        "care_of": str(target.care_of),
        "home_agent": target.home_agent.name,
        "best": chosen,
        "present": weighed.candidate.present,
        "score": round(weighed.score, 1),
        "rtt_ms": None if weighed.round_trip is None else round(weighed.round_trip * 1000, 1),
        "held": weighed.held,
        "parts": [
            {"part": _name(part), "points": round(points, 1), "text": part.text}
            for part, points in weighed.parts
            if points
        ],
        "opinions": [
            {"by": opinion.by, "verdict": opinion.verdict.value, "why": opinion.why}
            for opinion in weighed.opinions
        ],
    }


def _name(part: Part) -> str:
    return part.name.lower().replace("_", "-")
