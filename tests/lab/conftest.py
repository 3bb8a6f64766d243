"""What the tests of this storey share: they need a real kernel, and they leave nothing behind."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from lab.library import load_topology
from lab.namespaces import environment
from lab.registry import find_lab
from tests.lab.namespace import called_inside
from tests.lab.patience import PATIENCE, wait_until

ROOT = Path(__file__).parents[2]
MNCTL_LAB = (sys.executable, "-c", "from cli.lab_commands import lab; lab(prog_name='mnctl lab')")
TCPDUMP = ("tcpdump", "-U", "--immediate-mode")
"""Writes each packet at once. Else the kernel holds them for a second, and the last ones are lost."""
LAST_FRAME = bytes(12) + b"\x88\xb5" + b"what is captured is complete".ljust(46, b"\0")
"""Of an EtherType for experiments (IEEE 802), which nobody takes for anything else."""
OUTAGE_MS = 10_000
"""What scenarios allow that are played here: that streams come back is shown, how soon is for benchmarks."""
NETWORKS = load_topology("kinds").network
DAEMONS = (
    ('services = [{ command = "home-agent", ready = "/run/home-agent/control.sock" }]', ""),
    ('    { command = "mn-agent", ready = "/run/mn-agent/control.sock" },\n', ""),
)


UNHURRIED = frozenset(
    {
        "test_bpf_programs",
        "test_control_socket",
        "test_home_link_kernel",
        "test_mobile_network_kernel",
        "test_routing_kernel",
        "test_second_port",
        "test_tiers_agree",
        "test_tunnel_plane",
        "test_tunnel_plane_protected",
    }
)
"""Modules whose tests wait for what happens, however long it takes: they may share the machine."""


def why_not() -> str | None:
    """What this machine lacks for tests in network namespaces."""
    if os.geteuid() != 0:
        return "needs root"
    if not Path("/dev/net/tun").exists():
        return "needs /dev/net/tun"
    return None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    reason = why_not()
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.lab)
            if item.path.stem in UNHURRIED:
                item.add_marker(pytest.mark.unhurried)
            if reason is not None:
                item.add_marker(pytest.mark.skip(reason=reason))


def mnctl_lab(*words: str, timeout: float = 180, text: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run `mnctl lab ...` as a person would."""
    command = [*MNCTL_LAB, *words]
    return subprocess.run(
        command, cwd=ROOT, input=text, capture_output=True, text=True, timeout=timeout, check=False
    )


def patient(scenario: str) -> str:
    """The scenario with moves that last until the mobile node is bound from where it was moved to."""

    def wait(move: re.Match[str]) -> str:
        there = NETWORKS[move["network"]]
        look = "mnctl wait --for home"
        if move["network"] != "home":
            begin = str(there.ipv6.network_address)[:-1] if there.ipv6 else str(there.ipv4).rpartition(".")[0]
            look = f"until mnctl status -g path.care_of | grep -q '^{begin}'; do sleep 0.1; done"
        return f'{move[0]}\nuntil = ["sh", "-c", "{look}"]'

    return re.sub(r'^move = "(?P<network>\w+)".*$', wait, scenario, flags=re.MULTILINE)


