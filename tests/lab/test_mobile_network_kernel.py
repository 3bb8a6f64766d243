"""The kernel of a mobile router in real namespaces: a host behind it, and strangers on the visited link."""

from __future__ import annotations

import os
import random
import select
import socket
import struct
import time
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from pathlib import Path

import pytest

from tests.lab.namespace import Namespace
from tests.lab.patience import PATIENCE
from tests.lab.test_routing_kernel import HOME4, HOME6, World, config, routes_to
from tunnel.kernel import Address, KernelConfig, LocalPrefix, RoutingMode
from tunnel.mobile_network import MobileNetwork, with_mobile_network
from tunnel.routing import cleanup
from tunnel.tun import TunDevice
from wire.checksum import internet_checksum, pseudo_header4, pseudo_header6
from wire.ip import IPv4Header, IPv6Header
from wire.udp import encode_udp

pytestmark = [
    pytest.mark.lab,
    pytest.mark.skipif(os.geteuid() != 0 or not Path("/dev/net/tun").exists(), reason="needs root and TUN"),
]

PREFIX6, PREFIX4 = IPv6Network("2001:db8:77::/56"), IPv4Network("10.77.0.0/24")
VAN6, VAN4 = IPv6Address("2001:db8:77::10"), IPv4Address("10.77.0.10")
CN6, CN4 = IPv6Address("2001:db8:cc::10"), IPv4Address("192.0.2.10")
CONNECTED = (
    LocalPrefix(IPv6Network("2001:db8:77::/64"), "lan0", IPv6Address("2001:db8:77::1")),
    LocalPrefix(PREFIX4, "lan0", IPv4Address("10.77.0.1")),
)
NETWORK = MobileNetwork((PREFIX6, PREFIX4), ("lan0",), ("lan0",), CONNECTED)


class RouterWorld(World):
    """`mn` has a second interface, lan0, on which the host `van` is."""

    def __init__(self, tag: str, state_dir: Path) -> None:
        super().__init__(tag, state_dir)
        self.van = Namespace(f"krn-{tag}-van")
        self.van.sh(f"ip link add eth0 type veth peer name lan0 netns {self.mn.name}; ip link set lo up")
        self.mn.sh(
            "ip link set lan0 up; ip addr add 10.77.0.1/24 dev lan0; "
            "ip -6 addr add 2001:db8:77::1/64 dev lan0 nodad"
        )
        self.van.sh(
            "sysctl -qw net.ipv6.conf.eth0.accept_dad=0; ip link set eth0 up; "
            f"ip addr add {VAN4}/24 dev eth0; ip -6 addr add {VAN6}/64 dev eth0 nodad; "
            "ip route add default via 10.77.0.1; ip -6 route add default via 2001:db8:77::1"
        )

    def close(self) -> None:
        super().close()
        self.van.close()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[RouterWorld]:
    made = RouterWorld(f"{os.getpid()}-{random.SystemRandom().randrange(16**4):04x}", tmp_path)
    try:
        yield made
    finally:
        made.close()


def router(
    network: MobileNetwork = NETWORK, mode: RoutingMode = RoutingMode.LAN, **more: object
) -> KernelConfig:
    return with_mobile_network(config(mode, ingress=network.interfaces, **more), network)


SOON = 0.5
"""Seconds in which what should not come would have come."""


def read(tun: TunDevice, wanted: bytes, within: float = PATIENCE) -> bytes | None:
    """The next packet out of the TUN device that holds `wanted`."""
    deadline = time.monotonic() + within
    while (left := deadline - time.monotonic()) > 0:
        if select.select([tun], [], [], left)[0]:
            packet = os.read(tun.fileno(), 65536)
            if wanted in packet:
                return packet
    return None


def datagram(source: Address, destination: Address, text: bytes, port: int = 9) -> bytes:
    udp = encode_udp(source, destination, 9, port, text)
    if isinstance(source, IPv4Address):
        assert isinstance(destination, IPv4Address)
        return IPv4Header(source, destination, 17, 20 + len(udp)).encode() + udp
    assert isinstance(destination, IPv6Address)
    return IPv6Header(source, destination, 17, len(udp)).encode() + udp


def family_of(address: Address) -> socket.AddressFamily:
    return socket.AF_INET6 if address.version == 6 else socket.AF_INET


def udp(namespace: Namespace, address: Address, port: int = 9) -> socket.socket:
    """A socket of `namespace` at `address`."""

    def make() -> socket.socket:
        made = socket.socket(family_of(address), socket.SOCK_DGRAM)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((str(address), port))
        return made

    return namespace.run(make)


def arrives(at: socket.socket, text: bytes, within: float = PATIENCE) -> bool:
    at.settimeout(within)
    try:
        while at.recv(2048) != text:
            pass
    except TimeoutError:
        return False
    return True


