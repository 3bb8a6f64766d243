"""The real home-agent in a namespace, against a mobile node made of wire and tunnel by this test.

mn (mobile node) --- net (router, NAT, correspondent node) === home link === ha (home agent)
"""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, ip_network
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from runtime.client import ControlClient, ControlError, ErrorKind
from tests.lab.namespace import Namespace
from tests.lab.patience import PATIENCE, wait_until
from tests.lab.tunnel_ends import inside
from tunnel.endpoint import Endpoint, EndpointConfig, Role
from tunnel.envelope import ControlPacket, open_control, seal_control
from tunnel.forwarding import ForwardingTable, Route
from tunnel.keys import load_keys, write_keys
from tunnel.path import Arrival, Drop, Encapsulation, TunnelPath
from tunnel.plane import IntakeKind
from tunnel.portable import PortablePlane
from tunnel.replay import ReplayWindow
from tunnel.security import Opener, Sealer
from tunnel.tun import TunDevice
from tunnel.underlay import Underlay, open_ipv4_underlay, open_ipv6_underlay
from wire.mobility import BindingAck, BindingStatus, BindingUpdate, UpdateFlag
from wire.options import (
    NO_KEEPALIVE,
    AlternateCareOfAddress,
    Ipv4AddressAck,
    Ipv4CareOfAddress,
    Ipv4HomeAddress,
    NatDetection,
    Option,
    first,
)
from wire.profile import RFC5555

AGENT6, AGENT4 = IPv6Address("2001:db8:99::2"), IPv4Address("203.0.113.2")
HOME6, HOME4 = IPv6Address("2001:db8:99::77"), IPv4Address("203.0.113.77")
TABLET6, POOL4 = IPv6Address("2001:db8:99::78"), IPv4Address("203.0.113.128")
PUBLIC4 = IPv4Address("198.51.100.222")
PHONE6, PHONE4 = IPv6Address("2001:db8:99::79"), IPv4Address("203.0.113.79")
NET6, NET4 = IPv6Address("2001:db8:99::9"), IPv4Address("203.0.113.9")
COA6, COA4, PRIVATE4 = IPv6Address("2001:db8:1::9"), IPv4Address("198.51.100.9"), IPv4Address("192.168.7.9")
HOME_AGENT = str(Path(sys.executable).parent / "home-agent")
FLAGS = UpdateFlag.ACKNOWLEDGE | UpdateFlag.HOME

CONFIGURATION = """
[home_agent]
interface = "eth0"
ipv6 = "2001:db8:99::2"
ipv4 = "203.0.113.2"
[home_link]
ipv6_prefix = "2001:db8:99::/64"
ipv4_prefix = "203.0.113.0/24"
ipv4_pool = "203.0.113.128/29"
[[mobile_node]]
name = "laptop"
home_address = "2001:db8:99::77"
ipv4 = "203.0.113.77"
key_file = "{directory}/laptop.toml"
[[mobile_node]]
name = "tablet"
home_address = "2001:db8:99::78"
key_file = "{directory}/tablet.toml"
[[mobile_node]]
name = "phone"
home_address = "2001:db8:99::79"
ipv4 = "203.0.113.79"
key_file = "{directory}/phone.toml"
[paths]
control_socket = "{directory}/control.sock"
runtime_directory = "{directory}/run"
state_directory = "{directory}/state"
"""

STATIC_NAT = f"""
table ip static {{
    chain pre {{
        type nat hook prerouting priority -100
        ip daddr {PUBLIC4} dnat to {AGENT4}
    }}
    chain post {{
        type nat hook postrouting priority 90
        oifname "acc" ip saddr {AGENT4} snat to {PUBLIC4}
    }}
}}
"""


