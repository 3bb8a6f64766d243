"""The investigation of a run: the witness and the captures, and what they have shown by now.

Performs I/O.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

from lab.access import through_nat64
from lab.capture import Capture
from lab.evidence import Observer, Seen
from lab.judge import Evidence, Stream
from lab.namespaces import Namespace
from lab.plan import FIXED
from lab.running import LOGS, RunningLab
from lab.witness import read_witness


@dataclass(slots=True)
class Investigation:
    """Everything that looks on while a scenario is played."""

    witness: Path
    watcher: subprocess.Popen[bytes]
    observer: Observer
    mobile_node: Mapping[str, tuple[Capture, Seen]]
    """By interface."""
    home_agent: tuple[Capture, Seen]
    correspondent: Capture
    homes: frozenset[IPv4Address | IPv6Address]

    @staticmethod
    def begin(lab: RunningLab, directory: Path) -> Investigation:
        """Start looking; returns once every capture runs."""
        directory.mkdir(parents=True, exist_ok=True)
        roles, machines = lab.topology.roles, lab.machines
        node, agent = machines[roles.mobile_node], lab.topology.home_agent.addresses
        witness = directory / "witness.jsonl"
        watcher = node.spawn([sys.executable, "-S", "-m", "lab.monitor", str(witness)], LOGS / "witness.log")
        investigation = Investigation(
            witness,
            watcher,
            Observer((*agent, *map(through_nat64, agent)), roles.port, roles.home_addresses),
            {i: (_capture(node, i, directory), Seen()) for i in lab.topology.mobile_node.interfaces},
            (_capture(machines[roles.home_agent], FIXED, directory), Seen()),
            _capture(machines[roles.correspondent], FIXED, directory),
            frozenset(roles.home_addresses),
        )
        for capture in investigation.captures:
            capture.wait_until_running()
        lab.observers |= {watcher.pid, *(capture.program.pid for capture in investigation.captures)}
        return investigation

    @property
    def captures(self) -> list[Capture]:
        return [*(c for c, _ in self.mobile_node.values()), self.home_agent[0], self.correspondent]

    def evidence(self, streams: Mapping[str, Stream]) -> Evidence:
        """What is known by now, together with what the streams received."""
        for capture, seen in (*self.mobile_node.values(), self.home_agent):
            for frame in capture.new_frames():
                sighting = self.observer.observe(frame)
                if sighting is not None:
                    seen.add(sighting)
        with self.witness.open() as file:
            witnessed = list(read_witness(file))
        seen_here = {interface: seen for interface, (_, seen) in self.mobile_node.items()}
        return Evidence(witnessed, seen_here, self.home_agent[1], streams, self.homes)

    def end(self) -> None:
        """Stop looking; the captures are complete afterwards."""
        for capture in self.captures:
            capture.stop()
        self.watcher.terminate()
        self.watcher.wait()


def _capture(machine: Namespace, interface: str, directory: Path) -> Capture:
    path = directory / f"{machine.name}-{interface}.pcap"
    return Capture.start(machine, interface, path, LOGS / "tcpdump.log")
