"""What the data plane is meant to reach, compared with what was measured in one run.

Pure. Each goal is a ratio or a bound that holds for the worst of all rows that it is about.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.tables import Document, Row, markdown

_PROTECTED = ("esp-udp/ipv4", "esp/ipv6")


@dataclass(frozen=True, slots=True)
class Goal:
    """`found` is the worst figure, None if nothing could be measured."""

    what: str
    bound: str
    found: float | None
    met: bool


def goals(document: Document) -> Sequence[Goal]:
    """Of a result of the data-plane benchmark: those that its rows can show."""
    rows = [row for row in document["rows"] if "profile" not in row]
    plain = {tier: [r for r in rows if r["tier"] == tier] for tier in ("kernel", "offload", "portable")}
    kernel, portable = plain["kernel"], [r for r in plain["portable"] if r["format"] not in _PROTECTED]
    protected = [r for r in plain["offload"] if r["format"] in _PROTECTED]
    offload = [r for r in plain["offload"] if r["format"] not in _PROTECTED]
    slow = ("peer:openvpn", "peer:fastd", "peer:vtun")
    return (
        _least("kernel: TCP of the raw path", 0.70, (row["ratio_raw"] for row in _single(kernel))),
        _least("kernel: TCP of kernel vxlan", 1.0, _against(kernel, rows, ("peer:vxlan",))),
        _most("kernel: round trip added, us", 10, _figures(kernel, "added_rtt_us")),
        _least("offload: TCP of the raw path", 0.12, (row["ratio_raw"] for row in _single(offload))),
        _least("offload: TCP of wireguard-go", 1.5, _against(offload, rows, ("peer:wireguard-go",))),
        _least(
            "offload with ESP: TCP of wireguard-go", 1.0, _against(protected, rows, ("peer:wireguard-go",))
        ),
        _least("portable: TCP of openvpn, fastd, vtun", 1.0, _against(portable, rows, slow)),
        _least("portable: small packets, kpps", 80, _figures(portable, "kpps")),
    )


def table(document: Document) -> str:
    """As Markdown; the figure is the worst one that counts."""
    return markdown(
        ("goal", "bound", "worst measured", "met"),
        [
            (
                goal.what,
                goal.bound,
                "not measured" if goal.found is None else f"{goal.found:.2f}",
                "yes" if goal.met else "no",
            )
            for goal in goals(document)
        ],
    )


def _single(rows: Iterable[Row]) -> list[Row]:
    """Goals for TCP are for one flow."""
    return [row for row in rows if row["flows"] == 1]


def _figures(rows: Iterable[Row], key: str) -> list[float]:
    return [row[key] for row in rows if row[key] is not None]


def _against(rows: Iterable[Row], everything: Sequence[Row], peers: Sequence[str]) -> list[float]:
    """Of each row the ratio to each peer, both as ratios to the raw path of their own pairs."""
    theirs: Mapping[tuple[Any, ...], list[float]] = _by_kind(
        row for row in _single(everything) if row["tier"] in peers
    )
    return [
        row["ratio_raw"] / other
        for row in _single(rows)
        for other in theirs.get((row["inner"], row["direction"]), ())
    ]


def _by_kind(rows: Iterable[Row]) -> dict[tuple[Any, ...], list[float]]:
    found: dict[tuple[Any, ...], list[float]] = {}
    for row in rows:
        found.setdefault((row["inner"], row["direction"]), []).append(row["ratio_raw"])
    return found


def _least(what: str, bound: float, figures: Iterable[float]) -> Goal:
    return _goal(what, f"at least {bound:g}", min, lambda found: found >= bound, figures)


def _most(what: str, bound: float, figures: Iterable[float]) -> Goal:
    return _goal(what, f"at most {bound:g}", max, lambda found: found <= bound, figures)


def _goal(
    what: str,
    bound: str,
    worst: Callable[[Sequence[float]], float],
    holds: Callable[[float], bool],
    figures: Iterable[float],
) -> Goal:
    known = list(figures)
    if not known:
        return Goal(what, bound, None, False)
    found = worst(known)
    return Goal(what, bound, found, holds(found))
