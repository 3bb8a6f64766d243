"""The programs of the kernel tier, run on packets by BPF_PROG_TEST_RUN: what comes out, what is counted.

Nothing here has ever been on a link. Our own encoders say what a packet has to look like, and the endpoint of
the other tiers says which ones may pass.
"""

from __future__ import annotations

import os
import random
import secrets
import struct
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv6Address, ip_network
from pathlib import Path

import pytest

from tests.lab.tunnel_ends import TLV, inside
from tunnel.bpf import layout
from tunnel.bpf.again import SecondSender
from tunnel.bpf.egress import egress_program
from tunnel.bpf.inspection import Side
from tunnel.bpf.layout import TLV_CODE, Verdict
from tunnel.bpf.programs import Programs
from tunnel.bpf.routes import Lanes
from tunnel.bpf.system import Program, VerifierError
from tunnel.bpf.ways import Ways
from tunnel.carriers import Carriers
from tunnel.encapsulation import tos_of, wrap
from tunnel.endpoint import Endpoint, EndpointConfig, Lane, Role
from tunnel.forwarding import ForwardingTable, Route, peer_of
from tunnel.path import HELD, Encapsulation, TunnelPath, held
from wire.ip import IPv4Header, IPv6Header
from wire.udp import UdpHeader, encode_udp

pytestmark = [pytest.mark.lab, pytest.mark.skipif(os.geteuid() != 0, reason="needs root")]

HOME6, HOME4 = IPv6Address("2001:db8:99::77"), IPv4Address("203.0.113.77")
NETWORK6, IN_NETWORK6 = ip_network("2001:db8:77::/64"), IPv6Address("2001:db8:77::5")
CN6, CN4 = IPv6Address("2001:db8:9::9"), IPv4Address("192.0.2.9")
CARE_OF = {4: IPv4Address("198.51.100.9"), 6: IPv6Address("2001:db8:1::9")}
AGENT = {4: IPv4Address("198.51.100.1"), 6: IPv6Address("2001:db8:1::1")}
PORTS = {Role.MOBILE_NODE: (40001, 4191), Role.HOME_AGENT: (4191, 40001)}
LINK, MARK, AGAIN = "up0", 0x4D4E, 0x4D4F
TUN = 4711  # no packet gets as far as this device
FORMATS = [
    (Encapsulation.UDP, 4),
    (Encapsulation.UDP_TLV, 4),
    (Encapsulation.UDP_TLV_DRAFT, 4),
    (Encapsulation.IP_IN_IP, 4),
    (Encapsulation.IP_IN_IP, 6),
]
ETHERTYPES = {4: b"\x08\x00", 6: b"\x86\xdd"}


@dataclass(frozen=True)
class Underlay:
    """A carrier that only says where it is."""

    local: IPv4Address | IPv6Address
    port: int
    interface: str
    intakes: tuple[()] = ()


@dataclass
class Bench:
    """The programs of one role with their maps; `egress` takes packets behind an Ethernet header."""

    role: Role
    namespace: str
    programs: Programs
    egress: Program
    carriers: Carriers

    def use(
        self, path: TunnelPath, accept: tuple[TunnelPath, ...] = (), tlv: Encapsulation | None = None
    ) -> Endpoint:
        """Install a path for the home addresses and the network; the endpoint that has to agree."""
        table = ForwardingTable(Route(ip_network(home), path, accept) for home in (HOME4, HOME6, NETWORK6))
        layout_of_tlv = TLV.get(tlv or path.encapsulation)
        with inside(self.namespace):
            self.programs.routes.install(table, self.carriers)
        self.programs.switch(layout.TLV, TLV_CODE[layout_of_tlv])
        self.programs.switch(layout.TUN_IFINDEX, TUN)
        agent = frozenset(AGENT.values())
        return Endpoint(self.role, EndpointConfig(home_agent=agent, tlv=layout_of_tlv), table)

    def wrap(self, inner: bytes, **context: int) -> tuple[int, bytes]:
        """Verdict of the egress program, and the IP packet it made."""
        return self._run(self.egress, inner, context)

    def unwrap(self, outer: bytes, **context: int) -> tuple[int, bytes]:
        return self._run(self.programs.ingress(14), outer, context)

    def total(self, field: int) -> int:
        return self.programs.routes.lanes.total(field)

    def _run(self, program: Program, packet: bytes, context: dict[str, int]) -> tuple[int, bytes]:
        """`mark` and `gso_size` of the packet can be given (struct __sk_buff)."""
        given = bytearray(192)
        for name, number in context.items():
            struct.pack_into("=I", given, {"mark": 8, "gso_size": 176}[name], number)
        frame = bytes(12) + ETHERTYPES.get(packet[0] >> 4, b"\x08\x06") + packet
        with inside(self.namespace):
            done = program.test(frame, bytes(given) if context else b"")
        return done.verdict, done.packet[14:]


