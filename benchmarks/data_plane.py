"""The data-plane benchmark: raw path and tunnel in turn, pair by pair, and medians of the pairs.

Performs I/O. The raw path is measured inside every pair, so that a busy machine spoils both figures of a
ratio and not one. Processor time has two accounts: what the tunnel's processes worked, and what the whole
machine did, the generators of traffic included; a tunnel inside the kernel shows in the second only.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace

from benchmarks.chain import Chain, chain
from benchmarks.machine import Occasion
from benchmarks.measure import Direction, Flow, Meter, meter, raw, tunnelled
from benchmarks.profiles import Profile, links_like
from benchmarks.running import Running, Unavailable
from benchmarks.tiers import CONTESTANTS, up

SCHEMA = "mn-bench/data-plane/2"
Say = Callable[[str], None]
_SMALL_WINDOW = 0.15


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured. `formats` limits each tier to its first ones; 0 means all."""

    pairs: int = 5
    window: float = 0.25
    pings: int = 200
    flows: tuple[int, ...] = (1, 4)
    inner: tuple[int, ...] = (4, 6)
    formats: int = 0
    tiers: tuple[str, ...] = tuple(CONTESTANTS)
    profiles: tuple[str, ...] = tuple(profile.value for profile in Profile)
    """Those other than the first are for the first format of each tier, with one flow and IPv4 inside."""

    @classmethod
    def quick(cls) -> Plan:
        return cls(pairs=2, pings=100, flows=(1,), inner=(4,), formats=1, profiles=("",))


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
    """Of the tunnel's own processes, both ends."""
    rss_mib: float


@dataclass(frozen=True, slots=True)
class MachineCpu:
    """Beside a row: processor seconds a gigabyte of the whole machine, with the tunnel and without it."""

    tier: str
    format: str
    inner: int
    direction: str
    flows: int
    profile: str
    machine_cpu_s_per_gb: float
    raw_machine_cpu_s_per_gb: float


