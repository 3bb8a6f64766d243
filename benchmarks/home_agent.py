"""The home-agent benchmark: ten thousand bindings, two thousand Binding Updates a second, and what they cost.

Performs I/O. The real daemon in the chain of namespaces, pinned to one processor while updates are timed; the
fleet of mobile nodes has the other one. Throughput is that of one more mobile node, a real mn-agent, beside a
steady trickle of datagrams over all bindings of the fleet. A second home agent has a fleet of one and the
same trickle, and they are measured in turn: what differs is the number of bindings alone.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks import daemons, fleet
from benchmarks.chain import CN6, Chain, chain
from benchmarks.machine import Occasion, process_cpu_seconds, resident_kib
from benchmarks.measure import Direction, Meter, meter, tunnelled
from benchmarks.workers import Worker

SCHEMA = "mn-bench/home-agent/1"
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured. `rates` are of offered Binding Updates a second."""

    bindings: int = 10000
    rates: tuple[int, ...] = (1000, 2000, 3000)
    pairs: int = 5
    seconds: int = 2
    background_pps: int = 500
    tunnel: str = ""

    @classmethod
    def quick(cls) -> Plan:
        return cls(bindings=2000, rates=(1000, 2000), pairs=2, seconds=1)


@dataclass(frozen=True, slots=True)
class _Site:
    """A chain of its own with a home agent, a real mobile node, and a fleet of `bindings` others."""

    bindings: int
    agent: daemons.Daemon
    mobile: daemons.Daemon
    squad: Worker
    meter: Meter
    started_s: float

    @classmethod
    def build(cls, stack: ExitStack, directory: Path, bindings: int, tunnel: str, say: Say) -> _Site:
        directory.mkdir()
        nodes = stack.enter_context(chain())
        daemons.prepare(nodes)
        _add_fleet_site(nodes, stack)
        keys = directory / "keys"
        keys.mkdir()
        fleet.write_key_files(keys, bindings)
        others = [
            daemons.Registered(*fleet.home_addresses(number), keys / f"{number}.toml")
            for number in range(bindings)
        ]
        began = time.monotonic()
        agent = daemons.start_home_agent(nodes, stack, directory, others, tunnel)
        started_s = time.monotonic() - began
        say(f"home agent of {bindings} serves after {started_s:.1f} s")
        squad = Worker.start(nodes, stack, "fleet", "benchmarks.fleet", str(keys), str(bindings))
        mobile = daemons.start_mobile_node(nodes, stack, directory, tunnel)
        Worker.start(nodes, stack, "cn", "benchmarks.echo", str(CN6))
        return cls(bindings, agent, mobile, squad, stack.enter_context(meter(nodes)), started_s)


def run(plan: Plan, say: Say) -> dict[str, object]:
    """The document of benchmarks/results/home_agent.json."""
    occasion = Occasion.now()
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-home-agent-")))
        one = _Site.build(stack, directory / "one", 1, plan.tunnel, say)
        many = _Site.build(stack, directory / "many", plan.bindings, plan.tunnel, say)
        configured = resident_kib(many.agent.pid)
        one.squad.call("bind", count=1, move=False)
        _run_on(many.agent.pid, {0})
        updates = _updates(plan, many, say)
        bound = resident_kib(many.agent.pid)
        _run_on(many.agent.pid, range(os.cpu_count() or 1))
        throughput = _throughputs(plan, one, many, say)
        return occasion.result(
            SCHEMA,
            plan=asdict(plan),
            data_plane={
                "home_agent": daemons.plane_of(many.agent),
                "mobile_node": daemons.plane_of(many.mobile),
            },
            start_s=round(many.started_s, 2),
            store=_filesystem(directory),
            updates=updates,
            throughput=throughput,
            memory={
                "of_one_mib": round(resident_kib(one.agent.pid) / 1024, 1),
                "configured_mib": round(configured / 1024, 1),
                "bound_mib": round(bound / 1024, 1),
                "kib_per_binding": round((bound - configured) / plan.bindings, 2),
            },
        )