@pytest.fixture(scope="module", params=list(Role), ids=lambda role: role.value)
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    name = f"bpf-{os.getpid()}-{secrets.token_hex(3)}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        yield from _bench(name, request.param)
    finally:
        subprocess.run(["ip", "netns", "del", name], check=True)


def _bench(name: str, role: Role) -> Iterator[Bench]:
    here, there = (CARE_OF, AGENT) if role is Role.MOBILE_NODE else (AGENT, CARE_OF)
    commands = [
        f"link add {LINK} type veth peer name far",
        f"link set {LINK} up",
        "link set far up",
        "link set lo up",
    ]
    for version in (4, 6):
        length = 24 if version == 4 else 64
        commands.append(f"addr add {here[version]}/{length} dev {LINK}" + " nodad" * (version == 6))
        commands.append(f"neigh add {there[version]} lladdr 02:00:00:00:00:01 dev {LINK} nud permanent")
    for command in commands:
        subprocess.run(["ip", "-n", name, *command.split()], check=True)
    with inside(name):
        for family in (
            "ipv4",
            "ipv6",
        ):  # a test packet comes from lo, where the home agent's come from the TUN device
            Path(f"/proc/sys/net/{family}/conf/lo/forwarding").write_text("1")
        ways = Ways(MARK)
        programs = Programs(role, ways, MARK, AGAIN, 0.0)
        side = Side.SOURCE if role is Role.MOBILE_NODE else Side.DESTINATION
        egress = Program("test_egress", egress_program(programs.maps, side, MARK, AGAIN, 0.0, link_header=14))
        link = LINK if role is Role.MOBILE_NODE else ""
        carriers = Carriers(Underlay(here[v], PORTS[role][0] if v == 4 else 0, link) for v in (4, 6))
        try:
            yield Bench(role, name, programs, egress, carriers)
        finally:
            egress.close()
            programs.close()
            ways.close()


def path(role: Role, encapsulation: Encapsulation, version: int) -> TunnelPath:
    here, there = (CARE_OF, AGENT) if role is Role.MOBILE_NODE else (AGENT, CARE_OF)
    own, other = PORTS[role] if encapsulation.in_udp else (0, 0)
    link = LINK if role is Role.MOBILE_NODE else ""
    return TunnelPath(here[version], there[version], encapsulation, own, other, link)


def inner(version: int, home_to_cn: bool, tos: int = 0, payload: bytes = b"payload", **ports: int) -> bytes:
    """A datagram between home address and correspondent node."""
    pair = (HOME4, CN4) if version == 4 else (HOME6, CN6)
    source, destination = pair if home_to_cn else pair[::-1]
    return datagram(source, destination, payload, tos, **ports)


def datagram(
    source: IPv4Address | IPv6Address,
    destination: IPv4Address | IPv6Address,
    payload: bytes = b"payload",
    tos: int = 0,
    source_port: int = 5000,
    destination_port: int = 6000,
) -> bytes:
    udp = encode_udp(source, destination, source_port, destination_port, payload)
    return ip(source, destination, 17, udp, tos)


def ip(
    source: IPv4Address | IPv6Address,
    destination: IPv4Address | IPv6Address,
    protocol: int,
    payload: bytes,
    tos: int = 0,
) -> bytes:
    if isinstance(source, IPv4Address) and isinstance(destination, IPv4Address):
        return IPv4Header(source, destination, protocol, 20 + len(payload), 64, tos).encode() + payload
    assert isinstance(source, IPv6Address)
    assert isinstance(destination, IPv6Address)
    return IPv6Header(source, destination, protocol, len(payload), 64, tos).encode() + payload


