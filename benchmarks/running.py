"""A tunnel that is up: the processes that make it, what they have worked, and their memory.

Performs I/O.
"""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.machine import process_cpu_seconds, resident_kib


class Unavailable(Exception):
    """This host cannot have that tunnel; the text says why."""


@dataclass(frozen=True, slots=True)
class Running:
    """The processes of a tunnel; none where the kernel alone is the tunnel."""

    pids: tuple[int, ...]

    def cpu_seconds(self) -> float:
        """User and system time of all of them so far."""
        return process_cpu_seconds(self.pids)

    def resident_mib(self) -> float:
        """Of the largest of them."""
        return max((resident_kib(pid) for pid in self.pids), default=0) / 1024
