"""Links, addresses and routers of real namespaces, seen by rtnetlink within milliseconds."""

from __future__ import annotations

import asyncio
import fcntl
import os
import random
import socket
import struct
import subprocess
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from pathlib import Path

import pytest

from mn_agent.daemon import misplaced_home_addresses
from movement.addresses import interface_addresses
from movement.links import LinkReader
from movement.policy import Policy, rank
from movement.snapshot import DefaultRouter, Link, Snapshot
from movement.sources import Ours, Watcher, watch
from tests.lab.namespace import Namespace
from tests.lab.patience import PATIENCE
from tests.machines.mobile_node_script import configuration
from tunnel.kernel import PROTOCOL, LocalPrefix, mobile_node_kernel
from tunnel.routing import KernelState
from tunnel.tun import TunDevice

pytestmark = [
    pytest.mark.lab,
    pytest.mark.skipif(os.geteuid() != 0 or not Path("/dev/net/tun").exists(), reason="needs root and TUN"),
]

SIOCSIFFLAGS = 0x8914
HOMES = (IPv4Address("203.0.113.77"), IPv6Address("2001:db8:99::77"))


@pytest.fixture
def node() -> Iterator[Namespace]:
    """A namespace with two unplugged links, e0 and e1, whose other ends are r0 and r1 in it."""
    made = Namespace(f"mov-{os.getpid()}-{random.SystemRandom().randrange(16**4):04x}")
    try:
        made.sh(
            "sysctl -qw net.ipv6.conf.default.accept_dad=0 net.ipv6.conf.all.accept_dad=0; "
            "ip link set lo up; "
            "ip link add e0 type veth peer name r0; ip link add e1 type veth peer name r1; "
            "ip link set e0 up; ip link set e1 up"
        )
        yield made
    finally:
        made.close()


def read(node: Namespace, excluded: frozenset[str] = frozenset()) -> Snapshot:
    def once() -> Snapshot:
        reader = LinkReader(excluded)
        try:
            reader.read()
            return reader.read()
        finally:
            reader.close()

    return node.run(once)


def link(snapshot: Snapshot, name: str = "e0") -> Link:
    found = snapshot.link(name)
    assert found is not None
    return found


class Diary:
    """What a watcher said, and when."""

    def __init__(self) -> None:
        self.snapshots: list[tuple[float, Snapshot, float]] = []
        self.foreign: list[str] = []
        self.losses = 0

    def loss(self) -> None:
        self.losses += 1

    def snapshot(self, snapshot: Snapshot, hinted_at: float) -> None:
        self.snapshots.append((time.clock_gettime(time.CLOCK_BOOTTIME), snapshot, hinted_at))

    @property
    def newest(self) -> Snapshot:
        return self.snapshots[-1][1]


def watched(node: Namespace, body: Callable[[Diary], Awaitable[None]], ours: Ours | None = None) -> Diary:
    """Run `body` in the namespace while a watcher keeps a diary."""
    diary = Diary()

    async def main() -> None:
        task = asyncio.create_task(watch(diary.snapshot, ours, diary.foreign.append, diary.loss))
        try:
            await until(lambda: bool(diary.snapshots))
            await body(diary)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    node.run(lambda: asyncio.run(main()))
    return diary


async def shell(node: Namespace, script: str) -> None:
    await asyncio.to_thread(node.sh, script)


async def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "nothing happened in time"
        await asyncio.sleep(0.002)


async def settled(diary: Diary) -> None:
    """Until nothing more is said of what has happened by now."""
    said = -1
    while said != (said := len(diary.snapshots) + len(diary.foreign) + diary.losses):
        await asyncio.sleep(0.1)