@pytest.mark.parametrize("mode", RoutingMode)
def test_a_host_behind_the_router_speaks_through_the_tunnel_in_both_families(
    world: RouterWorld, mode: RoutingMode
) -> None:
    tun = world.tun()
    world.apply(world.state(), router(mode=mode))
    for van, cn in ((VAN6, CN6), (VAN4, CN4)):
        application = udp(world.van, van)
        application.sendto(b"upwards", (str(cn), 9))
        sent = read(tun, b"upwards")
        assert sent is not None
        assert van.packed in sent
        os.write(tun.fileno(), datagram(cn, van, b"downwards"))
        assert arrives(application, b"downwards")


def test_hosts_behind_the_router_reach_it_and_its_home_addresses(world: RouterWorld) -> None:
    world.tun()
    world.apply(world.state(), router())
    for address in (HOME6, HOME4, "2001:db8:77::1", "10.77.0.1"):
        world.van.sh(f"ping -n -q -c 1 -W 9 {address}")
    world.mn.sh(f"ping -n -q -c 1 -W 9 {VAN6}; ping -n -q -c 1 -W 9 {VAN4}")


def test_what_the_home_agent_sends_for_nobody_does_not_go_back_to_it(world: RouterWorld) -> None:
    tun = world.tun()
    world.apply(world.state(), router())
    nobody = IPv6Address("2001:db8:77:9::1")
    os.write(tun.fileno(), datagram(CN6, nobody, b"for nobody"))
    answer = read(tun, b"for nobody")
    assert answer is not None
    assert (answer[6], answer[40]) == (58, 1), "an error to the sender, and nothing else"
    assert answer[24:40] == CN6.packed


def test_nothing_from_behind_the_router_leaves_in_the_clear(world: RouterWorld) -> None:
    """Even to the private prefix of the visited network, and even with a source that is not ours."""
    tun = world.tun()
    world.apply(world.state(), router())
    at_visited = udp(world.ap, IPv4Address("192.168.7.1"))
    udp(world.van, VAN4).sendto(b"to the visited network", ("192.168.7.1", 9))
    assert read(tun, b"to the visited network") is not None
    world.van.sh("ip addr add 172.20.0.5/32 dev eth0")
    world.mn.sh("ip route add 172.20.0.5/32 dev lan0")
    udp(world.van, IPv4Address("172.20.0.5")).sendto(b"smuggled", ("192.168.7.1", 9))
    assert not arrives(at_visited, b"smuggled", SOON)
    tun.close()
    udp(world.van, VAN4, 10).sendto(b"without a tunnel", ("192.168.7.1", 9))
    assert not arrives(at_visited, b"without a tunnel", SOON)


def test_nobody_on_the_visited_link_enters_a_mobile_network_or_speaks_in_its_name(world: RouterWorld) -> None:
    tun = world.tun()
    state = world.state()
    world.mn.sh("sysctl -qw net.ipv4.conf.e0.forwarding=1 net.ipv6.conf.all.forwarding=1")
    world.ap.sh(
        "ip addr add 192.0.2.66/32 dev lo; ip route add 10.77.0.0/24 via 192.168.7.2; "
        "ip -6 route add 2001:db8:77::/56 via 2001:db8:7::2; ip addr add 10.77.0.99/32 dev lo; "
        "ip -6 addr add 2001:db8:77::99/128 dev lo nodad; ip route add 192.0.2.10 via 192.168.7.2; "
        "ip -6 route add 2001:db8:cc::10 via 2001:db8:7::2"
    )
    application = udp(world.van, VAN4)
    udp(world.ap, IPv4Address("192.168.7.1")).sendto(b"attack", (str(VAN4), 9))
    assert arrives(application, b"attack"), "the attack works where nothing defends"
    world.apply(state, router())
    for van, attacker in ((VAN4, "192.168.7.1"), (VAN6, "2001:db8:7::1")):
        behind = udp(world.van, van, 11)
        udp(world.ap, ip_address(attacker), 11).sendto(b"attack", (str(van), 11))
        assert not arrives(behind, b"attack", SOON)
    for cn, pretended in ((CN4, "10.77.0.99"), (CN6, "2001:db8:77::99")):
        udp(world.ap, ip_address(pretended), 12).sendto(b"in its name", (str(cn), 9))
    assert read(tun, b"in its name", within=SOON) is None


@pytest.mark.parametrize(("van", "cn", "most"), [(VAN4, CN4, 1360), (VAN6, CN6, 1340)])
def test_a_syn_tells_both_ends_what_fits_through_the_tunnel(
    world: RouterWorld, van: Address, cn: Address, most: int
) -> None:
    """The MTU of the TUN device is 1400; the largest header of all leaves 1460."""
    tun = world.tun()
    state = world.state()
    world.apply(state, router())

    def connect() -> socket.socket:
        caller = socket.socket(family_of(cn), socket.SOCK_STREAM)
        caller.bind((str(van), 0))
        caller.setblocking(False)
        caller.connect_ex((str(cn), 80))
        return caller

    def listen() -> socket.socket:
        listening = socket.socket(family_of(van), socket.SOCK_STREAM)
        listening.bind((str(van), 80))
        listening.listen()
        return listening

    with world.van.run(connect):
        syn = read(tun, cn.packed)
        assert syn is not None
        assert maximum_segment(syn) == most
    with world.van.run(listen):
        os.write(tun.fileno(), syn_packet(cn, van, 1460))
        answer = read(tun, cn.packed)
        assert answer is not None
        assert maximum_segment(answer) == most
    heard = world.van.run(lambda: socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(3)))
    heard.settimeout(PATIENCE)
    with heard:
        os.write(tun.fileno(), syn_packet(cn, van, 1460, port=81))
        while (frame := heard.recv(2048))[-24:-22] != b"\x03\xe7":
            pass
        assert maximum_segment(frame) == most


