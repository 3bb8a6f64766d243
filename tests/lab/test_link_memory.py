"""What was sent on a link, kept and sent again: real sockets in two namespaces joined by a cable."""

from __future__ import annotations

import os
import random
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from ipaddress import IPv4Address, IPv6Address, ip_network

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6

from tests.lab.namespace import Namespace
from tests.lab.patience import wait_until
from tunnel.link_filter import Towards, Watch
from tunnel.link_memory import LinkMemory
from tunnel.link_sender import send_on_link

pytestmark = [pytest.mark.lab, pytest.mark.skipif(os.geteuid() != 0, reason="needs root")]

HOME4, HOME6 = IPv4Address("203.0.113.77"), IPv6Address("2001:db8:99::77")
FAR4, FAR6 = IPv4Address("203.0.113.1"), IPv6Address("2001:db8:99::1")
HOMES = frozenset({HOME4, HOME6})
NETWORKS = [ip_network(f"{home}") for home in HOMES]
_UDP_SEGMENT = 103


@pytest.fixture
def ends() -> Iterator[tuple[Namespace, Namespace]]:
    tag = f"{os.getpid()}-{random.SystemRandom().randrange(16**4):04x}"
    with ExitStack() as stack:
        made = [Namespace(f"{name}-{tag}") for name in ("home", "far")]
        for one in made:
            stack.callback(one.close)
        home, far = made
        home.sh(f"ip link add e0 type veth peer name e0 netns {far.name}")
        home.sh(f"ip addr add {HOME4}/24 dev e0; ip addr add 203.0.113.99/24 dev e0; ip link set e0 up")
        home.sh(f"ip addr add {HOME6}/64 dev e0 nodad")
        far.sh(f"ip addr add {FAR4}/24 dev e0; ip addr add {FAR6}/64 dev e0 nodad; ip link set e0 up")
        home.sh(f"ping -c1 -W5 {FAR4} >/dev/null; until ping -c1 -W1 {FAR6} >/dev/null; do :; done")
        yield home, far


def kept(memory: LinkMemory, wanted: int) -> list[bytes]:
    """What was kept of UDP, when it is so many packets."""
    found: list[bytes] = []

    def all_of_them() -> bool:
        found.extend(packet for packet in memory.take(NETWORKS, 0.0) if UDP in parsed(packet))
        return len(found) >= wanted

    wait_until(all_of_them, f"{wanted} packets are kept")
    return found


def parsed(packet: bytes) -> IP | IPv6:
    return IP(packet) if packet[0] >> 4 == 4 else IPv6(packet)


def rebuilt(packet: bytes) -> bytes:
    """The same with checksums by scapy."""
    copy = parsed(packet)
    del copy[UDP].chksum
    if IP in copy:
        del copy.chksum
    return bytes(copy)


def send(source: str, payload: bytes, segment: int = 0) -> Callable[[], None]:
    def body() -> None:
        family = socket.AF_INET6 if ":" in source else socket.AF_INET
        with socket.socket(family, socket.SOCK_DGRAM) as sending:
            sending.bind((source, 0))
            if segment:
                sending.setsockopt(socket.IPPROTO_UDP, _UDP_SEGMENT, segment)
            sending.sendto(payload, (str(FAR6 if ":" in source else FAR4), 9))

    return body


def test_what_leaves_from_a_home_address_is_kept_whole_and_can_be_sent_by_another_way(
    ends: tuple[Namespace, Namespace],
) -> None:
    home, _ = ends
    memory = home.run(lambda: LinkMemory(Watch("e0", (Towards.LINK,), HOMES, by_source=True)))
    for source in (str(HOME4), str(HOME6)):
        home.run(send(source, b"one"))
        home.run(send(source, bytes(range(250)), segment=100))
    home.run(send("203.0.113.99", b"another address"))
    home.sh("ip link set e0 down")
    packets = kept(memory, 8)
    memory.close()
    assert [(len(bytes(parsed(p)[UDP].payload)), p[0] >> 4) for p in packets] == [
        (length, version) for version in (4, 6) for length in (3, 100, 100, 50)
    ], "a super-packet as the packets that it stands for, and no neighbour discovery"
    assert [rebuilt(packet) for packet in packets] == packets, "every checksum is finished"
    assert memory.take(NETWORKS, 0.0) == (), "once"


def test_what_comes_in_is_kept_and_a_packet_with_a_strange_source_is_sent_on_the_link(
    ends: tuple[Namespace, Namespace],
) -> None:
    home, far = ends
    memory = home.run(lambda: LinkMemory(Watch("e0", (Towards.US,), HOMES, by_source=False)))
    four = bytes(IP(src="192.0.2.9", dst=str(HOME4)) / UDP(sport=1, dport=2) / b"four")
    six = bytes(IPv6(src="2001:db8:cc::9", dst=str(HOME6)) / UDP(sport=1, dport=2) / b"six")
    too_big = bytes(IP(src="192.0.2.9", dst=str(HOME4)) / UDP(sport=1, dport=2) / bytes(2000))
    refused = far.run(lambda: send_on_link([four, too_big, six], "e0"))
    assert [drop.reason for drop in refused] == ["send-emsgsize"]
    packets = kept(memory, 2)
    memory.close()
    assert [bytes(parsed(packet)[UDP].payload) for packet in packets] == [b"four", b"six"]
    assert [drop.reason for drop in far.run(lambda: send_on_link([four], "e9"))] == ["send-enodev"]