@dataclass(frozen=True, slots=True)
class LabUnderTest:
    """A lab that is up, and gone after the test."""

    name: str

    def run(self, node: str, *command: str, text: str | None = None) -> subprocess.CompletedProcess[str]:
        """As `mnctl lab exec` does it, without starting that each time."""
        return subprocess.run(
            self.words(node, *command),
            env=environment(),
            input=text,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def words(self, node: str, *command: str) -> list[str]:
        """The same command, as it is entered into a machine of the lab."""
        return find_lab(self.name).enter(node, command, str(ROOT))

    def output(self, node: str, *command: str) -> str:
        done = self.run(node, *command)
        assert done.returncode == 0, f"{command}: {done.stderr or done.stdout}"
        return done.stdout

    def python(self, node: str, script: str) -> str:
        return self.output(node, sys.executable, "-c", script)

    def start_python(self, node: str, script: str) -> subprocess.Popen[str]:
        """A program that goes on beside the test, on a machine of the lab."""
        words = self.words(node, sys.executable, "-c", script)
        return subprocess.Popen(words, env=environment(), stdout=subprocess.PIPE, text=True)

    @contextmanager
    def capturing(self, node: str, interface: str, path: Path) -> Iterator[None]:
        """What passes there meanwhile is in the file `path` afterwards."""
        words = self.words(node, *TCPDUMP, "-i", interface, "-w", str(path))
        with subprocess.Popen(words, env=environment(), stderr=subprocess.PIPE, text=True) as capture:
            assert capture.stderr is not None
            assert "listening" in capture.stderr.readline()
            try:
                yield
                self._complete(node, interface, path)
            finally:
                self.run(node, "pkill", "tcpdump")

    def _complete(self, node: str, interface: str, path: Path) -> None:
        """Wait until a capture has all that has passed by now: a tcpdump that is ended reads no further."""
        entry = find_lab(self.name)

        def send() -> None:
            with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as link:
                link.bind((interface, 0))
                link.send(LAST_FRAME)

        called_inside(f"/proc/{entry.pid}/root/proc/{entry.machines[node]}/ns/net", send)
        wait_until(lambda: LAST_FRAME in path.read_bytes(), "the last frame is captured")

    def plug(self, interface: str, network: str) -> None:
        find_lab(self.name).ask({"plug": interface, "network": network})

    def unplug(self, interface: str) -> None:
        find_lab(self.name).ask({"unplug": interface})

    def status(self) -> dict[str, Any]:
        """What the mobile node says of itself; nothing while its agent is not there."""
        said = self.run("mn", "mnctl", "status", "--json").stdout
        told: dict[str, Any] = json.loads(said) if said else {}
        return told

    def path(self) -> dict[str, Any]:
        """What it says of the path of its binding; nothing while it has none."""
        told = self.status()
        return told["path"] if told.get("state") == "bound" else {}

    def bound_from(self, network: str) -> bool:
        """Whether it is bound from that network; a moment after a move it still is from the last one."""
        path, there = self.path(), NETWORKS[network]
        if not path.get("encap"):
            return False
        return any(ip_address(path["care_of"]) in prefix for prefix in (there.ipv6, there.ipv4) if prefix)

    def move(self, network: str) -> None:
        """Plug the cable in there, and wait until the mobile node is bound from there."""
        self.plug("eth0", network)
        self.wait_until_bound_from(network)

    def wait_until_bound_from(self, network: str) -> None:
        wait_until(lambda: self.bound_from(network), f"bound from {network}")

    def do(self, step: str) -> None:
        """One step of a scenario."""
        find_lab(self.name).ask({"step": step})

    def wait_for(self, node: str, *command: str, within: float = PATIENCE) -> float:
        """Seconds until the command succeeds."""
        began = time.monotonic()
        while (done := self.run(node, *command)).returncode != 0:
            assert time.monotonic() - began < within, f"{command}: {done.stderr or done.stdout}"
            time.sleep(0.02)
        return time.monotonic() - began


def unique_name() -> str:
    return f"test-{os.getpid()}-{time.monotonic_ns() % 1_000_000}"


@pytest.fixture(scope="session")
def plain_topology(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The internet of the lab without our two daemons: plain connectivity."""
    text = (ROOT / "lab/internet.toml").read_text()
    for daemon, nothing in DAEMONS:
        assert daemon in text
        text = text.replace(daemon, nothing)
    path = tmp_path_factory.mktemp("topology") / "plain.toml"
    path.write_text(text)
    return path


@pytest.fixture(scope="module")
def plain_lab(plain_topology: Path) -> Iterator[LabUnderTest]:
    """A lab without the daemons, shared by the tests of one module."""
    name = unique_name()
    done = mnctl_lab("up", "--name", name, "--topology", str(plain_topology))
    assert done.returncode == 0, done.stderr
    try:
        yield LabUnderTest(name)
    finally:
        mnctl_lab("down", "--lab", name)
