"""The data-plane benchmark: raw path and tunnel in turn, pair by pair, and medians of the pairs.

Performs I/O. Method: docs/performance.md. The raw path is measured inside every pair, so that a busy machine
spoils both figures of a ratio and not one.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from benchmarks.chain import Chain, chain
from benchmarks.measure import (
    Direction,
    Ends,
    best_small_packet_rate,
    raw,
    round_trips_us,
    small_packet_kpps,
    tcp_gbps,
    throughput_server,
    tunnelled,
)
from benchmarks.running import Running
from benchmarks.tiers import TIERS, Format, up

SCHEMA = "mn-bench/data-plane/1"
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured. `formats` limits each tier to its first ones; 0 means all."""

    pairs: int
    seconds: int
    pings: int
    flows: tuple[int, ...]
    inner: tuple[int, ...] = (4, 6)
    formats: int = 0
    tiers: tuple[str, ...] = ()

    @classmethod
    def full(cls) -> Plan:
        return cls(pairs=5, seconds=1, pings=500, flows=(1, 4))

    @classmethod
    def quick(cls) -> Plan:
        return cls(pairs=2, seconds=1, pings=200, flows=(1,), inner=(4,), formats=2)

    def adjusted(self, tiers: tuple[str, ...], pairs: int | None, seconds: int | None) -> Plan:
        return replace(self, tiers=tiers, pairs=pairs or self.pairs, seconds=seconds or self.seconds)


@dataclass(frozen=True, slots=True)
class Row:
    """One figure in all its respects. `kpps` and `added_rtt_us` are of one flow, so null for more."""

    tier: str
    format: str
    inner: int
    direction: str
    flows: int
    gbps: float
    raw_gbps: float
    ratio_raw: float
    kpps: float | None
    added_rtt_us: float | None
    cpu_s_per_gb: float
    rss_mib: float


def run(plan: Plan, say: Say) -> list[Row]:
    """Measure everything in `plan`; `say` gets a line as each figure is known."""
    rows: list[Row] = []
    with chain() as nodes, throughput_server(nodes):
        for name in plan.tiers:
            tier = TIERS[name]
            for form in tier.formats()[: plan.formats or None]:
                say(f"{name}, {form}")
                with up(nodes, tier, form) as running:
                    for inner in plan.inner:
                        rows += _measure(plan, nodes, running, name, form, inner, say)
    return rows


def _measure(
    plan: Plan, nodes: Chain, running: Running, name: str, form: Format, inner: int, say: Say
) -> list[Row]:
    """The rows of one tier, format and inner family, while its tunnel is up."""
    added = _added_round_trip(plan, nodes, inner)
    say(f"  ipv{inner} round trip     +{added:.0f} us")
    rows: list[Row] = []
    for direction in Direction:
        rate = best_small_packet_rate(nodes, tunnelled(inner), direction)
        kpps = statistics.median(
            small_packet_kpps(nodes, tunnelled(inner), direction, plan.seconds, rate)
            for _ in range(plan.pairs)
        )
        say(f"  ipv{inner} {direction.value:4} small     {kpps:6.1f} kpps")
        for flows in plan.flows:
            row = _throughput(plan, nodes, running, inner, direction, flows)
            single = flows == 1
            rows.append(
                replace(
                    row,
                    tier=name,
                    format=str(form),
                    kpps=round(kpps, 1) if single else None,
                    added_rtt_us=round(added, 1) if single else None,
                )
            )
            say(
                f"  ipv{inner} {direction.value:4} {flows} flow{'s' * (not single)}"
                f"    {row.gbps:6.3f} Gbit/s, raw {row.raw_gbps:6.2f}, ratio {row.ratio_raw:.4f}"
            )
    return rows


def _throughput(
    plan: Plan, nodes: Chain, running: Running, inner: int, direction: Direction, flows: int
) -> Row:
    through: list[float] = []
    beside: list[float] = []
    cpu: list[float] = []
    for pair in range(plan.pairs):
        order: Iterable[Ends] = (raw(inner), tunnelled(inner))
        for ends in order if pair % 2 == 0 else reversed(tuple(order)):
            before = running.cpu_seconds()
            gbps = tcp_gbps(nodes, ends, direction, flows, plan.seconds)
            if ends == raw(inner):
                beside.append(gbps)
            else:
                through.append(gbps)
                cpu.append((running.cpu_seconds() - before) / (gbps * plan.seconds / 8))
    return Row(
        tier="",
        format="",
        inner=inner,
        direction=direction.value,
        flows=flows,
        gbps=round(statistics.median(through), 4),
        raw_gbps=round(statistics.median(beside), 3),
        ratio_raw=round(statistics.median(t / b for t, b in zip(through, beside, strict=True)), 5),
        kpps=None,
        added_rtt_us=None,
        cpu_s_per_gb=round(statistics.median(cpu), 2),
        rss_mib=round(running.resident_mib(), 1),
    )


def _added_round_trip(plan: Plan, nodes: Chain, inner: int) -> float:
    return statistics.median(
        round_trips_us(nodes, tunnelled(inner), plan.pings) - round_trips_us(nodes, raw(inner), plan.pings)
        for _ in range(plan.pairs)
    )


def write(target: Path, plan: Plan, rows: list[Row], load_before: Iterable[float]) -> None:
    """The rows and what is needed to judge them, as JSON: a machine with other work gives lower figures."""
    document = {
        "schema": SCHEMA,
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "cpus": os.cpu_count(),
        "load_average": {
            "before": [round(load, 2) for load in load_before],
            "after": [round(load, 2) for load in os.getloadavg()],
        },
        "plan": asdict(plan),
        "rows": [asdict(row) for row in rows],
    }
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(document, indent=1) + "\n")


def table(rows: list[Row]) -> str:
    """The rows for people."""
    columns = ("tier", "format", "inner", "dir", "flows", "Gbit/s", "raw", "ratio", "kpps", "+rtt us")
    lines = [_line(*columns, "cpu s/GB", "MiB")]
    lines.append("-" * len(lines[0]))
    for row in rows:
        lines.append(
            _line(
                row.tier,
                row.format,
                f"ipv{row.inner}",
                row.direction,
                str(row.flows),
                f"{row.gbps:.3f}",
                f"{row.raw_gbps:.2f}",
                f"{row.ratio_raw:.4f}",
                "" if row.kpps is None else f"{row.kpps:.1f}",
                "" if row.added_rtt_us is None else f"{row.added_rtt_us:.0f}",
                f"{row.cpu_s_per_gb:.2f}",
                f"{row.rss_mib:.1f}",
            )
        )
    return "\n".join(lines)


def _line(tier: str, form: str, inner: str, direction: str, *numbers: str) -> str:
    return f"{tier:10} {form:20} {inner:5} {direction:4} " + " ".join(f"{number:>8}" for number in numbers)
