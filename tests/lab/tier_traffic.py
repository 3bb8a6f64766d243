"""Traffic for comparing tiers: packets and super-packets of every kind, as a host gives them to its device.

A packet socket with a virtio header hands super-packets to the device; one without offloads gets them cut by
the kernel, whose segments are thereby the measure of ours.
"""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass, field
from itertools import zip_longest

from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import (
    ICMPv6EchoRequest,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
)
from scapy.packet import Packet, Raw

from tests.lab.tunnel_ends import AGENT4, AGENT6, HOME4, HOME6
from tunnel.offload.vnet import NEEDS_CHECKSUM, ONE_PACKET, VNET, VNET_HEADER, Kind
from wire.checksum import internet_checksum, word_sum

NOBODY4, NOBODY6 = "192.0.2.200", "2001:db8:9::200"
"""Correspondents that the home agent's host neither is nor forwards to: they never answer."""
STRANGER4, STRANGER6 = "198.51.100.77", "2001:db8:77::77"
TIMESTAMPS = [("NOP", None), ("NOP", None), ("Timestamp", (1, 2))]
SACK = [("NOP", None), ("NOP", None), ("SAck", (100, 200))]
_SOL_PACKET, _PACKET_VNET_HDR, _PACKET_IGNORE_OUTGOING = 263, 15, 23


@dataclass(frozen=True)
class Burst:
    """Frames for the device, each with its virtio header. `packets` is how many they stand for."""

    name: str
    frames: tuple[bytes, ...]
    packets: int
    answered: bool = field(default=False)
    """Whether each packet is answered with an error, and so neither carried nor counted."""


def octets(length: int) -> bytes:
    return bytes(i * 31 % 253 for i in range(length))


def ip4(**fields: object) -> Packet:
    return IP(**{"src": str(HOME4), "dst": NOBODY4, "id": 77, "flags": "DF", **fields})


def ip6(**fields: object) -> Packet:
    return IPv6(**{"src": str(HOME6), "dst": NOBODY6, "fl": 0x12345, **fields})


def ip(version: int, **fields: object) -> Packet:
    return ip4(**fields) if version == 4 else ip6(**fields)


def single(name: str, *packets: Packet | bytes, answered: bool = False) -> Burst:
    return Burst(name, tuple(ONE_PACKET + bytes(packet) for packet in packets), len(packets), answered)


