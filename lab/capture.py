"""Captures by tcpdump, read while they grow, their clock turned into the lab's.

Performs I/O.
"""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from lab.namespaces import Namespace
from lab.pcap import Frame, GrowingCapture
from lab.streams.journal import realtime_minus_boottime_ns

SNAPSHOT = 320
"""Octets kept of each frame: signalling whole, payload up to its inner headers."""
_FIRST_OCTETS_WITHIN = 30.0


@dataclass(slots=True)
class Capture:
    """One tcpdump on one interface; `start` returns when it captures."""

    machine: str
    interface: str
    path: Path
    program: subprocess.Popen[bytes]
    ahead_ns: int = field(default_factory=realtime_minus_boottime_ns)
    _growing: GrowingCapture = field(default_factory=GrowingCapture)
    _read: int = 0

    @staticmethod
    def start(machine: Namespace, interface: str, path: Path, log: Path) -> Capture:
        # Without immediate mode the kernel hands frames over about once a second, too late for a short step.
        options = ["-n", "-U", "-s", str(SNAPSHOT), "--time-stamp-precision=nano", "--immediate-mode"]
        options += ["-Z", "root"]
        program = machine.spawn(["tcpdump", *options, "-i", interface, "-w", str(path)], log)
        return Capture(machine.name, interface, path, program)

    def wait_until_running(self) -> None:
        """The file header is written when the socket is open."""
        deadline = time.monotonic() + _FIRST_OCTETS_WITHIN
        while time.monotonic() < deadline and not (self.path.exists() and self.path.stat().st_size):
            time.sleep(0.01)

    def new_frames(self) -> Iterator[Frame]:
        """What came since the last call, with its instants in nanoseconds of CLOCK_BOOTTIME."""
        with self.path.open("rb") as file:
            file.seek(self._read)
            octets = file.read()
        self._read += len(octets)
        for frame in self._growing.feed(octets):
            yield Frame(frame.at_ns - self.ahead_ns, frame.octets)

    def stop(self) -> None:
        """End tcpdump, which writes what it still holds."""
        self.program.send_signal(signal.SIGTERM)
        self.program.wait()
