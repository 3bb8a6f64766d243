"""Where and when a result was taken, in the words that every result file begins with.

Performs I/O.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_BUSY = (0, 1, 2, 5, 6)
"""User, nice, system, interrupts and soft interrupts in the first line of /proc/stat."""


@dataclass(frozen=True, slots=True)
class Occasion:
    """The start of a run: its time and how busy the machine was before anything was measured."""

    time: str
    load: tuple[float, float, float]

    @classmethod
    def now(cls) -> Occasion:
        return cls(time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), os.getloadavg())

    def result(self, schema: str, **more: object) -> dict[str, object]:
        """The document to write, `more` last. It says the load: other work on the machine costs speed."""
        return {
            "schema": schema,
            "time": self.time,
            "kernel": platform.release(),
            "python": platform.python_version(),
            "cpus": os.cpu_count(),
            "load_average": {
                "before": [round(load, 2) for load in self.load],
                "after": [round(load, 2) for load in os.getloadavg()],
            },
            **more,
        }


def write(target: Path, document: Mapping[str, object]) -> None:
    """Replace `target` at once, so that a run that is cut off leaves the last whole result."""
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_suffix(".unfinished")
    unfinished.write_text(json.dumps(document, indent=1) + "\n")
    unfinished.replace(target)


def machine_cpu_seconds() -> float:
    """What all processors have worked so far, the kernel's work included that no process is charged for."""
    fields = Path("/proc/stat").read_text().partition("\n")[0].split()[1:]
    return sum(int(fields[at]) for at in _BUSY) / _TICKS


def process_cpu_seconds(pids: Iterable[int]) -> float:
    """User and system time of these processes so far, exactly; of the threads that they have now."""
    total = 0
    for pid in pids:
        for task in Path(f"/proc/{pid}/task").iterdir():
            total += int((task / "schedstat").read_text().split()[0])
    return total / 1e9


def resident_kib(pid: int) -> int:
    """Memory of a process that is in RAM now."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    return 0


def package_version(package: str) -> str:
    """The version of an installed Debian package, or "" if it is not installed."""
    command = ["dpkg-query", "-W", "-f", "${Version}", package]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout
