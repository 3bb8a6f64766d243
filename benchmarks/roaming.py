"""The handover benchmark's supervisor: a lab in which mn roams with mn-agent and a rover without it.

Performs I/O. Started by lab.launch as `python -m benchmarks.roaming LAPS OUTPUT TUNNEL`. The two machines
take turns lap by lap, and nothing is sent to or from the one that rests, so that neither disturbs the
other; everything is judged from captures and from the receivers' journals, by the lab's own judge.
"""

from __future__ import annotations

import contextlib
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.floor import INTERVAL_MS, SERVERS
from benchmarks.handover import (
    SCHEMA,
    START,
    Break,
    Outage,
    Signalling,
    Talk,
    kind_of,
    lap_from,
    rows,
    signalling_rows,
)
from benchmarks.machine import Occasion, write
from benchmarks.peers.programs import configuration, program
from benchmarks.peers.wireguard_go import MTU, WireguardGo
from lab.investigation import Investigation
from lab.judge import Handover, Stream, Window, judge_window, lost, silence
from lab.library import load_topology
from lab.namespaces import STATE, LabError
from lab.running import LOGS, RunningLab
from lab.streams.journal import RECORD, now_ns
from lab.witness import first_usable, read_witness

_HERE = Path(__file__).parent
_DARK_S = 0.06
_WATCH_S = 0.4
_CALM_S = 0.3
_STANDBY_S = 0.5
"""How long a new link has before the node is told to use it."""
_BOUND_WITHIN = 30.0
_PORT = 7800
_FLOOR, _WIREGUARD = "floor", "wireguard-go"
_KEEPALIVE_S = 25
_INNER = {4: ("10.66.0.2", "10.66.0.1"), 6: ("10.67.0.2", "10.67.0.1")}
"""Addresses inside wireguard, rover and server, by the IP version of its endpoint, which never changes."""


@dataclass(frozen=True, slots=True)
class _Path:
    """Streams between a machine that moves and one that stays."""

    mover: str
    moving: str
    fixed_machine: str
    fixed: str
    directory: Path

    def start(self, lab: RunningLab, talk: Talk, port: int) -> Iterator[subprocess.Popen[bytes]]:
        """The programs of lab.streams for each direction that speaks."""
        ends = {"up": (self.mover, self.moving, self.fixed_machine, self.fixed)}
        ends["down"] = (self.fixed_machine, self.fixed, self.mover, self.moving)
        self.directory.mkdir(parents=True)
        for number, (direction, (sender, source, receiver, to)) in enumerate(ends.items()):
            if direction not in talk.streams:
                continue
            at = str(port + number)
            received, sent = (str(self.directory / f"{direction}.{what}") for what in ("received", "sent"))
            yield _datagrams(lab, receiver, "receive", "--address", to, "--port", at, "--journal", received)
            yield _datagrams(
                lab, sender, "send", "--address", source, "--to", to, "--port", at,
                "--interval", str(INTERVAL_MS), "--journal", sent,
            )  # fmt: skip


@dataclass(slots=True)
class _Benchmark:
    """What has been measured so far."""

    lab: RunningLab
    outages: list[Outage] = field(default_factory=list)
    signalling: list[Signalling] = field(default_factory=list)
    places: dict[str, str] = field(default_factory=lambda: {"mn": START, "rover": START})

    def lap(self, talk: Talk, kind: Break, number: int) -> None:
        """Nine moves of each of the two machines: while one moves and is talked with, the other is silent."""
        directory = STATE / "evidence" / f"{talk.name}-{kind.name}-{number}"
        self._lap_with_agent(talk, kind, directory / "mn")
        self._lap_without(talk, kind, directory / "rover")
        shutil.rmtree(directory)

    def _lap_with_agent(self, talk: Talk, kind: Break, directory: Path) -> None:
        investigation = Investigation.begin(self.lab, directory)
        home, correspondent = self.lab.topology.roles.home_addresses[0], self.lab.topology.correspondent
        ours = _Path("mn", str(home), "cn", str(correspondent.addresses[0]), directory / "streams")
        programs = list(ours.start(self.lab, talk, _PORT))
        _wait_until_heard([ours.directory / f"{direction}.received" for direction in talk.streams])
        windows = self._walk("mn", kind)
        _end(programs)
        investigation.end()
        streams = _streams(ours.directory, talk)
        evidence = investigation.evidence(streams)
        for window in windows:
            between = self._arrived("mn", window)
            usable = self._registered(kind, between, judge_window(window, evidence))
            self._judge(kind, between, window, usable, talk, streams, "")

    def _lap_without(self, talk: Talk, kind: Break, directory: Path) -> None:
        directory.mkdir(parents=True)
        watcher = self._watch_rover(directory)
        programs: list[subprocess.Popen[bytes]] = []
        for version, (rover, server) in _INNER.items():
            path = _Path("rover", rover, "server", server, directory / f"wireguard{version}")
            programs += path.start(self.lab, talk, _PORT + 10 * version)
        programs += _floor(self.lab, directory / _FLOOR, talk)
        _wait_until_heard([directory / _FLOOR / f"{direction}.received" for direction in talk.streams])
        windows = self._walk("rover", kind)
        _end([*programs, watcher])
        floor = _streams(directory / _FLOOR, talk)
        tunnels = {version: _streams(directory / f"wireguard{version}", talk) for version in _INNER}
        with (directory / "rover.jsonl").open() as file:
            witnessed = list(read_witness(file))
        for window in windows:
            between = self._arrived("rover", window)
            (interface,) = set(window.after) - set(window.before) or set(window.after)
            usable = first_usable(
                witnessed, interface, window.started_ns, window.until_ns, window.cut
            ).usable_ns
            self._judge(kind, between, window, usable, talk, floor, _FLOOR)
            for version, streams in tunnels.items():
                if _can_roam(version, between):
                    self._judge(kind, between, window, usable, talk, streams, _WIREGUARD)

    def _walk(self, host: str, kind: Break) -> list[Window]:
        return [self._move(host, network, kind, index) for index, network in enumerate(lap_from(START))]

    def _arrived(self, host: str, window: Window) -> tuple[str, str]:
        """The kinds of network it came from and is in now."""
        origin, self.places[host] = self.places[host], window.text
        return kind_of(origin), kind_of(window.text)

    def _move(self, host: str, network: str, kind: Break, index: int) -> Window:
        before = dict(self._plugged(host))
        if kind is Break.HARD:
            (interface,) = before
            started = now_ns()
            self.lab.unplug(host, interface)
            time.sleep(_DARK_S)
            self.lab.plug(host, interface, network)
            time.sleep(_WATCH_S)
            return Window(index, network, started, now_ns(), interface, before, self._plugged(host))
        (old,) = before
        new = "wlan0" if old == "eth0" else "eth0"
        self.lab.plug(host, new, network)
        time.sleep(_STANDBY_S)
        started = now_ns()
        if host == "mn":
            self.lab.machines[host].run(["mnctl", "roam", "--to", new])
        else:
            # What a network manager does: prefer the other link. Each family may have a route or not.
            self.lab.machines[host].shell(
                f"ip route del default dev {old} || true\nip -6 route del default dev {old} || true\n"
            )
        time.sleep(_WATCH_S)
        until = now_ns()
        self.lab.unplug(host, old)
        return Window(index, network, started, until, None, before, {**before, **self._plugged(host)})

    def _plugged(self, host: str) -> Mapping[str, str]:
        return {i: network for (name, i), network in self.lab.cables.items() if name == host and network}

    def _watch_rover(self, directory: Path) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-S", "-m", "lab.monitor", str(directory / "rover.jsonl")]
        return self.lab.machines["rover"].spawn(command, LOGS / "rover-witness.log")

    def _judge(
        self,
        kind: Break,
        between: tuple[str, str],
        window: Window,
        usable_ns: int | None,
        talk: Talk,
        streams: Mapping[str, Stream],
        peer: str,
    ) -> None:
        """What one move did to the streams of one of those that are compared."""
        for direction, name in talk.streams.items():
            stream = streams[direction]
            self.outages.append(_outage(stream, window, usable_ns, kind, between, name, peer))

    def _registered(self, kind: Break, between: tuple[str, str], handover: Handover | None) -> int | None:
        """When the new address could be used; a hard break also tells how fast the signalling was."""
        if handover is None:
            return None
        usable, update, ack = handover.usable_ns, handover.update_ns, handover.ack_ns
        if kind is Break.HARD and usable is not None and update is not None and ack is not None:
            self.signalling.append(Signalling(kind, *between, (update - usable) / 1e6, (ack - update) / 1e6))
        return usable


def _can_roam(version: int, between: tuple[str, str]) -> bool:
    """wireguard keeps to the IP version of its endpoint, so it is only judged where both networks have it."""
    return all((kind == "ipv6") == (version == 6) for kind in between)


def _outage(
    stream: Stream,
    window: Window,
    usable_ns: int | None,
    kind: Break,
    between: tuple[str, str],
    name: str,
    peer: str,
) -> Outage:
    silent = silence(stream, window, usable_ns)
    resumed = silent.end_ns < window.until_ns
    return Outage(
        kind, *between, name, peer,
        silent.outage_ns / 1e6, lost(stream, window) or 0, resumed,
    )  # fmt: skip


def _read(directory: Path, direction: str) -> Stream:
    def journal(what: str) -> list[tuple[int, int]]:
        with contextlib.suppress(FileNotFoundError):
            octets = (directory / f"{direction}.{what}").read_bytes()
            whole = octets[: len(octets) - len(octets) % RECORD.size]
            return [(at, sequence) for at, _, sequence in RECORD.iter_unpack(whole)]
        return []

    return Stream(int(INTERVAL_MS * 1e6), journal("received"), journal("sent"))


def _streams(directory: Path, talk: Talk) -> Mapping[str, Stream]:
    return {direction: _read(directory, direction) for direction in talk.streams}


