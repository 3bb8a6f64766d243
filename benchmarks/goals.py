"""What is meant to be reached, compared with what was measured in one run.

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


def of_data_plane(document: Document) -> Sequence[Goal]:
    """Throughput and round trips of every tier, beside its peers."""
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


def of_path_swap(document: Document) -> Sequence[Goal]:
    """What a handover may do to packets under way, and how long it may take in the kernel tier."""
    counts = [row["with_swaps"] for row in document["rows"]]
    kernel = [row for row in document["rows"] if row["tier"] == "kernel"]
    lost = (count[f"lost_{way}"] for count in counts for way in ("up", "down"))
    misordered = (count[f"misordered_{way}"] for count in counts for way in ("up", "down"))
    return (
        _most("packets lost by swaps, any tier", 0, lost),
        _most("packets misordered by swaps, any tier", 0, misordered),
        _most("kernel: answer to swapped, median ms", 0.5, _figures(kernel, "answer_to_swapped_median_ms")),
    )


def of_home_agent(document: Document) -> Sequence[Goal]:
    """What many bindings may cost."""
    busy = [row for row in document["updates"] if row["offered_per_s"] == 2000]
    return (
        _least("one flow, of one binding's", 0.9, _figures(document["throughput"], "ratio_to_one")),
        _most("p99 at 2000 updates a second, ms", 50, (row["p99_ms"] for row in busy if "p99_ms" in row)),
        _most("updates lost at 2000 a second", 0, (row["lost"] for row in busy)),
        _most("memory of a binding, KiB", 2, (document["memory"]["kib_per_binding"],)),
    )


def of_idle(document: Document) -> Sequence[Goal]:
    """What a daemon may cost that nobody uses."""
    rows = {(row["process"], row["end"]): row for row in document["rows"]}
    ours, theirs = rows["mn-agent", "mobile node"], rows["peer:wireguard-go", "mobile node"]
    share = ours["wakeups"] / theirs["wakeups"]
    return (
        _most("mn-agent: memory, MiB", 45, (ours["rss_mib"],)),
        _goal("mn-agent: wake-ups, of wireguard-go's", "below 1", max, lambda found: found < 1, (share,)),
    )


def of_handover(document: Document) -> Sequence[Goal]:
    """What the control plane may add to the round trip, and what may be lost.

    A round trip to the home agent takes half a millisecond in the lab, and is not taken off.
    """
    ours = [row for row in document["rows"] if "peer" not in row]
    gentle = [row for row in ours if row["kind"] == "make before break"]
    hard = [row for row in ours if row["kind"] == "hard break"]
    return (
        _most("hard break, any stream: outage, median ms", 20, _figures(hard, "median_ms")),
        _most("hard break, any stream: outage, p95 ms", 20, _figures(hard, "p95_ms")),
        _most("usable link to Binding Update, median ms", 3, _signals(document)),
        _most("packets lost, make before break", 0, _figures(gentle, "lost")),
    )


def _signals(document: Document) -> list[float]:
    return [row["usable_to_update_median_ms"] for row in document["signalling"]]


def table(found: Sequence[Goal]) -> str:
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
            for goal in found
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