@dataclass
class World:
    mn: Namespace
    net: Namespace
    ha: Namespace
    directory: Path
    daemon: subprocess.Popen[bytes] | None = None

    @property
    def control(self) -> ControlClient:
        return ControlClient(self.directory / "control.sock", daemon="home-agent")

    def start(self) -> float:
        """Start home-agent; seconds until it serves."""
        began = time.monotonic()
        command = [
            HOME_AGENT,
            "--config",
            str(self.directory / "ha.toml"),
        ]
        log = (self.directory / "log").open("ab")
        self.daemon = subprocess.Popen(
            ["ip", "netns", "exec", self.ha.name, *command], stdout=log, stderr=subprocess.STDOUT
        )
        wait_until(self.serves, "home-agent serves", within=PATIENCE)
        return time.monotonic() - began

    def serves(self) -> bool:
        assert self.daemon is not None
        assert self.daemon.poll() is None, (self.directory / "log").read_text()
        try:
            return bool(self.control.call("status")["state"] == "running")
        except ControlError as error:
            if error.kind is not ErrorKind.NOT_RUNNING:
                raise
            return False

    def stop(self, number: int = signal.SIGTERM) -> int:
        assert self.daemon is not None
        self.daemon.send_signal(number)
        code = self.daemon.wait(PATIENCE)
        self.daemon = None
        return code

    def pings(
        self,
        address: IPv4Address | IPv6Address,
        source: Namespace | None = None,
        number: int = 3,
        within: float = PATIENCE,
    ) -> bool:
        node = source or self.net
        command = ["ip", "netns", "exec", node.name, "ping", "-n", "-q", "-c", str(number), "-i", "0.05"]
        done = subprocess.run([*command, "-W", f"{within:g}", str(address)], capture_output=True, check=False)
        return b" 0% packet loss" in done.stdout


@dataclass
class Node:
    """The mobile node: its TUN device, its data plane, and Binding Updates at the test's word."""

    world: World
    home_address: IPv6Address
    ipv4: IPv4Address
    sealer: Sealer
    opener: Opener
    plane: PortablePlane
    underlays: dict[object, Underlay]
    inbox: list[tuple[bytes, Arrival]]
    sent: list[Callable[[], None]] = field(default_factory=list)
    agent4: IPv4Address = AGENT4
    """The home agent's IPv4 address as this node knows it."""
    sequences: Any = field(default_factory=lambda: count(1))

    def register(
        self, care_of: IPv4Address | IPv6Address, *options: Option, lifetime: int = 60, **fields: Any
    ) -> BindingAck:
        """Send a Binding Update from `care_of` and wait for its answer, then send payload the way it says."""
        sequence = fields.get("sequence", next(self.sequences))
        if isinstance(care_of, IPv6Address):
            options = (AlternateCareOfAddress(care_of), *options)
        else:
            options = (Ipv4CareOfAddress(care_of), *options)
        update = BindingUpdate(sequence, lifetime, FLAGS, options)
        source = care_of if isinstance(care_of, IPv6Address) else self.home_address
        option = self.home_address if isinstance(care_of, IPv6Address) else None
        packet = ControlPacket(source, AGENT6, update, home_address_option=option)
        self.send(care_of, seal_control(packet, self.sealer, RFC5555))
        ack = self.answer()
        if ack.accepted and lifetime:
            self.go_through(care_of, ack)
        return ack

    def send(self, care_of: IPv4Address | IPv6Address, packet: bytes) -> None:
        agent = AGENT6 if isinstance(care_of, IPv6Address) else self.agent4

        def again() -> None:
            assert self.underlays[care_of].send_control(agent, 4191, packet) is None

        self.inbox.clear()
        self.sent.append(again)
        again()

    def answer(self) -> BindingAck:
        wait_until(lambda: bool(self.inbox), "an answer")
        packet, self.arrival = self.inbox.pop(0)
        opened = open_control(packet, {self.opener.association.spi: self.opener}, RFC5555)
        assert not isinstance(opened, Drop), opened
        assert opened.spi is not None
        assert isinstance(opened.packet.message, BindingAck)
        self.envelope = opened.packet
        return opened.packet.message

    def hears_nothing(self, seconds: float = 0.4) -> bool:
        time.sleep(seconds)
        return not self.inbox

    def go_through(self, care_of: IPv4Address | IPv6Address, ack: BindingAck) -> None:
        nat = first(ack.options, NatDetection)
        in_udp = nat is not None and (nat.force_udp or nat.refresh != NO_KEEPALIVE)
        kind = Encapsulation.UDP if in_udp else Encapsulation.IP_IN_IP
        remote = AGENT6 if isinstance(care_of, IPv6Address) else self.agent4
        underlay = self.underlays[care_of]
        ports = (underlay.port, 4191) if in_udp else (0, 0)
        path = TunnelPath(care_of, remote, kind, *ports, link_mtu=1500)
        homes = (self.home_address, self.ipv4)
        self.plane.install(ForwardingTable(Route(ip_network(home), path) for home in homes))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    directory = tmp_path_factory.mktemp("home-agent")
    (directory / "ha.toml").write_text(CONFIGURATION.format(directory=directory))
    for name in ("laptop", "tablet", "phone"):
        write_keys(directory / f"{name}.toml")
    with ExitStack() as stack:
        suffix = f"{os.getpid()}-{secrets.token_hex(2)}"
        mn, net, ha = (Namespace(f"ha-{suffix}-{name}") for name in ("mn", "net", "ha"))
        for namespace in (mn, net, ha):
            stack.callback(namespace.close)
        subprocess.run(
            f"ip -n {mn.name} link add wan type veth peer name acc netns {net.name} && "
            f"ip -n {ha.name} link add eth0 type veth peer name home netns {net.name}",
            shell=True, check=True,
        )  # fmt: skip
        mn.sh(
            "ip link set lo up; ip link set wan up; ip addr add 198.51.100.9/24 dev wan;"
            "ip addr add 192.168.7.9/24 dev wan; ip addr add 2001:db8:1::9/64 dev wan nodad;"
            "ip route add default via 198.51.100.1; ip -6 route add default via 2001:db8:1::1"
        )
        net.sh(
            "ip link set lo up; ip link set acc up; ip link set home up;"
            "ip addr add 198.51.100.1/24 dev acc; ip addr add 192.168.7.1/24 dev acc;"
            "ip addr add 2001:db8:1::1/64 dev acc nodad; ip addr add 203.0.113.9/24 dev home;"
            "ip addr add 2001:db8:99::9/64 dev home nodad;"
            "sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1;"
            "nft -f -",
            "table ip nat {\n chain post {\n type nat hook postrouting priority 100\n"
            " ip saddr 192.168.7.0/24 masquerade random\n}\n}\n",
        )
        ha.sh(
            "ip link set lo up; ip link set eth0 up; ip addr add 203.0.113.2/24 dev eth0;"
            "ip addr add 2001:db8:99::2/64 dev eth0 nodad;"
            "ip route add default via 203.0.113.9; ip -6 route add default via 2001:db8:99::9"
        )
        world = World(mn, net, ha, directory)
        yield world
        if world.daemon is not None:
            world.stop(signal.SIGKILL)


