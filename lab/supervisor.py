"""The supervisor: the first process of a lab, with which all of it comes and goes.

Performs I/O. Started by lab.launch as `python -m lab.supervisor`.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sys
import time
from argparse import ArgumentParser, Namespace
from pathlib import Path
from types import FrameType
from typing import Any

from lab.actions import perform
from lab.launch import READY
from lab.library import NotFound, load_scenario, load_topology
from lab.namespaces import LabError, run
from lab.registry import CONTROL, DESCRIPTION
from lab.running import RunningLab
from lab.scenario import DARK_MS, parse_step
from runtime.settings import ConfigError

_BEFORE_OTHERS = -10


class _Stop(BaseException):
    """A signal asked for the end."""


def main() -> int:
    """Make the lab, play or wait, and take it down."""
    options = _options()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, _stop)
    try:
        return _play(options) if options.scenario else _wait(options)
    except _Stop:
        return 130
    except (LabError, NotFound, ConfigError) as error:
        _complain(options, str(error))
        return 7 if isinstance(error, ConfigError) else 10 if isinstance(error, NotFound) else 1


def _options() -> Namespace:
    parser = ArgumentParser(prog="lab.supervisor")
    parser.add_argument("name")
    parser.add_argument("--topology", default="internet")
    parser.add_argument("--ready", type=int)
    parser.add_argument("--scenario")
    parser.add_argument("--report", type=Path)
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


def _play(options: Namespace) -> int:
    from lab.play import play  # rich and the judge are of no use to a lab that only waits

    # What is measured is the network, not whatever else this computer does meanwhile.
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, _BEFORE_OTHERS)
    scenario, topology, path = load_scenario(options.scenario)
    lab = RunningLab.build(topology)
    describe(lab, options.name)
    try:
        return play(lab, scenario, path.stem, options.report, options.json)
    finally:
        _take_down(lab)


def _wait(options: Namespace) -> int:
    lab = RunningLab.build(load_topology(options.topology))
    try:
        lab.start_all()
        describe(lab, options.name)
        control = socket.socket(socket.AF_UNIX)
        control.bind(str(CONTROL))
        control.listen()
        if options.ready is not None:
            os.write(options.ready, READY.encode())
            os.close(options.ready)
        control.settimeout(1.0)
        while True:
            with contextlib.suppress(TimeoutError):
                connection, _ = control.accept()
                _answer(lab, options.name, connection)
            _bury_strangers(lab)
    except _Stop:
        return 0
    finally:
        _take_down(lab)


def describe(lab: RunningLab, name: str) -> None:
    """Say what runs here, for lab.registry."""
    said = {
        "name": name,
        "title": lab.topology.title,
        "started": time.time(),
        "machines": {machine.name: machine.pid for machine in lab.machines.values()},
        "cables": {f"{host} {interface}": network for (host, interface), network in lab.cables.items()},
    }
    fresh = DESCRIPTION.with_suffix(".new")
    fresh.write_text(json.dumps(said))
    fresh.rename(DESCRIPTION)


def _answer(lab: RunningLab, name: str, connection: socket.socket) -> None:
    """One JSON line in, one out: plug (with network), unplug, or a step as a scenario has it between braces.

    `{"plug": "eth0", "network": "cafe"}`, `{"unplug": "eth0"}`, `{"step": "lose = 30, on = 'cafe'"}`.
    """
    with connection:
        connection.settimeout(2.0)
        answer: dict[str, Any] = {}
        try:
            request = json.loads(connection.makefile().readline(65536))
            host = request.get("host", lab.topology.roles.mobile_node)
            if "plug" in request:
                lab.plug(host, request["plug"], request["network"])
            elif "step" in request:
                perform(lab, parse_step(request["step"], lab.topology), DARK_MS)
            else:
                lab.unplug(host, request["unplug"])
            describe(lab, name)
        except (LabError, ConfigError) as error:
            answer = {"error": str(error)}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            answer = {"error": "not a request"}
        with contextlib.suppress(OSError):
            connection.sendall(json.dumps(answer).encode() + b"\n")


def _bury_strangers(lab: RunningLab) -> None:
    """Reap what others left behind: the first process of a PID namespace inherits every orphan."""
    own = {program.pid for program in lab.programs.values() if program.poll() is None}
    own |= {machine.pid for machine in lab.machines.values()}
    while True:
        try:
            ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return
        if ended is None or ended.si_pid in own:
            return
        os.waitpid(ended.si_pid, os.WNOHANG)


def _take_down(lab: RunningLab) -> None:
    """Let every program say goodbye; the kernel removes the rest when this process ends."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    with contextlib.suppress(LabError):
        lab.stop_all()
    # Interfaces go with their namespaces, but in the background; a person expects them gone right now.
    with contextlib.suppress(LabError):
        run(["sh", "-c", "for i in /sys/class/net/*; do ip link delete ${i##*/} 2>/dev/null; done; true"])


def _stop(number: int, frame: FrameType | None) -> None:
    raise _Stop


def _complain(options: Namespace, message: str) -> None:
    if options.ready is not None:
        with contextlib.suppress(OSError):
            os.write(options.ready, message.encode())
    else:
        print("\n".join(f"mnctl: {line}" for line in message.splitlines()), file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
