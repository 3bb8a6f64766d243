"""The portable data plane between real namespaces: formats on the wire, handovers, control, MTU, faults."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv4Address

import pytest

from tests.lab.patience import PATIENCE, wait_until
from tests.lab.tunnel_ends import (
    AGENT4,
    AGENT6,
    CARE_OF4,
    CARE_OF6,
    CN4,
    CN6,
    HOME4,
    HOME6,
    KERNEL,
    PORT,
    TIERS,
    TLV,
    End,
    Tier,
    Tunnel,
    cn_of,
    echo_forever,
    family_of,
    home_of,
    inside,
    ip,
    path,
    tunnel,
)
from tunnel.encapsulation import wrap
from tunnel.envelope import ControlPacket, seal_control
from tunnel.path import Arrival, Encapsulation, TunnelPath
from tunnel.trains.senders import takes_trains
from tunnel.tun import TunDevice
from tunnel.underlay import open_ipv4_underlay
from wire.ip import IPv4Header, IPv6Header
from wire.mobility import BindingAck, BindingUpdate
from wire.profile import RFC5555, UpdateFlag

pytestmark = [pytest.mark.lab, pytest.mark.skipif(os.geteuid() != 0, reason="needs root")]

FORMATS = [
    (Encapsulation.UDP, 4),
    (Encapsulation.UDP_TLV, 4),
    (Encapsulation.UDP_TLV_DRAFT, 4),
    (Encapsulation.IP_IN_IP, 4),
    (Encapsulation.IP_IN_IP, 6),
]
EVERY_FORMAT = [*FORMATS, (Encapsulation.ESP_UDP, 4), (Encapsulation.ESP, 6)]
UNDERWAY = 50
"""Datagrams."""
UPDATE = BindingUpdate(7, 420, UpdateFlag.HOME | UpdateFlag.ACKNOWLEDGE)


@pytest.fixture(scope="module", params=TIERS, ids=str)
def tier(request: pytest.FixtureRequest) -> Tier:
    """Each test of this module runs once with each tier."""
    found: Tier = request.param
    return found


@pytest.fixture(scope="module")
def ends(tier: Tier) -> Iterator[Tunnel]:
    with tunnel(tier=tier) as both:
        yield both


def exchange(mobile_node: End, home_agent: End, version: int, payload: bytes) -> bytes:
    """One datagram from a home address to the correspondent node and back."""
    with (
        home_agent.socket(family_of(version), socket.SOCK_DGRAM) as there,
        mobile_node.socket(family_of(version), socket.SOCK_DGRAM) as here,
    ):
        there.bind((cn_of(version), 0))
        here.bind((home_of(version), 0))
        here.sendto(payload, there.getsockname()[:2])
        received, sender = there.recvfrom(65536)
        assert sender[0] == home_of(version)
        there.sendto(received, sender)
        return here.recv(65536)


def exchange_at_last(mobile_node: End, home_agent: End, version: int, payload: bytes) -> None:
    """The same until it succeeds: what went before may cost the first datagrams."""

    def passes() -> bool:
        with (
            home_agent.socket(family_of(version), socket.SOCK_DGRAM) as there,
            mobile_node.socket(family_of(version), socket.SOCK_DGRAM) as here,
        ):
            there.settimeout(0.3)
            there.bind((cn_of(version), 0))
            here.bind((home_of(version), 0))
            here.sendto(payload, there.getsockname()[:2])
            return received_or_none(there) == payload

    wait_until(passes, "a datagram passes")
    assert exchange(mobile_node, home_agent, version, payload) == payload


def transfer(mobile_node: End, home_agent: End, version: int, octets: int) -> bytes:
    """A TCP connection from a home address; what the correspondent node has read."""
    payload = os.urandom(octets)
    with home_agent.socket(family_of(version), socket.SOCK_STREAM) as listening:
        listening.bind((cn_of(version), 0))
        listening.listen()

        def send() -> None:
            with mobile_node.socket(family_of(version), socket.SOCK_STREAM) as sending:
                sending.bind((home_of(version), 0))
                sending.connect(listening.getsockname()[:2])
                sending.sendall(payload)

        thread = threading.Thread(target=send)
        thread.start()
        accepted, _ = listening.accept()
        with accepted:
            accepted.settimeout(PATIENCE)
            received = bytearray()
            while chunk := accepted.recv(65536):
                received += chunk
        thread.join()
    assert bytes(received) == payload
    return bytes(received)


# ---- formats --------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("encapsulation", "outer"), EVERY_FORMAT)
def test_udp_and_tcp_of_both_families_pass_in_every_format(
    tier: Tier, encapsulation: Encapsulation, outer: int
) -> None:
    with tunnel(TLV.get(encapsulation), tier=tier) as ends:
        ends.use(path(encapsulation, outer))
        for version in (4, 6):
            for size in (0, 1, 517, 1300):
                payload = os.urandom(size)
                assert exchange(ends.mobile_node, ends.home_agent, version, payload) == payload
            transfer(ends.mobile_node, ends.home_agent, version, 1_000_000)
        counters = ends.mobile_node.plane.counters()
        assert counters.tx_packets > 700
        assert counters.drops == {}
        assert ends.home_agent.plane.counters().drops == {}


def first_tunnelled(capture: socket.socket, protocol: int) -> tuple[IPv4Header | IPv6Header, bytes]:
    """The first outer packet of `protocol` in a capture: its header, and what follows it."""
    while True:
        packet = capture.recv(65536)
        if packet[0] >> 4 == 4:
            header = IPv4Header.decode(packet)
            if header.protocol == protocol:
                return header, packet[header.header_length : header.total_length]
        elif packet[0] >> 4 == 6:
            header6 = IPv6Header.decode(packet)
            if header6.next_header == protocol:
                return header6, packet[40 : 40 + header6.payload_length]


@pytest.mark.requirement("R083", "R086c", "R086d", "R089a", "R109", "R111")
@pytest.mark.parametrize(("encapsulation", "outer"), FORMATS)
@pytest.mark.parametrize("version", [4, 6])
def test_the_outer_packet_octet_by_octet(
    tier: Tier, encapsulation: Encapsulation, outer: int, version: int
) -> None:
    with tunnel(TLV.get(encapsulation), tier=tier) as ends, ends.home_agent.capture("one") as capture:
        ends.use(path(encapsulation, outer))
        exchange(ends.mobile_node, ends.home_agent, version, b"hello")
        protocol = 17 if encapsulation.in_udp else (41 if version == 6 else 4)
        header, payload = first_tunnelled(capture, protocol)
        if isinstance(header, IPv4Header):
            assert (header.source, header.destination) == (CARE_OF4["one"], AGENT4)
            assert (header.dont_fragment, header.ttl, header.tos) == (True, 64, 0)
        else:
            assert (header.source, header.destination) == (CARE_OF6["one"], AGENT6)
            assert (header.hop_limit, header.traffic_class) == (64, 0)
        if encapsulation.in_udp:
            assert payload[:4] == PORT.to_bytes(2, "big") * 2
            assert payload[6:8] != b"\0\0", "the outer checksum is computed"
            payload = payload[8:]
        inner = payload[4:] if encapsulation in TLV else payload
        assert payload == wrap(inner, encapsulation)
        if version == 6:
            inner6 = IPv6Header.decode(inner)
            assert (inner6.source, inner6.destination) == (HOME6, CN6)
        else:
            inner4 = IPv4Header.decode(inner)
            assert (inner4.source, inner4.destination) == (HOME4, CN4)
        assert inner.endswith(b"hello")


@pytest.mark.parametrize(
    ("encapsulation", "outer"), [FORMATS[0], FORMATS[1], FORMATS[3], FORMATS[4], *EVERY_FORMAT[5:]]
)
@pytest.mark.parametrize("version", [4, 6])
def test_dscp_and_ecn_are_copied_out_and_congestion_comes_back_in(
    tier: Tier, encapsulation: Encapsulation, outer: int, version: int
) -> None:
    with tunnel(TLV.get(encapsulation), tier=tier) as ends, ends.home_agent.capture("one") as capture:
        ends.use(path(encapsulation, outer))
        with (
            ends.home_agent.socket(family_of(version), socket.SOCK_DGRAM) as there,
            ends.mobile_node.socket(family_of(version), socket.SOCK_DGRAM) as here,
        ):
            there.bind((cn_of(version), 0))
            if version == 6:
                there.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVTCLASS, 1)
                here.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS, 0xBA)
            else:
                there.setsockopt(socket.IPPROTO_IP, socket.IP_RECVTOS, 1)
                here.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, 0xBA)
            here.bind((home_of(version), 0))
            here.sendto(b"marked", there.getsockname()[:2])
            _, ancillary, _, _ = there.recvmsg(100, 64)
            assert ancillary[0][2][0] == 0xBA
            plain = 17 if encapsulation.in_udp else (41 if version == 6 else 4)
            header, _ = first_tunnelled(capture, 50 if encapsulation is Encapsulation.ESP else plain)
            assert (header.tos if isinstance(header, IPv4Header) else header.traffic_class) == 0xBA
            # A router on the way marks congestion in the outer header.
            family = "ip" if outer == 4 else "ip6"
            with inside(ends.home_agent.namespace):
                rule = f"add table {family} t; add chain {family} t c "
                rule += "{ type filter hook input priority -200; }; "
                rule += f"add rule {family} t c iifname one {family} ecn set ce"
                subprocess.run(["nft", rule], check=True)
            here.sendto(b"congested", there.getsockname()[:2])
            _, ancillary, _, _ = there.recvmsg(100, 64)
            assert ancillary[0][2][0] == 0xBB


# ---- handover -------------------------------------------------------------------------------------------
def test_a_path_swap_under_traffic_loses_nothing(tier: Tier) -> None:
    paths = [
        path(Encapsulation.UDP, 4, "one"),
        path(Encapsulation.IP_IN_IP, 6, "two"),
        path(Encapsulation.IP_IN_IP, 4, "one"),
        path(Encapsulation.UDP, 4, "two"),
        path(Encapsulation.IP_IN_IP, 6, "one"),
    ]
    swap_paths(tier, paths)


@pytest.mark.requirement("R136b", "R136g")
def test_a_swap_of_protected_paths_that_toggles_udp_loses_nothing(tier: Tier) -> None:
    kinds = ((Encapsulation.ESP_UDP, 4), (Encapsulation.ESP, 6))
    swap_paths(tier, [path(kind, outer, link) for link in ("one", "two") for kind, outer in kinds])


def swap_paths(tier: Tier, paths: list[TunnelPath]) -> None:
    """Nothing is lost, and nothing misordered by programs of the kernel.

    User space drains one socket after the other: where it gets little of the processor, packets of the paths
    before and after overtake each other.
    """
    with tunnel(tier=tier) as ends:
        ends.use(paths[0], accept=paths)
        for version in (4, 6):
            exchange(ends.mobile_node, ends.home_agent, version, b"neighbours are resolved")
        for way in paths:  # so that no packet of the measurement waits for neighbour discovery
            ends.use(way, accept=paths)
            exchange(ends.mobile_node, ends.home_agent, 6, b"warm")
        streams = []
        received: dict[int, list[int]] = {4: [], 6: []}
        for version in (4, 6):
            there = ends.home_agent.socket(family_of(version), socket.SOCK_DGRAM)
            there.bind((cn_of(version), 0))
            there.settimeout(None)
            threading.Thread(target=echo_forever, args=(there,), daemon=True).start()
            here = ends.mobile_node.socket(family_of(version), socket.SOCK_DGRAM)
            here.bind((home_of(version), 0))
            here.connect(there.getsockname()[:2])
            here.settimeout(None)
            streams.append((version, here, there))

            def listen(version: int = version, here: socket.socket = here) -> None:
                try:
                    while True:
                        received[version].append(int.from_bytes(here.recv(100)[:4], "big"))
                except OSError:  # it is closed
                    return

            threading.Thread(target=listen, daemon=True).start()
        sent = 0

        def underway() -> int:
            return sent - min(len(arrived) for arrived in received.values())

        for turn in range(20):
            ends.use(paths[turn % len(paths)], accept=paths)
            for _ in range(50):
                for _, here, _ in streams:
                    here.send(sent.to_bytes(4, "big") + bytes(500))
                sent += 1
                time.sleep(0.0005)
                # No more than the queues on the way hold, however rarely their readers run.
                wait_until(lambda: underway() < UNDERWAY, "the answers")
        wait_until(lambda: underway() == 0, "all answers")
        time.sleep(0.1)  # in which nothing comes twice
        for version, here, there in streams:
            arrived = received[version] if tier is KERNEL else sorted(received[version])
            assert arrived == list(range(sent))
            here.close()
            there.close()
        for end in (ends.mobile_node, ends.home_agent):
            assert end.plane.counters().drops.keys() <= {"link-local-or-multicast"}  # the kernel's own


def test_underlays_come_and_go_while_packets_flow(ends: Tunnel) -> None:
    mobile_node = ends.mobile_node
    steady, other = path(Encapsulation.UDP, 4, "one"), path(Encapsulation.UDP, 4, "two")
    ends.use(steady, accept=(other,))
    before = set(os.listdir("/proc/self/fd"))
    stop = threading.Event()

    def flood() -> None:
        with mobile_node.socket(socket.AF_INET, socket.SOCK_DGRAM) as here:
            here.bind((str(HOME4), 0))
            while not stop.is_set():
                here.sendto(b"x" * 100, (str(CN4), 9))

    thread = threading.Thread(target=flood)
    thread.start()
    try:
        for _ in range(30):
            mobile_node.plane.detach(mobile_node.underlays["two4"])
            mobile_node.underlays["two4"].close()
            with inside(mobile_node.namespace):
                mobile_node.underlays["two4"] = open_ipv4_underlay(CARE_OF4["two"], PORT, "two", 0)
            mobile_node.plane.attach(mobile_node.underlays["two4"])
            ends.use(other, accept=(steady,))
            ends.use(steady, accept=(other,))
    finally:
        stop.set()
        thread.join()
    # While queues are still full of the flood, one more packet is dropped.
    taken = -1
    while (now_taken := ends.home_agent.plane.counters().rx_packets) != taken:
        taken = now_taken
        time.sleep(0.3)
    exchange_at_last(mobile_node, ends.home_agent, 4, b"still there")
    assert len(os.listdir("/proc/self/fd")) <= len(before) + 1
    assert mobile_node.faults == []


def test_when_a_path_last_sent_is_known(ends: Tunnel) -> None:
    way = path(Encapsulation.UDP, 4, "two")
    assert ends.mobile_node.plane.last_sent(path(Encapsulation.UDP, 4, "two", mtu=1499)) == 0.0
    ends.use(way)
    before = time.clock_gettime(time.CLOCK_BOOTTIME)
    exchange(ends.mobile_node, ends.home_agent, 4, b"now")
    assert before <= ends.mobile_node.plane.last_sent(way) <= time.clock_gettime(time.CLOCK_BOOTTIME)


# ---- control --------------------------------------------------------------------------------------------
def test_a_binding_update_in_udp_reaches_the_home_agent_and_its_answer_the_mobile_node(ends: Tunnel) -> None:
    mobile_node, home_agent = ends.mobile_node, ends.home_agent
    home_agent.control.clear()
    mobile_node.control.clear()
    update = seal_control(ControlPacket(HOME6, AGENT6, UPDATE), None, RFC5555)
    assert mobile_node.underlays["one4"].send_control(AGENT4, PORT, update) is None
    wait_until(lambda: bool(home_agent.control), "the binding update")
    packet, arrival = home_agent.control[0]
    assert packet == update
    assert arrival == Arrival(AGENT4, CARE_OF4["one"], PORT, PORT)
    ack = seal_control(ControlPacket(AGENT6, HOME6, BindingAck(0, 7, 420)), None, RFC5555)
    home_agent.underlays["4"].send_control(arrival.remote, arrival.remote_port, ack)
    wait_until(lambda: bool(mobile_node.control), "the binding acknowledgement")
    assert mobile_node.control == [(ack, Arrival(CARE_OF4["one"], AGENT4, PORT, PORT, "one"))]


def test_control_on_an_ipv6_link_arrives_with_its_extension_headers(ends: Tunnel) -> None:
    mobile_node, home_agent = ends.mobile_node, ends.home_agent
    home_agent.control.clear()
    mobile_node.control.clear()
    care_of = CARE_OF6["two"]
    update = seal_control(ControlPacket(care_of, AGENT6, UPDATE, home_address_option=HOME6), None, RFC5555)
    assert mobile_node.underlays["two6"].send_control(AGENT6, 0, update) is None
    wait_until(lambda: bool(home_agent.control), "the binding update")
    assert home_agent.control == [(update, Arrival(AGENT6, care_of, interface="two"))]
    back = ControlPacket(AGENT6, care_of, BindingAck(0, 7, 420), routing_home_address=HOME6)
    ack = seal_control(back, None, RFC5555)
    home_agent.underlays["6"].send_control(care_of, 0, ack)
    wait_until(lambda: bool(mobile_node.control), "the binding acknowledgement")
    assert mobile_node.control == [(ack, Arrival(care_of, AGENT6, interface="two"))]


def test_bare_mobility_headers_and_esp_are_heard_without_an_icmp_error(ends: Tunnel) -> None:
    mobile_node, home_agent = ends.mobile_node, ends.home_agent
    home_agent.control.clear()
    with mobile_node.capture("one") as capture:
        for header in (135, 50):
            packet = IPv6Header(CARE_OF6["one"], AGENT6, header, 24).encode() + bytes(24)
            mobile_node.underlays["one6"].send_control(AGENT6, 0, packet)
        wait_until(lambda: len(home_agent.control) == 2, "both packets")
        capture.settimeout(0.2)
        for answer in iter(lambda: received_or_none(capture), None):
            assert answer[0] >> 4 != 6 or answer[6] != 58 or answer[40] >= 128, "an ICMPv6 error"


def received_or_none(capture: socket.socket) -> bytes | None:
    try:
        return capture.recv(65536)
    except TimeoutError:
        return None


def test_control_for_other_addresses_and_other_traffic_is_not_heard(ends: Tunnel) -> None:
    mobile_node, home_agent = ends.mobile_node, ends.home_agent
    home_agent.control.clear()
    other = seal_control(ControlPacket(CARE_OF6["one"], CN6, UPDATE), None, RFC5555)
    mobile_node.underlays["one6"].send_control(AGENT6, 0, other)
    ends.use(path(Encapsulation.IP_IN_IP, 6, "one"))
    exchange(mobile_node, home_agent, 6, b"data")
    transfer(mobile_node, home_agent, 6, 10_000)
    assert home_agent.control == []


def test_a_flood_of_forged_control_is_bounded_and_data_still_passes(tier: Tier) -> None:
    with tunnel(tier=tier) as ends:
        mobile_node, home_agent = ends.mobile_node, ends.home_agent
        ends.use(path(Encapsulation.UDP, 4, "one"))
        forged = IPv6Header(HOME6, AGENT6, 135, 24).encode() + bytes(24)
        started = time.monotonic()
        with mobile_node.socket(socket.AF_INET, socket.SOCK_DGRAM) as attacker:
            attacker.bind((str(CARE_OF4["two"]), 0))
            for count in range(30_000):
                attacker.sendto(forged, (str(AGENT4), PORT))
                if count % 10_000 == 5_000:
                    exchange_at_last(mobile_node, home_agent, 4, b"data")
        wait_until(lambda: "control-flood" in home_agent.plane.counters().drops, "the first refusal")
        assert len(home_agent.control) <= 1000 + 5000 * (time.monotonic() - started)


# ---- who may send ---------------------------------------------------------------------------------------
def test_forged_outer_sources_get_nothing_through(ends: Tunnel) -> None:
    home_agent = ends.home_agent
    ends.use(path(Encapsulation.UDP, 4, "one"))
    inner = IPv4Header(HOME4, CN4, 17, 60).encode() + bytes(40)
    drops_before = home_agent.plane.counters().drops.get("wrong-peer", 0)
    received_before = home_agent.plane.counters().rx_packets
    with ends.mobile_node.socket(socket.AF_INET, socket.SOCK_DGRAM) as wrong_port:
        wrong_port.bind((str(CARE_OF4["one"]), 0))
        wrong_port.sendto(inner, (str(AGENT4), PORT))
    with ends.mobile_node.socket(socket.AF_INET, socket.SOCK_DGRAM) as wrong_address:
        wrong_address.bind((str(CARE_OF4["two"]), 5555))
        wrong_address.sendto(inner, (str(AGENT4), PORT))
    with ends.mobile_node.socket(socket.AF_INET, socket.SOCK_RAW, 4) as wrong_format:
        wrong_format.bind((str(CARE_OF4["one"]), 0))
        wrong_format.sendto(inner, (str(AGENT4), 0))
    wait_until(
        lambda: home_agent.plane.counters().drops.get("wrong-peer", 0) == drops_before + 3, "three refusals"
    )
    assert home_agent.plane.counters().rx_packets == received_before


# ---- MTU ------------------------------------------------------------------------------------------------
def ping(
    end: End, version: int, size: int, fragmentation: str, within: float = PATIENCE
) -> subprocess.CompletedProcess[str]:
    """One echo request whose IP packet has `size` octets."""
    payload = size - (48 if version == 6 else 28)
    command = f"ip netns exec {end.namespace} ping -{version} -c1 -W{within} -M {fragmentation} -s {payload}"
    command += f" -I {home_of(version)} {cn_of(version)}"
    return subprocess.run(command.split(), capture_output=True, text=True)


@pytest.mark.parametrize("version", [4, 6])
def test_a_packet_above_the_path_is_answered_with_its_mtu(tier: Tier, version: int) -> None:
    with tunnel(device_mtu=1500, tier=tier) as ends:
        ends.use(path(Encapsulation.UDP, 4))
        assert ping(ends.mobile_node, version, 1472, "do").returncode == 0
        refused = ping(ends.mobile_node, version, 1473, "do")
        assert refused.returncode != 0
        assert "mtu = 1472" in refused.stdout or "mtu=1472" in refused.stdout
        # Both hosts learn it, then they fragment by themselves; the first answer is lost to the lesson.
        wait_until(lambda: ping(ends.mobile_node, version, 3000, "want", 0.5).returncode == 0, "the lesson")
        transfer(ends.mobile_node, ends.home_agent, version, 300_000)


def test_ipv4_without_df_is_fragmented_inside_the_tunnel(tier: Tier) -> None:
    with tunnel(device_mtu=1500, tier=tier) as ends:
        ends.use(path(Encapsulation.UDP, 4))
        assert ping(ends.mobile_node, 4, 1500, "dont").returncode == 0
        wait_until(lambda: ends.home_agent.plane.counters().rx_packets == 2, "both fragments are counted")


@pytest.mark.parametrize("version", [4, 6])
def test_a_smaller_mtu_on_the_way_is_learnt_and_told(tier: Tier, version: int) -> None:
    with tunnel(device_mtu=1500, tier=tier) as ends:
        ends.use(path(Encapsulation.UDP, 4))
        ip(ends.mobile_node.namespace, "link set one mtu 1400")
        refused = ping(ends.mobile_node, version, 1472, "do")
        assert "mtu = 1372" in refused.stdout or "mtu=1372" in refused.stdout
        assert ping(ends.mobile_node, version, 1372, "do").returncode == 0
        transfer(ends.mobile_node, ends.home_agent, version, 300_000)


@pytest.mark.parametrize("outer", [4, 6])
def test_a_path_below_the_least_ipv6_mtu_still_carries_it(tier: Tier, outer: int) -> None:
    with tunnel(device_mtu=1500, tier=tier) as ends:
        encapsulation = Encapsulation.UDP if outer == 4 else Encapsulation.IP_IN_IP
        ends.use(path(encapsulation, outer, mtu=1280))
        for end in (ends.mobile_node, ends.home_agent):
            ip(end.namespace, "link set one mtu 1280")
        assert ping(ends.mobile_node, 6, 1280, "do").returncode == 0
        transfer(ends.mobile_node, ends.home_agent, 6, 100_000)


# ---- faults ---------------------------------------------------------------------------------------------
def test_a_deleted_device_is_reported_once_without_spinning_and_can_be_renewed(tier: Tier) -> None:
    with tunnel(tier=tier) as ends:
        mobile_node = ends.mobile_node
        ends.use(path(Encapsulation.UDP, 4))
        exchange(mobile_node, ends.home_agent, 4, b"before")
        ip(mobile_node.namespace, "link del mip0")
        wait_until(lambda: bool(mobile_node.faults), "the report")
        with ends.home_agent.socket(socket.AF_INET, socket.SOCK_DGRAM) as there:
            for _ in range(20):
                there.sendto(b"nobody home", (str(HOME4), 9))
        wait_until(lambda: mobile_node.plane.counters().drops.get("tun-gone") == 20, "the refusals")
        before = time.process_time()
        time.sleep(0.5)
        assert time.process_time() - before < 0.1
        assert mobile_node.faults == ["TUN device mip0 is gone: File descriptor in bad state"]
        with inside(mobile_node.namespace):
            renewed = TunDevice.open("mip0", 1400, tier.offload)
        mobile_node.plane.renew(renewed)
        ip(mobile_node.namespace, f"addr add {HOME4}/32 dev mip0")
        ip(mobile_node.namespace, "route add default dev mip0 table 100")
        assert exchange(mobile_node, ends.home_agent, 4, b"after") == b"after"
        renewed.close()


def test_a_link_that_goes_down_and_up_again_is_survived(tier: Tier) -> None:
    with tunnel(tier=tier) as ends:
        way = path(Encapsulation.UDP, 4)
        ends.use(way)
        exchange(ends.mobile_node, ends.home_agent, 4, b"before")
        ip(ends.mobile_node.namespace, "link set one down")
        with ends.mobile_node.socket(socket.AF_INET, socket.SOCK_DGRAM) as here:
            here.bind((str(HOME4), 0))
            for _ in range(5):
                here.sendto(b"lost", (str(CN4), 9))
        wait_until(lambda: sum(ends.mobile_node.plane.counters().drops.values()) >= 5, "the refusals")
        ip(ends.mobile_node.namespace, "link set one up")
        metric_and_gateway = f"via {CARE_OF4['one'] - 8} dev one metric 100"
        ip(ends.mobile_node.namespace, f"route replace {AGENT4}/32 {metric_and_gateway}")
        exchange_at_last(ends.mobile_node, ends.home_agent, 4, b"after")
        assert ends.mobile_node.faults == []


def test_a_path_without_its_underlay_is_counted_and_recovers(ends: Tunnel) -> None:
    mobile_node = ends.mobile_node
    ends.use(path(Encapsulation.UDP, 4, "two"))
    mobile_node.plane.detach(mobile_node.underlays["two4"])
    with mobile_node.socket(socket.AF_INET, socket.SOCK_DGRAM) as here:
        here.bind((str(HOME4), 0))
        here.sendto(b"nowhere", (str(CN4), 9))
    wait_until(lambda: mobile_node.plane.counters().drops.get("no-underlay", 0) > 0, "the refusal")
    mobile_node.plane.attach(mobile_node.underlays["two4"])
    assert exchange(mobile_node, ends.home_agent, 4, b"again") == b"again"


def test_udp_over_ipv6_is_refused_rather_than_sent_in_another_format(ends: Tunnel) -> None:
    mobile_node = ends.mobile_node
    ends.use(replace(path(Encapsulation.UDP, 6), local_port=0))
    with (
        mobile_node.socket(socket.AF_INET, socket.SOCK_DGRAM) as here,
        ends.home_agent.capture("one") as capture,
    ):
        here.bind((str(HOME4), 0))
        here.sendto(b"never", (str(CN4), 9))
        wait_until(lambda: "send-eprotonosupport" in mobile_node.plane.counters().drops, "the refusal")
        capture.settimeout(0.1)
        for packet in iter(lambda: received_or_none(capture), None):
            assert b"never" not in packet


def test_the_device_vanishes_with_its_owner_and_its_errors_speak(ends: Tunnel) -> None:
    namespace = ends.mobile_node.namespace
    with inside(namespace):
        device = TunDevice.open("extra0", 1400)
        with pytest.raises(OSError, match="another process uses"):
            TunDevice.open("extra0", 1400)
        assert not os.get_blocking(device.fileno())
        assert not os.get_inheritable(device.fileno())
        assert "extra0" in os.listdir("/proc/sys/net/ipv4/conf")
        device.close()
        device.close()
        assert "extra0" not in os.listdir("/proc/sys/net/ipv4/conf")
        with pytest.raises(OSError, match="name is not usable"):
            TunDevice.open("a-name-that-is-too-long", 1400)
    with pytest.raises(OSError, match="assign requested address"):
        open_ipv4_underlay(IPv4Address("192.0.2.200"), 0, None, 0)


def test_a_socket_says_whether_it_takes_trains() -> None:
    """One that knows nothing of them would send what was meant to be cut as a single datagram."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
        assert takes_trains(datagrams)
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as stream:
        assert not takes_trains(stream)
