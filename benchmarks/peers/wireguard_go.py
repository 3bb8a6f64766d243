"""wireguard-go: WireGuard in user space with the kernel's offloads. It encrypts, and cannot be told not to.

Performs I/O.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from ipaddress import IPv4Address
from pathlib import Path

from benchmarks.chain import AGENT4, Chain
from benchmarks.machine import package_version
from benchmarks.peers.programs import bring_up, configuration, local_version, program, start
from benchmarks.running import Running

MTU = 1440
"""The largest inner packet over IPv4 with 1500 octets: 20 + 8 + 16 + 16 octets are the outer ones."""
_PORT = 51820


class WireguardGo:
    """One wireguard-go at either end."""

    def formats(self) -> tuple[str, ...]:
        return ("wireguard/ipv4",)

    def version(self) -> str:
        return local_version("wireguard-go") or package_version("wireguard-go")

    def start(self, chain: Chain, form: str) -> Iterator[Running]:
        with ExitStack() as stack:
            pids = connect(chain, stack, AGENT4)
            devices = [device_of("mn"), device_of("ha")]
            chain.route_home_through(devices[0], devices[1])
            stack.callback(chain.forget_home)
            yield Running(pids)


def device_of(node: str) -> str:
    """Its name is also that of a socket that all namespaces of the machine share, so it has to be unique."""
    return f"wg{os.getpid()}{node}"


def connect(chain: Chain, stack: ExitStack, agent: IPv4Address, keepalive: int = 0) -> tuple[int, int]:
    """Both ends with their devices up; the mobile node calls `agent`. The pids, mobile node first."""
    directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-wireguard-")))
    private = {node: _wg("genkey") for node in ("mn", "ha")}
    public = {node: _wg("pubkey", private[node]) for node in private}
    pids = []
    for node, other in (("mn", "ha"), ("ha", "mn")):
        device, log = device_of(node), directory / f"{node}.log"
        process = start(chain, stack, node, program("wireguard-go"), "--foreground", device, log=log)
        pids.append(process.pid)
        bring_up(chain, node, device, MTU, log)
        path = directory / f"{node}.conf"
        path.write_text(
            configuration(
                "wireguard-go.conf",
                private_key=private[node],
                peer_key=public[other],
                port=_PORT,
                endpoint=f"Endpoint = {agent}:{_PORT}" if node == "mn" else "",
                keepalive=keepalive if node == "mn" else 0,
            )
        )
        subprocess.run(chain.command(node, program("wg"), "setconf", device, str(path)), check=True)
    return pids[0], pids[1]


def _wg(what: str, given: str = "") -> str:
    command = [program("wg"), what]
    return subprocess.run(command, input=given, capture_output=True, text=True, check=True).stdout.strip()