def test_a_snapshot_shows_links_addresses_with_their_states_and_routers(node: Namespace) -> None:
    node.sh(
        "ip link set r0 up; ip link set e0 mtu 1492; ip addr add 192.168.7.2/24 dev e0; "
        "ip -6 addr add 2001:db8:7::2/64 dev e0 nodad; "
        "ip -6 addr add 2001:db8:7::3/64 dev e0 nodad preferred_lft 0 valid_lft 600; "
        "ip route add default via 192.168.7.1 metric 100; "
        "ip -6 route add default via fe80::1 dev e0; ip route add 10.9.0.0/16 via 192.168.7.1"
    )
    snapshot = read(node)
    e0 = link(snapshot)
    assert (e0.up, e0.mtu) == (True, 1492)
    assert set(e0.routers) == {
        DefaultRouter(4, ip_address("192.168.7.1"), 100),
        DefaultRouter(6, ip_address("fe80::1"), 1024),
    }
    states = {str(a.address): (a.prefix_length, a.tentative, a.deprecated) for a in e0.addresses}
    assert states["192.168.7.2"] == (24, False, False)
    assert states["2001:db8:7::2"] == (64, False, False)
    assert states["2001:db8:7::3"] == (64, False, True)
    assert not link(snapshot, "e1").up, "no carrier"
    assert snapshot.link("lo") is None
    assert [a.care_of for a in rank(snapshot, Policy())] == [
        ip_address("2001:db8:7::2"), ip_address("192.168.7.2"),
    ]  # fmt: skip


def test_a_tentative_address_is_seen_as_such_and_an_optimistic_one_as_usable(node: Namespace) -> None:
    node.sh(
        "sysctl -qw net.ipv6.conf.e0.accept_dad=1 net.ipv6.conf.all.accept_dad=1; "
        "sysctl -qw net.ipv6.conf.e0.dad_transmits=20; ip link set r0 up; "
        "ip -6 addr add 2001:db8:7::2/64 dev e0"
    )
    tentative = {str(a.address): a.tentative for a in link(read(node)).addresses}
    assert tentative["2001:db8:7::2"] is True
    node.sh("ip -6 addr del 2001:db8:7::2/64 dev e0; sysctl -qw net.ipv6.conf.e0.optimistic_dad=1")
    node.sh("ip -6 addr add 2001:db8:7::2/64 dev e0 optimistic")
    optimistic = {str(a.address): a.tentative for a in link(read(node)).addresses}
    assert optimistic["2001:db8:7::2"] is False


ADVERTISED = ip_network("2001:db8:7::/64")


def advertise(node: Namespace, lifetime: int, preferred: int) -> None:
    """A router advertisement on the link of e0: `lifetime` of the router, `preferred` of its prefix."""

    def send() -> None:
        head = struct.pack("!BBHBBHII", 134, 0, 0, 64, 0, lifetime, 0, 0)
        prefix = struct.pack("!BBBBIII", 3, 4, 64, 0xC0, 86400, preferred, 0)
        with socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6) as router:
            router.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
            everybody = ("ff02::1", 0, 0, socket.if_nametoindex("r0"))
            router.sendto(head + prefix + ADVERTISED.network_address.packed, everybody)

    node.run(send)


def test_a_router_that_resigns_and_a_prefix_that_is_given_up_show_at_once(node: Namespace) -> None:
    """RFC 6275 section 11.5.1, by what the kernel makes of router advertisements."""
    node.sh("sysctl -qw net.ipv6.conf.e0.accept_ra=2 net.ipv6.conf.e0.accept_ra_from_local=1")
    ready = "for end in e0 r0; do until ip -6 addr show dev $end | grep -q fe80; do sleep 0.01; done; done"
    node.sh(f"ip link set r0 up; {ready}")

    async def body(diary: Diary) -> None:
        def standing() -> list[bool] | None:
            """Of the advertised addresses, whether they are deprecated; None without a router."""
            if not diary.snapshots or not (e0 := link(diary.newest)).routers:
                return None
            return [a.deprecated for a in e0.addresses if a.address in ADVERTISED]

        for lifetime, preferred, expected in (
            (1800, 3600, [False]),
            (0, 3600, None),
            (1800, 0, [True]),
            (1800, 3600, [False]),
        ):
            await asyncio.to_thread(advertise, node, lifetime, preferred)
            await until(lambda expected=expected: standing() == expected)  # type: ignore[misc]

    watched(node, body)


