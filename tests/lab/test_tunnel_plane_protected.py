"""Protected payload between real namespaces: on the wire for tshark, behind NATs, never in the clear."""

from __future__ import annotations

import json
import os
import socket
import struct
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from tests.lab.patience import wait_until
from tests.lab.test_tunnel_plane import exchange, first_tunnelled, ping, received_or_none, transfer
from tests.lab.tunnel_ends import (
    AGENT4,
    AGENT6,
    CARE_OF4,
    CARE_OF6,
    CN4,
    CN6,
    HOME4,
    HOME6,
    PORT,
    TIERS,
    TO_HOME_AGENT,
    TO_MOBILE_NODE,
    End,
    Tier,
    Tunnel,
    cn_of,
    family_of,
    home_of,
    inside,
    path,
    tunnel,
)
from tunnel.keyring import NO_KEYS
from tunnel.path import Encapsulation
from tunnel.payload_esp import PayloadOpener, PayloadSealer
from tunnel.underlay import open_ipv4_underlay
from wire.ip import IPv4Header, IPv6Header

pytestmark = [pytest.mark.lab, pytest.mark.skipif(os.geteuid() != 0, reason="needs root")]

IN_UDP, BARE = (Encapsulation.ESP_UDP, 4), (Encapsulation.ESP, 6)
SECRET = b"nobody else may read this" * 3


@pytest.fixture(scope="module", params=TIERS, ids=str)
def tier(request: pytest.FixtureRequest) -> Tier:
    """Each test of this module runs once with each tier."""
    found: Tier = request.param
    return found


@pytest.fixture(scope="module")
def ends(tier: Tier) -> Iterator[Tunnel]:
    with tunnel(tier=tier) as both:
        yield both


def frames(capture: socket.socket, number: int) -> list[bytes]:
    found = []
    while len(found) < number:
        packet = capture.recv(65536)
        if packet[0] >> 4 == 4 or packet[6] == 50:
            found.append(packet)
    return found


def pcap(file: Path, packets: list[bytes]) -> Path:
    """A capture file of raw IP packets."""
    head = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 101)
    body = b"".join(struct.pack("<IIII", 0, i, len(p), len(p)) + p for i, p in enumerate(packets))
    file.write_bytes(head + body)
    return file


def tshark(file: Path, *fields: str) -> list[dict[str, list[str]]]:
    """What tshark, which was told the keys, reads; one dictionary of fields a packet."""
    options = ["-o", "esp.enable_encryption_decode:TRUE", "-o", "esp.enable_authentication_check:TRUE"]
    for one in (TO_HOME_AGENT, TO_MOBILE_NODE):
        for family in ("IPv4", "IPv6"):
            cipher = ("AES-GCM with 16 octet ICV [RFC4106]", f"0x{(one.key + one.salt).hex()}", "NULL", "")
            row = ",".join(f'"{column}"' for column in (family, "*", "*", f"{one.spi:#010x}", *cipher))
            options += ["-o", f"uat:esp_sa:{row}"]
    words = [word for field in fields for word in ("-e", field)]
    command = ["tshark", "-r", str(file), *options, "-T", "json", *words]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    return [frame["_source"]["layers"] for frame in json.loads(run.stdout)]


