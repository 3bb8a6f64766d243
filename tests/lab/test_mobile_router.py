"""A mobile router with both daemons: a host behind it judged from outside, a prefix nobody knew before."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.lab.conftest import OUTAGE_MS, LabUnderTest, mnctl_lab, patient, unique_name
from tests.lab.patience import PATIENCE

# The outage is bounded for a machine that does other things too; `mnctl lab run mobile-router` is stricter.
SCENARIO = f"""
title = "a van from the office to the cafe and on to a mobile network"
topology = "mobile-router"
start = {{ eth0 = "office" }}
watch_s = 1.2
stream = [{{ kind = "bulk", rate_mbit = 4 }}, {{ kind = "echo" }}, {{ kind = "down" }}, {{ kind = "ping" }}]
[expect]
handovers = 2
outage_ms = {OUTAGE_MS}
[[step]]
move = "cafe"
[[step]]
move = "mobile"
"""
REQUESTING = """
base = "mobile-router"
sessions = "van"
[mobile_network.onboard]
router = "mn"
ipv4 = "198.51.100.192/26"
addressed = false
[host.van]
network = "onboard"
addresses = ["198.51.100.202"]
[files.mn]
"/etc/mn-agent/mn-agent.toml" = '''
[home]
ipv6 = "2001:db8:99::77"
[home_agent]
name = "ha.example.net"
[security]
key_file = "/etc/mn-agent/keys.toml"
[router]
interfaces = ["lan0"]
mode = "implicit"
ipv4_prefix_requests = [26]
'''
[files.ha]
"/etc/home-agent/home-agent.toml" = '''
[home_agent]
interface = "eth0"
ipv6 = "2001:db8:99::2"
ipv4 = "203.0.113.2"
[home_link]
ipv6_prefix = "2001:db8:99::/64"
ipv4_prefix = "203.0.113.0/24"
ipv4_prefix_pool = "198.51.100.192/26"
ipv4_prefix_length = 26
[[mobile_node]]
name = "router"
home_address = "2001:db8:99::77"
ipv4 = "none"
key_file = "/etc/home-agent/keys/laptop.toml"
ipv4_prefix_requests = true
'''
"""
RECEIVE = f"""
import socket
at = socket.socket(socket.AF_INET6 if ":" in {{address!r}} else socket.AF_INET, socket.SOCK_DGRAM)
at.bind(({{address!r}}, 5005)); at.settimeout({PATIENCE})
print("ready", flush=True)
datagram, sender = at.recvfrom(65536)
at.sendto(b"it came", sender)
print(len(datagram))
"""
SEND = """
import socket
to = socket.socket(socket.AF_INET6 if ":" in {address!r} else socket.AF_INET, socket.SOCK_DGRAM)
to.settimeout(0.2)
for _ in range(150):
    try:
        to.sendto(bytes({size}), ({address!r}, 5005))
        to.recv(100)
        break
    except OSError: pass
