"""Two real ends of a tunnel: network namespaces, two links between them, a data plane at each end.

The home agent's namespace is also the correspondent node's: its addresses are on the loopback device.
"""

from __future__ import annotations

import ctypes
import os
import secrets
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from pathlib import Path
from typing import Any

from tests.lab.patience import PATIENCE
from tunnel.endpoint import Endpoint, EndpointConfig, Role
from tunnel.forwarding import ForwardingTable, Route
from tunnel.keyring import Keyring, PayloadPair
from tunnel.path import Arrival, Encapsulation, TunnelPath
from tunnel.payload_esp import PayloadAssociation
from tunnel.plane import DataPlane, DataPlaneChoice
from tunnel.tiers import Tunnel as OpenedTunnel
from tunnel.tiers import Wiring, open_tunnel
from tunnel.underlay import Underlay, open_ipv4_underlay, open_ipv6_underlay
from wire.profile import TlvLayout

PORT = 4191
HOME6, HOME4 = IPv6Address("2001:db8:99::77"), IPv4Address("203.0.113.77")
AGENT6, AGENT4 = IPv6Address("2001:db8:99::2"), IPv4Address("203.0.113.2")
CN6, CN4 = IPv6Address("2001:db8:9::9"), IPv4Address("192.0.2.9")
LINKS = ("one", "two")
CARE_OF4 = {"one": IPv4Address("198.51.100.9"), "two": IPv4Address("198.18.0.9")}
CARE_OF6 = {"one": IPv6Address("2001:db8:1::9"), "two": IPv6Address("2001:db8:2::9")}
TLV = {Encapsulation.UDP_TLV: TlvLayout.RFC5845, Encapsulation.UDP_TLV_DRAFT: TlvLayout.DRAFT}

TO_HOME_AGENT = PayloadAssociation(0x0A0A_0001, bytes(range(32)), b"out1")
TO_MOBILE_NODE = PayloadAssociation(0x0B0B_0001, bytes(range(32, 64)), b"in01")
KEYS = {
    Role.MOBILE_NODE: Keyring([PayloadPair(TO_HOME_AGENT, TO_MOBILE_NODE)]),
    Role.HOME_AGENT: Keyring([PayloadPair(TO_MOBILE_NODE, TO_HOME_AGENT)]),
}


@dataclass(frozen=True)
class Tier:
    """What carries the packets at both ends."""

    name: DataPlaneChoice
    offload: bool = False
    """Whether its device has offloads."""

    def __str__(self) -> str:
        return self.name


PORTABLE, OFFLOAD, KERNEL = Tier("portable"), Tier("offload", True), Tier("kernel")
TIERS = (PORTABLE, OFFLOAD)

_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


@contextmanager
def inside(namespace: str) -> Iterator[None]:
    """Let this thread, and threads that it starts, open sockets in `namespace`."""
    with open("/proc/thread-self/ns/net") as here, open(f"/run/netns/{namespace}") as there:
        _enter(there.fileno())
        try:
            yield
        finally:
            _enter(here.fileno())


def _enter(descriptor: int) -> None:
    if _libc.setns(descriptor, _CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")


def ip(namespace: str, command: str) -> None:
    subprocess.run(["ip", "-n", namespace, *command.split()], check=True, capture_output=True)


@dataclass
class End:
    """One end: what it runs on, and what it has been told."""

    namespace: str
    opened: OpenedTunnel
    endpoint: Endpoint
    plane: DataPlane
    silences: list[float] = field(default_factory=list)
    underlays: dict[str, Underlay] = field(default_factory=dict)
    control: list[tuple[bytes, Arrival]] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    def socket(self, family: int, kind: int, protocol: int = 0) -> socket.socket:
        with inside(self.namespace):
            opened = socket.socket(family, kind, protocol)
        opened.settimeout(PATIENCE)
        return opened

    def capture(self, link: str) -> socket.socket:
        """All IP packets that arrive on `link`, from the IP header on."""
        with inside(self.namespace):
            opened = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(0x0003))
            opened.setsockopt(263, 23, 1)  # PACKET_IGNORE_OUTGOING
            opened.bind((link, 0x0003))
        opened.settimeout(PATIENCE)
        return opened


@dataclass
class Tunnel:
    mobile_node: End
    home_agent: End

    def use(self, mobile_node: TunnelPath, home_agent: TunnelPath | None = None, accept: Any = ()) -> None:
        """Install paths at both ends; `accept` holds mobile node paths that both ends still take."""
        back = home_agent or mirror(mobile_node)
        for end, path, others in (
            (self.mobile_node, mobile_node, tuple(accept)),
            (self.home_agent, back, tuple(mirror(other) for other in accept)),
        ):
            end.plane.install(
                ForwardingTable(Route(ip_network(home), path, others) for home in (HOME6, HOME4))
            )

    def route_again(self) -> None:
        """The routes of a mobile node whose device was deleted."""
        for home in (HOME4, HOME6):
            six = "-6 " if home.version == 6 else ""
            name = self.mobile_node.namespace
            ip(name, f"addr add {home}/{home.max_prefixlen} dev mip0" + " nodad" * bool(six))
            ip(name, f"{six}route add default dev mip0 table 100")


def path(encapsulation: Encapsulation, version: int, link: str = "one", mtu: int = 1500) -> TunnelPath:
    """The mobile node's path through `link`."""
    port = PORT if encapsulation.in_udp else 0
    local, remote = (CARE_OF4[link], AGENT4) if version == 4 else (CARE_OF6[link], AGENT6)
    if encapsulation.protected:
        port = 4500 if encapsulation.in_udp else 0
        return TunnelPath(local, remote, encapsulation, 0, port, link, mtu, spi=TO_MOBILE_NODE.spi)
    return TunnelPath(local, remote, encapsulation, port, port, link, mtu)


