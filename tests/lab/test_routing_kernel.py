"""The kernel configuration in real namespaces: what it catches, what it lets through, what it leaves."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
import socket
import struct
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from pathlib import Path

import pytest

from tests.lab.namespace import Namespace
from tests.lab.patience import PATIENCE, wait_until
from tunnel.alterations import Alterations
from tunnel.guests import NO_GUESTS, Guest
from tunnel.kernel import (
    MARK,
    PROTOCOL,
    KernelConfig,
    KernelError,
    LocalPrefix,
    Owner,
    RoutingMode,
    home_agent_kernel,
    mobile_node_kernel,
)
from tunnel.routing import STATE_FILE, KernelState, cleanup
from tunnel.tun import TunDevice

pytestmark = [
    pytest.mark.lab,
    pytest.mark.skipif(os.geteuid() != 0 or not Path("/dev/net/tun").exists(), reason="needs root and TUN"),
]

HOME4, HOME6 = IPv4Address("203.0.113.77"), IPv6Address("2001:db8:99::77")
CARE_OF4, CARE_OF6 = IPv4Address("192.168.7.2"), IPv6Address("2001:db8:7::2")
LAN = LocalPrefix(IPv4Network("192.168.7.0/24"), "e0", CARE_OF4)
HOME_PREFIXES = (IPv4Network("203.0.113.0/24"), IPv6Network("2001:db8:99::/64"), IPv4Network("10.20.0.0/16"))


class World:
    """A mobile node `mn` whose e0 leads to an access point `ap`, and a place for state."""

    def __init__(self, tag: str, state_dir: Path) -> None:
        self.mn, self.ap = Namespace(f"krn-{tag}-mn"), Namespace(f"krn-{tag}-ap")
        self.state_dir = state_dir
        self.tuns: list[TunDevice] = []
        self.states: list[KernelState] = []
        for namespace in (self.mn, self.ap):
            namespace.sh("sysctl -qw net.ipv6.conf.default.accept_dad=0 net.ipv6.conf.all.accept_dad=0")
        self.ap.sh(
            f"ip link add e0 type veth peer name e0 netns {self.mn.name}; ip link set lo up; "
            "ip link set e0 up; "
            "ip addr add 192.168.7.1/24 dev e0; ip -6 addr add 2001:db8:7::1/64 dev e0 nodad; "
            "ip -6 addr add fe80::1/64 dev e0 nodad; sysctl -qw net.ipv4.conf.all.rp_filter=0"
        )
        self.mn.sh(
            "ip link set lo up; ip link set e0 up; "
            "ip addr add 192.168.7.2/24 dev e0; ip -6 addr add 2001:db8:7::2/64 dev e0 nodad; "
            "ip route add default via 192.168.7.1; ip -6 route add default via fe80::1 dev e0"
        )

    def tun(self, name: str = "mip0", on: Namespace | None = None) -> TunDevice:
        device = (on or self.mn).run(lambda: TunDevice.open(name, 1400))
        self.tuns.append(device)
        return device

    def state(self, owner: Owner = Owner.MOBILE_NODE, on: Namespace | None = None) -> KernelState:
        state = (on or self.mn).run(lambda: KernelState(self.state_dir / STATE_FILE, owner))
        self.states.append(state)
        return state

    def apply(self, state: KernelState, config: KernelConfig) -> int:
        return self.mn.run(lambda: state.apply(config))

    def close(self) -> None:
        for state in self.states:
            state.close()
        for tun in self.tuns:
            tun.close()
        self.mn.close()
        self.ap.close()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(f"{os.getpid()}-{random.SystemRandom().randrange(16**4):04x}", tmp_path)
    try:
        yield made
    finally:
        made.close()


def config(mode: RoutingMode = RoutingMode.LAN, mtu: int = 1400, **changes: object) -> KernelConfig:
    arguments: dict[str, object] = {
        "device": "mip0",
        "home_addresses": (HOME4, HOME6),
        "mtu": mtu,
        "mode": mode,
        "care_of": (CARE_OF4, CARE_OF6),
        "local_prefixes": (LAN,),
        "home_prefixes": HOME_PREFIXES,
        "uplinks": ("e0",),
    }
    return mobile_node_kernel(**{**arguments, **changes})  # type: ignore[arg-type]


def routes_to(namespace: Namespace, destinations: list[str], suffix: str = "") -> list[str]:
    """What `ip route get` says for each destination: the device, or "unreachable"."""
    script = "".join(f"route get {destination} {suffix}\n" for destination in destinations)
    done = subprocess.run(
        ["ip", "netns", "exec", namespace.name, "ip", "-force", "-json", "-batch", "-"],
        input=script, capture_output=True, text=True, check=False,
    )  # fmt: skip
    found = [json.loads(line)[0] for line in done.stdout.splitlines() if line.startswith("[{")]
    devices = {
        str(entry["dst"]): str(entry["dev"]) for entry in found if entry.get("type", "unicast") == "unicast"
    }
    return [devices.get(destination, "unreachable") for destination in destinations]


def random_destinations(count: int) -> list[str]:
    """Global addresses of both families, always the same ones."""
    chance = random.Random(4191)
    found: set[str] = set()
    while len(found) < count:
        four, six = IPv4Address(chance.getrandbits(32)), IPv6Address((1 << 125) | chance.getrandbits(125))
        address = four if len(found) % 2 else six
        if address.is_global and not address.is_multicast:
            found.add(str(address))
    return sorted(found)


HOSTILE_ROUTES = (
    "ip route add 0.0.0.0/1 via 192.168.7.1; ip route add 128.0.0.0/1 via 192.168.7.1; "
    "ip -6 route add 2000::/4 via fe80::1 dev e0; ip -6 route add 3000::/4 via fe80::1 dev e0; "
    "ip route add 198.51.100.0/24 dev e0; ip route add 10.20.0.0/16 dev e0; "
)


def test_routes_that_a_visited_network_pushes_catch_nothing(world: World) -> None:
    """TunnelVision (CVE-2024-3661) and TunnelCrack: 2000 destinations, a /32 or /128 for some of them."""
    destinations = random_destinations(2000)
    specific = [d for d in destinations if ":" not in d][:20]
    world.mn.sh(HOSTILE_ROUTES + "; ".join(f"ip route add {d}/32 via 192.168.7.1" for d in specific))
    world.tun()
    assert set(routes_to(world.mn, destinations)) == {"e0"}, "the attack works where nothing defends"
    world.apply(world.state(), config())
    assert set(routes_to(world.mn, destinations)) == {"mip0"}
    assert routes_to(world.mn, ["198.51.100.7", "10.20.5.9"]) == ["mip0", "mip0"]
    assert routes_to(world.mn, ["192.168.7.9"]) == ["e0"], "a printer in the LAN stays in the LAN"
    assert set(routes_to(world.mn, destinations[:50], f"mark {MARK}")) == {"e0"}


def test_an_access_point_that_pushes_routes_sees_no_packet_of_ours(world: World) -> None:
    world.mn.sh(HOSTILE_ROUTES)
    world.tun()
    state = world.state()
    destinations = random_destinations(100)

    def send() -> None:
        for destination in destinations:
            family = socket.AF_INET6 if ":" in destination else socket.AF_INET
            with socket.socket(family, socket.SOCK_DGRAM) as application:
                application.sendto(b"secret", (destination, 9))

    with listening(world.ap) as ap:
        world.mn.run(send)
        assert sum(b"secret" in frame for frame in heard(ap)) == 100
        world.apply(state, config())
        world.mn.run(send)
        assert sum(b"secret" in frame for frame in heard(ap)) == 0


def test_a_link_that_vanishes_or_goes_down_while_we_apply_does_no_harm(world: World) -> None:
    world.tun()
    state = world.state()
    ula = LocalPrefix(IPv6Network("fd00:7::/64"), "e0")
    wanted = config(local_prefixes=(LAN, ula))
    for damage in ("ip addr flush dev e0", "ip link set e0 down", "ip link del e0"):
        world.apply(state, config(local_prefixes=()))
        world.mn.sh(damage)
        world.apply(state, wanted)
        assert routes_to(world.mn, ["8.8.8.8", "192.168.7.9"]) == ["mip0", "mip0"]


def test_a_dhcp_server_that_pushes_routes_gets_renewals_and_nothing_else(
    world: World, tmp_path: Path
) -> None:
    """Classless static routes (DHCP option 121) by dnsmasq, followed by a real client."""
    log, script = tmp_path / "log", tmp_path / "script"
    script.write_text(
        f"""#!/bin/sh
        event=$1
        case "$1" in bound|renew)
            ip addr replace "$ip/24" dev e0
            set -- $staticroutes
            while [ $# -ge 2 ]; do ip route replace "$1" via "$2" dev e0; shift 2; done;;
        esac
        echo $event >> {log}
        """
    )
    script.chmod(0o755)
    world.mn.sh("ip addr flush dev e0; ip route flush dev e0; ip link set e0 up")
    pushed = ",".join(
        f"{prefix},192.168.7.1" for prefix in ("0.0.0.0/1", "128.0.0.0/1", "8.8.8.8/32", "0.0.0.0/0")
    )
    server = [
        "dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--port=0", "--interface=e0",
        "--bind-interfaces", "--no-ping", "--dhcp-range=192.168.7.50,192.168.7.60,2m",
        f"--dhcp-option=121,{pushed}", f"--dhcp-leasefile={tmp_path}/leases",
        f"--pid-file={tmp_path}/pid", "--user=root",
    ]  # fmt: skip
    client = ["udhcpc", "-f", "-i", "e0", "-s", str(script), "-O", "staticroutes", "-T", "1", "-t", "15"]

    def lines() -> list[str]:
        return log.read_text().split() if log.exists() else []

    def wait_for(word: str) -> None:
        deadline = time.monotonic() + 2 * PATIENCE
        while word not in lines():
            assert time.monotonic() < deadline, f"no {word}: {lines()}"
            time.sleep(0.05)

    def start(namespace: Namespace, command: list[str]) -> subprocess.Popen[bytes]:
        quiet = subprocess.DEVNULL
        return subprocess.Popen(["ip", "netns", "exec", namespace.name, *command], stdout=quiet, stderr=quiet)

    processes = [start(world.ap, server), start(world.mn, client)]
    try:
        wait_for("bound")
        assert routes_to(world.mn, ["8.8.8.8", "1.1.1.1", "198.51.100.1"]) == ["e0"] * 3, "the attack works"
        lease = IPv4Address(world.mn.sh("ip -4 -o addr show e0").split()[3].partition("/")[0])
        world.tun()
        lan = LocalPrefix(IPv4Network("192.168.7.0/24"), "e0", lease)
        world.apply(world.state(), config(care_of=(lease,), local_prefixes=(lan,)))
        assert routes_to(world.mn, ["8.8.8.8", "1.1.1.1", "198.51.100.1"]) == ["mip0"] * 3
        processes[1].send_signal(signal.SIGUSR1)
        wait_for("renew")
        assert routes_to(world.mn, ["8.8.8.8", "1.1.1.1", "198.51.100.1"]) == ["mip0"] * 3
    finally:
        for process in processes:
            process.terminate()
            process.wait()


def test_without_the_tun_device_traffic_is_unreachable_and_repair_brings_it_back(world: World) -> None:
    destinations = random_destinations(60)
    world.mn.sh(HOSTILE_ROUTES)
    tun, state = world.tun(), world.state()
    world.apply(state, config())
    tun.close()
    # The kernel takes a moment to forget a device.
    wait_until(lambda: set(routes_to(world.mn, destinations)) == {"unreachable"}, "routes without the device")
    with pytest.raises(KernelError, match="no such device"):
        world.mn.run(state.repair)
    assert set(routes_to(world.mn, destinations)) == {"unreachable"}
    world.tun()
    assert world.mn.run(state.repair) > 0
    assert set(routes_to(world.mn, destinations)) == {"mip0"}
    assert world.mn.run(state.repair) == 0


def test_the_agents_own_packets_never_enter_the_tunnel_even_without_a_default_route(world: World) -> None:
    world.tun()
    world.apply(world.state(), config())
    world.mn.sh("ip route del default; ip -6 route del default")
    assert set(routes_to(world.mn, random_destinations(20), f"mark {MARK}")) == {"unreachable"}
    assert set(routes_to(world.mn, random_destinations(20))) == {"mip0"}


def test_a_session_bound_to_a_home_address_never_leaves_the_tunnel(world: World) -> None:
    world.tun()
    world.apply(world.state(), config())
    assert routes_to(world.mn, ["192.168.7.9", "8.8.8.8"], f"from {HOME4}") == ["mip0", "mip0"]
    assert routes_to(world.mn, ["2001:db8:7::9"], f"from {HOME6}") == ["mip0"]


def test_what_is_bound_to_the_visited_network_stays_there_in_mode_lan_only(world: World) -> None:
    world.tun()
    state = world.state()
    world.apply(state, config())
    assert routes_to(world.mn, ["8.8.8.8"], f"from {CARE_OF4}") == ["e0"]
    assert routes_to(world.mn, ["2001:4860:4860::8888"], f"from {CARE_OF6}") == ["e0"]
    assert routes_to(world.mn, ["8.8.8.8"], "oif e0") == ["e0"]
    world.apply(state, config(RoutingMode.STRICT))
    assert routes_to(world.mn, ["8.8.8.8", "192.168.7.9"], f"from {CARE_OF4}") == ["mip0", "mip0"]
    assert routes_to(world.mn, ["8.8.8.8"], f"mark {MARK}") == ["e0"]
    by_device = routes_to(world.mn, ["8.8.8.8", "2001:4860:4860::8888"], "oif e0")
    by_device += routes_to(world.mn, ["8.8.8.8"], f"from {HOME4} oif e0")
    assert by_device == ["e0"] * 3, "no rule stops who binds to a device: docs/security.md says so (bypass)"


def test_home_only_takes_just_home_prefixes_into_the_tunnel(world: World) -> None:
    world.tun()
    world.apply(world.state(), config(RoutingMode.HOME_ONLY))
    assert routes_to(world.mn, ["8.8.8.8", "203.0.113.9", "10.20.5.9"]) == ["e0", "mip0", "mip0"]
    assert routes_to(world.mn, ["203.0.113.2"], f"mark {MARK}") == ["e0"], "the home agent itself"


def test_the_other_family_does_not_leak_with_a_home_address_of_one_family(world: World) -> None:
    world.tun()
    state = world.state()
    world.apply(state, config(home_addresses=(HOME4,)))
    assert routes_to(world.mn, ["8.8.8.8", "2001:4860:4860::8888"]) == ["mip0", "unreachable"]
    world.apply(state, config(home_addresses=(HOME4,), leak_ok=True))
    assert routes_to(world.mn, ["8.8.8.8", "2001:4860:4860::8888"]) == ["mip0", "e0"]


def test_unbound_sockets_speak_from_the_home_addresses_and_from_the_lan_address_in_the_lan(
    world: World,
) -> None:
    world.tun()
    world.apply(world.state(), config())

    def sources() -> list[str]:
        found = []
        for family, peer in ((socket.AF_INET, "8.8.8.8"), (socket.AF_INET6, "2001:4860:4860::8888"),
                             (socket.AF_INET, "192.168.7.9")):  # fmt: skip
            with socket.socket(family, socket.SOCK_DGRAM) as probe:
                probe.connect((peer, 9))
                found.append(probe.getsockname()[0])
        return found

    assert world.mn.run(sources) == [str(HOME4), str(HOME6), str(CARE_OF4)]


def test_apply_is_idempotent_and_a_handover_changes_only_what_differs(world: World) -> None:
    world.tun()
    state = world.state()
    assert world.apply(state, config()) > 10
    assert world.apply(state, config()) == 0
    moved = config(mtu=1432, care_of=(IPv4Address("10.1.1.5"),), local_prefixes=())
    assert world.apply(state, moved) == 5, "MTU, one rule in, two rules out, one route out"
    assert world.mn.sh("ip -o link show mip0").split("mtu ")[1].startswith("1432")
    assert world.apply(state, moved) == 0
    addresses = world.mn.sh("ip -o addr show mip0")
    assert addresses.count("inet") == 2, "no link-local address"
    assert f"{HOME4}/32" in addresses
    assert f"{HOME6}/128" in addresses
    assert "tentative" not in addresses


def test_another_home_address_replaces_the_old_one_everywhere(world: World) -> None:
    world.tun()
    state = world.state()
    world.apply(state, config())
    other = IPv6Address("2001:db8:99::78"), IPv4Address("203.0.113.78")
    world.apply(state, config(home_addresses=other))
    assert world.apply(state, config(home_addresses=other)) == 0
    left = world.mn.everything()
    assert str(HOME4) not in left
    assert f"{HOME6}/" not in left
    assert "default dev mip0" in world.mn.sh("ip -6 route show table 4191")
    assert "src 203.0.113.78" in world.mn.sh("ip route show table 4191")


def test_after_clear_the_host_is_as_before(world: World) -> None:
    world.tun()
    before = world.mn.everything()
    state = world.state()
    for mode in RoutingMode:
        world.apply(state, config(mode))
    assert world.mn.everything() != before
    world.mn.run(state.clear)
    assert world.mn.everything() == before
    assert not (world.state_dir / STATE_FILE).exists()


def test_foreign_rules_routes_and_tables_are_left_alone(world: World) -> None:
    world.tun()
    world.mn.sh(
        "ip rule add from 10.9.9.9 lookup 77 pref 5195; ip route add 10.8.0.0/16 dev e0 table 4192; "
        f"ip route add 10.7.0.0/16 dev e0 proto {PROTOCOL}; nft add table inet other"
    )
    before = world.mn.everything()
    state = world.state()
    world.apply(state, config())
    world.apply(state, config(RoutingMode.STRICT))
    for line in ("lookup 77", "10.8.0.0/16", "10.7.0.0/16", "table inet other"):
        assert line in world.mn.everything()
    world.mn.run(state.clear)
    assert world.mn.everything() == before


def test_a_fresh_process_cleans_up_after_kill_9(world: World) -> None:
    world.mn.sh("sysctl -qw net.ipv4.conf.e0.rp_filter=1 net.ipv4.conf.all.rp_filter=1")
    before = world.mn.everything()
    script = f"""
        import os, signal, sys
        from ipaddress import ip_address, ip_network
        from pathlib import Path
        from tunnel.kernel import *
        from tunnel.routing import KernelState
        from tunnel.tun import TunDevice
        tun = TunDevice.open("mip0", 1400)
        state = KernelState(Path({str(world.state_dir)!r}) / "kernel.json")
        homes = [ip_address("{HOME4}"), ip_address("{HOME6}")]
        state.apply(mobile_node_kernel("mip0", homes, 1400, RoutingMode.STRICT, uplinks=["e0"]))
        os.kill(os.getpid(), signal.SIGKILL)
    """
    done = subprocess.run(
        ["ip", "netns", "exec", world.mn.name, sys.executable, "-c", textwrap.dedent(script)], check=False
    )
    assert done.returncode == -signal.SIGKILL
    assert routes_to(world.mn, ["8.8.8.8"]) == ["unreachable"], "it fails closed"
    world.mn.run(lambda: cleanup(world.state_dir))
    assert world.mn.everything() == before
    world.mn.run(lambda: cleanup(world.state_dir))
    assert world.mn.everything() == before, "once more does no harm"


def test_a_restart_after_kill_9_still_knows_the_values_from_before(world: World) -> None:
    world.tun()
    before = world.mn.everything()
    world.apply(world.state(), config())  # this one is never cleared
    second = world.state()
    world.apply(second, config(RoutingMode.STRICT))
    world.mn.run(second.clear)
    assert world.mn.everything() == before


def test_a_state_file_of_another_namespace_or_full_of_rubbish_is_not_believed(world: World) -> None:
    world.tun()
    path = world.state_dir / STATE_FILE
    state = world.state()
    world.apply(state, config())
    told = json.loads(path.read_text())
    told["host"][1] += 1
    told["sysctls"]["net/ipv4/conf/e0/arp_ignore"]["was"] = "2"
    path.write_text(json.dumps(told))
    world.mn.run(lambda: cleanup(world.state_dir))
    assert "arp_ignore = 1" in world.mn.sh("sysctl net.ipv4.conf.e0.arp_ignore")
    for rubbish in ("", "{", "[]", '{"schema": "mn-agent/kernel/1"}', "null"):
        path.write_text(rubbish)
        world.mn.run(lambda: cleanup(world.state_dir))
        assert "5190" not in world.mn.sh("ip rule")


def test_repair_restores_what_others_deleted(world: World) -> None:
    world.tun()
    state = world.state()
    world.apply(state, config())
    whole = world.mn.everything()
    for damage in (
        "ip rule flush; ip rule add lookup main pref 32766; ip rule add lookup default pref 32767",
        "ip -6 rule del pref 5210",
        "ip route flush table 4191; ip -6 route flush table 4191; ip route flush table 4192",
        "ip addr flush dev mip0",
        "nft flush ruleset",
        "nft flush chain inet mn_agent prerouting",
        "sysctl -qw net.ipv4.conf.e0.arp_ignore=0",
        "ip link set mip0 mtu 1300",
    ):
        world.mn.sh(damage)
        assert world.mn.run(state.repair) > 0, damage
        assert world.mn.everything() == whole, damage
    assert world.mn.run(state.repair) == 0


def test_a_handover_there_and_back_changes_the_same_number_of_things_inside_an_event_loop(
    world: World,
) -> None:
    world.tun()
    state = world.state()
    world.apply(state, config())
    steps = [config(mtu=1432, care_of=(IPv4Address("10.1.1.5"), IPv6Address("2001:db8:8::5"))), config()]

    async def handovers() -> list[int]:
        return [state.apply(steps[number % 2]) for number in range(10)]

    changes = world.mn.run(lambda: asyncio.run(handovers()))
    assert changes[0] > 0
    assert set(changes) == {changes[0]}


def test_without_permission_the_error_says_what_to_do(world: World) -> None:
    script = """
        import os
        from pathlib import Path
        from tunnel.kernel import *
        from tunnel.routing import KernelState
        os.setuid(65534)
        try:
            KernelState(Path("/nonexistent/kernel.json")).apply(mobile_node_kernel("lo", [], 1400))
        except KernelError as error:
            print(type(error).__name__, error.fix)
    """
    out = world.mn.run(
        lambda: (
            subprocess.run(
                [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=True
            ).stdout
        )
    )
    assert out.startswith("KernelError")
    assert "root" in out


@contextlib.contextmanager
def listening(namespace: Namespace) -> Iterator[socket.socket]:
    """A packet socket on e0 of the namespace."""
    with namespace.run(lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))) as listener:
        listener.bind(("e0", 3))
        listener.settimeout(0.4)
        yield listener


def heard(listener: socket.socket) -> list[bytes]:
    """All frames until 0.4 s of silence."""
    frames = []
    with contextlib.suppress(TimeoutError):
        while True:
            frame, where = listener.recvfrom(65536)
            if where[2] != socket.PACKET_OUTGOING:
                frames.append(frame)
    return frames


def mac(namespace: Namespace) -> bytes:
    return bytes.fromhex(json.loads(namespace.sh("ip -j link show e0"))[0]["address"].replace(":", ""))


def probes(world: World) -> list[bytes]:
    """Frames from the access point to both home addresses: TCP, UDP and ping; and ARP for the IPv4 one."""
    scapy = pytest.importorskip("scapy.layers.inet")
    scapy6 = pytest.importorskip("scapy.layers.inet6")
    l2 = pytest.importorskip("scapy.layers.l2")
    ether = l2.Ether(src=mac(world.ap), dst=mac(world.mn))
    four, six = scapy.IP(src="192.168.7.1", dst=str(HOME4)), scapy6.IPv6(src="2001:db8:7::1", dst=str(HOME6))
    packets = [four / scapy.TCP(sport=1000, dport=22, flags=flags) for flags in ("S", "SA", "A")] + [
        six / scapy.TCP(sport=1000, dport=22, flags=flags) for flags in ("S", "SA", "A")
    ]
    packets += [four / scapy.UDP(sport=7, dport=9999), six / scapy.UDP(sport=7, dport=9999)]
    packets += [four / scapy.ICMP(), six / scapy6.ICMPv6EchoRequest()]
    arp = l2.Ether(src=mac(world.ap), dst=b"\xff" * 6) / l2.ARP(
        hwsrc=mac(world.ap), psrc="192.168.7.1", pdst=str(HOME4)
    )
    return [bytes(ether / packet) for packet in packets] + [bytes(arp)]


def replies_to_probes(world: World) -> int:
    frames = probes(world)
    with listening(world.ap) as listener:
        for frame in frames:
            listener.send(frame)
        homes = (HOME4.packed, HOME6.packed)
        return sum(any(home in frame for home in homes) for frame in heard(listener))


@pytest.mark.parametrize("rp_filter", [0, 1, 2])
def test_a_neighbour_who_guesses_the_home_address_hears_nothing(world: World, rp_filter: int) -> None:
    """CVE-2019-14899: blind probes on the visited link, and ARP for the home address."""
    world.mn.sh(f"sysctl -qw net.ipv4.conf.all.rp_filter={rp_filter} net.ipv4.conf.e0.rp_filter={rp_filter}")
    world.mn.sh(
        f"ip addr add {HOME4}/32 dev lo; ip -6 addr add {HOME6}/128 dev lo nodad; "
        "ping -c1 -w30 192.168.7.1; ping -c1 -w30 2001:db8:7::1"
    )
    assert replies_to_probes(world) == 11, "a host that is not guarded answers each"
    world.mn.sh(f"ip addr del {HOME4}/32 dev lo; ip -6 addr del {HOME6}/128 dev lo")
    world.tun()
    world.apply(world.state(), config())
    assert replies_to_probes(world) == 0
    world.mn.sh(f"ping -c1 -w30 {HOME4}; ping -c1 -w30 {HOME6}")  # the host itself still reaches them


def control_frames(world: World) -> list[bytes]:
    """A home address option before a mobility header and before ESP, and a type 2 routing header."""
    ether = mac(world.mn) + mac(world.ap) + b"\x86\xdd"
    option = b"\x02\x01\x02\x00\x00\xc9\x10" + HOME6.packed
    mobility = bytes((59, 1, 5, 0, 0, 0)) + b"\0" * 10
    routing = bytes((135, 2, 2, 1)) + b"\0" * 4 + HOME6.packed

    def frame(next_header: int, body: bytes) -> bytes:
        head = struct.pack("!IHBB", 6 << 28, len(body), next_header, 64)
        return ether + head + IPv6Address("2001:db8:7::1").packed + CARE_OF6.packed + body

    destination = lambda inner: bytes((inner,)) + option  # noqa: E731
    return [
        frame(60, destination(135) + mobility),
        frame(60, destination(50) + b"\0\0\x10\x01" + b"\0" * 20),
        frame(43, routing + mobility),
    ]


def icmp6_errors(frames: list[bytes]) -> int:
    return sum(f[12:14] == b"\x86\xdd" and f[20] == 58 and f[54] < 128 for f in frames if len(f) > 54)


def test_the_kernel_does_not_complain_about_control_headers_and_packet_sockets_see_them(world: World) -> None:
    world.tun()
    world.mn.sh("ping -c1 -w30 2001:db8:7::1")
    frames = control_frames(world)
    with listening(world.ap) as ap, listening(world.mn) as mn:
        for frame in frames:
            ap.send(frame)
        assert icmp6_errors(heard(ap)) == 3, "a host that is not guarded complains about each"
        heard(mn)
        world.apply(world.state(), config())
        for frame in frames:
            ap.send(frame)
        assert icmp6_errors(heard(ap)) == 0
        assert [f for f in heard(mn) if f in frames] == frames


@pytest.mark.parametrize("mode", [RoutingMode.LAN, RoutingMode.STRICT])
def test_outer_packets_pass_a_strict_reverse_path_filter(world: World, mode: RoutingMode) -> None:
    world.mn.sh("sysctl -qw net.ipv4.conf.all.rp_filter=1 net.ipv4.conf.e0.rp_filter=1")
    world.ap.sh("ip addr add 198.51.100.2/32 dev lo")
    world.tun()
    world.apply(world.state(), config(mode))

    def exchange() -> bytes:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ours:
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, MARK)
            ours.settimeout(PATIENCE)
            ours.bind((str(CARE_OF4), 0))
            agent = world.ap.run(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            with agent:
                agent.settimeout(PATIENCE)
                agent.bind(("198.51.100.2", 4191))
                ours.sendto(b"update", ("198.51.100.2", 4191))
                _, where = agent.recvfrom(100)
                agent.sendto(b"acknowledgement", where)
                return ours.recv(100)

    assert world.mn.run(exchange) == b"acknowledgement"


def test_the_home_agent_answers_for_bound_home_addresses_and_routes_them_into_the_tunnel(
    world: World,
) -> None:
    """Here `ap` is the home agent and `mn` a host on the home link."""
    agent = world.ap
    agent.sh("sysctl -qw net.ipv4.conf.e0.forwarding=1 net.ipv6.conf.e0.forwarding=1")
    before = agent.everything()
    tun = world.tun("ha0", on=agent)
    with_tun = agent.everything()
    state = world.state(Owner.HOME_AGENT, on=agent)
    bound4, bound6 = IPv4Address("192.168.7.77"), IPv6Address("2001:db8:7::77")
    own = IPv4Address("192.168.7.1"), IPv6Address("2001:db8:7::1")
    both = Guest.of((bound4, bound6, *own), (bound4, bound6, *own), own)
    guests = NO_GUESTS.changed((), {bound6: both})
    wanted = home_agent_kernel("ha0", 1400, "e0", guests)
    agent.run(lambda: state.apply(wanted))
    assert agent.run(lambda: state.apply(wanted)) == 0
    started = time.monotonic()
    world.mn.sh(f"ping -c1 -W1 {bound4} >/dev/null || true; ping -c1 -W1 {bound6} >/dev/null || true")
    assert time.monotonic() - started < 2.5
    inner = []
    with contextlib.suppress(BlockingIOError):
        while True:
            inner.append(os.read(tun.fileno(), 2000))
    assert any(p[0] >> 4 == 4 and p[16:20] == bound4.packed for p in inner)
    assert any(p[0] >> 4 == 6 and p[24:40] == bound6.packed for p in inner)
    world.mn.sh("ping -c1 -w30 192.168.7.1; ping -c1 -w30 2001:db8:7::1")
    less = guests.changed((), {bound6: Guest((bound6,), (bound6,))})
    fewer = home_agent_kernel("ha0", 1400, "e0", less)
    assert agent.run(lambda: state.apply(fewer)) == 2, "one route and one proxied neighbour leave"
    agent.sh(f"ip -6 route del {bound6}; ip -6 neigh del proxy {bound6} dev e0")
    assert agent.run(state.repair) == 2, "what others have removed is found missing"
    assert agent.run(state.repair) == 0
    assert agent.run(lambda: state.apply(wanted)) == 2
    agent.run(state.clear)
    assert agent.everything() == with_tun
    tun.close()
    assert agent.everything() == before


def test_who_alters_what_is_ours_is_heard_of_and_nobody_else(world: World) -> None:
    agent = world.ap
    tun = world.tun("ha0", on=agent)
    state = world.state(Owner.HOME_AGENT, on=agent)
    alterations = agent.run(lambda: Alterations(state.port))
    home = IPv6Address("2001:db8:7::77")
    guests = NO_GUESTS.changed((), {home: Guest((home,), (home,))})
    try:
        agent.run(lambda: state.apply(home_agent_kernel("ha0", 1400, "e0")))
        alterations.heard()
        agent.run(lambda: state.apply(home_agent_kernel("ha0", 1400, "e0", guests)))
        agent.sh("ip route add 192.0.2.0/24 via 192.168.7.50; ip route del 192.0.2.0/24")
        assert not alterations.heard()
        for damage in (
            f"ip -6 route del {home}",
            "nft flush table inet home_agent",
            "sysctl -qw net.ipv6.conf.e0.proxy_ndp=0",
            "ip link set ha0 mtu 1300",
        ):
            agent.sh(damage)
            assert alterations.heard(), damage
            assert agent.run(state.repair) > 0, damage
            alterations.heard()
    finally:
        alterations.close()
        tun.close()


def test_a_home_agent_keeps_the_router_it_learnt_from_advertisements(world: World) -> None:
    agent = world.ap
    agent.sh("ip -6 route add default via fe80::99 dev e0 proto ra expires 600")
    world.tun("ha0", on=agent)
    state = world.state(Owner.HOME_AGENT, on=agent)
    agent.run(lambda: state.apply(home_agent_kernel("ha0", 1400, "e0")))
    assert "accept_ra = 2" in agent.sh("sysctl net.ipv6.conf.e0.accept_ra")
    assert "fe80::99" in agent.sh("ip -6 route show default")
    agent.run(state.clear)
    assert "accept_ra = 1" in agent.sh("sysctl net.ipv6.conf.e0.accept_ra")
    assert "fe80::99" in agent.sh("ip -6 route show default")


def test_a_home_agent_that_is_a_router_already_is_not_made_to_listen_to_advertisements(world: World) -> None:
    agent = world.ap
    agent.sh("sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1")
    world.tun("ha0", on=agent)
    state = world.state(Owner.HOME_AGENT, on=agent)
    agent.run(lambda: state.apply(home_agent_kernel("ha0", 1400, "e0")))
    assert "accept_ra = 1" in agent.sh("sysctl net.ipv6.conf.e0.accept_ra")
    agent.run(state.clear)
    assert "net.ipv6.conf.all.forwarding = 1" in agent.sh("sysctl net.ipv6.conf.all.forwarding")
