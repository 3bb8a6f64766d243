"""Paths that are narrower than their links, between real namespaces: black holes, and routers that lie."""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import threading
from ipaddress import IPv4Address, IPv6Address

import pytest

from tests.lab.patience import PATIENCE
from tests.lab.tunnel_ends import (
    AGENT4,
    AGENT6,
    CARE_OF4,
    CARE_OF6,
    PORT,
    TLV,
    End,
    cn_of,
    family_of,
    home_of,
    path,
    tunnel,
)
from tunnel.path import Encapsulation
from wire.checksum import internet_checksum
from wire.icmp import PacketTooBig, encode_icmp6
from wire.ip import PROTOCOL_IPV6, PROTOCOL_UDP, IPv4Header, IPv6Header
from wire.udp import encode_udp

pytestmark = [pytest.mark.lab, pytest.mark.skipif(os.geteuid() != 0, reason="needs root")]

FORMATS = [
    (Encapsulation.UDP, 4),
    (Encapsulation.UDP_TLV, 4),
    (Encapsulation.IP_IN_IP, 4),
    (Encapsulation.IP_IN_IP, 6),
    (Encapsulation.ESP_UDP, 4),
    (Encapsulation.ESP, 6),
]


def black_hole(end: End, most: int) -> None:
    """Whatever arrives in larger packets is dropped, before anybody puts fragments together.

    As on a cable no train passes whole: those of this end are cut where they leave.
    """
    cut = f"ip -n {end.namespace} link set one gso_max_segs 1"
    subprocess.run(cut.split(), check=True)
    rule = f'iifname "one" meta length > {most} counter drop'
    rules = (
        f"table inet hole {{\nchain narrow {{\ntype filter hook prerouting priority -450\n{rule}\n}}\n}}\n"
    )
    command = f"ip netns exec {end.namespace} nft -f -"
    subprocess.run(command.split(), input=rules, text=True, check=True)


def dropped(end: End) -> bool:
    """Whether the black hole has swallowed anything."""
    command = f"ip netns exec {end.namespace} nft list table inet hole"
    listed = subprocess.run(command.split(), capture_output=True, text=True, check=True).stdout
    return "packets 0 " not in listed


def transfer(source: End, sink: End, version: int, size: int) -> None:
    """TCP from the home address to the correspondent; every octet arrives."""
    received = bytearray()
    with sink.socket(family_of(version), socket.SOCK_STREAM) as listener:
        listener.bind((cn_of(version), 0))
        listener.listen()

        def drain() -> None:
            connection, _ = listener.accept()
            with connection:
                while chunk := connection.recv(65536):
                    received.extend(chunk)

        reader = threading.Thread(target=drain)
        reader.start()
        with source.socket(family_of(version), socket.SOCK_STREAM) as sender:
            sender.bind((home_of(version), 0))
            sender.connect(listener.getsockname())
            sender.sendall(os.urandom(size))
        reader.join(PATIENCE)
    assert len(received) == size


@pytest.mark.parametrize(("encapsulation", "outer"), FORMATS)
def test_what_no_inner_packet_can_be_small_enough_for_is_fragmented_outside(
    encapsulation: Encapsulation, outer: int
) -> None:
    with tunnel(TLV.get(encapsulation), device_mtu=1280) as ends:
        ends.use(path(encapsulation, outer, mtu=1280))
        for end in (ends.mobile_node, ends.home_agent):
            black_hole(end, 1280)
        for version in (6, 4):
            transfer(ends.mobile_node, ends.home_agent, version, 50_000)
        assert not dropped(ends.mobile_node)
        assert not dropped(ends.home_agent)


def lie(end: End, outer: int, encapsulation: Encapsulation) -> None:
    """A router says that packets of 68 octets are too large, and quotes one that could have been ours."""
    if outer == 6:
        local, remote = CARE_OF6["one"], AGENT6
        quote = IPv6Header(local, remote, PROTOCOL_IPV6, 1200).encode() + bytes(1000)
        message = encode_icmp6(PacketTooBig(1280, quote), IPv6Address(remote), IPv6Address(local))
        with end.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6) as liar:
            liar.bind((str(remote), 0))
            liar.sendto(message, (str(local), 0))
        return
    source, target = IPv4Address(CARE_OF4["one"]), IPv4Address(AGENT4)
    content = encode_udp(source, target, PORT, PORT, bytes(64))
    protocol = PROTOCOL_UDP if encapsulation is Encapsulation.UDP else PROTOCOL_IPV6
    quote = IPv4Header(source, target, protocol, 1400).encode() + content
    body = struct.pack("!HH", 0, 68) + quote
    head = struct.pack("!BBH", 3, 4, 0)
    checksum = internet_checksum(head + body)
    with end.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as liar:
        liar.bind((str(target), 0))
        liar.sendto(head[:2] + checksum.to_bytes(2, "big") + body, (str(source), 0))


@pytest.mark.parametrize(
    ("encapsulation", "outer"),
    [(Encapsulation.UDP, 4), (Encapsulation.IP_IN_IP, 4), (Encapsulation.IP_IN_IP, 6)],
)
def test_a_forged_packet_too_big_changes_nothing_that_the_mobile_node_sends(
    encapsulation: Encapsulation, outer: int
) -> None:
    with tunnel(device_mtu=1400) as ends:
        ends.use(path(encapsulation, outer))
        lie(ends.home_agent, outer, encapsulation)
        if outer == 4:  # of IPv6, raw sockets that are not connected learn nothing
            command = f"ip -n {ends.mobile_node.namespace} route get {AGENT4} from {CARE_OF4['one']}"
            route = subprocess.run(command.split(), capture_output=True, text=True, check=True).stdout
            assert "mtu" in route, "if the kernel has not believed it, this shows nothing"
        with ends.home_agent.capture("one") as capture:
            command = f"ip netns exec {ends.mobile_node.namespace} ping -6 -c1 -W{PATIENCE:g} -M do -s 1352"
            command += f" -I {home_of(6)} {cn_of(6)}"
            assert subprocess.run(command.split(), capture_output=True).returncode == 0
            sizes = [len(capture.recv(65536))]
            capture.settimeout(0.2)
            try:
                while True:
                    sizes.append(len(capture.recv(65536)))
            except TimeoutError:
                pass
        whole = {Encapsulation.UDP: 1428, Encapsulation.IP_IN_IP: 1420 if outer == 4 else 1440}
        assert whole[encapsulation] in sizes, sizes
