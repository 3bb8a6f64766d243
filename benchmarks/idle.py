"""The idle benchmark: what a tunnel costs that nobody uses, beside wireguard-go in the same minutes.

Performs I/O. The mobile node is behind a NAT, which is what keepalives are for. Wake-ups are the voluntary
context switches of all threads: each is one sleep that ended.
"""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks import daemons
from benchmarks.chain import AGENT4, Chain, chain
from benchmarks.machine import Occasion, process_cpu_seconds, resident_kib
from benchmarks.peers import wireguard_go

SCHEMA = "mn-bench/idle/1"
Say = Callable[[str], None]
_HOUR = 3600
_KEEPALIVE = 25
"""Seconds, as wireguard's manual advises behind a NAT."""
_NAT = """table ip nat {
    chain post {
        type nat hook postrouting priority 100
        ip saddr 10.1.0.0/24 masquerade
    }
}
"""


@dataclass(frozen=True, slots=True)
class Plan:
    """How long each process is left alone (`settle_s`), then watched (`seconds`)."""

    seconds: int = 240
    settle_s: int = 20
    tunnel: str = ""

    @classmethod
    def quick(cls) -> Plan:
        return cls(seconds=30, settle_s=10)


@dataclass(frozen=True, slots=True)
class Effort:
    """What a process has done so far."""

    wakeups: int
    cpu_s: float

    @classmethod
    def of(cls, pid: int) -> Effort:
        """All its threads together; one that ends meanwhile takes its part with it."""
        wakeups = 0
        for task in Path(f"/proc/{pid}/task").iterdir():
            for line in (task / "status").read_text().splitlines():
                if line.startswith("voluntary_ctxt_switches:"):
                    wakeups += int(line.split()[1])
        return cls(wakeups, process_cpu_seconds((pid,)))


@dataclass(frozen=True, slots=True)
class Row:
    """One process. Per hour is what was counted in `seconds`, multiplied."""

    process: str
    end: str
    seconds: float
    wakeups: int
    wakeups_per_hour: int
    cpu_s_per_hour: float
    rss_mib: float
    threads: int


def run(plan: Plan, say: Say) -> dict[str, object]:
    """The document of benchmarks/results/idle.json."""
    occasion = Occasion.now()
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-idle-")))
        ours, theirs = stack.enter_context(chain()), stack.enter_context(chain())
        for nodes in (ours, theirs):
            _translate(nodes)
        daemons.prepare(ours)
        home_agent = daemons.start_home_agent(ours, stack, directory, tunnel=plan.tunnel)
        mobile_node = daemons.start_mobile_node(ours, stack, directory, plan.tunnel)
        peer = wireguard_go.connect(theirs, stack, AGENT4, _KEEPALIVE)
        plane = daemons.plane_of(mobile_node)
        watched = {
            ("mn-agent", "mobile node"): mobile_node.pid,
            ("home-agent", "home agent"): home_agent.pid,
            ("peer:wireguard-go", "mobile node"): peer[0],
            ("peer:wireguard-go", "home agent"): peer[1],
        }
        say(f"everything is up; {plan.settle_s} s to come to rest")
        time.sleep(plan.settle_s)
        rows = _watch(watched, plan.seconds, say)
    return occasion.result(
        SCHEMA,
        plan=asdict(plan),
        data_plane=plane,
        peers={"wireguard-go": wireguard_go.WireguardGo().version(), "keepalive_s": _KEEPALIVE},
        rows=[asdict(row) for row in rows],
    )


def _translate(nodes: Chain) -> None:
    command = nodes.command("router", "nft", "-f", "-")
    subprocess.run(command, input=_NAT, text=True, check=True)


def _watch(watched: Mapping[tuple[str, str], int], seconds: int, say: Say) -> list[Row]:
    say(f"watching {len(watched)} processes for {seconds} s")
    began = time.monotonic()
    before = {who: Effort.of(pid) for who, pid in watched.items()}
    time.sleep(seconds)
    rows = []
    for (process, end), pid in watched.items():
        after, took = Effort.of(pid), time.monotonic() - began
        wakeups = after.wakeups - before[process, end].wakeups
        cpu_s = after.cpu_s - before[process, end].cpu_s
        row = Row(
            process, end, round(took, 1), wakeups,
            round(wakeups * _HOUR / took), round(cpu_s * _HOUR / took, 3),
            round(resident_kib(pid) / 1024, 1), len(list(Path(f"/proc/{pid}/task").iterdir())),
        )  # fmt: skip
        say(f"  {row}")
        rows.append(row)
    return rows