@pytest.mark.requirement("R135")
@pytest.mark.parametrize("version", [4, 6])
def test_tshark_with_the_keys_reads_esp_in_udp_4500_both_ways(
    tier: Tier, tmp_path: Path, version: int
) -> None:
    with (
        tunnel(tier=tier) as ends,
        ends.home_agent.capture("one") as to,
        ends.mobile_node.capture("one") as back,
    ):
        ends.use(path(*IN_UDP))
        exchange(ends.mobile_node, ends.home_agent, version, SECRET)
        packets = frames(to, 1) + frames(back, 1)
    assert not any(SECRET[:20] in packet for packet in packets)
    fields = ("frame.protocols", "udp.dstport", "udp.srcport", "udp.checksum", "esp.spi", "esp.sequence",
              "esp.icv_good", "data.data", "ipv6.src", "ip.src")  # fmt: skip
    there, here = tshark(pcap(tmp_path / "esp.pcap", packets), *fields)
    for frame, home in ((there, home_of(version)), (here, cn_of(version))):
        assert frame["frame.protocols"] == [f"raw:ip:udp:udpencap:esp:ip{'v6' * (version == 6)}:udp:data"]
        assert frame["udp.dstport"][0] == frame["udp.srcport"][0] == "4500"
        assert frame["udp.checksum"][0] == "0x0000", "RFC 3948 section 2.1"
        assert frame["esp.icv_good"] in (["1"], ["True"])
        assert frame["esp.sequence"] == ["1"]
        assert bytes.fromhex(frame["data.data"][0]) == SECRET
        assert frame["ipv6.src" if version == 6 else "ip.src"][-1] == home
    assert int(there["esp.spi"][0], 16) == TO_HOME_AGENT.spi
    assert int(here["esp.spi"][0], 16) == TO_MOBILE_NODE.spi


@pytest.mark.parametrize("version", [4, 6])
def test_tshark_with_the_keys_reads_esp_on_an_ipv6_link(tier: Tier, tmp_path: Path, version: int) -> None:
    with tunnel(tier=tier) as ends, ends.home_agent.capture("one") as capture:
        ends.use(path(*BARE))
        exchange(ends.mobile_node, ends.home_agent, version, SECRET)
        packets = frames(capture, 1)
    (frame,) = tshark(pcap(tmp_path / "esp.pcap", packets), "frame.protocols", "esp.icv_good", "data.data")
    assert frame["frame.protocols"] == [f"raw:ipv6:esp:ip{'v6' * (version == 6)}:udp:data"]
    assert frame["esp.icv_good"] in (["1"], ["True"])
    assert bytes.fromhex(frame["data.data"][0]) == SECRET


@pytest.mark.parametrize("way", [IN_UDP, BARE])
@pytest.mark.parametrize("version", [4, 6])
def test_the_largest_packet_fills_the_link(tier: Tier, way: tuple[Encapsulation, int], version: int) -> None:
    with tunnel(device_mtu=1500, tier=tier) as ends, ends.home_agent.capture("one") as capture:
        here = path(*way)
        ends.use(here)
        assert ping(ends.mobile_node, version, here.inner_mtu, "do").returncode == 0
        header, payload = first_tunnelled(capture, 17 if way is IN_UDP else 50)
        total = len(payload) + (20 if isinstance(header, IPv4Header) else 40)
        assert 1497 <= total <= 1500
        refused = ping(ends.mobile_node, version, here.inner_mtu + 1, "do")
        assert f"mtu = {here.inner_mtu}" in refused.stdout or f"mtu={here.inner_mtu}" in refused.stdout
        transfer(ends.mobile_node, ends.home_agent, version, 300_000)


@pytest.mark.parametrize("way", [IN_UDP, BARE])
def test_below_the_least_ipv6_mtu_the_outer_packet_is_fragmented(
    tier: Tier, way: tuple[Encapsulation, int]
) -> None:
    with tunnel(device_mtu=1500, tier=tier) as ends:
        ends.use(path(*way, mtu=1280))
        for end in (ends.mobile_node, ends.home_agent):
            subprocess.run(["ip", "-n", end.namespace, "link", "set", "one", "mtu", "1280"], check=True)
        assert ping(ends.mobile_node, 6, 1280, "do").returncode == 0
        transfer(ends.mobile_node, ends.home_agent, 6, 100_000)
        assert ends.home_agent.plane.counters().drops == {}


