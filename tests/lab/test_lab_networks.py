"""The networks of the lab do what their real models do."""

from __future__ import annotations

import json
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest

from lab.topology import parse_topology
from tests.lab.conftest import ROOT, LabUnderTest
from tests.lab.patience import PATIENCE, wait_until

INTERNET = parse_topology((ROOT / "lab/internet.toml").read_text(), "internet.toml")
CORRESPONDENT = {6: "2001:db8:cc::10", 4: "192.0.2.10"}


@pytest.fixture
def loose_lab(plain_lab: LabUnderTest) -> LabUnderTest:
    """The lab, and its mobile node nowhere: what an earlier test plugged in is pulled out and forgotten."""
    interfaces = INTERNET.mobile_node.interfaces
    for interface in interfaces:
        plain_lab.unplug(interface)
    wait_until(lambda: not any(addresses(plain_lab, one) for one in interfaces), "it has no address left")
    return plain_lab


def addresses(lab: LabUnderTest, interface: str) -> list[str]:
    (link,) = json.loads(lab.output("mn", "ip", "-j", "address", "show", "dev", interface))
    return [one["local"] for one in link["addr_info"] if one["scope"] == "global"]


def wait_until_reached(lab: LabUnderTest, interface: str, address: str) -> None:
    """By that interface, so that it has an address of its own."""
    lab.wait_for("mn", "ping", "-n", "-q", "-c", "1", "-W", "0.3", "-I", interface, address)


@pytest.mark.parametrize("name", INTERNET.access_networks)
def test_a_network_gives_addresses_that_reach_the_correspondent(loose_lab: LabUnderTest, name: str) -> None:
    loose_lab.plug("eth0", name)
    network = INTERNET.network[name]
    for prefix in (network.ipv6, network.ipv4):
        if prefix is None:
            continue
        wait_until_reached(loose_lab, "eth0", CORRESPONDENT[prefix.version])
        assert any(ip_address(address) in ip_network(prefix) for address in addresses(loose_lab, "eth0"))
    offered = {prefix.version for prefix in (network.ipv6, network.ipv4) if prefix is not None}
    assert {ip_address(address).version for address in addresses(loose_lab, "eth0")} == offered


def test_two_links_at_once_are_both_usable(loose_lab: LabUnderTest) -> None:
    loose_lab.plug("eth0", "office")
    loose_lab.plug("wlan0", "cafe")
    wait_until_reached(loose_lab, "wlan0", "192.0.2.10")
    wait_until_reached(loose_lab, "eth0", "2001:db8:cc::10")


@pytest.mark.parametrize("name", ["cafe", "hotel"])
def test_a_nat_hides_the_address_behind_random_ports(loose_lab: LabUnderTest, name: str) -> None:
    loose_lab.plug("eth0", name)
    wait_until_reached(loose_lab, "eth0", "192.0.2.10")
    count = 8
    server = loose_lab.start_python(
        "cn",
        f"""
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("192.0.2.10", 9000))
print("ready", flush=True)
for _ in range({count}):
    print(*s.recvfrom(99)[1], flush=True)
""",
    )
    assert server.stdout is not None
    assert server.stdout.readline() == "ready\n"
    loose_lab.python(
        "mn",
        f"""
import socket
for port in range(40000, 40000 + {count}):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.bind(("", port))
    s.sendto(b"x", ("192.0.2.10", 9000))
""",
    )
    seen = [line.split() for line in server.communicate(timeout=PATIENCE)[0].splitlines()]
    core = ip_network("192.0.2.128/25")
    assert all(ip_address(address) in core for address, _ in seen)
    kept = sum(int(port) == 40000 + index for index, (_, port) in enumerate(seen))
    assert kept <= 1, "source ports are random, not kept"


def test_an_answer_through_the_nat_comes_from_where_the_question_went(loose_lab: LabUnderTest) -> None:
    loose_lab.plug("eth0", "hotel")
    wait_until_reached(loose_lab, "eth0", "203.0.113.2")
    server = loose_lab.start_python(
        "ha",
        """
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("203.0.113.2", 4191))
print("ready", flush=True)
s.sendto(b"answer", s.recvfrom(99)[1])
""",
    )
    assert server.stdout is not None
    assert server.stdout.readline() == "ready\n"
    script = f"""
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout({PATIENCE})
s.sendto(b"question", ("203.0.113.2", 4191))
print(*s.recvfrom(99))
"""
    assert loose_lab.python("mn", script) == "b'answer' ('203.0.113.2', 4191)\n"
    server.communicate(timeout=PATIENCE)


def test_nobody_outside_reaches_a_host_behind_the_nat(loose_lab: LabUnderTest) -> None:
    loose_lab.plug("eth0", "cafe")
    wait_until_reached(loose_lab, "eth0", "192.0.2.10")
    (address,) = addresses(loose_lab, "eth0")
    assert loose_lab.run("cn", "ping", "-c", "1", "-W", "0.3", address).returncode != 0


def test_the_name_server_answers_srv_a_and_aaaa(loose_lab: LabUnderTest) -> None:
    for network, server in (("office", "2001:db8:cc::53"), ("mobile", "192.0.2.53")):
        loose_lab.plug("eth0", network)
        wait_until_reached(loose_lab, "eth0", server)
        script = f"""
import dns.resolver
resolver = dns.resolver.Resolver()
resolver.timeout, resolver.lifetime = 1, {PATIENCE}
for name, kind in (("_mip6._ipv6.example.net", "SRV"), ("ha.example.net", "A"), ("ha.example.net", "AAAA")):
    print(*sorted(str(answer) for answer in resolver.resolve(name, kind)))
"""
        answers = loose_lab.python("mn", script).splitlines()
        assert answers == ["0 0 4191 ha.example.net.", "203.0.113.2", "2001:db8:99::2"]


def test_keys_are_private_and_equal_on_both_ends(plain_lab: LabUnderTest) -> None:
    for node, path in (("mn", "/etc/mn-agent/keys.toml"), ("ha", "/etc/home-agent/keys/laptop.toml")):
        assert plain_lab.output(node, "stat", "-c", "%a %U", path) == "600 root\n"
    mine = plain_lab.output("mn", "cat", "/etc/mn-agent/keys.toml")
    assert mine == plain_lab.output("ha", "cat", "/etc/home-agent/keys/laptop.toml")
    assert not Path("/etc/mn-agent/keys.toml").exists()


def test_machines_have_their_own_name_run_and_var_lib(plain_lab: LabUnderTest) -> None:
    assert plain_lab.output("mn", "hostname") == "mn\n"
    plain_lab.output("mn", "sh", "-c", "mkdir -p /run/mn-agent /var/lib/mn-agent && touch /etc/only-here")
    assert plain_lab.run("ha", "ls", "/run/mn-agent").returncode != 0
    assert plain_lab.run("ha", "ls", "/var/lib/mn-agent").returncode != 0
    assert not Path("/etc/only-here").exists()