@dataclass(slots=True)
class _Run:
    """One run: where it measures, and what it has found so far."""

    plan: Plan
    nodes: Chain
    meter: Meter
    say: Say
    rows: list[dict[str, object]] = field(default_factory=list)
    machine: list[dict[str, object]] = field(default_factory=list)
    unavailable: dict[str, str] = field(default_factory=dict)

    def contestant(self, name: str, form: str) -> None:
        """All rows of one format of one tier."""
        with up(self.nodes, CONTESTANTS[name], form) as running:
            for inner in self.plan.inner:
                self._figures(running, name, form, inner)
            if form == CONTESTANTS[name].formats()[0]:
                for profile in self.plan.profiles:
                    if profile:
                        self._under(Profile(profile), running, name, form)

    def _figures(self, running: Running, name: str, form: str, inner: int) -> None:
        plan = self.plan
        added = self._added_round_trip(inner)
        self.say(f"  ipv{inner} round trip     +{added:.0f} us")
        for direction in Direction:
            kpps = self._small_packets(inner, direction)
            self.say(f"  ipv{inner} {direction.value:4} small     {kpps:6.1f} kpps")
            for flows in plan.flows:
                row = self._throughput(running, name, form, inner, direction, flows, Profile.PLAIN)
                if flows == 1:
                    row = replace(row, kpps=round(kpps, 1), added_rtt_us=round(added, 1))
                self.rows.append(asdict(row))

    def _under(self, profile: Profile, running: Running, name: str, form: str) -> None:
        with links_like(profile, self.nodes):
            for direction in Direction:
                row = self._throughput(running, name, form, 4, direction, 1, profile)
                self.rows.append({**asdict(row), "profile": profile.value})

    def _throughput(
        self,
        running: Running,
        name: str,
        form: str,
        inner: int,
        direction: Direction,
        flows: int,
        profile: Profile,
    ) -> Row:
        pairs = []
        for number in range(self.plan.pairs):
            both = {}
            order = (raw(inner), tunnelled(inner))
            for ends in order if number % 2 == 0 else order[::-1]:
                both[ends] = self.meter.tcp(ends, direction, flows, self.plan.window, running.pids)
            pairs.append((both[raw(inner)], both[tunnelled(inner)]))

        def median(figure: Callable[[Flow, Flow], float]) -> float:
            return statistics.median(figure(beside, through) for beside, through in pairs)

        row = Row(
            name, form, inner, direction.value, flows,
            gbps=round(median(lambda _, through: through.gbps), 4),
            raw_gbps=round(median(lambda beside, _: beside.gbps), 3),
            ratio_raw=round(median(lambda beside, through: through.gbps / beside.gbps), 5),
            kpps=None, added_rtt_us=None,
            cpu_s_per_gb=round(median(lambda _, through: through.cpu_s_per_gb), 3),
            rss_mib=round(running.resident_mib(), 1),
        )  # fmt: skip
        machine = MachineCpu(
            name, form, inner, direction.value, flows, profile.value,
            round(median(lambda _, through: through.machine_cpu_s_per_gb), 3),
            round(median(lambda beside, _: beside.machine_cpu_s_per_gb), 3),
        )  # fmt: skip
        self.machine.append(asdict(machine))
        self.say(
            f"  ipv{inner} {direction.value:4} {flows} flow{'s' * (flows > 1)} {profile.value:8}"
            f"{row.gbps:7.3f} Gbit/s, raw {row.raw_gbps:6.2f}, ratio {row.ratio_raw:.4f}, cpu s/GB"
            f" {row.cpu_s_per_gb:.2f} of {machine.machine_cpu_s_per_gb:.2f}"
        )
        return row

    def _small_packets(self, inner: int, direction: Direction) -> float:
        """The median rate at which 64-octet packets arrive, at the offered rate that is best for them."""
        rate = self.meter.best_small_packet_rate(tunnelled(inner), direction, _SMALL_WINDOW)
        return statistics.median(
            self.meter.small_packet_kpps(tunnelled(inner), direction, _SMALL_WINDOW, rate)
            for _ in range(self.plan.pairs)
        )

    def _added_round_trip(self, inner: int) -> float:
        trip, pings = self.meter.round_trip_us, self.plan.pings
        return statistics.median(
            trip(tunnelled(inner), pings) - trip(raw(inner), pings) for _ in range(self.plan.pairs)
        )

    def raw_path(self) -> Iterator[dict[str, object]]:
        """What the path carries without any tunnel: the limits of these generators."""
        for inner in self.plan.inner:
            trip = self.meter.round_trip_us(raw(inner), self.plan.pings)
            for direction in Direction:
                rate = self.meter.best_small_packet_rate(raw(inner), direction, _SMALL_WINDOW)
                kpps = self.meter.small_packet_kpps(raw(inner), direction, _SMALL_WINDOW, rate)
                yield {
                    "inner": inner, "direction": direction.value,
                    "rtt_us": round(trip, 1), "kpps": round(kpps, 1),
                }  # fmt: skip


def run(plan: Plan, say: Say) -> dict[str, object]:
    """The document of benchmarks/results/data_plane.json; `say` gets a line as each figure is known."""
    occasion = Occasion.now()
    tasks = [(name, form) for name in plan.tiers for form in _formats(plan, name)]
    with ExitStack() as stack:
        nodes = stack.enter_context(chain())
        this = _Run(plan, nodes, stack.enter_context(meter(nodes)), say)
        raw_path = list(this.raw_path())
        began = time.monotonic()
        for done, (name, form) in enumerate(tasks):
            say(f"{done + 1}/{len(tasks)}  {name}, {form}{_left(began, done, len(tasks))}")
            try:
                this.contestant(name, form)
            except Unavailable as reason:
                say(f"  not here: {reason}")
                this.unavailable[f"{name}, {form}"] = str(reason)
    return occasion.result(
        SCHEMA,
        plan=asdict(plan),
        peers={name: CONTESTANTS[name].version() for name in plan.tiers if CONTESTANTS[name].version()},
        unavailable=this.unavailable,
        raw=raw_path,
        rows=this.rows,
        machine_cpu=this.machine,
    )


def _formats(plan: Plan, name: str) -> tuple[str, ...]:
    return CONTESTANTS[name].formats()[: plan.formats or None]


def _left(began: float, done: int, of: int) -> str:
    if not done:
        return ""
    left = (time.monotonic() - began) / done * (of - done)
    return f"  (about {left / 60:.0f} min left)" if left > 60 else f"  (about {left:.0f} s left)"