def test_a_packet_that_is_too_big_is_answered_by_the_router(world: RouterWorld) -> None:
    world.tun()
    world.apply(world.state(), router())
    for address, size, word in ((CN4, 1472, "mtu=1400"), (CN6, 1452, "mtu=1400")):
        done = world.van.sh(f"ping -n -M do -c 1 -W 9 -s {size} {address} 2>&1 || true")
        assert word in done.replace(" = ", "=").replace("mtu ", "mtu="), done


@pytest.mark.requirement("R066")
def test_an_allocated_prefix_gives_the_router_an_address_that_goes_with_it(world: RouterWorld) -> None:
    world.tun()
    state = world.state()
    before = world.mn.everything()
    allocated = IPv4Network("10.64.0.64/26")
    network = replace(NETWORK, prefixes=(PREFIX6, allocated), connected=CONNECTED[:1], allocated=(allocated,))
    world.apply(state, router(network, home_addresses=(HOME6,)))
    assert "10.64.0.65/26" in world.mn.sh("ip -4 addr show dev lan0")
    assert routes_to(world.mn, ["8.8.8.8", "10.64.0.70", "10.64.0.140"]) == ["mip0", "lan0", "mip0"]
    assert "10.64.0.65" in world.mn.sh("ip route get 8.8.8.8"), "its own packets have a home"
    assert world.apply(state, router(network, home_addresses=(HOME6,))) == 0
    world.mn.run(state.clear)
    assert world.mn.everything() == before


def test_everything_is_put_back_even_by_a_fresh_process(world: RouterWorld, tmp_path: Path) -> None:
    world.tun()
    before = world.mn.everything()
    world.apply(world.state(), router())
    assert "forwarding = 1" in world.mn.sh("sysctl net.ipv4.conf.lan0.forwarding")
    assert "forwarding = 0" in world.mn.sh("sysctl net.ipv4.conf.e0.forwarding")
    assert world.mn.everything() != before
    world.mn.run(lambda: cleanup(tmp_path))
    assert world.mn.everything() == before


def test_before_linux_6_17_ipv6_forwards_between_all_interfaces_and_goes_on_hearing_routers(
    world: RouterWorld,
) -> None:
    """The kernel of this machine is made to look like an older one."""
    tun = world.tun()
    before = world.mn.everything()
    wanted = router()
    older = (replace(s, unless="") for s in wanted.sysctls if not s.path.endswith("force_forwarding"))
    state = world.state()
    world.apply(state, replace(wanted, sysctls=tuple(older)))
    application = udp(world.van, VAN6)
    application.sendto(b"upwards", (str(CN6), 9))
    assert read(tun, b"upwards") is not None
    assert "= 2" in world.mn.sh("sysctl net.ipv6.conf.e0.accept_ra")
    world.ap.sh("ip -6 route add 2001:db8:77::/56 via 2001:db8:7::2")
    udp(world.ap, IPv6Address("2001:db8:7::1")).sendto(b"attack", (str(VAN6), 9))
    assert not arrives(application, b"attack", SOON)
    world.mn.run(state.clear)
    assert world.mn.everything() == before


def syn_packet(source: Address, destination: Address, segment: int, port: int = 80) -> bytes:
    """A SYN with source port 999."""
    options = struct.pack("!BBH", 2, 4, segment)
    plain = struct.pack("!HHIIBBHHH", 999, port, 1, 0, 6 << 4, 2, 65535, 0, 0) + options
    if isinstance(source, IPv4Address):
        assert isinstance(destination, IPv4Address)
        header = IPv4Header(source, destination, 6, 20 + len(plain)).encode()
        pseudo = pseudo_header4(source, destination, len(plain), 6)
    else:
        assert isinstance(destination, IPv6Address)
        header = IPv6Header(source, destination, 6, len(plain)).encode()
        pseudo = pseudo_header6(source, destination, len(plain), 6)
    checksum = internet_checksum(pseudo + plain)
    return header + plain[:16] + struct.pack("!H", checksum) + plain[18:]


def maximum_segment(packet: bytes) -> int:
    """The MSS option of a TCP packet whose first option it is."""
    start = (packet[0] & 0x0F) * 4 if packet[0] >> 4 == 4 else 40
    kind, length, segment = struct.unpack_from("!BBH", packet, start + 20)
    assert (kind, length) == (2, 4)
    return int(segment)