@pytest.fixture
def running(world: World) -> World:
    if world.daemon is None:
        world.start()
    return world


def mobile_node(world: World, name: str, home6: IPv6Address, home4: IPv4Address) -> Iterator[Node]:
    keys = load_keys(world.directory / f"{name}.toml")
    inbox: list[tuple[bytes, Arrival]] = []
    with inside(world.mn.name), ExitStack() as stack:
        device = TunDevice.open("mip0", 1500)
        stack.callback(device.close)
        world.mn.sh(
            f"ip addr add {home4}/32 dev mip0; ip addr add {home6}/128 dev mip0 nodad;"
            f"ip rule add from {home4} lookup 100 pref 50; ip -6 rule add from {home6} lookup 100 pref 50;"
            "ip route add default dev mip0 table 100; ip -6 route add default dev mip0 table 100"
        )
        stack.callback(world.mn.sh, "ip rule del pref 50; ip -6 rule del pref 50")
        config = EndpointConfig(
            frozenset({home6}), frozenset({AGENT6}), frozenset({AGENT4, AGENT6}), RFC5555.tlv
        )
        plane = PortablePlane(
            device, Endpoint(Role.MOBILE_NODE, config), lambda p, a: inbox.append((p, a)), lambda why: None
        )
        stack.callback(plane.close)
        underlays: dict[object, Underlay] = {
            COA4: open_ipv4_underlay(COA4, 0, "wan", 0),
            PRIVATE4: open_ipv4_underlay(PRIVATE4, 0, "wan", 0),
            COA6: open_ipv6_underlay(COA6, "wan", 0),
        }
        for underlay in underlays.values():
            stack.callback(underlay.close)
            plane.attach(underlay)
        plane.start()
        # As a mobile node does after a restart, count on where the clock is.
        sealer = Sealer(keys.update, int(time.time()) - 1_577_836_800 + next(_RESTARTS))
        yield Node(
            world, home6, home4, sealer, Opener(keys.ack, ReplayWindow()), plane, underlays, inbox,
            sequences=_SEQUENCES,
        )  # fmt: skip