def test_routes_over_several_next_hops_are_several_routers(node: Namespace) -> None:
    node.sh(
        "ip link set r0 up; ip link set r1 up; "
        "ip addr add 192.168.7.2/24 dev e0; ip addr add 192.168.8.2/24 dev e1; "
        "ip route add default nexthop via 192.168.7.1 dev e0 nexthop via 192.168.8.1 dev e1; "
        "ip route add default dev e1 metric 50; ip route add unreachable default metric 900"
    )
    snapshot = read(node)
    assert link(snapshot).routers == (DefaultRouter(4, ip_address("192.168.7.1"), 0),)
    assert set(link(snapshot, "e1").routers) == {
        DefaultRouter(4, ip_address("192.168.8.1"), 0),
        DefaultRouter(4, None, 50),
    }


def test_who_the_routers_are_and_that_one_is_silent_is_known_and_other_neighbours_wake_nobody(
    node: Namespace,
) -> None:
    peer = Namespace(f"{node.name}-r")
    try:
        node.sh(f"ip link set r0 netns {peer.name}")
        peer.sh("ip link set r0 up; ip addr add 192.168.7.1/24 dev r0; ip addr add fe80::1/64 dev r0 nodad")
        hardware = bytes.fromhex(peer.sh("cat /sys/class/net/r0/address").replace(":", ""))
        node.sh(
            "ip addr add 192.168.7.2/24 dev e0 valid_lft 600 preferred_lft 600; "
            "ip route add default via 192.168.7.1; ip -6 route add default via fe80::1 dev e0"
        )

        async def body(diary: Diary) -> None:
            assert {router.hardware for router in link(diary.newest).routers} == {None}, "not asked yet"
            before = time.clock_gettime(time.CLOCK_BOOTTIME)
            await shell(node, "bash -c 'for a in 192.168.7.1 fe80::1%e0; do echo > /dev/udp/$a/9; done'")
            await until(lambda: {r.hardware for r in link(diary.newest).routers} == {hardware})
            lease = next(a.valid_until for a in link(diary.newest).addresses if a.prefix_length == 24)
            assert lease is not None
            assert before + 590 < lease < before + 601
            await settled(diary)
            quiet = len(diary.snapshots)
            await shell(
                node,
                "for n in 7 8 9; do ip neigh add 192.168.7.$n lladdr 02:00:00:00:00:0$n dev e0; done; "
                "ip neigh change 192.168.7.1 dev e0 nud stale; bash -c 'echo > /dev/udp/192.168.7.1/9'",
            )
            await asyncio.sleep(0.05)
            assert len(diary.snapshots) == quiet
            await shell(node, "ip neigh change 192.168.7.1 dev e0 nud failed")
            await until(lambda: {r.silent for r in link(diary.newest).routers} == {True, False})

        watched(node, body)
    finally:
        peer.close()


def test_the_tun_device_is_no_link(node: Namespace) -> None:
    tun = node.run(lambda: TunDevice.open("mip0", 1400))
    try:
        assert read(node).link("mip0") is not None
        assert read(node, frozenset({"mip0"})).link("mip0") is None
    finally:
        tun.close()


def test_the_c_library_sees_the_same_addresses(node: Namespace) -> None:
    """netifaces is an independent reader of the same truth, labels of addresses included."""
    node.sh(
        "ip link set r0 up; ip link set r1 up; ip addr add 192.168.7.2/24 dev e0; "
        "ip addr add 192.168.9.2/26 dev e0 label e0:1; ip -6 addr add 2001:db8:7::2/56 dev e1 nodad"
    )
    snapshot = read(node)
    ours = {x.name: {(a.address, a.prefix_length) for a in x.addresses} for x in snapshot.links}
    theirs = node.run(interface_addresses)
    assert ours == {
        name: {(a.ip, a.network.prefixlen) for a in addresses}
        for name, addresses in theirs.items()
        if name != "lo"
    }


