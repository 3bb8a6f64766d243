"""Command line of the fuzzer: progress, speed, worst time. Exit 1 on an escape or a slow input."""

from __future__ import annotations

import argparse
import sys

from tests.fuzz.offload_targets import OFFLOAD_TARGETS
from tests.fuzz.runner import LIMIT, FuzzFailureError, Outcome, fuzz
from tests.fuzz.targets import TARGETS

_ALL = (*TARGETS, *OFFLOAD_TARGETS)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--count", type=int, default=100_000, help="inputs for each parser")
    parser.add_argument("--seed", type=int, default=1, help="another seed, other inputs")
    parser.add_argument("--only", metavar="NAME", help="parsers whose name contains NAME")
    arguments = parser.parse_args()
    targets = [target for target in _ALL if not arguments.only or arguments.only in target.name]
    if not targets:
        parser.error(f"no parser is named {arguments.only}; there are {', '.join(t.name for t in _ALL)}")
    try:
        outcomes = [fuzz(target, arguments.count, arguments.seed, _show_progress) for target in targets]
    except FuzzFailureError as failure:
        print(f"\n{failure}", file=sys.stderr)
        return 1
    inputs = sum(outcome.inputs for outcome in outcomes)
    worst = max(outcomes, key=lambda outcome: outcome.worst)
    print(f"{inputs:,} inputs, nothing but refusals; worst {worst.worst * 1e6:.0f} us in {worst.name}")
    if worst.worst > LIMIT:
        print(f"too slow: bytes.fromhex({worst.worst_input.hex()!r})", file=sys.stderr)
        return 1
    return 0


def _show_progress(outcome: Outcome) -> None:
    last = "\n" if outcome.inputs % 100_000 or not sys.stdout.isatty() else "\r"
    print(outcome, end=last, flush=True)


if __name__ == "__main__":
    sys.exit(main())