# ---- nothing in the clear -----------------------------------------------------------------------
@pytest.mark.requirement("R135")
@pytest.mark.parametrize("way", [IN_UDP, BARE])
def test_without_keys_nothing_leaves_and_it_is_counted(tier: Tier, way: tuple[Encapsulation, int]) -> None:
    with tunnel(tier=tier) as ends, ends.home_agent.capture("one") as capture:
        mobile_node = ends.mobile_node
        ends.use(path(*way))
        exchange(mobile_node, ends.home_agent, 4, b"before")
        mobile_node.plane.configure(replace(mobile_node.endpoint.config, keyring=NO_KEYS))
        for version in (4, 6):
            with mobile_node.socket(family_of(version), socket.SOCK_DGRAM) as here:
                here.bind((home_of(version), 0))
                for _ in range(3):
                    here.sendto(SECRET, (cn_of(version), 9))
        wait_until(lambda: mobile_node.plane.counters().drops.get("no-payload-keys", 0) == 6, "refusals")
        capture.settimeout(0.2)
        for packet in iter(lambda: received_or_none(capture), None):
            assert SECRET[:20] not in packet


@pytest.mark.requirement("R135")
def test_payload_in_the_clear_is_refused_in_every_format(ends: Tunnel) -> None:
    home_agent = ends.home_agent
    ends.use(path(*IN_UDP))
    inner4 = IPv4Header(HOME4, CN4, 17, 60).encode() + bytes(40)
    inner6 = IPv6Header(HOME6, CN6, 17, 20).encode() + bytes(20)
    received = home_agent.plane.counters().rx_packets
    for inner, protocol in ((inner4, 4), (inner6, 41)):
        with ends.mobile_node.socket(socket.AF_INET, socket.SOCK_DGRAM) as in_udp:
            in_udp.bind((str(CARE_OF4["two"]), 0))
            in_udp.sendto(inner, (str(AGENT4), PORT))
            in_udp.sendto(inner, (str(AGENT4), 4500))
        with ends.mobile_node.socket(socket.AF_INET, socket.SOCK_RAW, protocol) as bare:
            bare.sendto(inner, (str(AGENT4), 0))
        with ends.mobile_node.socket(socket.AF_INET6, socket.SOCK_RAW, protocol) as bare6:
            bare6.sendto(inner, (str(AGENT6), 0))

    def refused() -> dict[str, int]:
        return dict(home_agent.plane.counters().drops)

    wait_until(lambda: refused().get("payload-unprotected") == 6, f"six refusals: {refused()}")
    assert refused()["esp-unknown-spi"] == 2, "on port 4500 anything is read as ESP"
    assert home_agent.plane.counters().rx_packets == received


def test_payload_under_lost_keys_does_not_crowd_signalling_out(tier: Tier) -> None:
    """On an IPv6 link both come to one socket; a home agent that restarts hears much of the former."""
    with tunnel(tier=tier) as ends:
        mobile_node, home_agent = ends.mobile_node, ends.home_agent
        lost = PayloadSealer(replace(TO_HOME_AGENT, spi=0x0C0C_0001))
        update = IPv6Header(CARE_OF6["one"], AGENT6, 135, 24).encode() + bytes(24)

        def is_read(number: int) -> bool:
            """Nearly all of so many packets."""
            flood = home_agent.plane.counters().drops.get("control-flood", 0)
            return flood + len(home_agent.control) > number - 1500

        with mobile_node.socket(socket.AF_INET6, socket.SOCK_RAW, 50) as old:
            for number in range(12_000):
                old.sendto(lost.seal(b""), (str(AGENT6), 0))
                if number % 50 == 0:
                    time.sleep(0.002)
                if number % 400 == 0:  # what overflows in the kernel, where nobody reads, is no question here
                    wait_until(partial(is_read, number), "it is read")
                if number % 400 == 200:
                    mobile_node.underlays["one6"].send_control(AGENT6, 0, update)

        def updates() -> int:
            return sum(packet == update for packet, _ in home_agent.control)

        wait_until(lambda: updates() == 30, "every update")
        assert len(home_agent.control) < 2000


# ---- port 4500 and NATs -------------------------------------------------------------------------
def test_port_4500_is_shared_with_keepalives_and_ike(ends: Tunnel) -> None:
    home_agent = ends.home_agent
    before = of_peers(home_agent)
    with ends.mobile_node.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        for datagram in (b"\xff", bytes(4) + b"IKE_SA_INIT", b"", b"\xff" * 3):
            other.sendto(datagram, (str(AGENT4), 4500))
    wait_until(lambda: home_agent.plane.counters().drops.get("ike-unsupported") == 1, "IKE is counted")
    wait_until(lambda: home_agent.plane.counters().drops.get("esp-malformed") == 2, "so is garbage")
    assert of_peers(home_agent) == before + 3, "a keepalive is no refusal"


