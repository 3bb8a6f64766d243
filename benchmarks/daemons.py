"""The real home-agent and mn-agent in the chain, with configuration and keys of their own.

Performs I/O. The home link is the one between home agent and correspondent: the home agent has an address of
the home prefix on it. All files lie in one directory, which the caller makes and removes.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Any

from benchmarks.chain import HOME4, HOME6, Chain
from runtime.client import ControlClient, ControlError
from tunnel.keys import write_keys

AGENT4, AGENT6 = IPv4Address("203.0.113.2"), IPv6Address("2001:db8:99::2")
_SCRIPTS = Path(sys.executable).parent
_READY_WITHIN = 120.0
"""Seconds: ten thousand key files take a while."""
_PREFIXES = ("203.0.113.0/24", "2001:db8:99::/64")

_HOME_AGENT = """
[home_agent]
interface = "cn"
ipv6 = "{agent6}"
ipv4 = "{agent4}"
[home_link]
ipv6_prefix = "2001:db8:99::/64"
duplicate_address_detection = false
anycast = false
[binding]
max_bindings = {most}
[tunnel]
{tunnel}
[log]
level = "warning"
[paths]
control_socket = "{directory}/ha/control.sock"
runtime_directory = "{directory}/ha"
state_directory = "{directory}/ha/state"
"""

_MOBILE_NODE = """
[[mobile_node]]
home_address = "{home6}"
ipv4 = "{home4}"
key_file = "{key_file}"
"""

_MN_AGENT = """
[home]
ipv6 = "{home6}"
ipv4 = "{home4}"
[home_agent]
ipv6 = "{agent6}"
ipv4 = "{agent4}"
[security]
key_file = "{directory}/mn.toml"
[movement]
prefer_ipv6 = false
[routing]
mode = "home-only"
[tunnel]
{tunnel}
[log]
level = "warning"
[paths]
control_socket = "{directory}/mn/control.sock"
runtime_directory = "{directory}/mn"
state_directory = "{directory}/mn/state"
"""


@dataclass(frozen=True, slots=True)
class Registered:
    """One more mobile node that the home agent knows."""

    home6: IPv6Address
    home4: IPv4Address
    key_file: Path


@dataclass(slots=True)
class Daemon:
    """A running daemon: its process, and how to ask it."""

    process: subprocess.Popen[bytes]
    control: ControlClient
    log: Path

    @property
    def pid(self) -> int:
        return self.process.pid

    def status(self) -> dict[str, Any]:
        return dict(self.control.call("status"))

    def wait_until(self, key: str, value: str) -> None:
        """Until its status says so; RuntimeError with its last words if that takes too long."""
        deadline = time.monotonic() + _READY_WITHIN
        said: object = "nothing"
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                said = self.status().get(key)
            except ControlError as error:
                said = error
            if said == value:
                return
            time.sleep(0.05)
        raise RuntimeError(f"{key} is not {value} but {said}; last words:\n{self.log.read_text()[-2000:]}")

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def prepare(chain: Chain) -> None:
    """Give the home link its prefixes, and let the others find it."""
    chain.ip("ha", f"addr add {AGENT4}/24 dev cn")
    chain.ip("ha", f"addr add {AGENT6}/64 dev cn nodad")
    for prefix in _PREFIXES:
        via = "2001:db8:2::2" if ":" in prefix else "10.2.0.2"
        chain.ip("router", f"{'-6 ' if ':' in prefix else ''}route add {prefix} via {via}")


def start_home_agent(
    chain: Chain,
    stack: ExitStack,
    directory: Path,
    others: Iterable[Registered] = (),
    tunnel: str = "",
) -> Daemon:
    """Started and serving; `tunnel` are lines of its [tunnel] table."""
    own = directory / "mn.toml"
    if not own.exists():
        write_keys(own)
    nodes = [Registered(HOME6, HOME4, own), *others]
    text = _HOME_AGENT.format(
        agent4=AGENT4, agent6=AGENT6, most=len(nodes), tunnel=tunnel, directory=directory
    )
    text += "".join(
        _MOBILE_NODE.format(home6=node.home6, home4=node.home4, key_file=node.key_file) for node in nodes
    )
    daemon = _start(chain, stack, "ha", "home-agent", directory, text)
    daemon.wait_until("state", "running")
    return daemon


def start_mobile_node(chain: Chain, stack: ExitStack, directory: Path, tunnel: str = "") -> Daemon:
    """Started and bound, over public IPv4."""
    text = _MN_AGENT.format(
        home4=HOME4, home6=HOME6, agent4=AGENT4, agent6=AGENT6, tunnel=tunnel, directory=directory
    )
    daemon = _start(chain, stack, "mn", "mn-agent", directory, text)
    daemon.wait_until("state", "bound")
    return daemon


def plane_of(daemon: Daemon) -> str:
    """Which tier of the data plane the daemon says it uses; "portable" if it knows of no other."""
    said = daemon.status().get("data_plane")
    tier = said.get("tier") if isinstance(said, Mapping) else said
    return str(tier or "portable")


def _start(
    chain: Chain,
    stack: ExitStack,
    node: str,
    program: str,
    directory: Path,
    configuration: str,
) -> Daemon:
    path, log = directory / f"{node}-configuration.toml", directory / f"{node}.log"
    path.write_text(configuration)
    command = chain.command(node, str(_SCRIPTS / program), "--config", str(path))
    with log.open("ab") as output:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    control = ControlClient(directory / node / "control.sock", daemon=program)
    daemon = Daemon(process, control, log)
    stack.callback(daemon.stop)
    return daemon
