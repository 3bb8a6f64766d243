"""The command line of the benchmarks: `python -m benchmarks data-plane [--quick]`.

Performs I/O.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import click

from benchmarks.data_plane import Plan, run, table, write
from benchmarks.tiers import TIERS

RESULTS = Path(__file__).parent / "results"
_NEEDED = {"iperf3": "iperf3", "ping": "iputils-ping", "ip": "iproute2"}


@click.group()
def benchmarks() -> None:
    """Measure this product on this machine. Needs root: every benchmark builds namespaces of its own."""


@benchmarks.command("data-plane")
@click.option("--quick", is_flag=True, help="Two formats, few and short pairs: a look, not a figure.")
@click.option("--tier", "tiers", multiple=True, type=click.Choice(sorted(TIERS)), help="Default: all.")
@click.option("--pairs", type=click.IntRange(1, 100), help="Raw and tunnelled runs per figure. Default: 5.")
@click.option("--seconds", type=click.IntRange(1, 600), help="Length of each run. Default: 1.")
@click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Default: benchmarks/results/data_plane.json, with --quick build/data_plane_quick.json.",
)
def data_plane(
    quick: bool, tiers: tuple[str, ...], pairs: int | None, seconds: int | None, output: Path | None
) -> None:
    """Throughput, added round trip and small packets of each tier, as ratios to the raw path."""
    if os.geteuid():
        raise click.ClickException("needs root, to build network namespaces")
    for program, package in _NEEDED.items():
        if shutil.which(program) is None:
            raise click.ClickException(f"{program} is missing: apt-get install {package}")
    plan = Plan.quick() if quick else Plan.full()
    plan = plan.adjusted(tiers or tuple(sorted(TIERS)), pairs, seconds)
    load_before = os.getloadavg()
    rows = run(plan, lambda line: print(line, file=sys.stderr, flush=True))
    target = output or (Path("build/data_plane_quick.json") if quick else RESULTS / "data_plane.json")
    write(target, plan, rows, load_before)
    print(table(rows))
    print(f"\n{len(rows)} rows in {target}")


if __name__ == "__main__":
    benchmarks()
