"""What a step makes wrong with a network or a machine is wrong, nothing else is, and `mend` ends it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.conftest import ROOT, LabUnderTest, mnctl_lab, unique_name
from tests.lab.patience import PATIENCE

CN4, CN6 = "192.0.2.10", "2001:db8:cc::10"


@pytest.fixture(scope="module")
def lab(plain_topology: Path) -> Iterator[LabUnderTest]:
    """The plain Internet with a captive station and a train with NAT64."""
    parts = [(ROOT / f"lab/{name}.toml").read_text() for name in ("captive", "nat64")]
    lines = [line for part in parts for line in part.splitlines() if not line.startswith(("base", "title"))]
    path = plain_topology.parent / "faults.toml"
    path.write_text(f'base = "{plain_topology}"\n' + "\n".join(lines))
    name = unique_name()
    done = mnctl_lab("up", "--name", name, "--topology", str(path))
    assert done.returncode == 0, done.stderr
    try:
        yield LabUnderTest(name)
    finally:
        mnctl_lab("down", "--lab", name)


def ping(lab: LabUnderTest, to: str, *options: str) -> bool:
    return lab.run("mn", "ping", "-n", "-q", "-c", "1", "-W", "0.3", *options, to).returncode == 0


def wait_for_answer(lab: LabUnderTest, to: str, *options: str) -> None:
    """Where an answer is expected, one that is late is asked for again."""
    lab.wait_for("mn", "ping", "-n", "-q", "-c", "1", "-W", "0.3", *options, to)


def at(lab: LabUnderTest, network: str, *to: str) -> None:
    """In that network, and in reach of all of these."""
    lab.plug("eth0", network)
    for address in to:
        wait_for_answer(lab, address)


def test_a_blocked_protocol_or_family_is_dropped_and_others_pass(lab: LabUnderTest) -> None:
    at(lab, "campus", CN4, CN6)
    lab.do('block = { protocol = 1 }, on = "campus"')
    assert not ping(lab, CN4)
    wait_for_answer(lab, CN6)
    lab.do('block = { family = "ipv6" }, on = "campus"')
    assert not ping(lab, CN6)
    wait_for_answer(lab, "2001:db8:2::1")  # the router itself is there, and goes on advertising
    lab.do('mend = "campus"')
    wait_for_answer(lab, CN4)
    wait_for_answer(lab, CN6)


def test_a_port_can_be_blocked_one_way_only(lab: LabUnderTest) -> None:
    at(lab, "mobile", CN4)
    script = f"""
import socket
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(("{CN4}", 4191))
server.settimeout({PATIENCE})
print("ready", flush=True)
for _ in range(2):
    question, guest = server.recvfrom(99)
    print(question.decode(), flush=True)
    server.sendto(b"answer", guest)
"""
    ask = f"""
import socket
guest = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
guest.settimeout(PATIENCE)
guest.sendto(b"question", ("{CN4}", 4191))
try:
    print(guest.recv(99).decode())
except TimeoutError:
    print("nothing")
"""
    server = lab.start_python("cn", script)
    assert server.stdout is not None
    assert server.stdout.readline() == "ready\n"
    lab.do('block = { udp = 4191, way = "in" }, on = "mobile"')
    assert lab.python("mn", ask.replace("PATIENCE", "0.4")) == "nothing\n"
    assert server.stdout.readline() == "question\n", "the other way is open"
    lab.do('mend = "mobile"')
    assert lab.python("mn", ask.replace("PATIENCE", f"{PATIENCE}")) == "answer\n"
    server.communicate(timeout=PATIENCE)


def test_a_black_hole_swallows_what_is_larger_without_a_word(lab: LabUnderTest) -> None:
    at(lab, "mobile", CN4)
    lab.do('black_hole = 1400, on = "mobile"')
    wait_for_answer(lab, CN4, "-M", "do", "-s", str(1400 - 28))
    swallowed = lab.run("mn", "ping", "-n", "-c", "1", "-W", "0.3", "-M", "do", "-s", str(1401 - 28), CN4)
    assert swallowed.returncode == 1
    assert "1 packets transmitted, 0 received, 100% packet loss" in swallowed.stdout
    lab.do('mend = "mobile"')
    wait_for_answer(lab, CN4, "-M", "do", "-s", "1472")


def test_a_black_hole_weighs_packets_and_not_the_segments_of_an_offload(lab: LabUnderTest) -> None:
    at(lab, "mobile", CN4)
    lab.do('black_hole = 1400, on = "mobile"')
    receive = f"""
import socket
server = socket.create_server(("{CN4}", 9001))
print("ready", flush=True)
guest, _ = server.accept()
guest.settimeout({PATIENCE})
octets = 0
while part := guest.recv(1 << 16):
    octets += len(part)
print(octets)
"""
    send = f"""