_RESTARTS = count(1000, 1000)
_SEQUENCES = count(1)


@pytest.fixture
def laptop(running: World) -> Iterator[Node]:
    yield from mobile_node(running, "laptop", HOME6, HOME4)
    if running.daemon is not None:
        forget(running, "laptop")


def forget(world: World, name: str) -> None:
    try:
        world.control.call("drop", {"home_address": name})
    except ControlError as error:
        if error.kind is not ErrorKind.NOT_FOUND:
            raise


def binding_of(world: World, name: str) -> Any:
    return world.control.call("show", {"node": name})["binding"]


@pytest.mark.requirement("R037", "R038", "R040", "R041", "R042", "R115", "R130")
def test_a_public_ipv4_node_is_bound_and_reached_by_both_home_addresses(laptop: Node) -> None:
    ack = laptop.register(COA4, Ipv4HomeAddress(HOME4))
    assert ack.status == BindingStatus.ACCEPTED
    assert first(ack.options, Ipv4AddressAck) == Ipv4AddressAck(0, HOME4, 32)
    assert first(ack.options, NatDetection) == NatDetection(False, NO_KEEPALIVE)
    assert (laptop.arrival.remote, laptop.arrival.remote_port) == (AGENT4, 4191)
    assert laptop.world.pings(HOME4)
    assert laptop.world.pings(HOME6)
    shown = binding_of(laptop.world, "laptop")
    assert (shown["encap"], shown["nat"], shown["care_of"]) == ("ipip4", False, str(COA4))


@pytest.mark.requirement("R022", "R027", "R128", "R131")
def test_an_ipv6_node_is_bound_and_reached_by_both_home_addresses(laptop: Node) -> None:
    ack = laptop.register(COA6, Ipv4HomeAddress(HOME4))
    assert ack.status == BindingStatus.ACCEPTED
    assert (laptop.envelope.destination, laptop.envelope.routing_home_address) == (COA6, HOME6)
    assert laptop.world.pings(HOME4)
    assert laptop.world.pings(HOME6)
    assert binding_of(laptop.world, "laptop")["encap"] == "ipip6"


@pytest.mark.requirement("R003", "R047", "R048", "R049", "R051", "R078", "R087c", "R118")
def test_a_node_behind_a_nat_is_bound_to_what_the_home_agent_sees(laptop: Node) -> None:
    ack = laptop.register(PRIVATE4, Ipv4HomeAddress(HOME4))
    assert ack.status == BindingStatus.ACCEPTED
    assert first(ack.options, NatDetection) == NatDetection(False, 110)
    assert laptop.world.pings(HOME4)
    assert laptop.world.pings(HOME6)
    shown = binding_of(laptop.world, "laptop")
    assert (shown["encap"], shown["nat"], shown["care_of"]) == ("udp4", True, str(PRIVATE4))
    address, _, port = shown["observed"].rpartition(":")
    assert address == str(NET4)
    assert int(port) != laptop.underlays[PRIVATE4].port, "the NAT gives random ports"


@pytest.mark.requirement("R002", "R004", "R016")
def test_a_home_agent_behind_a_static_nat_of_its_own_answers_from_its_public_address(laptop: Node) -> None:
    laptop.agent4 = PUBLIC4
    world = laptop.world
    world.net.sh(f"ip addr add {PUBLIC4}/32 dev acc; nft -f -; conntrack -F 2>&1", STATIC_NAT)
    try:
        for care_of, encapsulation in ((COA4, "ipip4"), (PRIVATE4, "udp4")):
            assert laptop.register(care_of, Ipv4HomeAddress(HOME4)).accepted
            assert (laptop.arrival.remote, laptop.arrival.remote_port) == (PUBLIC4, 4191)
            assert world.pings(HOME4)
            assert world.pings(HOME6)
            assert binding_of(world, "laptop")["encap"] == encapsulation
    finally:
        world.net.sh(f"nft delete table ip static; ip addr del {PUBLIC4}/32 dev acc; conntrack -F 2>&1")


