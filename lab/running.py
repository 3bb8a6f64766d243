"""A running lab: its machines, where each cable is plugged in, and the programs that run.

Performs I/O. Belongs to the supervisor; its own network namespace is where unplugged cables hang.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from lab.faults import Faults
from lab.namespaces import STATE, LabError, Namespace, create, environment, run
from lab.plan import SWITCH, Machine, Plan, far_end, plan
from lab.topology import CORE, Service, Topology
from tunnel.keys import Method, generate_keys

LOGS = STATE / "log"
_READY_WITHIN = 30.0
_STOP_WITHIN = 5.0


@dataclass(slots=True)
class RunningLab:
    """Machines by name, and the network in which each interface of the mobile node is plugged, if any."""

    topology: Topology
    machines: dict[str, Namespace]
    cables: dict[tuple[str, str], str | None] = field(default_factory=dict)
    programs: dict[tuple[str, str], subprocess.Popen[bytes]] = field(default_factory=dict)
    faults: dict[str, Faults] = field(default_factory=dict)
    """What is wrong with networks."""
    observers: set[int] = field(default_factory=set)
    """Processes on machines that belong to none of them: they look on."""

    @staticmethod
    def build(topology: Topology) -> RunningLab:
        """Make machines, cables, addresses and files. No program runs yet."""
        layout = plan(topology)
        machines = create({machine.name: machine.early_sysctl for machine in layout.machines})
        lab = RunningLab(topology, machines)
        LOGS.mkdir(exist_ok=True)
        _connect(layout, topology, machines)
        _side_by_side(lambda machine: _configure(machines[machine.name], machine), layout.machines)
        for keys in topology.keys:
            text = generate_keys(method=Method(keys.method))
            for host, path in keys.paths.items():
                machines[host].write(path, text, 0o600)
        lab.cables = {(n, i): None for n, h in topology.host.items() for i in h.interfaces}
        return lab

    def start_all(self) -> None:
        """Plug the cables in and start every program, servers before those that need them."""
        layout = plan(self.topology)
        for machine in layout.machines:
            for service in machine.services:
                self.start(machine.name, service)
        for host, declared in self.topology.host.items():
            for interface, network in declared.plugged.items():
                self.plug(host, interface, network)

    def start(self, host: str, service: Service) -> None:
        """Start one program on a host; returns when it says that it is ready."""
        words = shlex.split(service.command)
        if shutil.which(words[0], path=environment()["PATH"]) is None:
            raise LabError(f"{words[0]}, which {host} is to run, is not installed")
        log = LOGS / f"{host}.{service.name}.log"
        program = self.machines[host].spawn(words, log)
        self.programs[host, service.name] = program
        if service.ready is None:
            return
        ready = Path(f"/proc/{self.machines[host].pid}/root{service.ready}")
        deadline = time.monotonic() + _READY_WITHIN
        while not ready.exists():
            if program.poll() is not None or time.monotonic() > deadline:
                raise LabError(f"{service.name} on {host} does not start:\n{tail(log)}")
            time.sleep(0.01)

    def declared_service(self, host: str, name: str) -> Service:
        """The service of that name as the topology declares it."""
        for service in self.topology.host[host].services:
            if service.name == name:
                return service
        raise LabError(f"{host} has no service {name}")

    def stop(self, host: str, name: str, how: signal.Signals = signal.SIGTERM) -> int:
        """End one program and return its exit code; SIGKILL when it does not end by itself."""
        program = self.programs.pop((host, name), None)
        if program is None:
            raise LabError(f"{name} is not running on {host}")
        program.send_signal(how)
        try:
            return program.wait(_STOP_WITHIN)
        except subprocess.TimeoutExpired:
            program.kill()
            return program.wait()

    def stop_all(self) -> None:
        """End every program, those started last first. Whatever is left dies with the supervisor."""
        for host, name in reversed(list(self.programs)):
            self.stop(host, name)

    def plug(self, host: str, interface: str, network: str) -> None:
        """Put the loose end of a cable into the switch of a network; pulls it out elsewhere first."""
        self._check(host, interface)
        if network not in self.topology.network:
            raise LabError(f"no network {network} (known: {', '.join(self.topology.network)})")
        self.unplug(host, interface)
        end, router = far_end(host, interface), self.machines[network]
        run(["ip", "link", "set", end, "netns", str(router.pid)])
        router.run(["ip", "link", "set", end, "master", SWITCH, "up"])
        self.cables[host, interface] = network

    def unplug(self, host: str, interface: str) -> None:
        """Pull a cable out: the host loses its carrier. Nothing happens when it hangs loose already."""
        self._check(host, interface)
        network = self.cables[host, interface]
        if network is not None:
            self.machines[network].run(["ip", "link", "set", far_end(host, interface), "netns", "1"])
            self.cables[host, interface] = None

    def send_single_packets(self, network: str) -> None:
        """Have whoever sends into a network cut large segments before its router weighs them.

        By size as well, since a program that wraps a packet leaves the count of its segments at zero.
        """
        single = ("gso_max_segs", "1", "gso_max_size", "1500")
        self.machines[CORE].run(["ip", "link", "set", network, *single])
        for host, interface in self.cables:
            self.machines[host].run(["ip", "link", "set", interface, *single])

    def signal_all(self, host: str, number: signal.Signals, only: Iterable[int] | None = None) -> list[int]:
        """Send a signal to every program on a host, and return which these were."""
        machine = self.machines[host]
        here = os.readlink(f"/proc/{machine.pid}/ns/net")
        reached = []
        for pid in only or (int(entry) for entry in os.listdir("/proc") if entry.isdigit()):
            with contextlib.suppress(OSError):  # when it has ended by itself
                if pid not in (machine.pid, *self.observers) and os.readlink(f"/proc/{pid}/ns/net") == here:
                    os.kill(pid, number)
                    reached.append(pid)
        return reached

    def _check(self, host: str, interface: str) -> None:
        if (host, interface) not in self.cables:
            known = ", ".join(i for h, i in self.cables if h == host)
            raise LabError(f"{host} has no interface {interface} with a loose cable (known: {known})")


def _connect(layout: Plan, topology: Topology, machines: Mapping[str, Namespace]) -> None:
    lines = [
        f"link add {wire.interface} netns {machines[wire.machine].pid} type veth"
        f" peer name {wire.other_interface} netns {machines[wire.other].pid}"
        for wire in layout.wires
    ]
    lines += [
        f"link add {interface} netns {machines[name].pid} type veth peer name {far_end(name, interface)}"
        for name, host in topology.host.items()
        for interface in host.interfaces
    ]
    run(["ip", "-batch", "-"], "\n".join(lines) + "\n")


def _configure(namespace: Namespace, machine: Machine) -> None:
    sections = []
    if machine.ip:
        sections.append("ip -batch - <<'END'\n" + "\n".join(machine.ip) + "\nEND\n")
    for key, value in machine.late_sysctl.items():
        path = f"/proc/sys/{key.replace('.', '/')}"
        sections.append(f"[ ! -e {path} ] || echo {value} > {path}\n")
    if machine.nft:
        sections.append(f"nft -f - <<'END'\n{machine.nft}\nEND\n")
    namespace.shell("".join(sections))
    for path, text in machine.files.items():
        namespace.write(path, text.lstrip("\n"))


def _side_by_side(work: Callable[[Machine], None], machines: Iterable[Machine]) -> None:
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, machines))


def tail(log: Path) -> str:
    """The last lines of a log."""
    return "\n".join(log.read_text(errors="replace").splitlines()[-15:])