import socket
guest = socket.socket()
guest.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 1200)
guest.settimeout({PATIENCE})
guest.connect(("{CN4}", 9001))
guest.sendall(bytes(500_000))
guest.close()
"""
    server = lab.start_python("cn", receive)
    assert server.stdout is not None
    assert server.stdout.readline() == "ready\n"
    lab.python("mn", send)
    assert server.communicate(timeout=PATIENCE)[0] == "500000\n"
    lab.do('mend = "mobile"')


def test_a_silent_dhcp_server_gives_no_address(lab: LabUnderTest) -> None:
    lab.do('silence_dhcp = "airport"')
    lab.unplug("eth0")
    lab.wait_for("mn", "sh", "-c", "! ip -4 addr show dev eth0 | grep inet")
    lab.plug("eth0", "airport")
    assert lab.run("mn", "sh", "-c", "sleep 1; ip route get 192.0.2.10").returncode != 0
    lab.do('mend = "airport"')
    at(lab, "airport", CN4)


def test_a_link_flaps_so_many_times_and_stays(lab: LabUnderTest) -> None:
    at(lab, "office", CN6)
    losses = ("cat", "/sys/class/net/eth0/carrier_down_count")
    before = int(lab.output("mn", *losses))
    lab.do("flap = { times_a_second = 10, seconds = 1 }")
    assert int(lab.output("mn", *losses)) == before + 10
    wait_for_answer(lab, CN6)


def test_a_suspended_node_stands_still_and_finds_its_link_again(lab: LabUnderTest) -> None:
    at(lab, "office", CN6)
    script = """
import time
open("/run/runs", "w").close()
last, worst = time.monotonic(), 0.0
while worst < 0.9:
    time.sleep(0.01)
    worst, last = max(worst, time.monotonic() - last), time.monotonic()
open("/run/stood-still", "w").close()
"""
    # In the background: what enters a lab from outside is not a program of the machine.
    lab.output("mn", "sh", "-c", f"python3 -c '{script}' >/dev/null 2>&1 &")
    lab.wait_for("mn", "ls", "/run/runs")
    lab.do("suspend = 1")
    lab.wait_for("mn", "ls", "/run/stood-still")
    wait_for_answer(lab, CN6)


FETCH = """
import http.client
def ask(method, host, path, port=80):
    connection = http.client.HTTPConnection(host, port, timeout=30)
    connection.request(method, path)
    answer = connection.getresponse()
    return answer.status, answer.getheader("Location"), answer.read().decode()
"""


def test_a_captive_network_shows_its_portal_until_somebody_agrees(lab: LabUnderTest) -> None:
    at(lab, "station", CN4, CN6)
    lab.do('captive = "station"')
    assert not ping(lab, CN4)
    assert not ping(lab, CN6)
    script = f"""{FETCH}
for host in ("192.0.2.40", "2001:db8:cc::80"):
    print(*ask("GET", host, "/generate_204")[:2])
print(ask("GET", "172.16.5.1", "/captive-portal/api", 8080)[2])
print(ask("POST", "172.16.5.1", "/login", 8080)[2], end="")
print(ask("GET", "192.0.2.40", "/generate_204")[0])
print(ask("GET", "172.16.5.1", "/captive-portal/api", 8080)[2])
"""
    *redirected, before, agreed, probe, after = lab.python("mn", script).splitlines()
    assert redirected == ["302 http://172.16.5.1:8080/login"] * 2
    assert json.loads(before) == {"captive": True, "user-portal-url": "http://172.16.5.1:8080/login"}
    assert (agreed, probe) == ("You are online.", "204")
    assert json.loads(after)["captive"] is False
    wait_for_answer(lab, CN4)
    lab.do('captive = "station"')
    assert not ping(lab, CN4)
    lab.do('login = "station"')
    wait_for_answer(lab, CN4)


def test_nat64_is_told_by_name_and_advertisement_and_carries_both_ways(lab: LabUnderTest) -> None:
    listen = """
import socket, struct
link = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
link.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"eth0")
link.settimeout(60)
print("ready", flush=True)
while True:
    said = link.recv(1500)
    if said[0] == 134 and len(said) == 32 and said[16] == 38:
        print(said[16:].hex())
        break
"""
    program = lab.start_python("mn", listen)
    assert program.stdout is not None
    assert program.stdout.readline() == "ready\n"
    at(lab, "train", CN6)
    script = """
import dns.resolver, socket
answers = dns.resolver.resolve("ipv4only.arpa", "AAAA", lifetime=30)
print(*sorted(str(answer) for answer in answers))
print(*dns.resolver.resolve("ha.example.net", "AAAA", lifetime=30))
"""
    prefix, agent = lab.python("mn", script).splitlines()
    assert (prefix, agent) == ("2001:db8:64:ff9b::c000:aa 2001:db8:64:ff9b::c000:ab", "2001:db8:99::2")
    wait_for_answer(lab, "2001:db8:64:ff9b::192.0.2.10")
    # Lifetime 1800 s, /96, the prefix (RFC 8781 section 4).
    assert program.communicate(timeout=2 * PATIENCE)[0] == "2602070820010db80064ff9b00000000\n"


def test_a_mistaken_step_is_told_with_what_is_known(lab: LabUnderTest) -> None:
    done = mnctl_lab("do", "--lab", lab.name, 'lose = 30, on = "moon"')
    assert done.returncode == 1
    assert "there is no network 'moon' (known: office, campus" in done.stderr