def test_a_home_address_that_somebody_else_has_set_is_said(node: Namespace) -> None:
    assert node.run(lambda: misplaced_home_addresses(configuration())) == []
    node.sh(
        "ip link set e1 down; ip link set e1 name mip0; "
        "ip addr add 203.0.113.77/32 dev e0; ip addr add 2001:db8:99::77 dev mip0"
    )
    (warning,) = node.run(lambda: misplaced_home_addresses(configuration()))
    assert warning.startswith("the home address 203.0.113.77 is on e0 already: take it out")


def test_every_kind_of_change_is_followed_by_a_snapshot_that_shows_it(node: Namespace) -> None:
    steps: list[tuple[str, Callable[[Snapshot], bool]]] = [
        ("ip link set r0 up", lambda s: link(s).up),
        (
            "ip addr add 192.168.7.2/24 dev e0",
            lambda s: any(a.prefix_length == 24 for a in link(s).addresses),
        ),
        ("ip route add default via 192.168.7.1", lambda s: len(link(s).routers) == 1),
        ("ip -6 route add default via fe80::1 dev e0", lambda s: len(link(s).routers) == 2),
        ("ip link set e0 mtu 1400", lambda s: link(s).mtu == 1400),
        ("ip -6 route del default", lambda s: len(link(s).routers) == 1),
        ("ip addr flush dev e0", lambda s: not link(s).addresses and not link(s).routers),
        ("ip link set r0 down", lambda s: not link(s).up),
        ("ip link del e1", lambda s: s.link("e1") is None),
    ]

    async def body(diary: Diary) -> None:
        for script, seen in steps:
            assert not seen(diary.newest), script
            await shell(node, script)
            await until(lambda seen=seen: seen(diary.newest))  # type: ignore[misc]

    watched(node, body)


