"""The kernel tier between real namespaces: what programs carry, what they leave, and what remains of them."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import struct
import subprocess
import sys
import time
from ipaddress import IPv4Address, ip_network
from pathlib import Path

import pytest

from tests.lab.patience import wait_until
from tests.lab.test_tunnel_plane import FORMATS, UPDATE, exchange, exchange_at_last, swap_paths, transfer
from tests.lab.tunnel_ends import (
    AGENT6,
    HOME4,
    HOME6,
    KERNEL,
    LINKS,
    TLV,
    End,
    cn_of,
    home_of,
    inside,
    ip,
    path,
    tunnel,
)
from tunnel.bpf.plane import KernelPlane
from tunnel.bpf.system import Hook, _bpf
from tunnel.envelope import ControlPacket, seal_control
from tunnel.forwarding import ForwardingTable
from tunnel.path import Encapsulation
from tunnel.silence import PATIENCE
from wire.profile import RFC5555

pytestmark = [pytest.mark.lab, pytest.mark.skipif(os.geteuid() != 0, reason="needs root")]

TCP_RESTS = 20
"""Seconds."""
MULTICAST = "link-local-or-multicast"  # the hosts' own, on every device that forwards


def by_programs(end: End) -> tuple[int, int]:
    """Packets that left and came in without user space."""
    assert isinstance(end.plane, KernelPlane)
    whole, slow = end.plane.counters(), end.plane.slow.counters()
    return whole.tx_packets - slow.tx_packets, whole.rx_packets - slow.rx_packets


def refusals(end: End) -> dict[str, int]:
    return {reason: n for reason, n in end.plane.counters().drops.items() if reason != MULTICAST}


@pytest.mark.parametrize(("encapsulation", "outer"), FORMATS)
def test_udp_and_tcp_of_both_families_pass_without_user_space(
    encapsulation: Encapsulation, outer: int
) -> None:
    with tunnel(TLV.get(encapsulation), tier=KERNEL) as ends:
        ends.use(path(encapsulation, outer))
        for version in (4, 6):
            for size in (0, 1, 517, 1300):
                payload = os.urandom(size)
                assert exchange(ends.mobile_node, ends.home_agent, version, payload) == payload
            transfer(ends.mobile_node, ends.home_agent, version, 1_000_000)
        for end in (ends.mobile_node, ends.home_agent):
            left, came = by_programs(end)
            assert left + came > 700
            assert refusals(end) == {}
        # Super-packets count as what they become: each end has seen the same packets.
        left = by_programs(ends.mobile_node)[0]
        wait_until(lambda: left <= ends.home_agent.plane.counters().rx_packets, "all that left has come")


def test_control_arrives_and_is_no_payload() -> None:
    with tunnel(tier=KERNEL) as ends:
        ends.use(path(Encapsulation.UDP, 4))
        exchange(ends.mobile_node, ends.home_agent, 6, b"payload")
        packet = seal_control(ControlPacket(HOME6, AGENT6, UPDATE), None, RFC5555)
        ends.mobile_node.underlays["one4"].send_control(IPv4Address("203.0.113.2"), 4191, packet)
        wait_until(lambda: bool(ends.home_agent.control), "the Binding Update")
        assert ends.home_agent.control[0][0] == packet


def test_a_path_swap_under_traffic_loses_and_disorders_nothing() -> None:
    ways = [
        path(Encapsulation.UDP, 4, "one"),
        path(Encapsulation.IP_IN_IP, 6, "one"),
        path(Encapsulation.IP_IN_IP, 4, "two"),
        path(Encapsulation.UDP, 4, "two"),
    ]
    swap_paths(KERNEL, ways)


def test_what_went_into_a_break_is_sent_again_in_order() -> None:
    with tunnel(tier=KERNEL) as ends:
        mobile_node, home_agent = ends.mobile_node, ends.home_agent
        old, new = path(Encapsulation.UDP, 4, "one"), path(Encapsulation.UDP, 4, "two")
        for way in (new, old):
            ends.use(way)
            exchange(mobile_node, home_agent, 6, b"neighbours are resolved")
        with (
            home_agent.socket(socket.AF_INET6, socket.SOCK_DGRAM) as there,
            mobile_node.socket(socket.AF_INET6, socket.SOCK_DGRAM) as here,
        ):
            there.bind((cn_of(6), 0))
            here.bind((home_of(6), 0))
            here.connect(there.getsockname()[:2])
            began = time.clock_gettime(time.CLOCK_BOOTTIME)
            ip(home_agent.namespace, "link set one down")
            lost = [b"into the break %d" % number for number in range(20)]
            for datagram in lost:
                here.send(datagram)
            mobile_node.plane.install(ForwardingTable())
            waiting = [b"without a path %d" % number for number in range(20)]
            for datagram in waiting:
                here.send(datagram)
            wait_until(
                lambda: mobile_node.plane.counters().drops.get("not-a-home-address", 0) >= 20, "the refusals"
            )
            ends.use(new)
            mobile_node.plane.send_again([ip_network(HOME6), ip_network(HOME4)], began)
            assert [there.recv(100) for _ in range(40)] == lost + waiting


def test_a_segmented_connection_survives_a_break_by_what_is_sent_again() -> None:
    with tunnel(tier=KERNEL) as ends:
        mobile_node, home_agent = ends.mobile_node, ends.home_agent
        old, new = path(Encapsulation.UDP, 4, "one"), path(Encapsulation.UDP, 4, "two")
        for way in (new, old):
            ends.use(way)
            exchange(mobile_node, home_agent, 4, b"neighbours are resolved")
        with (
            home_agent.socket(socket.AF_INET, socket.SOCK_STREAM) as listening,
            mobile_node.socket(socket.AF_INET, socket.SOCK_STREAM) as sending,
        ):
            listening.bind((cn_of(4), 0))
            listening.listen()
            sending.bind((home_of(4), 0))
            # TCP repeats nothing by itself meanwhile: it probes no tail and waits long.
            with inside(mobile_node.namespace):
                Path("/proc/sys/net/ipv4/tcp_early_retrans").write_text("0")
            ip(mobile_node.namespace, f"route replace default dev mip0 table 100 rto_min {TCP_RESTS}s")
            sending.connect(listening.getsockname()[:2])
            accepted, _ = listening.accept()
            accepted.settimeout(TCP_RESTS / 2)
            began = time.clock_gettime(time.CLOCK_BOOTTIME)
            ip(home_agent.namespace, "link set one down")
            payload = os.urandom(12_000)
            sending.sendall(payload)
            ends.use(new)
            mobile_node.plane.send_again([ip_network(HOME4)], began)
            received = b""
            while len(received) < len(payload):
                received += accepted.recv(65536)
            assert received == payload
            accepted.close()


def test_silence_is_told_once_a_patience_and_not_while_answers_come() -> None:
    with tunnel(tier=KERNEL, listens_for_silence=True) as ends:
        mobile_node, home_agent = ends.mobile_node, ends.home_agent
        ends.use(path(Encapsulation.UDP, 4))
        until = time.monotonic() + PATIENCE + 0.5
        sent = 0
        while time.monotonic() < until:
            exchange(mobile_node, home_agent, 6, b"answered")
            sent += 1
            time.sleep(0.05)
        until = time.monotonic()
        assert mobile_node.silences == []
        ip(home_agent.namespace, "-6 route add blackhole 2001:db8:9::10")
        with mobile_node.socket(socket.AF_INET6, socket.SOCK_DGRAM) as here:
            here.bind((home_of(6), 0))
            while not mobile_node.silences and time.monotonic() < until + 10 * PATIENCE:
                here.sendto(b"nobody listens", ("2001:db8:9::10", 9))
                sent += 1
                time.sleep(0.05)
        assert mobile_node.silences[0] - until > PATIENCE - 0.5
        assert by_programs(mobile_node)[0] >= sent - 1, "the last one may still be on its way"


def test_a_deleted_device_is_replaced_and_what_comes_in_meanwhile_is_counted() -> None:
    with tunnel(tier=KERNEL) as ends:
        mobile_node, home_agent = ends.mobile_node, ends.home_agent
        ends.use(path(Encapsulation.UDP, 4))
        exchange(mobile_node, home_agent, 6, b"before")
        ip(mobile_node.namespace, "link del mip0")
        wait_until(lambda: bool(mobile_node.faults), "the fault")
        with home_agent.socket(socket.AF_INET6, socket.SOCK_DGRAM) as there:
            there.bind((cn_of(6), 0))
            for _ in range(20):
                there.sendto(b"lost", (home_of(6), 9))
        wait_until(lambda: refusals(mobile_node).get("tun-gone", 0) >= 20, "the refusals")
        with inside(mobile_node.namespace):
            mobile_node.opened.renew_device()
        ends.route_again()
        exchange_at_last(mobile_node, home_agent, 6, b"after")
        assert by_programs(mobile_node)[0] >= 2


def test_a_link_that_is_deleted_takes_its_program_along_and_nothing_else() -> None:
    with tunnel(tier=KERNEL) as ends:
        mobile_node, home_agent = ends.mobile_node, ends.home_agent
        ends.use(path(Encapsulation.UDP, 4, "two"))
        exchange(mobile_node, home_agent, 6, b"by the other link")
        ip(mobile_node.namespace, "link del one")
        exchange(mobile_node, home_agent, 6, b"still")
        assert by_programs(mobile_node) == (2, 2)


def test_a_clean_end_leaves_nothing_behind() -> None:
    before = held_by_this_process()
    with tunnel(tier=KERNEL) as ends:
        ends.use(path(Encapsulation.UDP, 4))
        exchange(ends.mobile_node, ends.home_agent, 6, b"payload")
        mobile_node = ends.mobile_node.namespace
        assert programs_on(mobile_node, "mip0", Hook.EGRESS) == 1
        assert [programs_on(mobile_node, link, Hook.INGRESS) for link in LINKS] == [1, 1]
        ends.mobile_node.opened.close()
        assert [programs_on(mobile_node, link, Hook.INGRESS) for link in LINKS] == [0, 0]
        assert (
            "clsact"
            not in subprocess.run(
                ["tc", "-n", mobile_node, "qdisc"], check=True, capture_output=True, text=True
            ).stdout
        )
    assert held_by_this_process() == before


def programs_on(namespace: str, device: str, hook: Hook) -> int:
    """How many programs there are at a hook of a device, whoever put them there (BPF_PROG_QUERY)."""
    with inside(namespace):
        asked = struct.pack("=IIIIQI", socket.if_nametoindex(device), hook, 0, 0, 0, 0)
        count: int = struct.unpack_from("=I", _bpf(16, asked)[1], 24)[0]
    return count


def held_by_this_process() -> int:
    """Programs, maps and links that would stay as long as this process."""
    kinds = []
    for number in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # that of the listing itself
            kinds.append(os.readlink(f"/proc/self/fd/{number}"))
    return sum(kind.startswith(("anon_inode:bpf", "anon_inode:[bpf")) for kind in kinds)


def test_without_the_privilege_the_next_tier_is_taken_and_says_so() -> None:
    script = """
import json
from tunnel.endpoint import Endpoint, Role
from tunnel.tiers import Wiring, open_tunnel
wiring = Wiring(Endpoint(Role.MOBILE_NODE), lambda packet, arrival: None, lambda reason: None)
tunnel = open_tunnel("auto", "mip0", 1400, wiring)
print(json.dumps(tunnel.report.describe()))
tunnel.close()
"""
    name = f"kernel-{os.getpid()}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        capabilities = "--bounding-set=-all,+net_admin,+net_raw"
        command = ["ip", "netns", "exec", name, "setpriv", capabilities, sys.executable, "-c", script]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
    finally:
        subprocess.run(["ip", "netns", "del", name], check=True)
    told = json.loads(done.stdout)
    assert told["tier"] != "kernel"
    assert told["why"].startswith("kernel: not permitted: CAP_BPF and CAP_NET_ADMIN are needed")
