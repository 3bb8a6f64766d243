"""The command line of the benchmarks: `python -m benchmarks WHICH [--quick]`.

Performs I/O.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import click

from benchmarks import costs as costs_benchmark
from benchmarks import data_plane as data_plane_benchmark
from benchmarks import home_agent as home_agent_benchmark
from benchmarks import idle as idle_benchmark
from benchmarks import path_swap as path_swap_benchmark
from benchmarks.machine import write
from benchmarks.report import RESULTS, TABLES, write_report
from benchmarks.tiers import CONTESTANTS
from lab.launch import run_in_front
from tunnel.plane import Tier

_NEEDED = {"ping": "iputils-ping", "ip": "iproute2"}
CommandT = TypeVar("CommandT", bound=Callable[..., object])


@click.group()
def benchmarks() -> None:
    """Measure this product on this machine. Needs root: every benchmark builds namespaces of its own."""
    if os.geteuid():
        raise click.ClickException("needs root, to build network namespaces")
    for program, package in _NEEDED.items():
        _need(program, package)
    # Whatever was built goes again, also when somebody's patience has ended.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))


def _common(name: str) -> Callable[[CommandT], CommandT]:
    """The options that every benchmark has; `name` is that of its result file."""
    quick = click.option("--quick", is_flag=True, help="Little and short: a look, not a figure.")
    output = click.option(
        "--output",
        type=click.Path(path_type=Path, dir_okay=False),
        help=f"Default: benchmarks/results/{name}.json, with --quick build/{name}_quick.json.",
    )
    return lambda command: quick(output(command))


@benchmarks.command("data-plane")
@_common("data_plane")
@click.option("--tier", "tiers", multiple=True, type=click.Choice(list(CONTESTANTS)), help="Default: all.")
@click.option("--pairs", type=click.IntRange(1, 100), help="Raw and tunnelled runs per figure. Default: 5.")
@click.option("--seconds", type=click.FloatRange(0.05, 600), help="Window of each run. Default: 0.25.")
@click.option("--flows", multiple=True, type=click.IntRange(1, 64), help="Default: 1 and 4.")
@click.option("--plain", is_flag=True, help="Leave out the profiles of slower links.")
def data_plane(
    quick: bool,
    output: Path | None,
    tiers: tuple[str, ...],
    pairs: int | None,
    seconds: float | None,
    flows: tuple[int, ...],
    plain: bool,
) -> None:
    """Throughput, added round trip and small packets of each tier and peer, as ratios to the raw path."""
    _need("ethtool", "ethtool")
    plan = data_plane_benchmark.Plan.quick() if quick else data_plane_benchmark.Plan()
    plan = replace(
        plan,
        tiers=tiers or plan.tiers,
        pairs=pairs or plan.pairs,
        window=seconds or plan.window,
        flows=flows or plan.flows,
        profiles=("",) if plain else plan.profiles,
    )
    _keep("data_plane", quick, output, data_plane_benchmark.run(plan, _say))


@benchmarks.command("home-agent")
@_common("home_agent")
@click.option("--bindings", type=click.IntRange(2, 60000), help="Default: 10000, with --quick 2000.")
@click.option("--tunnel", default="", help='Lines of [tunnel] for both daemons, as data_plane = "portable".')
def home_agent(quick: bool, output: Path | None, bindings: int | None, tunnel: str) -> None:
    """Binding Updates a second, throughput and memory with thousands of bindings."""
    plan = home_agent_benchmark.Plan.quick() if quick else home_agent_benchmark.Plan()
    plan = replace(plan, bindings=bindings or plan.bindings, tunnel=tunnel)
    _keep("home_agent", quick, output, home_agent_benchmark.run(plan, _say))


@benchmarks.command("idle")
@_common("idle")
@click.option("--seconds", type=click.IntRange(10, 3600), help="How long to watch. Default: 240.")
@click.option("--tunnel", default="", help='Lines of [tunnel] for both daemons, as data_plane = "portable".')
def idle(quick: bool, output: Path | None, seconds: int | None, tunnel: str) -> None:
    """Wake-ups, processor time and memory of daemons that nobody uses, and of wireguard-go."""
    plan = idle_benchmark.Plan.quick() if quick else idle_benchmark.Plan()
    plan = replace(plan, seconds=seconds or plan.seconds, tunnel=tunnel)
    _keep("idle", quick, output, idle_benchmark.run(plan, _say))


@benchmarks.command("costs")
@_common("costs")
def costs(quick: bool, output: Path | None) -> None:
    """Where the time of each tier goes, line by line."""
    formats = {Tier.KERNEL: "udp/ipv4", Tier.OFFLOAD: "udp/ipv4", Tier.PORTABLE: "udp/ipv4"}
    _keep("costs", quick, output, costs_benchmark.run(_say, formats))


@benchmarks.command("path-swap")
@_common("path_swap")
def path_swap(quick: bool, output: Path | None) -> None:
    """Packets lost and misordered by a handover under traffic, and how long the swap takes."""
    plan = path_swap_benchmark.Plan.quick() if quick else path_swap_benchmark.Plan()
    _keep("path_swap", quick, output, path_swap_benchmark.run(plan, _say))


@benchmarks.command("handover")
@_common("handover")
@click.option("--laps", type=click.IntRange(1, 1000), help="Each has every kind of move once. Default: 20.")
@click.option("--tunnel", default="", help='Lines of [tunnel] for both daemons, as data_plane = "portable".')
def handover(quick: bool, output: Path | None, laps: int | None, tunnel: str) -> None:
    """Outages of every kind of move, beside a bare UDP socket and wireguard-go, in the lab."""
    target = _target("handover", quick, output)
    target.parent.mkdir(parents=True, exist_ok=True)
    arguments = [str(laps or (1 if quick else 20)), str(target.resolve()), tunnel]
    code = run_in_front(arguments, ("-m", "benchmarks.roaming"))
    if code:
        sys.exit(code)
    _tell("handover", target)


@benchmarks.command("report")
def report() -> None:
    """Write the tables and pictures of all results anew, without measuring anything."""
    for name in TABLES:
        if not (RESULTS / f"{name}.json").exists():
            continue
        try:
            for path in write_report(name):
                print(f"in {path}")
        except ValueError as error:
            _say(str(error))


def _need(program: str, package: str) -> None:
    if shutil.which(program) is None:
        raise click.ClickException(f"{program} is missing: apt-get install {package}")


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _keep(name: str, quick: bool, output: Path | None, document: Mapping[str, object]) -> None:
    target = _target(name, quick, output)
    write(target, document)
    _tell(name, target)


def _tell(name: str, target: Path) -> None:
    """Where the result is, and the documents that a full run has brought up to date."""
    print(f"in {target}")
    if target == RESULTS / f"{name}.json":
        for path in write_report(name):
            print(f"in {path}")


def _target(name: str, quick: bool, output: Path | None) -> Path:
    """Where a result belongs: a look never replaces a figure."""
    return output or (Path(f"build/{name}_quick.json") if quick else RESULTS / f"{name}.json")


if __name__ == "__main__":
    benchmarks()