def set_flags(name: str, up: bool) -> None:
    """Bring an interface up or down by ioctl, which returns when it is done."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        flags = 0x1043 if up else 0x1002
        fcntl.ioctl(control, SIOCSIFFLAGS, struct.pack("16sh22x", name.encode(), flags))


def test_a_plugged_and_a_pulled_cable_are_known_each_time(node: Namespace) -> None:
    async def body(diary: Diary) -> None:
        for number in range(20):
            plugged = number % 2 == 0
            await asyncio.to_thread(set_flags, "r0", plugged)
            await until(lambda plugged=plugged: link(diary.newest).up is plugged)  # type: ignore[misc]

    watched(node, body)


def test_a_burst_of_events_costs_few_snapshots_and_the_last_one_is_right(node: Namespace) -> None:
    node.sh("ip link set r0 up")
    script = "\n".join(f"addr add 10.1.{i // 250}.{i % 250 + 1}/32 dev e0" for i in range(1000))

    async def body(diary: Diary) -> None:
        before = len(diary.snapshots)
        await asyncio.to_thread(
            subprocess.run, ["ip", "-n", node.name, "-batch", "-"], input=script, text=True, check=True
        )
        await until(lambda: sum(a.prefix_length == 32 for a in link(diary.newest).addresses) == 1000)
        assert len(diary.snapshots) - before < 500

    watched(node, body)


def test_events_lost_in_an_overrun_are_made_up_for_by_reading_everything(node: Namespace) -> None:
    node.sh("ip link set r0 up")
    add = "\n".join(f"addr add 10.1.{i // 250}.{i % 250 + 1}/32 dev e0" for i in range(4000))
    script = add + "\n" + add.replace("addr add", "addr del") + "\naddr add 10.9.9.9/32 dev e0\n"

    async def body(diary: Diary) -> None:
        subprocess.run(["ip", "-n", node.name, "-batch", "-"], input=script, text=True, check=True)  # blocks
        await until(lambda: ip_address("10.9.9.9") in {a.address for a in link(diary.newest).addresses})

    diary = watched(node, body, Ours("mip0", PROTOCOL))
    assert diary.losses, "the socket did overrun"
    assert not diary.foreign


def test_an_idle_host_wakes_nobody(node: Namespace) -> None:
    node.sh("ip link set r0 up; ip addr add 192.168.7.2/24 dev e0; sleep 1")
    selects: list[float] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        selector = loop._selector  # type: ignore[attr-defined]
        original = selector.select
        watcher = Watcher(lambda snapshot, at: None, Ours("mip0", PROTOCOL, "mn_agent"), lambda what: None)
        watcher.start()
        await asyncio.sleep(0.1)

        def counted(timeout: float | None = None) -> object:
            selects.append(time.monotonic())
            return original(timeout)

        selector.select = counted
        await asyncio.sleep(2)
        selector.select = original
        watcher.close()

    node.run(lambda: asyncio.run(main()))
    assert len(selects) <= 2, "only the sleep of this test itself"


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        ("ip rule del pref 5200", "rule 5200"),
        ("ip -6 rule del pref 5210", "rule 5210"),
        ("ip route flush table 4191", "a route of ours"),
        ("ip addr flush dev mip0", "an address of mip0"),
        ("nft flush ruleset", "nft table mn_agent"),
        ("nft flush chain inet mn_agent prerouting", "nft table mn_agent"),
        ("ip link del mip0", "device mip0"),
        ("ip link set mip0 down", "device mip0"),
    ],
)
def test_what_others_remove_is_noticed_and_repaired(
    node: Namespace, tmp_path: Path, damage: str, told: str
) -> None:
    tun = node.run(lambda: TunDevice.open("mip0", 1400))
    state = node.run(lambda: KernelState(tmp_path / "kernel.json"))
    wanted = mobile_node_kernel("mip0", HOMES, 1400)
    node.run(lambda: state.apply(wanted))

    async def body(diary: Diary) -> None:
        state.apply(replace(wanted, mtu=1420))
        state.apply(mobile_node_kernel("mip0", HOMES[:1], 1400))
        state.apply(wanted)
        await asyncio.sleep(0.05)
        assert not diary.foreign, "our own changes are not foreign"
        await shell(node, damage)
        await until(lambda: any(told in what for what in diary.foreign))
        await settled(diary)
        if "mip0" not in damage or "addr" in damage:
            state.repair()
            diary.foreign.clear()
            await asyncio.sleep(0.05)
            assert not any("rule" in what or "route" in what for what in diary.foreign)
            assert state.repair() == 0

    try:
        watched(node, body, Ours("mip0", PROTOCOL, "mn_agent", state.port))
    finally:
        state.close()
        tun.close()


def test_routes_that_the_kernel_drops_with_a_link_are_put_back_and_nobody_is_blamed(
    node: Namespace, tmp_path: Path
) -> None:
    """The kernel says nothing of IPv4 routes that go with a link, and a quick flap leaves no other trace."""
    node.sh("ip link set r0 up; ip addr add 192.168.7.2/24 dev e0")
    tun = node.run(lambda: TunDevice.open("mip0", 1400))
    state = node.run(lambda: KernelState(tmp_path / "kernel.json"))
    lan = LocalPrefix(ip_network("192.168.7.0/24"), "e0", ip_address("192.168.7.2"))
    wanted = mobile_node_kernel("mip0", HOMES, 1400, local_prefixes=(lan,))
    node.run(lambda: state.apply(wanted))

    async def body(diary: Diary) -> None:
        await shell(node, "ip link set e0 down; ip link set e0 up")
        await until(lambda: diary.losses > 0 and link(diary.newest).up)
        assert "192.168.7.0/24" not in node.sh("ip route show table 4192")
        assert state.repair() == 1
        assert "192.168.7.0/24" in node.sh("ip route show table 4192")

    try:
        diary = watched(node, body, Ours("mip0", PROTOCOL, "mn_agent", state.port))
    finally:
        state.close()
        tun.close()
    assert not diary.foreign