def whole(name: str, packet: Packet, size: int, answered: bool = False) -> Burst:
    """A super-packet to be cut every `size` octets of payload."""
    data, start, place = begun(packet)
    headers = start + (8 if UDP in packet else (data[start + 12] >> 4) * 4)
    kind = Kind.UDP if UDP in packet else (Kind.TCP4 if data[0] >> 4 == 4 else Kind.TCP6)
    header = VNET.pack(NEEDS_CHECKSUM, kind, headers, size, start, place)
    return Burst(name, (header + data,), -(-(len(data) - headers) // size), answered)


def unfinished(name: str, packet: Packet) -> Burst:
    """One packet whose checksum is left to the device."""
    data, start, place = begun(packet)
    return Burst(name, (VNET.pack(NEEDS_CHECKSUM, 0, 0, 0, start, place) + data,), 1)


def begun(packet: Packet) -> tuple[bytes, int, int]:
    """The octets with a checksum only begun; where the transport begins, and where in it the checksum is."""
    data = bytearray(bytes(packet))
    layer = packet[UDP] if UDP in packet else packet[TCP]
    start = len(data) - len(bytes(layer))
    place = 6 if UDP in packet else 16
    length = len(data) - start
    addresses = data[12:20] if data[0] >> 4 == 4 else data[8:40]
    pseudo = word_sum(bytes(addresses) + struct.pack("!IHBB", length, 0, 0, 17 if UDP in packet else 6))
    data[start + place : start + place + 2] = (pseudo % 0xFFFF).to_bytes(2, "big")
    return bytes(data), start, place


def tcp(**fields: object) -> Packet:
    return TCP(**{"sport": 5000, "dport": 6000, "seq": 0xFFFFF000, "ack": 9, "flags": "A", **fields})


def udp(**fields: object) -> Packet:
    return UDP(**{"sport": 5000, "dport": 6000, **fields})


def carried(version: int) -> list[Burst]:
    """What passes, alone and in numbers."""
    echo = ICMP() if version == 4 else ICMPv6EchoRequest()
    mark = "tos" if version == 4 else "tc"
    bursts = [
        single("small datagrams", *(ip(version) / udp() / Raw(octets(n)) for n in (0, 1, 2, 63, 64, 517))),
        single("a run of equal datagrams", *(ip(version) / udp() / Raw(octets(100)) for _ in range(30))),
        single("alternating lengths", *(ip(version) / udp() / Raw(octets(50 + n % 2)) for n in range(10))),
        single("echo", ip(version) / echo / Raw(octets(57))),
        single("selective acknowledgement", ip(version) / tcp(options=SACK)),
        single("syn", ip(version) / tcp(flags="S", options=[("MSS", 1400), ("WScale", 7)])),
        single("a wrong checksum", ip(version) / tcp(chksum=0x1234) / Raw(octets(99))),
        *(
            single(f"mark {tos:#x}", *[ip(version, **{mark: tos}) / udp() / Raw(octets(40))] * 5)
            for tos in (0xB8, 0x01, 0x02, 0x03, 0xBB)
        ),
        unfinished("datagram for the device to finish", ip(version) / udp() / Raw(octets(333))),
        unfinished("segment for the device to finish", ip(version) / tcp() / Raw(octets(1001))),
    ]
    for size, length, flags, options in (
        (1200, 24_000, "A", TIMESTAMPS),
        (1200, 24_001, "PA", TIMESTAMPS),
        (1201, 60_000, "FPA", []),
        (333, 10_000, "PA", SACK),
        (1, 7, "A", []),
        (1200, 1300, "EA", TIMESTAMPS),
        (1348, 64_000, "A", []),
    ):
        segment = ip(version, **{mark: 0x28}) / tcp(flags=flags, options=options) / Raw(octets(length))
        bursts.append(whole(f"stream {length} by {size} {flags}", segment, size))
    for size, length in ((1200, 24_000), (77, 5000), (1200, 1201)):
        bursts.append(whole(f"datagrams {length} by {size}", ip(version) / udp() / Raw(octets(length)), size))
    return [*bursts, interleaved(version), *special(version)]


def interleaved(version: int) -> Burst:
    """Segments of three flows in turn."""
    network = [ip(version, **({"id": number} if version == 4 else {})) for number in range(8)]
    packets = [
        network[number] / tcp(sport=port, seq=number * 500) / Raw(octets(500))
        for number in range(8)
        for port in (1, 2, 3)
    ]
    return single("three flows in turn", *packets)


def special(version: int) -> list[Burst]:
    """Headers that only one family has."""
    if version == 4:
        first = ip4(flags="MF", proto=17) / Raw(octets(800))
        second = ip4(flags=0, frag=100, proto=17) / Raw(octets(333))
        router_alert = ip4(options=[b"\x94\x04\x00\x00"]) / udp() / Raw(octets(44))
        cut = ip4(flags=0, id=5) / udp() / Raw(octets(1560))
        wrapping = ip4(id=0xFFF9) / tcp() / Raw(octets(20_000))
        return [
            single("fragments", first, second),
            single("options", router_alert),
            single("fragmented inside the tunnel", cut),
            whole("identifications that wrap", wrapping, 1000),
        ]
    return [
        single("fragments", ip6() / IPv6ExtHdrFragment(nh=17, m=1, id=9) / Raw(octets(800))),
        single("hop by hop", ip6() / IPv6ExtHdrHopByHop() / udp() / Raw(octets(40))),
        single("destination options", ip6() / IPv6ExtHdrDestOpt() / udp() / Raw(octets(40))),
        single("routing header", ip6() / IPv6ExtHdrRouting(addresses=[NOBODY6]) / udp() / Raw(octets(40))),
    ]


def refused(version: int) -> list[Burst]:
    """What goes no further, alone or as a super-packet, and what is answered."""
    agent, stranger = (str(AGENT4), STRANGER4) if version == 4 else (str(AGENT6), STRANGER6)
    multicast, local = ("224.0.0.251", "169.254.1.1") if version == 4 else ("ff02::fb", "fe80::1")
    stream = tcp() / Raw(octets(9000))
    good = bytes(ip(version) / udp() / Raw(octets(100)))
    short = bytearray(good)
    short[3 if version == 4 else 5] -= 1
    return [
        single("not from home", *(ip(version, src=stranger) / udp() / Raw(octets(30)) for _ in range(3))),
        whole("a stream not from home", ip(version, src=stranger) / stream, 1000),
        single("to multicast", ip(version, dst=multicast) / udp() / Raw(octets(30))),
        whole("a stream to multicast", ip(version, dst=multicast) / udp() / Raw(octets(9000)), 1000),
        single("from the link", ip(version, src=local) / udp() / Raw(octets(30))),
        single("nested", ip(version, dst=agent) / udp(dport=4191) / Raw(octets(30))),
        single("nested and protected", ip(version, dst=agent) / udp(dport=4500) / Raw(octets(30))),
        whole("nested in numbers", ip(version, dst=agent) / udp(dport=4191) / Raw(octets(3000)), 1000),
        single("a length that lies", bytes(short)),
        single("half a header", good[:22]),
        single("too large", ip(version) / udp() / Raw(octets(1470)), answered=True),
        whole("a stream of what is too large", ip(version) / tcp() / Raw(octets(4500)), 1450, answered=True),
    ]


class Port:
    """A packet socket on a TUN device: packets go in as from its host, and come out as to its host."""

    def __init__(self, opened: socket.socket, device: str) -> None:
        self._socket = opened
        opened.setsockopt(_SOL_PACKET, _PACKET_VNET_HDR, 1)
        opened.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, 1)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
        opened.bind((device, 3))
        opened.settimeout(0.3)
        self._device = device

    def send(self, frame: bytes) -> None:
        protocol = 0x86DD if frame[VNET_HEADER] >> 4 == 6 else 0x0800
        self._socket.sendto(frame, (self._device, protocol))

    def received(self) -> list[bytes]:
        """The packets that have come so far, super-packets cut."""
        found: list[bytes] = []
        self._socket.setblocking(False)
        try:
            while True:
                found += packets_in(self._socket.recv(70_000))
        except BlockingIOError:
            return found


def packets_in(frame: bytes) -> list[bytes]:
    """What a frame stands for: cut slowly and plainly, by what RFC 9293 and RFC 791 say of each field."""
    flags, kind, _, size, start, place = VNET.unpack_from(frame)
    packet = bytearray(frame[VNET_HEADER:])
    if not kind:
        if flags & NEEDS_CHECKSUM:
            place += start
            packet[place : place + 2] = (internet_checksum(packet[start:]) or 0xFFFF).to_bytes(2, "big")
        return [bytes(packet)]
    headers = start + (8 if kind == Kind.UDP else (packet[start + 12] >> 4) * 4)
    pieces = [bytes(packet[at : at + size]) for at in range(headers, len(packet), size)]
    return [_piece(packet[:headers], start, n, len(pieces), size, piece) for n, piece in enumerate(pieces)]


def _piece(head: bytearray, start: int, number: int, of: int, size: int, payload: bytes) -> bytes:
    parsed = (IP if head[0] >> 4 == 4 else IPv6)(bytes(head) + payload)
    transport = parsed[TCP] if TCP in parsed else parsed[UDP]
    if IP in parsed:
        parsed.id = (parsed.id + number) & 0xFFFF
        parsed.len = parsed.chksum = None
    else:
        parsed.plen = None
    transport.chksum = None
    if UDP in parsed:
        transport.len = None
    else:
        transport.seq = (transport.seq + number * size) & 0xFFFFFFFF
        if number + 1 < of:
            transport.flags &= ~0x09
    return bytes(parsed)


def by_flow(packets: list[bytes]) -> dict[bytes, list[bytes]]:
    """In order for each flow: flows may overtake each other."""
    flows: dict[bytes, list[bytes]] = {}
    for packet in packets:
        key = packet[9:10] + packet[12:24] if packet[0] >> 4 == 4 else packet[6:7] + packet[8:44]
        flows.setdefault(key, []).append(packet)
    return flows


def first_difference(expected: list[bytes], found: list[bytes]) -> str:
    for number, (one, other) in enumerate(zip_longest(expected, found)):
        if one != other:
            return f"packet {number} of {len(expected)} and {len(found)}:\n{_hex(one)}\n{_hex(other)}"
    return ""


def _hex(packet: bytes | None) -> str:
    return "nothing" if packet is None else f"{len(packet)}: {packet[:80].hex()}"