def outer(of: TunnelPath, packet: bytes) -> bytes:
    """`packet` as the sender of `of` has to wrap it, without a UDP checksum."""
    payload = wrap(packet, of.encapsulation)
    if of.encapsulation.in_udp:
        header = UdpHeader(of.local_port, of.remote_port, 8 + len(payload), 0).encode()
        return ip(of.local, of.remote, 17, header + payload, tos_of(packet))
    return ip(of.local, of.remote, 41 if packet[0] >> 4 == 6 else 4, payload, tos_of(packet))


def mirrored(of: TunnelPath) -> TunnelPath:
    return TunnelPath(of.remote, of.local, of.encapsulation, of.remote_port, of.local_port)


@pytest.mark.parametrize(("encapsulation", "version"), FORMATS)
@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.requirement("R083", "R086c", "R086d", "R089a", "R109", "R111")
def test_what_leaves_is_wrapped_octet_by_octet(
    bench: Bench, encapsulation: Encapsulation, version: int, family: int
) -> None:
    used = path(bench.role, encapsulation, version)
    bench.use(used)
    leaves = bench.role is Role.MOBILE_NODE
    for size, tos in ((0, 0), (1, 0xB9), (200, 2), (300, 0xFF)):
        packet = inner(family, leaves, tos, bytes(size))
        before = bench.total(layout.TX_PACKETS), bench.total(layout.TX_OCTETS)
        assert bench.wrap(packet) == (Verdict.REDIRECT, outer(used, packet))
        assert bench.total(layout.TX_PACKETS) == before[0] + 1
        assert bench.total(layout.TX_OCTETS) == before[1] + len(packet)
    assert bench.programs.routes.lanes.sent_at(used) > 0


@pytest.mark.parametrize(("encapsulation", "version"), FORMATS)
@pytest.mark.parametrize("family", [4, 6])
def test_what_comes_in_is_unwrapped_octet_by_octet(
    bench: Bench, encapsulation: Encapsulation, version: int, family: int
) -> None:
    used = path(bench.role, encapsulation, version)
    bench.use(used)
    for size, tos in ((0, 0), (1, 0xB8), (300, 2)):
        packet = inner(family, bench.role is Role.HOME_AGENT, tos, bytes(size))
        before = bench.total(layout.RX_PACKETS), bench.total(layout.RX_OCTETS)
        assert bench.unwrap(outer(mirrored(used), packet)) == (Verdict.REDIRECT, packet)
        assert bench.total(layout.RX_PACKETS) == before[0] + 1
        assert bench.total(layout.RX_OCTETS) == before[1] + len(packet)
    assert bench.programs.routes.lanes.latest(layout.RECEIVED_AT) > 0


def test_a_congestion_mark_of_the_way_is_merged_or_left_to_the_endpoint(bench: Bench) -> None:
    used = path(bench.role, Encapsulation.UDP, 4)
    endpoint = bench.use(used)
    back = mirrored(used)
    for family in (4, 6):
        for outside in range(4):
            for within in range(4):
                packet = inner(family, bench.role is Role.HOME_AGENT, within)
                plain = outer(back, packet)
                header = replace(IPv4Header.decode(plain), tos=outside)
                verdict, told = bench.unwrap(header.encode() + plain[20:])
                expected = endpoint.inbound(peer_of(back.local, back.local_port), packet, outside)
                if verdict == Verdict.REDIRECT:
                    assert told == expected
                else:
                    assert (outside, within) in {(3, 0), (1, 0), (1, 2), (1, 3)}