"""


def up(topology: str, network: str) -> LabUnderTest:
    name = unique_name()
    done = mnctl_lab("up", "--name", name, "--topology", topology)
    assert done.returncode == 0, done.stderr
    lab = LabUnderTest(name)
    lab.move(network)
    return lab


@pytest.fixture(scope="module")
def lab() -> Iterator[LabUnderTest]:
    made = up("mobile-router", "cafe")
    yield made
    mnctl_lab("down", "--lab", made.name)


@pytest.fixture
def requesting(tmp_path: Path) -> Iterator[LabUnderTest]:
    """The router has no IPv4 at all but what it asks for."""
    path = tmp_path / "requesting.toml"
    path.write_text(REQUESTING)
    made = up(str(path), "cafe")
    yield made
    mnctl_lab("down", "--lab", made.name)


def status(lab: LabUnderTest) -> dict[str, Any]:
    return dict(json.loads(lab.output("mn", "mnctl", "status", "--json")))


def answers(lab: LabUnderTest, address: str, *options: str, of: str = "cn") -> None:
    lab.wait_for(of, "ping", "-n", "-q", "-c", "1", "-W", "0.5", *options, address)


@pytest.mark.requirement("R089a", "R110", "R130")
def test_sessions_of_a_host_behind_the_router_survive_its_moves_in_both_families(tmp_path: Path) -> None:
    scenario = tmp_path / "van.toml"
    scenario.write_text(patient(SCENARIO))
    done = mnctl_lab("run", str(scenario), "--json", timeout=400)
    assert done.stdout, done.stderr
    report = json.loads(done.stdout)
    assert report["reasons"] == []
    assert (done.returncode, report["verdict"]) == (0, "pass")
    assert {session["name"] for session in report["sessions"] if session["survived"]} == {
        f"{kind}-v{version}" for kind in ("bulk", "echo", "down", "ping") for version in (6, 4)
    }


@pytest.mark.requirement("R116", "R126")
def test_both_ends_say_which_networks_are_routed(lab: LabUnderTest) -> None:
    networks = ["2001:db8:77::/64", "198.51.100.192/26"]
    said = status(lab)["router"]
    assert (said["registered"], said["prefixes"], said["interfaces"]) == (True, networks, ["lan0"])
    (binding,) = json.loads(lab.output("ha", "hactl", "bindings", "--json"))["bindings"]
    assert binding["prefixes"] == networks
    for network, version in (("2001:db8:77::/64", "-6"), ("198.51.100.192/26", "-4")):
        assert "dev mip-ha0" in lab.output("ha", "ip", version, "route", "show", network)
    for address in ("2001:db8:77::10", "198.51.100.202"):
        answers(lab, address)


@pytest.mark.parametrize("to", ["van", "cn"])
@pytest.mark.parametrize("address", [6, 4])
def test_datagrams_too_big_for_the_tunnel_pass_once_the_sender_has_been_told(
    lab: LabUnderTest, to: str, address: int
) -> None:
    """1500 octets with their headers, both ways: Packet Too Big, then smaller pieces."""
    hosts = {"van": ("198.51.100.202", "2001:db8:77::10"), "cn": ("192.0.2.10", "2001:db8:cc::10")}
    there = hosts[to][address == 6]
    sender = "cn" if to == "van" else "van"
    receiver = lab.start_python(to, RECEIVE.format(address=there))
    assert receiver.stdout is not None
    assert receiver.stdout.readline() == "ready\n"
    size = 1500 - (48 if address == 6 else 28)
    lab.python(sender, SEND.format(address=there, size=size))
    said, _ = receiver.communicate(timeout=PATIENCE)
    assert said.strip() == str(size)


def test_a_crash_leaves_the_networks_closed_and_the_next_start_opens_them(lab: LabUnderTest) -> None:
    before = lab.output("mn", "sysctl", "net.ipv4.conf.eth0.forwarding", "net.ipv6.conf.all.forwarding")
    assert "= 1" not in before, "only the ingress interfaces and the tunnel forward"
    lab.output("mn", "sh", "-c", "kill -9 $(pgrep -f [m]n-agent)")
    lab.wait_for("mn", "sh", "-c", "! ip link show mip0")  # the kernel has buried it
    assert lab.run("van", "ping", "-n", "-q", "-c", "1", "-W", "0.5", "192.0.2.10").returncode != 0
    lab.output("mn", "sh", "-c", "setsid mn-agent >/tmp/again.log 2>&1 &")
    lab.wait_for("mn", "mnctl", "wait", "--for", "bound", "--timeout", "1")
    answers(lab, "192.0.2.10", of="van")
    lab.output("mn", "sh", "-c", "kill $(pgrep -f [m]n-agent)")
    lab.wait_for("mn", "sh", "-c", "! pgrep -f [m]n-agent")
    assert "= 0" in lab.output("mn", "sysctl", "net.ipv4.conf.lan0.forwarding")
    lab.output("mn", "sh", "-c", "setsid mn-agent >/tmp/again.log 2>&1 &")
    lab.wait_for("mn", "mnctl", "wait", "--for", "bound", "--timeout", "1")


@pytest.mark.requirement("R061", "R063", "R066", "R074", "R096f", "R125")
def test_a_prefix_that_is_asked_for_by_its_length_is_routed_and_kept(requesting: LabUnderTest) -> None:
    lab = requesting
    assert status(lab)["router"]["prefixes"] == ["198.51.100.192/26"]
    assert "198.51.100.193/26" in lab.output("mn", "ip", "-4", "address", "show", "dev", "lan0")
    answers(lab, "198.51.100.202")
    answers(lab, "192.0.2.10", of="van")
    answers(lab, "192.0.2.10", of="mn")
    said = json.loads(lab.output("mn", "mnctl", "roam", "--to", "eth0", "--dry-run", "--json"))
    options = said["dry_run"]["binding_update"]["options"]
    assert "IPv4-prefix 198.51.100.192/26" in options, "by its name, and without P"
    lab.output("mn", "mnctl", "refresh")
    lab.plug("eth0", "mobile")
    answers(lab, "198.51.100.202")
    (lease,) = json.loads(lab.output("ha", "hactl", "leases", "--json"))["leases"]
    assert (lease["v4"], lease["state"]) == ("198.51.100.192/26", "bound")