def test_moves_between_all_kinds_of_networks_take_effect_at_once(laptop: Node) -> None:
    laptop.register(COA4, Ipv4HomeAddress(HOME4))
    took = []
    for care_of in (COA6, PRIVATE4, COA4, PRIVATE4, COA6, COA4):
        began = time.monotonic()
        assert laptop.register(care_of, Ipv4HomeAddress(HOME4)).status == BindingStatus.ACCEPTED
        took.append(time.monotonic() - began)
        assert laptop.world.pings(HOME4, number=1)
        assert laptop.world.pings(HOME6, number=1)
    assert min(took) < 1.0, "no probe of the home link, of a second each, for a known home address"


def test_kill_and_restart_lose_no_binding_and_accept_no_replay(laptop: Node) -> None:
    world = laptop.world
    laptop.register(PRIVATE4, Ipv4HomeAddress(HOME4))
    laptop.register(COA6, Ipv4HomeAddress(HOME4))
    assert laptop.register(PRIVATE4, Ipv4HomeAddress(HOME4)).accepted
    before = binding_of(world, "laptop")
    world.stop(signal.SIGKILL)
    assert not world.pings(HOME4, number=1, within=1)
    world.start()
    # The mobile node has done nothing. The NAT still has its mapping, since it is outbound that it keeps.
    assert world.pings(HOME4)
    assert world.pings(HOME6)
    after = binding_of(world, "laptop")
    for same in ("care_of", "observed", "sequence", "encap"):
        assert after[same] == before[same]
    laptop.inbox.clear()
    for again in laptop.sent:
        again()
    assert laptop.hears_nothing()
    assert binding_of(world, "laptop")["care_of"] == before["care_of"]
    ignored = world.control.call("status")["totals"]["updates_ignored"]
    assert ignored["esp-replayed"] == len(laptop.sent)
    assert laptop.register(COA4, Ipv4HomeAddress(HOME4)).accepted, (
        "its answers are new ones for the mobile node"
    )


@pytest.mark.requirement("R134")
def damaged(octets: bytes | Drop) -> bytes:
    assert not isinstance(octets, Drop)
    return octets[:-1] + bytes((octets[-1] ^ 1,))


def test_what_is_not_authentic_is_met_with_silence(laptop: Node) -> None:
    world = laptop.world
    assert laptop.register(COA4, Ipv4HomeAddress(HOME4)).accepted
    before = binding_of(world, "laptop")["sequence"]
    update = BindingUpdate(before + 9, 60, FLAGS, (Ipv4CareOfAddress(COA4),))
    bare = ControlPacket(HOME6, AGENT6, update)
    native = ControlPacket(COA6, AGENT6, update, home_address_option=HOME6)
    theft = ControlPacket(TABLET6, AGENT6, update)
    for care_of, packet in (
        (COA4, seal_control(bare, None, RFC5555)),
        (COA6, seal_control(native, None, RFC5555)),
        (COA4, seal_control(theft, laptop.sealer, RFC5555)),
        (COA4, b"\x60" + os.urandom(99)),
        (COA6, damaged(seal_control(native, laptop.sealer, RFC5555))),
    ):
        laptop.send(care_of, packet)
        assert laptop.hears_nothing(0.1)
    assert binding_of(world, "laptop")["sequence"] == before
    assert world.pings(HOME4, number=1)


def test_only_the_bound_address_and_port_may_send_for_a_home_address(laptop: Node) -> None:
    world = laptop.world
    assert laptop.register(PRIVATE4, Ipv4HomeAddress(HOME4)).accepted
    assert world.pings(HOME4, number=1)
    # Answers leave through the other access network: their outer source is not the bound one.
    bound = TunnelPath(PRIVATE4, AGENT4, Encapsulation.UDP, laptop.underlays[PRIVATE4].port, 4191)
    other = TunnelPath(COA4, AGENT4, Encapsulation.IP_IN_IP)
    laptop.plane.install(ForwardingTable(Route(ip_network(h), other, (bound,)) for h in (HOME6, HOME4)))
    assert not world.pings(HOME4, number=1, within=1)
    assert world.control.call("status")["totals"]["drops"]["wrong-peer"] > 0


def test_a_dynamic_home_address_is_given_and_kept(running: World) -> None:
    tablet_life = mobile_node(running, "tablet", TABLET6, POOL4)
    tablet = next(tablet_life)
    try:
        ack = tablet.register(COA4, Ipv4HomeAddress(IPv4Address(0)))
        assert first(ack.options, Ipv4AddressAck) == Ipv4AddressAck(0, POOL4, 32)
        assert running.pings(POOL4)
        assert tablet.register(COA4, lifetime=0).status == BindingStatus.ACCEPTED
        leases = running.control.call("leases")["leases"]
        assert [one["v4"] for one in leases if one["node"] == "tablet"] == [str(POOL4)]
    finally:
        with pytest.raises(StopIteration):
            next(tablet_life)


