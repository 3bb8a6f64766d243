"""Every tier does with the same traffic, packet by packet, what the portable tier does with it."""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import pytest
from scapy.packet import Raw

from tests.lab.patience import PATIENCE
from tests.lab.tier_traffic import (
    STRANGER4,
    Burst,
    Port,
    by_flow,
    carried,
    first_difference,
    ip4,
    octets,
    refused,
    tcp,
    udp,
)
from tests.lab.tunnel_ends import (
    AGENT4,
    KERNEL,
    OFFLOAD,
    PORT,
    PORTABLE,
    TLV,
    End,
    Tier,
    path,
    tunnel,
)
from tunnel.path import Encapsulation

pytestmark = [pytest.mark.lab, pytest.mark.skipif(os.geteuid() != 0, reason="needs root")]

FORMATS = [
    (Encapsulation.UDP, 4),
    (Encapsulation.UDP_TLV, 4),
    (Encapsulation.UDP_TLV_DRAFT, 4),
    (Encapsulation.IP_IN_IP, 4),
    (Encapsulation.IP_IN_IP, 6),
    (Encapsulation.ESP_UDP, 4),
    (Encapsulation.ESP, 6),
]
CASES = [
    *((OFFLOAD, *form) for form in FORMATS),
    (KERNEL, Encapsulation.UDP, 4),
    (KERNEL, Encapsulation.UDP_TLV, 4),
    (KERNEL, Encapsulation.UDP_TLV_DRAFT, 4),
    (KERNEL, Encapsulation.IP_IN_IP, 4),
    (KERNEL, Encapsulation.IP_IN_IP, 6),
]
"""Where payload is protected there is no kernel tier: see tunnel.tiers."""
_QUIET = """
table inet quiet {
    chain out {
        type filter hook output priority 0
        icmpv6 type { 143, destination-unreachable, parameter-problem } drop
        icmp type { destination-unreachable, parameter-problem } drop
    }
}
"""
"""What the two hosts would say to it by themselves, at rates of their own."""


@dataclass(frozen=True)
class Outcome:
    """What became of the traffic. Drops are those since it began."""

    delivered: list[bytes]
    answers: list[bytes]
    sent: tuple[int, int]
    received: tuple[int, int]
    drops_of_sender: Mapping[str, int]
    drops_of_receiver: Mapping[str, int]


class Watch:
    """Counters of one end since now."""

    def __init__(self, end: End) -> None:
        self._plane = end.plane
        self._start = end.plane.counters()

    def drops(self) -> dict[str, int]:
        now, before = self._plane.counters().drops, self._start.drops
        return {why: n - before.get(why, 0) for why, n in now.items() if n != before.get(why)}

    def sent(self) -> tuple[int, int]:
        now = self._plane.counters()
        return now.tx_packets - self._start.tx_packets, now.tx_bytes - self._start.tx_bytes

    def received(self) -> tuple[int, int]:
        now = self._plane.counters()
        return now.rx_packets - self._start.rx_packets, now.rx_bytes - self._start.rx_bytes

    def settle(self, dealt_with: int) -> None:
        """Wait until so many packets were sent, received or refused; a wrong number shows in the outcome."""
        end = time.monotonic() + PATIENCE
        while self.sent()[0] + self.received()[0] + sum(self.drops().values()) < dealt_with:
            if time.monotonic() > end:
                return
            time.sleep(0.001)


def outcome_of(tier: Tier, encapsulation: Encapsulation, outer: int, bursts: list[Burst]) -> Outcome:
    with tunnel(TLV.get(encapsulation), device_mtu=1600, tier=tier) as ends:
        here, there = ends.mobile_node, ends.home_agent
        for end in (here, there):
            subprocess.run(["ip", "netns", "exec", end.namespace, "nft", _QUIET], check=True)
        ends.use(path(encapsulation, outer))
        ports = [Port(end.socket(socket.AF_PACKET, socket.SOCK_RAW), "mip0") for end in (here, there)]
        sender, receiver = Watch(here), Watch(there)
        dealt_with = 0
        for burst in bursts:
            for frame in burst.frames:
                ports[0].send(frame)
            dealt_with += 0 if burst.answered else burst.packets
            sender.settle(dealt_with)
        receiver.settle(sender.sent()[0])
        time.sleep(0.05)
        answers, delivered = (port.received() for port in ports)
        return Outcome(
            delivered, answers, sender.sent(), receiver.received(), sender.drops(), receiver.drops()
        )


def traffic() -> list[Burst]:
    return [burst for version in (4, 6) for burst in (*carried(version), *refused(version))]