def of_peers(end: End) -> int:
    """How much was refused, less what the own kernel says on a new device at times of its choosing."""
    return sum(n for reason, n in end.plane.counters().drops.items() if reason != "link-local-or-multicast")


@pytest.mark.requirement("R136b")
def test_the_home_agent_learns_the_port_of_a_nat_from_an_authentic_packet_only(tier: Tier) -> None:
    with tunnel(tier=tier) as ends:
        mobile_node, home_agent = ends.mobile_node, ends.home_agent
        ends.use(path(*IN_UDP))
        exchange(mobile_node, home_agent, 4, b"resolved")
        sealer = PayloadSealer(TO_HOME_AGENT)
        sealer.next_sequence = 100
        inner = IPv4Header(HOME4, CN4, 17, 60).encode() + bytes(40)
        with mobile_node.socket(socket.AF_INET, socket.SOCK_DGRAM) as mapping:
            mapping.bind((str(CARE_OF4["one"]), 40123))
            sealed = sealer.seal(inner)
            forged = sealed[:-1] + bytes([sealed[-1] ^ 0xFF])
            for _ in range(50):
                mapping.sendto(forged, (str(AGENT4), 4500))
            wait_until(lambda: home_agent.plane.counters().drops.get("esp-bad-icv") == 50, "50 refusals")
            assert exchange(mobile_node, home_agent, 4, b"unmoved") == b"unmoved"
            mapping.sendto(sealer.seal(b""), (str(AGENT4), 4500))
            mapping.settimeout(0.1)
            heard: list[bytes] = []

            def is_sent_to() -> bool:
                """Whether what the home agent sends now goes there: it may not have read the packet yet."""
                there.sendto(SECRET, (str(HOME4), 9))
                heard.extend(filter(None, (received_or_none(mapping),)))
                return bool(heard)

            with home_agent.socket(socket.AF_INET, socket.SOCK_DGRAM) as there:
                there.bind((str(CN4), 5000))
                wait_until(is_sent_to, "the home agent sends to the port that it hears from")
            esp = heard[0]
        opened = PayloadOpener(TO_MOBILE_NODE).open(esp)
        assert isinstance(opened, tuple)
        assert opened[1].endswith(SECRET)


def test_an_end_can_show_itself_without_content(tier: Tier) -> None:
    with tunnel(tier=tier) as ends, ends.home_agent.capture("one") as capture:
        here = path(*IN_UDP)
        ends.use(here)
        ends.mobile_node.plane.announce(here, 0.0)
        _, datagram = first_tunnelled(capture, 17)
        assert datagram[:4] == (4500).to_bytes(2, "big") * 2
        assert PayloadOpener(TO_HOME_AGENT).open(datagram[8:]) == (59, b"")
        ends.mobile_node.plane.announce(here, 60.0)
        ends.mobile_node.plane.announce(path(Encapsulation.UDP, 4), 0.0)
        capture.settimeout(0.2)
        others = [packet for packet in iter(lambda: received_or_none(capture), None) if packet[0] >> 4 == 4]
        assert others == [], "not idle for long; and never without keys"
        counters = ends.home_agent.plane.counters()
        assert (counters.drops, counters.rx_packets) == ({}, 0)


def test_a_mobile_node_lives_with_another_program_on_port_4500(ends: Tunnel) -> None:
    with inside(ends.mobile_node.namespace):
        with pytest.raises(OSError, match="Address already in use"):
            open_ipv4_underlay(CARE_OF4["one"], 0, "one", 0, 4500)
        other = open_ipv4_underlay(CARE_OF4["one"], 0, "one", 0, 0)
    port = other.intakes[-1].socket.getsockname()[1]
    assert port not in (0, 4500)
    other.close()