def mirror(of: TunnelPath) -> TunnelPath:
    """The same path seen from the home agent."""
    if of.encapsulation.protected:
        return replace(of, local=of.remote, remote=of.local, interface="", spi=TO_HOME_AGENT.spi)
    return TunnelPath(of.remote, of.local, of.encapsulation, of.remote_port, of.local_port, "", of.link_mtu)


@contextmanager
def tunnel(
    tlv: TlvLayout | None = None,
    device_mtu: int = 1400,
    tier: Tier = PORTABLE,
    listens_for_silence: bool = False,
) -> Iterator[Tunnel]:
    with ExitStack() as stack:
        names = [f"tun-{os.getpid()}-{secrets.token_hex(3)}-{end}" for end in ("mn", "ha")]
        for name in names:
            subprocess.run(["ip", "netns", "add", name], check=True)
            stack.callback(subprocess.run, ["ip", "netns", "del", name], check=True)
        _connect(*names)
        ends = [
            stack.enter_context(_end(name, role, tlv, device_mtu, tier, listens_for_silence))
            for name, role in zip(names, (Role.MOBILE_NODE, Role.HOME_AGENT), strict=True)
        ]
        _route(*names)
        yield Tunnel(*ends)


def _connect(mn: str, ha: str) -> None:
    for name in (mn, ha):
        ip(name, "link set lo up")
    for link in LINKS:
        subprocess.run(
            f"ip -n {mn} link add {link} type veth peer name {link} netns {ha}".split(), check=True
        )
        for name, last in ((mn, "9"), (ha, "1")):
            ip(name, f"link set {link} up")
            ip(name, f"addr add {str(CARE_OF4[link])[:-1]}{last}/24 dev {link}")
            ip(name, f"addr add {str(CARE_OF6[link])[:-1]}{last}/64 dev {link} nodad")
    for address in (AGENT4, CN4, AGENT6, CN6):
        ip(ha, f"addr add {address}/{address.max_prefixlen} dev lo" + " nodad" * (address.version == 6))
    for metric, link in enumerate(LINKS, 100):
        ip(mn, f"route add {AGENT4}/32 via {str(CARE_OF4[link])[:-1]}1 dev {link} metric {metric}")
        ip(mn, f"-6 route add {AGENT6}/128 via {str(CARE_OF6[link])[:-1]}1 dev {link} metric {metric}")


@contextmanager
def _end(
    name: str,
    role: Role,
    tlv: TlvLayout | None,
    device_mtu: int,
    tier: Tier,
    listens_for_silence: bool,
) -> Iterator[End]:
    agent: frozenset[IPv4Address | IPv6Address] = frozenset((AGENT4, AGENT6))
    config = EndpointConfig(frozenset({AGENT6}), frozenset(), agent, tlv, KEYS[role])
    if role is Role.MOBILE_NODE:
        config = EndpointConfig(frozenset({HOME6}), frozenset({AGENT6}), agent, tlv, KEYS[role])
    with inside(name), ExitStack() as stack:
        endpoint = Endpoint(role, config)
        control: list[tuple[bytes, Arrival]] = []
        faults: list[str] = []
        silences: list[float] = []
        on_silence = (lambda: silences.append(time.monotonic())) if listens_for_silence else None
        wiring = Wiring(
            endpoint,
            lambda p, a: control.append((p, a)),
            faults.append,
            on_silence,
            tlv=tlv is not None,
            forwards=True,  # of whatever size super-packets are, they come whole
        )
        opened = open_tunnel(tier.name, "mip0", device_mtu, wiring)
        stack.callback(opened.close)
        assert opened.report.tier.value == tier.name, opened.report.why
        plane = opened.plane
        if tier is KERNEL and role is Role.HOME_AGENT:  # as tunnel.kernel has it: routes are asked for
            for family in ("ipv4", "ipv6"):
                Path(f"/proc/sys/net/{family}/conf/mip0/forwarding").write_text("1")
        end = End(name, opened, endpoint, plane, silences, control=control, faults=faults)
        for link in LINKS if role is Role.MOBILE_NODE else ("",):
            v4, v6 = (CARE_OF4[link], CARE_OF6[link]) if link else (AGENT4, AGENT6)
            believe = role is Role.HOME_AGENT
            end.underlays[f"{link}4"] = open_ipv4_underlay(
                v4, PORT, link or None, 0, 4500, believe_routers=believe
            )
            end.underlays[f"{link}6"] = open_ipv6_underlay(v6, link or None, 0, True, believe_routers=believe)
        for underlay in end.underlays.values():
            stack.callback(underlay.close)
            plane.attach(underlay)
        stack.callback(plane.close)
        plane.start()
        yield end


def _route(mn: str, ha: str) -> None:
    for home in (HOME4, HOME6):
        six = "-6 " if home.version == 6 else ""
        ip(mn, f"addr add {home}/{home.max_prefixlen} dev mip0" + " nodad" * bool(six))
        ip(mn, f"{six}rule add from {home} lookup 100")
        ip(mn, f"{six}route add default dev mip0 table 100")
        ip(ha, f"{six}route add {home} dev mip0")


def echo_forever(opened: socket.socket) -> None:
    """Send every datagram back until the socket is closed."""
    try:
        while True:
            data, address = opened.recvfrom(65536)
            opened.sendto(data, address)
    except OSError:
        return


def home_of(version: int) -> str:
    return str(HOME6 if version == 6 else HOME4)


def cn_of(version: int) -> str:
    return str(CN6 if version == 6 else CN4)


def family_of(version: int) -> int:
    return socket.AF_INET6 if version == 6 else socket.AF_INET


def address_of(octets: bytes) -> IPv4Address | IPv6Address:
    return ip_address(octets)