def test_super_packets_are_judged_by_what_they_become(bench: Bench) -> None:
    """Made of nothing, they have segments but no kind, so that the kernel makes no room for a header."""
    tried = Verdict.DROP
    bench.use(path(bench.role, Encapsulation.UDP, 4))
    packet = segments(bench, bytes(12), 2500)
    refused = bench.total(layout.REFUSED)
    assert bench.wrap(packet)[0] == Verdict.PASS, "too large for the path in one piece"
    assert bench.wrap(packet, gso_size=1200)[0] == tried
    assert bench.total(layout.REFUSED) == refused + 1
    assert bench.wrap(packet, gso_size=1472 - 40 - 32)[0] == tried
    assert bench.wrap(packet, gso_size=1472 - 40 - 32 + 1)[0] == Verdict.PASS, "and in two"
    # The header of RFC 5845 has a length, and one header becomes that of all segments.
    bench.use(path(bench.role, Encapsulation.UDP_TLV, 4))
    assert bench.wrap(segments(bench, b"", 2400), gso_size=1200)[0] == tried
    assert bench.wrap(segments(bench, b"", 2401), gso_size=1200)[0] == Verdict.PASS
    bench.use(path(bench.role, Encapsulation.UDP_TLV_DRAFT, 4))
    assert bench.wrap(segments(bench, b"", 2401), gso_size=1200)[0] == tried


def segments(bench: Bench, options: bytes, size: int) -> bytes:
    """A packet of TCP with so many octets of data."""
    source, destination = (HOME6, CN6) if bench.role is Role.MOBILE_NODE else (CN6, HOME6)
    words = 5 + len(options) // 4
    tcp = struct.pack("!HHIIBBHHH", 5000, 80, 1, 1, words << 4, 0x10, 500, 0, 0) + options
    return ip(source, destination, 6, tcp + bytes(size))


def test_networks_are_found_by_their_longest_prefix(bench: Bench) -> None:
    used = path(bench.role, Encapsulation.IP_IN_IP, 6)
    bench.use(used)
    leaves = bench.role is Role.MOBILE_NODE
    pair = (IN_NETWORK6, CN6) if leaves else (CN6, IN_NETWORK6)
    packet, answer = datagram(*pair), datagram(*pair[::-1])
    assert bench.wrap(packet) == (Verdict.REDIRECT, outer(used, packet))
    assert bench.unwrap(outer(mirrored(used), answer)) == (Verdict.REDIRECT, answer)


def test_a_handover_switches_what_leaves_and_both_paths_bring_packets_in(bench: Bench) -> None:
    old, new = path(bench.role, Encapsulation.UDP, 4), path(bench.role, Encapsulation.IP_IN_IP, 6)
    bench.use(old)
    bench.use(new, accept=(old,))
    leaving = inner(6, bench.role is Role.MOBILE_NODE)
    coming = inner(6, bench.role is Role.HOME_AGENT)
    assert bench.wrap(leaving) == (Verdict.REDIRECT, outer(new, leaving))
    for way in (old, new):
        assert bench.unwrap(outer(mirrored(way), coming)) == (Verdict.REDIRECT, coming)
    bench.use(new)
    assert bench.unwrap(outer(mirrored(old), coming))[0] == Verdict.PASS


def test_what_has_no_path_that_a_program_knows_goes_to_user_space(bench: Bench) -> None:
    leaving = inner(6, bench.role is Role.MOBILE_NODE)
    plain = path(bench.role, Encapsulation.UDP, 4)
    protected = TunnelPath(plain.local, plain.remote, Encapsulation.ESP_UDP, 0, 4500, plain.interface, spi=7)
    foreign = TunnelPath(
        IPv4Address("198.51.100.250"), plain.remote, Encapsulation.UDP, 1, 2, plain.interface
    )
    for none in (protected, foreign):
        bench.use(none)
        assert bench.wrap(leaving)[0] == Verdict.PASS
    if bench.role is Role.MOBILE_NODE:  # held paths are its own
        waiting = held(plain)
        assert waiting.interface == HELD
        bench.use(waiting, accept=(plain,))
        assert bench.wrap(leaving)[0] == Verdict.PASS
        coming = inner(6, home_to_cn=False)
        assert bench.unwrap(outer(mirrored(plain), coming)) == (Verdict.REDIRECT, coming)


def test_packets_are_remembered_once_and_can_be_sent_again(bench: Bench) -> None:
    used = path(bench.role, Encapsulation.UDP, 4)
    bench.use(used)
    packets = [inner(6, bench.role is Role.MOBILE_NODE, payload=bytes([number]) * 300) for number in range(5)]
    seen = len(list(bench.programs.remembered(0.0)))
    for packet in packets:
        assert bench.wrap(packet)[0] == Verdict.REDIRECT
        assert bench.wrap(packet, mark=AGAIN)[0] == Verdict.REDIRECT
    assert [one.packet for one in list(bench.programs.remembered(0.0))[seen:]] == packets


