"""Which labs run on this machine, seen from outside: found by their supervisors, entered through /proc.

Performs I/O. A lab leaves no file outside its own mounts, so nothing can be stale: a supervisor is the first
process of its PID namespace, and /proc/PID/root leads to what it says about itself.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab.launch import SUPERVISOR
from lab.namespaces import STATE, LabError, enter

DESCRIPTION = STATE / "lab.json"
CONTROL = STATE / "control.sock"
_STOP_WITHIN = 20.0
_ANSWER_WITHIN = 3700.0
"""A step of a scenario may take an hour."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A running lab: the supervisor's process id out here, its machines' process ids in there."""

    name: str
    pid: int
    title: str
    machines: Mapping[str, int]
    cables: Mapping[str, str | None]

    def enter(self, machine: str, command: Sequence[str], directory: str = "/") -> list[str]:
        """The command that runs `command` on a machine of the lab, as a part of the lab."""
        if machine not in self.machines:
            raise LabError(f"no machine {machine} in lab {self.name} (known: {', '.join(self.machines)})")
        namespaces = f"/proc/{self.pid}/root/proc/{self.machines[machine]}/ns"
        processes = f"--pid=/proc/{self.pid}/ns/pid"
        return [*enter(namespaces), processes, f"--wdns={directory}", "--", *command]

    def ask(self, request: Mapping[str, object]) -> None:
        """Have the supervisor do something; raises LabError with its answer when it does not."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(_ANSWER_WITHIN)
            try:
                connection.connect(f"/proc/{self.pid}/root{CONTROL}")
                connection.sendall(json.dumps(request).encode() + b"\n")
                answer = json.loads(connection.makefile().readline() or "{}")
            except (OSError, ValueError):
                raise LabError(f"lab {self.name} plays a scenario and takes no orders") from None
        if error := answer.get("error"):
            raise LabError(error)

    def stop(self) -> None:
        """Take the lab down and wait until it is gone."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGTERM)
            deadline = time.monotonic() + _STOP_WITHIN
            while _describe(self.pid) is not None:
                if time.monotonic() > deadline:
                    os.kill(self.pid, signal.SIGKILL)
                time.sleep(0.02)


def running_labs() -> list[Entry]:
    """All labs of this machine, oldest first.

    A child that a supervisor has just forked still has its command line: the parent counts.
    """
    pids = sorted(int(entry) for entry in os.listdir("/proc") if entry.isdigit())
    labs: dict[str, Entry] = {}
    for pid in pids:
        if (entry := _describe(pid)) is not None:
            labs.setdefault(entry.name, entry)
    return list(labs.values())


def find_lab(name: str | None) -> Entry:
    """The lab of that name; without a name the only one there is."""
    labs = running_labs()
    if name is not None:
        labs = [lab for lab in labs if lab.name == name]
    if not labs:
        raise NoLab(f"no lab {name} is running" if name else "no lab is running — start one: mnctl lab up")
    if len(labs) > 1:
        raise LabError(f"several labs are running, say which: {', '.join(lab.name for lab in labs)}")
    return labs[0]


class NoLab(LabError):
    """There is no such lab."""


def _describe(pid: int) -> Entry | None:
    process = Path(f"/proc/{pid}")
    try:
        words = (process / "cmdline").read_bytes().split(b"\0")
        if [word.decode() for word in words[1:3]] != list(SUPERVISOR) or process.stat().st_uid != 0:
            return None
        said: dict[str, Any] = json.loads(Path(f"{process}/root{DESCRIPTION}").read_text())
        return Entry(said["name"], pid, said["title"], said["machines"], said["cables"])
    except (OSError, ValueError):
        return None