def _end(programs: Sequence[subprocess.Popen[bytes]]) -> None:
    for process in programs:
        process.send_signal(signal.SIGTERM)
    for process in programs:
        process.wait()


def _wait_until_heard(journals: Sequence[Path]) -> None:
    """Until these streams flow. Others may have nobody to talk to, as a silent wireguard after a move."""
    deadline = time.monotonic() + _BOUND_WITHIN
    while not all(journal.exists() and journal.stat().st_size for journal in journals):
        if time.monotonic() > deadline:
            raise LabError(f"nothing arrives: {', '.join(str(journal) for journal in journals)}")
        time.sleep(0.02)
    time.sleep(_CALM_S)


def _datagrams(lab: RunningLab, machine: str, *words: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-S", "-m", "lab.streams.datagram", *words]
    return lab.machines[machine].spawn(command, LOGS / f"{machine}.streams.log")


def _floor(lab: RunningLab, directory: Path, talk: Talk) -> Iterator[subprocess.Popen[bytes]]:
    directory.mkdir()
    for machine, role in (("server", "server"), ("rover", "client")):
        command = [sys.executable, "-S", "-m", "benchmarks.floor", role, str(directory), talk.value]
        yield lab.machines[machine].spawn(command, LOGS / "floor.log")


def _start_wireguard(lab: RunningLab) -> None:
    """Two tunnels between rover and server, one over each IP version."""
    for version, inner in _INNER.items():
        private, public = {}, {}
        for machine in ("rover", "server"):
            private[machine] = lab.machines[machine].run([program("wg"), "genkey"]).strip()
            public[machine] = lab.machines[machine].run([program("wg"), "pubkey"], private[machine]).strip()
        device, port = f"wg{version}", 51820 + version
        for (machine, other), address in zip((("rover", "server"), ("server", "rover")), inner, strict=True):
            host = lab.machines[machine]
            host.spawn([program("wireguard-go"), "--foreground", device], LOGS / f"{machine}.{device}.log")
            endpoint = SERVERS[version] if version == 4 else f"[{SERVERS[version]}]"
            text = configuration(
                "wireguard-go.conf", private_key=private[machine], peer_key=public[other], port=port,
                endpoint=f"Endpoint = {endpoint}:{port}" if machine == "rover" else "",
                keepalive=_KEEPALIVE_S if machine == "rover" else 0,
            )  # fmt: skip
            host.write(f"/etc/{device}.conf", text, 0o600)
            host.shell(
                f"for i in $(seq 100); do ip link show {device} >/dev/null 2>&1 && break; sleep 0.05; done\n"
                f"{program('wg')} setconf {device} /etc/{device}.conf\n"
                f"ip link set {device} mtu {MTU} up\n"
                f"ip addr add {address} peer {inner[1 - inner.index(address)]} dev {device}\n"
            )


def _wait_until_reachable(lab: RunningLab) -> None:
    """Until every tunnel works: mn's home addresses answer, and the server inside each wireguard."""
    homes = [("cn", str(address)) for address in lab.topology.roles.home_addresses]
    servers = [("rover", server) for _, server in _INNER.values()]
    deadline = time.monotonic() + _BOUND_WITHIN
    for machine, address in (*homes, *servers):
        while True:
            try:
                lab.machines[machine].run(["ping", "-n", "-q", "-c", "1", "-W", "0.3", address])
                break
            except LabError:
                if time.monotonic() > deadline:
                    raise


def main() -> int:
    laps, output, tunnel = int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
    occasion, began = Occasion.now(), time.monotonic()
    topology = load_topology("roaming.toml", _HERE)
    for host, path in (("mn", "/etc/mn-agent/mn-agent.toml"), ("ha", "/etc/home-agent/home-agent.toml")):
        text = topology.host[host].files[path]
        topology = topology.with_files({host: {path: f"{text}\n[tunnel]\n{tunnel}\n"}})
    lab = RunningLab.build(topology)
    try:
        lab.start_all()
        _start_wireguard(lab)
        _wait_until_reachable(lab)
        lab.plug("rover", "eth0", START)
        benchmark = _Benchmark(lab)
        tasks = [(talk, kind, lap) for talk in Talk for kind in Break for lap in range(laps)]
        for done, (talk, kind, lap) in enumerate(tasks):
            took = time.monotonic() - began
            left = f", {took / done * (len(tasks) - done) / 60:.0f} min left" if done else ""
            print(f"  {talk.value}, {kind.value}, lap {lap + 1} of {laps}{left}", file=sys.stderr, flush=True)
            benchmark.lap(talk, kind, lap)
        document = occasion.result(
            SCHEMA,
            laps=laps,
            peers={_WIREGUARD: WireguardGo().version(), "keepalive_s": _KEEPALIVE_S},
            interval_ms=INTERVAL_MS,
            window_ms=_WATCH_S * 1000,
            rows=rows(benchmark.outages),
            signalling=signalling_rows(benchmark.signalling),
        )
        write(output, document)
    finally:
        with contextlib.suppress(LabError):
            lab.stop_all()
    return 0


if __name__ == "__main__":
    sys.exit(main())