def test_the_memory_keeps_the_last_packets_and_no_torn_ones(bench: Bench) -> None:
    bench.use(path(bench.role, Encapsulation.UDP, 4))
    sizes = random.Random(5)
    packets = [
        inner(6, bench.role is Role.MOBILE_NODE, payload=sizes.randbytes(sizes.randrange(1200)))
        for _ in range(layout.ENTRIES + 300)
    ]
    for packet in packets:
        bench.wrap(packet)
    assert [one.packet for one in bench.programs.remembered(0.0)] == packets[-layout.ENTRIES :]


# ---- never more than the endpoint accepts ------------------------------------------------------------------
_STRANGE4 = """203.0.113.77 192.0.2.9 198.51.100.1 224.0.0.5 169.254.1.1 127.0.0.1 0.0.0.0 255.255.255.255
203.0.113.78 169.253.1.1"""
_STRANGE6 = """2001:db8:99::77 2001:db8:9::9 2001:db8:1::1 ff02::1 fe80::1 ::1 :: 2001:db8:77::5 64:ff9b::1
fd00::1 ::ffff:203.0.113.77"""
ADDRESSES: dict[int, tuple[IPv4Address | IPv6Address, ...]] = {
    4: tuple(map(IPv4Address, _STRANGE4.split())),
    6: tuple(map(IPv6Address, _STRANGE6.split())),
}
PROTOCOLS = (17, 17, 17, 6, 1, 58, 0, 44, 4, 41, 47, 43, 50, 60, 135)


def strange(rng: random.Random) -> bytes:
    """An inner packet that may be wrong in any respect, but is often right."""
    family = rng.choice((4, 6))
    home, correspondent, *_ = ADDRESSES[family]
    source, destination = (home, correspondent) if rng.random() < 0.5 else (correspondent, home)
    if rng.random() < 0.3:
        source = rng.choice(ADDRESSES[family])
    if rng.random() < 0.3:
        destination = rng.choice(ADDRESSES[family])
    ports = struct.pack("!HH", *(rng.choice((5000, 4191, 4500, 53)) for _ in range(2)))
    payload = (ports if rng.random() < 0.9 else b"") + rng.randbytes(rng.choice((0, 3, 4, 40, 1300, 1450)))
    packet = bytearray(ip(source, destination, rng.choice(PROTOCOLS), payload, rng.choice((0, 0, 1, 2, 3))))
    if rng.random() < 0.2:
        packet[rng.randrange(min(len(packet), 24))] ^= 1 << rng.randrange(8)
    if rng.random() < 0.1:
        packet += rng.randbytes(rng.randrange(1, 4))
    elif rng.random() < 0.1:
        del packet[max(len(packet) - rng.randrange(1, 30), 40) :]  # TEST_RUN takes whole headers only
    return bytes(packet)


