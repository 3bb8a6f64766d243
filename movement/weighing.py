"""The one policy: what every candidate costs, part by part, so that the cheapest one can be explained.

Pure. RFC 5555 section 4.4.1 (IPv6 first, IPv4 when it does not answer), RFC 6275 section 11.8.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from movement.opinion import Opinion, Verdict
from movement.policy import Attachment, Policy, link_metrics, preference


class Part(Enum):
    """What a candidate is weighed by: (points of one step, most steps, what one step means).

    One point is one millisecond of round trip. All that comes later, taken together, costs less than one
    step of what comes before; only family, moving and round trip are weighed against each other.
    """

    FAILED = 200_000_000, 99, "its binding updates had no answer lately"
    HOME_AGENT = 20_000_000, 8, "a home agent that comes later in the list"
    WISH = 9_000_000, 1, "not what `mnctl roam` asked for"
    POOR = 4_000_000, 1, "said not to carry"
    UNSTEADY = 2_000_000, 1, "comes and goes"
    AWAY = 1_000_000, 1, "not the home link"
    PREFERENCE = 100_000, 9, "later in [movement] interfaces"
    METERED = 50_000, 1, "metered, see [movement] metered"
    METRIC = 1_000, 49, "the host's own default routes prefer another link"
    FAMILY = 100, 1, "not the preferred family"
    MOVING = 50, 1, "a move costs more than it would gain"
    ROUND_TRIP = 1, 800, "milliseconds to the home agent"

    @property
    def step(self) -> int:
        return int(self.value[0])

    @property
    def most(self) -> int:
        return int(self.value[1])

    @property
    def text(self) -> str:
        return str(self.value[2])

    def cost(self, steps: float) -> float:
        return self.step * min(steps, self.most)


@dataclass(frozen=True, slots=True)
class Candidate:
    """An attachment, and how it stands with the home agent at place `home_agent` of the list.

    `failed` counts from 0 (it has not) upwards: what failed longest ago has the least number.
    """

    attachment: Attachment
    home_agent: int = 0
    failed: int = 0
    wanted: bool = True
    present: bool = False
    at_home: bool = False


@dataclass(frozen=True, slots=True)
class Weighed:
    """A candidate's score: the sum of `parts`, each with its points. The least score is the best.

    `held` says why it may not be used at all.
    """

    candidate: Candidate
    parts: tuple[tuple[Part, float], ...]
    round_trip: float | None
    opinions: tuple[Opinion, ...]
    held: str | None = None

    @property
    def score(self) -> float:
        return sum(points for _, points in self.parts)

    def points(self, part: Part) -> float:
        return next((points for known, points in self.parts if known is part), 0.0)


def weigh(
    candidates: Sequence[Candidate], opinions: Sequence[Opinion], policy: Policy
) -> tuple[Weighed, ...]:
    """Every candidate with its score, best first; equals stay in their order. Those that are held come last.

    A round trip that nobody has measured counts like the shortest one known: ignorance is no reason to move.
    """
    heard = [tuple(o for o in opinions if o.concerns(c.attachment)) for c in candidates]
    measured = [min((o.round_trip for o in each if o.round_trip is not None), default=None) for each in heard]
    shortest = min((rtt for rtt in measured if rtt is not None), default=0.0)
    metrics = link_metrics(c.attachment for c in candidates)
    ranks = {metric: rank for rank, metric in enumerate(sorted(set(metrics.values())))}
    somebody_at_home = any(c.at_home for c in candidates)
    weighed = []
    for candidate, about, rtt in zip(candidates, heard, measured, strict=True):
        attachment = candidate.attachment
        verdicts = {opinion.verdict for opinion in about}
        steps: dict[Part, float] = {
            Part.FAILED: candidate.failed,
            Part.HOME_AGENT: candidate.home_agent,
            Part.WISH: not candidate.wanted,
            Part.POOR: Verdict.POOR in verdicts,
            Part.UNSTEADY: Verdict.UNSTEADY in verdicts and not candidate.present,
            Part.AWAY: somebody_at_home and not candidate.at_home,
            Part.PREFERENCE: preference(attachment.interface, policy),
            Part.METERED: policy.is_metered(attachment.interface),
            Part.METRIC: ranks[metrics[attachment.index]],
            Part.FAMILY: (attachment.care_of.version == 6) is not policy.prefer_ipv6,
            Part.MOVING: not candidate.present,
            Part.ROUND_TRIP: (shortest if rtt is None else rtt) * 1000,
        }
        parts = tuple((part, part.cost(count)) for part, count in steps.items())
        held = next((o.why for o in about if o.verdict is Verdict.HELD), None)
        weighed.append(Weighed(candidate, parts, rtt, about, held))
    return tuple(sorted(weighed, key=lambda w: (w.held is not None, w.score)))


def deciding(best: Weighed, other: Weighed) -> Part | None:
    """Where `best` gains most over `other`: the rule that decided between them. None between equals."""
    gains = ((other.points(part) - points, part) for part, points in best.parts)
    gain, part = max(gains, key=lambda g: g[0])
    return part if gain > 0 else None
