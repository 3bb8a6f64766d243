"""The chain of namespaces that every figure is taken on: mobile node, router, home agent, correspondent node.

Performs I/O. All links are veth with their default offloads, as in docs/performance.md.
"""

from __future__ import annotations

import os
import secrets
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

HOME4, HOME6 = IPv4Address("203.0.113.77"), IPv6Address("2001:db8:99::77")
CARE_OF4, CARE_OF6 = IPv4Address("10.1.0.2"), IPv6Address("2001:db8:1::2")
AGENT4, AGENT6 = IPv4Address("10.2.0.2"), IPv6Address("2001:db8:2::2")
CN4, CN6 = IPv4Address("10.9.0.9"), IPv6Address("2001:db8:9::9")
TABLE = 100

Gateways = Mapping[int, tuple[str, str]]
"""By IP version, through a tunnel: the home agent as the mobile node sees it, and the other way round."""
NO_GATEWAYS: Gateways = {4: ("", ""), 6: ("", "")}

NODES = ("mn", "router", "ha", "cn")
_LINKS = (
    # node, its address ends in, other node, its address ends in, network number
    ("mn", 2, "router", 1, 1),
    ("router", 1, "ha", 2, 2),
    ("ha", 1, "cn", 9, 9),
)


@dataclass(frozen=True, slots=True)
class Chain:
    """Names of the namespaces by role."""

    names: dict[str, str]

    def add_node(self, stack: ExitStack, node: str) -> None:
        """One namespace more, which `stack` removes."""
        name = self.names[node] = f"{self.names['router'].removesuffix('router')}{node}"
        _make(self, stack, node, name)

    def connect(self, near: str, near_host: int, far: str, far_host: int, network: int) -> None:
        """A link; each end is called like the node it leads to and has addresses in `network`."""
        _connect(self, near, near_host, far, far_host, network)

    def command(self, node: str, *command: str) -> list[str]:
        return ["ip", "netns", "exec", self.names[node], *command]

    def ip(self, node: str, command: str) -> None:
        """Run `ip` on a node. RuntimeError with what it says if it refuses."""
        words = ["ip", "-n", self.names[node], *command.split()]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{' '.join(words)}: {done.stderr.strip()}")

    def route_home_through(self, mn_device: str, ha_device: str, gateways: Gateways = NO_GATEWAYS) -> None:
        """Home addresses on `mn_device`; what is sent from them and to them goes through the two devices.

        A device that is a link with neighbours needs gateways: addresses of home agent and mobile node.
        """
        for home in (HOME4, HOME6):
            six = "-6 " if home.version == 6 else ""
            nodad = " nodad" if home.version == 6 else ""
            up, down = (f"via {at} " if at else "" for at in gateways[home.version])
            self.ip("mn", f"addr add {home}/{home.max_prefixlen} dev {mn_device}{nodad}")
            self.ip("mn", f"{six}rule add from {home} lookup {TABLE}")
            self.ip("mn", f"{six}route replace default {up}dev {mn_device} table {TABLE}")
            self.ip("ha", f"{six}route replace {home} {down}dev {ha_device}")

    def forget_home(self) -> None:
        """Undo the rules of `route_home_through`; addresses and routes vanish with the devices."""
        for home in (HOME4, HOME6):
            self.ip("mn", f"{'-6 ' if home.version == 6 else ''}rule del from {home} lookup {TABLE}")


@contextmanager
def chain() -> Iterator[Chain]:
    """Build the chain; remove it whatever happens, and what a benchmark left that was killed."""
    _bury()
    prefix = f"bench-{os.getpid()}-{secrets.token_hex(2)}"
    built = Chain({node: f"{prefix}-{node}" for node in NODES})
    with ExitStack() as stack:
        for node, name in built.names.items():
            _make(built, stack, node, name)
        for link in _LINKS:
            _connect(built, *link)
        for node in ("router", "ha"):
            switches = "net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1"
            command = built.command(node, "sysctl", "-qw", *switches.split())
            subprocess.run(command, check=True)
        _add_routes(built)
        yield built


def _bury() -> None:
    """Delete the namespaces of processes that are no more; their number is in the name."""
    listed = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True).stdout
    for line in listed.splitlines():
        name = line.split()[0]
        owner = name.split("-")[1] if name.startswith("bench-") else ""
        if owner.isdigit() and not Path(f"/proc/{owner}").exists():
            subprocess.run(["ip", "netns", "del", name], check=False)


def _make(built: Chain, stack: ExitStack, node: str, name: str) -> None:
    subprocess.run(["ip", "netns", "add", name], check=True)
    stack.callback(subprocess.run, ["ip", "netns", "del", name], check=False)
    built.ip(node, "link set lo up")


def _connect(built: Chain, near: str, near_host: int, far: str, far_host: int, network: int) -> None:
    names = built.names
    command = f"link add {far} type veth peer name {near} netns {names[far]}"
    subprocess.run(["ip", "-n", names[near], *command.split()], check=True)
    for node, device, host in ((near, far, near_host), (far, near, far_host)):
        built.ip(node, f"link set {device} up")
        built.ip(node, f"addr add 10.{network}.0.{host}/24 dev {device}")
        built.ip(node, f"addr add 2001:db8:{network}::{host}/64 dev {device} nodad")


def _add_routes(built: Chain) -> None:
    for node, destination, gateway4, gateway6 in (
        ("mn", "default", "10.1.0.1", "2001:db8:1::1"),
        ("router", "9", "10.2.0.2", "2001:db8:2::2"),
        ("ha", "1", "10.2.0.1", "2001:db8:2::1"),
        ("cn", "default", "10.9.0.1", "2001:db8:9::1"),
    ):
        to4, to6 = (
            (destination, destination)
            if destination == "default"
            else (f"10.{destination}.0.0/24", f"2001:db8:{destination}::/64")
        )
        built.ip(node, f"route add {to4} via {gateway4}")
        built.ip(node, f"-6 route add {to6} via {gateway6}")