@pytest.mark.requirement("R115")
def test_the_home_link_is_told_and_answered_while_a_binding_lasts_and_no_longer(laptop: Node) -> None:
    world = laptop.world
    world.net.sh("ip neigh flush dev home")
    assert laptop.register(COA4, Ipv4HomeAddress(HOME4)).accepted
    assert world.pings(HOME4)
    assert world.pings(HOME6)
    agent = _hardware(world)
    for address in (HOME4, HOME6):
        assert agent in world.net.sh(f"ip neigh show {address} dev home")
    assert laptop.register(COA4, lifetime=0).accepted
    world.net.sh("ip neigh flush dev home")
    for address in (HOME4, HOME6):
        assert not world.pings(address, number=1, within=1)
        assert "lladdr" not in world.net.sh(f"ip neigh show {address} dev home")


def test_a_neighbour_with_a_stale_entry_learns_at_once_where_the_home_address_is_now(laptop: Node) -> None:
    world = laptop.world
    for address in (HOME4, HOME6):
        world.net.sh(f"ip neigh replace {address} lladdr 02:00:00:00:00:99 dev home nud reachable")
    assert laptop.register(COA4, Ipv4HomeAddress(HOME4)).accepted
    wait_until(
        lambda: all(_hardware(world) in world.net.sh(f"ip neigh show {a} dev home") for a in (HOME4, HOME6)),
        "gratuitous ARP and an unsolicited advertisement",
    )
    assert world.pings(HOME4)
    assert world.pings(HOME6)


def test_134_answers_when_a_neighbour_has_the_home_address(running: World) -> None:
    life = mobile_node(running, "phone", PHONE6, PHONE4)
    phone = next(life)
    with taken(running.net, PHONE6):
        assert phone.register(COA4).status == BindingStatus.DUPLICATE_ADDRESS
    with taken(running.net, PHONE4):
        ack = phone.register(COA4, Ipv4HomeAddress(PHONE4))
    assert ack.status == BindingStatus.ACCEPTED
    assert first(ack.options, Ipv4AddressAck) == Ipv4AddressAck(128, PHONE4, 0)
    forget(running, "phone")
    with pytest.raises(StopIteration):
        next(life)


@contextmanager
def taken(namespace: Namespace, address: IPv4Address | IPv6Address) -> Iterator[None]:
    """Somebody on the home link has `address`."""
    nodad = " nodad" if address.version == 6 else ""
    namespace.sh(f"ip addr add {address}/{address.max_prefixlen} dev home{nodad}")
    try:
        yield
    finally:
        namespace.sh(f"ip addr del {address}/{address.max_prefixlen} dev home")


def test_a_node_that_returns_home_is_answered_on_the_home_link_even_while_bound(
    laptop: Node,
) -> None:
    """A refusal, too: for it the home address is still routed into the tunnel."""
    world = laptop.world
    assert laptop.register(COA4, Ipv4HomeAddress(HOME4)).accepted
    stale = binding_of(world, "laptop")["sequence"]
    with taken(world.net, HOME6):
        with inside(world.net.name):
            underlay = open_ipv6_underlay(HOME6, "home", 0)
        intake = next(i.socket for i in underlay.intakes if i.kind is IntakeKind.CONTROL)
        for sequence, status in (
            (stale, BindingStatus.SEQUENCE_OUT_OF_WINDOW),
            (next(laptop.sequences), BindingStatus.ACCEPTED),
        ):
            update = BindingUpdate(sequence, 0, FLAGS)
            packet = seal_control(ControlPacket(HOME6, AGENT6, update), laptop.sealer, RFC5555)
            assert underlay.send_control(AGENT6, 0, packet) is None
            intake.settimeout(PATIENCE)
            opened = open_control(intake.recv(2048), {laptop.opener.association.spi: laptop.opener}, RFC5555)
            assert not isinstance(opened, Drop)
            assert isinstance(opened.packet.message, BindingAck)
            assert opened.packet.message.status == status
            assert opened.packet.routing_home_address is None
        underlay.close()
    assert binding_of(world, "laptop") is None