@pytest.mark.requirement("R087a", "R133")
def test_nothing_comes_in_that_the_endpoint_would_refuse(bench: Bench) -> None:
    rng, passed = random.Random(1), 0
    for turn in range(6000):
        if turn % 300 == 0:
            kind, version = FORMATS[turn // 300 % len(FORMATS)]
            used = path(bench.role, kind, version)
            endpoint = bench.use(used, tlv=rng.choice((None, *TLV)))
        back = mirrored(used)
        packet = strange(rng)
        if rng.random() < 0.1:  # another format than the path's
            kind, version = rng.choice(FORMATS)
            back = mirrored(path(bench.role, kind, version))
        if rng.random() < 0.1:
            wrong = IPv4Address("198.51.100.66") if back.local.version == 4 else IPv6Address("2001:db8:1::66")
            back = replace(back, local=wrong)
        if rng.random() < 0.1 and back.local_port:
            back = TunnelPath(
                back.local, back.remote, back.encapsulation, back.local_port + 1, back.remote_port
            )
        sent = bytearray(outer(back, packet))
        if rng.random() < 0.3:
            sent[rng.randrange(min(len(sent), 44))] ^= 1 << rng.randrange(8)
        verdict, told = bench.unwrap(bytes(sent))
        if verdict != Verdict.REDIRECT:
            assert verdict == Verdict.PASS
            continue
        passed += 1
        peer, payload, tos = as_a_socket_gives_it(bytes(sent))
        assert endpoint.inbound(peer, payload, tos) == told, sent.hex()
    assert passed > 300


def as_a_socket_gives_it(sent: bytes) -> tuple[tuple[str, int] | tuple[str, int, int, int], bytes, int]:
    """Outer source, what follows the outer headers, and the TOS; what the kernel checks has to be right."""
    if sent[0] >> 4 == 6:
        header6 = IPv6Header.decode(sent)
        assert header6.payload_length == len(sent) - 40
        return peer_of(header6.source), sent[40:], header6.traffic_class
    header = IPv4Header.decode(sent)
    assert header.encode() == sent[:20], "the checksum of the header is right"
    assert (header.total_length, header.is_fragment) == (len(sent), False)
    if header.protocol != 17:
        return peer_of(header.source), sent[20:], header.tos
    udp = UdpHeader.decode(sent[20:])
    assert (udp.length, udp.checksum) == (len(sent) - 20, 0)
    return peer_of(header.source, udp.source_port), sent[28:], header.tos


@pytest.mark.requirement("R133")
def test_nothing_leaves_that_the_endpoint_would_refuse(bench: Bench) -> None:
    rng, passed = random.Random(2), 0
    for turn in range(6000):
        if turn % 300 == 0:
            kind, version = FORMATS[turn // 300 % len(FORMATS)]
            used = path(bench.role, kind, version)
            endpoint = bench.use(used)
        packet = strange(rng)
        if len(packet) < 40:
            continue  # BPF_PROG_TEST_RUN takes none of these
        verdict, told = bench.wrap(packet)
        if verdict != Verdict.REDIRECT:
            assert verdict == Verdict.PASS
            continue
        passed += 1
        lane = endpoint.outbound(packet, 0.0)
        assert isinstance(lane, Lane), packet.hex()
        assert told == outer(used, packet)
    assert passed > 300


def test_a_program_that_the_kernel_refuses_says_why() -> None:
    with pytest.raises(VerifierError, match=r"the kernel refuses the wrong program: .*R0") as caught:
        Program("wrong", bytes.fromhex("9500000000000000"))  # ends without a result
    assert "processed" in caught.value.log


def test_the_second_sender_needs_a_device(bench: Bench) -> None:
    used = path(bench.role, Encapsulation.UDP, 4)
    bench.use(used)
    bench.wrap(inner(6, bench.role is Role.MOBILE_NODE))
    with inside(bench.namespace):
        sender = SecondSender(AGAIN)
        with pytest.raises(OSError, match="device"):
            sender.send("nothing0", list(bench.programs.remembered(0.0))[-1])
        sender.close()


def test_lanes_are_seen_as_far_as_they_are_used_and_used_again_after_a_rest() -> None:
    lanes = Lanes(2500)
    paths = [
        TunnelPath(IPv4Address("203.0.113.2"), IPv4Address(0x0A000000 + number), Encapsulation.IP_IN_IP)
        for number in range(4000)
    ]
    try:
        for path in paths[:2000]:
            lanes.take(path)
        taken = [lanes.of(path) for path in paths[:2000]]
        assert taken == list(range(1, 2001))
        assert lanes.total(layout.TX_PACKETS) == 0, "all of them can be read"
        for path in paths[:2000]:
            lanes.give_back(path)
        lanes.take(paths[2000])
        assert lanes.of(paths[2000]) == 1, "rather one that has rested than one that was never used"
        for path in paths[2001:]:
            lanes.take(path)
        used = [lanes.of(path) for path in paths[2000:]]
        assert len(set(used)) == 2000, "no lane has two paths"
        for path in paths[:501]:
            lanes.take(path)
        assert {*used, *map(lanes.of, paths[:500])} == set(range(1, 2501))
        assert lanes.of(paths[500]) == 0, "none was left"
    finally:
        lanes.close()
