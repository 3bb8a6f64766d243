"""The profile: where the time of a tier goes, line by line, in microseconds a segment of TCP.

Performs I/O. py-spy looks at the stacks of both ends from outside while one flow runs; its shares are turned
into time by what the processes worked for each segment in runs without it. Programs in the kernel are timed
by the kernel. Waiting for packets is left out.
"""

from __future__ import annotations

import linecache
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from threading import Thread

from benchmarks import bpf_statistics
from benchmarks.chain import chain
from benchmarks.machine import Occasion
from benchmarks.measure import Direction, Meter, meter, raw, tunnelled
from benchmarks.ours import Ours
from benchmarks.running import Unavailable
from tunnel.plane import Tier

SCHEMA = "mn-bench/costs/1"
Say = Callable[[str], None]
_ROOT = Path(__file__).parent.parent
_SPY = Path(sys.executable).parent / "py-spy"
_SAMPLES_S, _RATE = 3, 500
_SEGMENT = 1420
"""Octets of payload that count as one segment, near those of every format here."""
_LINES = 8
_FRAME = re.compile(r"(\S+) \((.+):(\d+)\)$")
_WAITING = re.compile(r"\b(poll|select|stdin)\b")


def run(say: Say, formats: Mapping[Tier, str]) -> dict[str, object]:
    """The document of benchmarks/results/costs.json; one format of each tier, uphill, IPv4 inside."""
    occasion = Occasion.now()
    rows: list[dict[str, object]] = []
    programs: list[dict[str, object]] = []
    ends: list[dict[str, object]] = []
    with chain() as nodes, meter(nodes) as traffic:
        for tier, form in formats.items():
            try:
                with Ours(tier).ends(nodes, form) as both, bpf_statistics.counted():
                    pids = {"mobile node": both[0].process.pid, "home agent": both[1].process.pid}
                    ends += [_end(traffic, tier, form, name, pid) for name, pid in pids.items()]
                    if tier is Tier.KERNEL:
                        programs += _in_kernel(traffic, tier, form)
                    found = _sampled(traffic, pids)
            except Unavailable as reason:
                say(f"  {tier.value}: not here: {reason}")
                continue
            for end in ends[-2:]:
                say(f"  {end}")
                rows += _rows(end, found[str(end["end"])])
    return occasion.result(SCHEMA, segment_octets=_SEGMENT, ends=ends, rows=rows, programs=programs)


def _end(traffic: Meter, tier: Tier, form: str, name: str, pid: int) -> dict[str, object]:
    """What one end works for a segment: in its process, and in the whole machine beyond the raw path."""
    pairs = [
        (traffic.tcp(raw(4), Direction.UP, 1, 0.5), traffic.tcp(tunnelled(4), Direction.UP, 1, 0.5, (pid,)))
        for _ in range(5)
    ]
    a_segment = _SEGMENT / 1e9 * 1e6
    own = statistics.median(through.cpu_s_per_gb for _, through in pairs)
    added = statistics.median(t.machine_cpu_s_per_gb - b.machine_cpu_s_per_gb for b, t in pairs)
    return {
        "tier": tier.value,
        "format": form,
        "end": name,
        "process_us": round(own * a_segment, 3),
        "machine_added_us": round(added * a_segment, 3),
    }


def _in_kernel(traffic: Meter, tier: Tier, form: str) -> Iterable[dict[str, object]]:
    before = bpf_statistics.programs()
    traffic.tcp(tunnelled(4), Direction.UP, 1, 1.0)
    for number, after in bpf_statistics.programs().items():
        earlier = before.get(number, bpf_statistics.Runs(after.name, 0, 0))
        count = after.count - earlier.count
        if count > 100:
            took = (after.nanoseconds - earlier.nanoseconds) / count / 1000
            yield {"tier": tier.value, "format": form, "program": after.name, "runs": count,
                   "us_a_run": round(took, 3)}  # fmt: skip


def _sampled(traffic: Meter, pids: Mapping[str, int]) -> Mapping[str, Counter[tuple[str, int]]]:
    """How often each line was found at work."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-costs-")))
        flow = Thread(target=lambda: traffic.tcp(tunnelled(4), Direction.UP, 1, _SAMPLES_S + 2.0))
        flow.start()
        time.sleep(0.3)
        spies = []
        for name, pid in pids.items():
            options = ["--pid", str(pid), "--duration", str(_SAMPLES_S), "--rate", str(_RATE)]
            command = [str(_SPY), "record", *options, "--format", "raw", "--nonblocking"]
            output = ["--output", str(directory / name)]
            spies.append(
                subprocess.Popen([*command, *output], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
            )
        for spy in spies:
            _, complaint = spy.communicate()
            if spy.returncode:
                raise RuntimeError(f"py-spy: {complaint.decode()}")
        flow.join()
        return {name: leaves((directory / name).read_text().splitlines()) for name in pids}


def leaves(lines: Iterable[str]) -> Counter[tuple[str, int]]:
    """Stacks as py-spy writes them ("frame;frame count") -> where their last frame was: file and line."""
    found: Counter[tuple[str, int]] = Counter()
    for line in lines:
        stack, _, count = line.rpartition(" ")
        frame = _FRAME.search(stack.rpartition(";")[2])
        if frame is not None:
            found[frame[2], int(frame[3])] += int(count)
    return found


def _rows(end: Mapping[str, object], found: Counter[tuple[str, int]]) -> Sequence[dict[str, object]]:
    """The dearest lines of one end, and the rest together."""
    working = {
        (path, line): n for (path, line), n in found.items() if not _WAITING.search(_source(path, line))
    }
    total = sum(working.values())
    if not total:
        return []
    process_us = float(str(end["process_us"]))
    dearest = sorted(working.items(), key=lambda item: -item[1])[:_LINES]
    rows = [(f"{path}:{line}", _source(path, line), samples) for (path, line), samples in dearest]
    rows.append(("", "everything else", total - sum(samples for _, _, samples in rows)))
    return [
        {
            "tier": end["tier"], "end": end["end"], "place": place, "source": source,
            "share": round(samples / total, 3), "us": round(samples / total * process_us, 2),
        }
        for place, source, samples in rows
    ]  # fmt: skip


def _source(path: str, line: int) -> str:
    return linecache.getline(str(_ROOT / path), line).strip()