def test_routes_and_proxies_that_somebody_removed_come_back_with_the_device(laptop: Node) -> None:
    world = laptop.world
    assert laptop.register(COA4, Ipv4HomeAddress(HOME4)).accepted
    assert world.pings(HOME4, number=1)
    world.ha.sh("ip link del mip-ha0")
    wait_until(
        lambda: all(world.pings(home, number=1, within=1) for home in (HOME4, HOME6)), "a new TUN device"
    )


def test_what_another_program_removes_is_heard_of_and_comes_back(laptop: Node) -> None:
    world = laptop.world
    assert laptop.register(COA4, Ipv4HomeAddress(HOME4)).accepted
    world.stop(signal.SIGTERM)  # a daemon that has looked a moment ago makes a pause before it looks again
    world.start()
    show = "ip route show proto 191; ip -6 route show proto 191; nft --stateless list table inet home_agent"
    whole = world.ha.sh(show)
    assert str(HOME4) in whole
    assert str(HOME6) in whole
    world.ha.sh(f"ip route del {HOME4}; ip -6 route del {HOME6}; nft flush table inet home_agent")
    assert world.ha.sh(show) != whole
    wait_until(lambda: world.ha.sh(show) == whole, "what was removed")


def test_operators_see_and_drop_bindings(laptop: Node) -> None:
    world = laptop.world
    assert laptop.register(COA4, Ipv4HomeAddress(HOME4)).accepted
    shown = world.control.call("bindings")["bindings"]
    assert [one["node"] for one in shown] == ["laptop"]
    assert world.control.call("drop", {"home_address": str(HOME4)})["dropped"] is True
    assert not world.pings(HOME4, number=1, within=1)
    with pytest.raises(ControlError) as caught:
        world.control.call("drop", {"home_address": "laptop"})
    assert caught.value.kind is ErrorKind.NOT_FOUND
    with pytest.raises(ControlError) as caught:
        world.control.call("show", {"node": "nobody"})
    assert caught.value.candidates == ("laptop", "tablet", "phone")


def test_a_clean_stop_leaves_the_host_as_it_was_and_the_bindings_on_disk(world: World) -> None:
    if world.daemon is not None:
        world.stop()
    before = _steady(world.ha)
    world.start()
    life = mobile_node(world, "laptop", HOME6, HOME4)
    laptop = next(life)
    assert laptop.register(COA4, Ipv4HomeAddress(HOME4)).accepted
    assert world.stop() == 0
    assert _steady(world.ha) == before
    world.start()
    assert world.pings(HOME4)
    world.stop(signal.SIGKILL)
    assert _steady(world.ha) != before
    cleanup = [HOME_AGENT, "--cleanup", "--config"]
    subprocess.run(
        ["ip", "netns", "exec", world.ha.name, *cleanup, str(world.directory / "ha.toml")], check=True
    )
    assert _steady(world.ha) == before
    with pytest.raises(StopIteration):
        next(life)


def test_mistakes_in_the_configuration_are_told_with_exit_code_7(world: World) -> None:
    wrong = world.directory / "wrong.toml"
    text = (world.directory / "ha.toml").read_text()
    wrong.write_text(text.replace("interface", "interfaec").replace("203.0.113.77", "203.0.113.300"))
    command = [HOME_AGENT, "--check", "--config", str(wrong)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 7
    assert 'did you mean "interface"?' in done.stderr
    assert f"{wrong}:13" in done.stderr
    (world.directory / "tablet.toml").chmod(0o644)
    try:
        command[-1] = str(world.directory / "ha.toml")
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    finally:
        (world.directory / "tablet.toml").chmod(0o600)
    assert done.returncode == 7
    assert "mode 0644" in done.stderr


def _hardware(world: World) -> str:
    return world.ha.sh("ip -br link show eth0").split()[2]


def _steady(namespace: Namespace) -> str:
    """What must be as before, without neighbours and counters that live a life of their own."""
    return namespace.sh(
        "ip -br addr; ip -br link; ip -4 rule; ip -6 rule; ip -4 route show table all;"
        "ip -6 route show table all; ip neigh show proxy; ip -6 neigh show proxy; nft list ruleset;"
        "sysctl net.ipv4.ip_forward net.ipv6.conf.all.forwarding net.ipv6.conf.eth0.proxy_ndp"
    )