def _add_fleet_site(nodes: Chain, stack: ExitStack) -> None:
    nodes.add_node(stack, "fleet")
    nodes.connect("fleet", 2, "router", 1, 3)
    nodes.ip("fleet", "route add default via 10.3.0.1")
    for network in fleet.CARE_OF:
        nodes.ip("fleet", f"route add local {network} dev lo")
        nodes.ip("router", f"route add {network} via 10.3.0.2")
        nodes.ip("ha", f"route add {network} via 10.2.0.1")


def _run_on(pid: int, processors: Iterable[int]) -> None:
    """All threads of the daemon on these processors."""
    for task in Path(f"/proc/{pid}/task").iterdir():
        os.sched_setaffinity(int(task.name), processors)


def _updates(plan: Plan, site: _Site, say: Say) -> list[Mapping[str, object]]:
    """New bindings, refreshes and moves as fast as they are answered, then at each offered rate."""
    rows: list[Mapping[str, object]] = []
    for kind in ("new", "refresh", "move"):
        rows.append(_timed(site, kind, None, {"do": "bind"}))
        say(f"  {rows[-1]}")
    for rate in plan.rates:
        for kind in ("refresh", "move"):
            rows.append(_timed(site, kind, rate, {"do": "updates", "rate": rate}))
            say(f"  {rows[-1]}")
    # Whatever was lost at an offered rate beyond its means is bound again.
    site.squad.call("bind", count=plan.bindings, move=False)
    return rows


def _timed(site: _Site, kind: str, rate: int | None, wish: dict[str, Any]) -> Mapping[str, object]:
    before = process_cpu_seconds((site.agent.pid,))
    figures = site.squad.call(count=site.bindings, move=kind == "move", **wish)
    worked = process_cpu_seconds((site.agent.pid,)) - before
    cost = round(worked / figures["sent"] * 1000, 3)
    return {"kind": kind, "offered_per_s": rate, **figures, "cpu_ms_per_update": cost}


def _throughputs(plan: Plan, one: _Site, many: _Site, say: Say) -> list[dict[str, Any]]:
    """One TCP flow of the mobile node in each direction, at either site in turn, pair by pair."""
    rows = []
    for inner in (4, 6):
        for direction in Direction:
            pairs = [[_flow(plan, site, inner, direction) for site in (one, many)] for _ in range(plan.pairs)]
            alone, among = ([pair[at] for pair in pairs] for at in (0, 1))
            row = {
                "inner": inner,
                "direction": direction.value,
                "bindings": many.bindings,
                "gbps": round(statistics.median(flow.gbps for flow in among), 4),
                "gbps_of_one": round(statistics.median(flow.gbps for flow in alone), 4),
                "ratio_to_one": round(statistics.median(b.gbps / a.gbps for a, b in pairs), 3),
                "trickle_sent": sum(flow.trickle_sent for flow in among),
                "trickle_lost": sum(flow.trickle_lost for flow in among),
            }
            say(f"  {row}")
            rows.append(row)
    return rows


@dataclass(frozen=True, slots=True)
class _Flow:
    gbps: float
    trickle_sent: int
    trickle_lost: int


def _flow(plan: Plan, site: _Site, inner: int, direction: Direction) -> _Flow:
    """One flow, beside a trickle over all bindings of the site."""
    site.squad.ask("traffic", count=site.bindings, rate=plan.background_pps, seconds=plan.seconds)
    gbps = site.meter.tcp(tunnelled(inner), direction, 1, plan.seconds).gbps
    trickle = site.squad.answer()
    return _Flow(gbps, trickle["sent"], trickle["sent"] - trickle["echoed"])


def _filesystem(directory: Path) -> str:
    """What the home agent's memory is kept on, as each accepted update is written to it."""
    command = ["findmnt", "-n", "-o", "FSTYPE", "-T", str(directory)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