@cache
def reference(encapsulation: Encapsulation, outer: int) -> Outcome:
    return outcome_of(PORTABLE, encapsulation, outer, traffic())


@pytest.mark.parametrize(("tier", "encapsulation", "outer"), CASES, ids=str)
def test_the_same_traffic_has_the_same_outcome(tier: Tier, encapsulation: Encapsulation, outer: int) -> None:
    expected = reference(encapsulation, outer)
    found = outcome_of(tier, encapsulation, outer, traffic())
    assert found.drops_of_sender == expected.drops_of_sender
    assert found.drops_of_receiver == expected.drops_of_receiver
    flows, found_flows = by_flow(expected.delivered), by_flow(found.delivered)
    assert found_flows.keys() == flows.keys()
    for flow, packets in flows.items():
        there = found_flows[flow]
        if tier is KERNEL:  # what its programs decline goes through user space, and may be overtaken there
            packets, there = sorted(packets), sorted(there)
        assert there == packets, first_difference(packets, there)
    assert sorted(found.answers) == sorted(expected.answers)
    assert (found.sent, found.received) == (expected.sent, expected.received)


# ---- trains that arrive -----------------------------------------------------------------------------------
def trains() -> list[tuple[int, list[bytes]]]:
    """TOS of the outer packets, and datagrams of one length that arrive as one train."""
    segments = [bytes(ip4(id=n) / tcp(seq=n * 700) / Raw(octets(700))) for n in range(12)]
    damaged = [*segments[:4], segments[4][:-1] + b"\xff", *segments[5:]]
    bad_header = [*segments[:4], segments[4][:10] + b"\xab\xcd" + segments[4][12:], *segments[5:]]
    strange = [bytes(ip4(src=STRANGER4, id=n) / tcp(seq=n * 700) / Raw(octets(700))) for n in range(12)]
    capable = [bytes(ip4(tos=2, id=n) / tcp(seq=n * 700) / Raw(octets(700))) for n in range(12)]
    datagrams = [bytes(ip4() / udp() / Raw(octets(700 + 12))) for _ in range(12)]
    nested = [bytes(ip4(dst=str(AGENT4)) / udp(dport=PORT) / Raw(octets(712))) for _ in range(12)]
    multicast = [bytes(ip4(dst="224.0.0.5", id=n) / tcp(seq=n * 700) / Raw(octets(700))) for n in range(12)]
    liars = [packet[:2] + struct.pack("!H", 739) + packet[4:] for packet in segments]
    mixed = [packet for pair in zip(segments, strange, datagrams, strict=True) for packet in pair]
    return [
        (0, segments),
        (0, [*segments, segments[0][:300]]),
        (0, segments[::-1]),
        (0, damaged),
        (0, bad_header),
        (0, strange),
        (0, datagrams),
        (0, nested),
        (0, multicast),
        (0, liars),
        (0, mixed),
        (3, segments),  # a mark that the inner packets cannot carry
        (3, capable),
        (1, capable),
        (0, [bytes(740)] * 3),
        (0, [b"\x50" + bytes(739)] * 3),
    ]


def arrivals_of(tier: Tier) -> Outcome:
    with tunnel(tier=tier) as ends:
        here, there = ends.mobile_node, ends.home_agent
        subprocess.run(["ip", "netns", "exec", there.namespace, "nft", _QUIET], check=True)
        ends.use(path(Encapsulation.UDP, 4))
        port = Port(there.socket(socket.AF_PACKET, socket.SOCK_RAW), "mip0")
        receiver, underlay = Watch(there), here.underlays["one4"].intakes[0].socket
        dealt_with = 0
        for tos, datagrams in trains():
            marks = [(socket.IPPROTO_UDP, 103, struct.pack("=H", len(datagrams[0])))]
            if tos:
                marks.append((socket.IPPROTO_IP, socket.IP_TOS, struct.pack("=i", tos)))
            underlay.sendmsg(datagrams, marks, 0, (str(AGENT4), PORT))
            dealt_with += len(datagrams)
            receiver.settle(dealt_with)
        time.sleep(0.05)
        return Outcome(port.received(), [], (0, 0), receiver.received(), {}, receiver.drops())


@pytest.mark.parametrize("tier", [OFFLOAD, KERNEL], ids=str)
def test_trains_that_arrive_are_judged_packet_by_packet(tier: Tier) -> None:
    expected, found = arrivals_of(PORTABLE), arrivals_of(tier)
    assert found.drops_of_receiver == expected.drops_of_receiver
    assert set(expected.drops_of_receiver) >= {"not-a-home-address", "nested-tunnel", "ecn-congested"}
    assert found.received == expected.received
    assert by_flow(found.delivered) == by_flow(expected.delivered)
