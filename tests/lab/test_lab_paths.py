"""Networks that carry signalling and no payload, or not all of it, or forget; judged from outside."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from lab.namespaces import environment
from lab.registry import find_lab
from tests.lab.conftest import ROOT, LabUnderTest, mnctl_lab, unique_name
from tests.lab.patience import PATIENCE, wait_until

CARE_OF = {
    "office": "2001:db8:1:",
    "campus": "2001:db8:2:",
    "mobile": "198.51.100.",
    "cafe": "192.168.7.",
}
CN6, CN4 = "2001:db8:cc::10", "192.0.2.10"

SINK = f"""
import socket
from threading import Thread
def serve(connection):
    if connection.recv(1) == b"u":
        left = 999_999
        while left > 0:
            left -= len(connection.recv(65536))
        connection.sendall(b"k")
    else:
        connection.sendall(bytes(1_000_000))
        connection.recv(1)
def listening(family, address):
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((address, 5001))
    listener.listen()
    return listener
def accept(listener):
    while True:
        Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
both = listening(socket.AF_INET6, "{CN6}"), listening(socket.AF_INET, "{CN4}")
print("ready", flush=True)
Thread(target=accept, args=both[:1], daemon=True).start()
accept(both[1])
"""
SOURCE = f"""
import socket, sys, time
from threading import Thread
def connected(family, address):
    connection = socket.socket(family, socket.SOCK_STREAM)
    connection.settimeout(60)
    connection.connect((address, 5001))
    return connection
def up(connection):
    connection.sendall(b"u" + bytes(999_999))
    connection.recv(1)
def down(connection):
    connection.sendall(b"d")
    left = 1_000_000
    while left > 0:
        left -= len(connection.recv(65536))
ways = [
    (run, connected(family, address))
    for run in (up, down)
    for family, address in ((socket.AF_INET6, "{CN6}"), (socket.AF_INET, "{CN4}"))
]
print("connected", flush=True)
sys.stdin.readline()
began = time.monotonic()
threads = [Thread(target=run, args=(connection,)) for run, connection in ways]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(time.monotonic() - began, flush=True)
"""
NETWORKS = "/var/lib/mn-agent/networks.json"
UDP_WORKS = {"encap": "udp4", "verified": True}.items()


@pytest.fixture(scope="module")
def lab() -> Iterator[LabUnderTest]:
    name = unique_name()
    done = mnctl_lab("up", "--name", name)
    assert done.returncode == 0, done.stderr
    under_test = LabUnderTest(name)
    try:
        sink = program(under_test, "cn", SINK)
        assert line(sink) == "ready"
        yield under_test
    finally:
        mnctl_lab("down", "--lab", name)  # and with it the sink
    sink.wait(PATIENCE)


def bound(lab: LabUnderTest, network: str) -> None:
    """Plugged in there, and bound from there."""
    lab.plug("eth0", network)
    wait_until(lambda: is_bound(lab, CARE_OF[network]), f"bound from {network}")


def is_bound(lab: LabUnderTest, begin: str) -> bool:
    """From an address that begins like that."""
    path = lab.path()
    return bool(path.get("encap")) and path["care_of"].startswith(begin)


def two_links(lab: LabUnderTest) -> bool:
    """Whether each is used or could be."""
    told = lab.status()
    used, unused = told.get("path") or {}, told.get("standby") or ()
    return {used.get("interface"), *(one["interface"] for one in unused)} == {"eth0", "wlan0"}


def passes(lab: LabUnderTest, to: str) -> float:
    return lab.wait_for("mn", "ping", "-n", "-q", "-c1", "-W0.3", to)


def program(lab: LabUnderTest, node: str, script: str) -> subprocess.Popen[str]:
    words = find_lab(lab.name).enter(node, (sys.executable, "-c", script), str(ROOT))
    return subprocess.Popen(
        words, env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def line(of: subprocess.Popen[str]) -> str:
    assert of.stdout is not None
    return of.stdout.readline().strip()


def test_where_ip_in_ip_is_dropped_payload_passes_in_udp_and_that_is_remembered(
    lab: LabUnderTest,
) -> None:
    for protocol in (4, 41):
        lab.do(f'block = {{ protocol = {protocol} }}, on = "mobile"')
    bound(lab, "mobile")
    for to in (CN6, CN4):
        passes(lab, to)
    # Only when a test of UDP has passed, it is known that IP in IP is at fault.
    wait_until(lambda: lab.path().items() >= UDP_WORKS, "payload in UDP is answered")
    bound(lab, "office")
    assert '"needs_udp":{"value":true' in lab.output("mn", "cat", NETWORKS), "for the next time"
    bound(lab, "mobile")
    wait_until(lambda: lab.path().items() >= UDP_WORKS, "payload goes in UDP again")
    passes(lab, CN6)
    lab.do('mend = "mobile"')


def test_a_home_agent_that_is_no_longer_heard_over_udp_is_reached_by_the_other_link(
    lab: LabUnderTest,
) -> None:
    bound(lab, "cafe")
    passes(lab, CN6)
    lab.do('plug = "office", interface = "wlan0"')
    wait_until(lambda: two_links(lab), "the other link is ready too")
    lab.output("mn", "mnctl", "roam", "--to", "eth0")
    wait_until(lambda: lab.path().get("interface") == "eth0", "back in the cafe")
    passes(lab, CN6)
    lab.do('block = { udp = 4191, way = "in" }, on = "cafe"')
    began = time.monotonic()
    talk = lab.start_python("mn", f"import os; os.system('ping -n -q -i 0.1 -c 60 {CN6} > /dev/null')")
    passes(lab, CN6)
    talk.terminate()
    assert lab.path().get("interface") == "wlan0"
    print(f"left after {time.monotonic() - began:.2f} s")
    lab.do('mend = "cafe"')
    lab.do('unplug = "wlan0"')


@pytest.mark.parametrize(("network", "most"), [("campus", 1400), ("cafe", 1280)])
def test_a_megabyte_each_way_passes_soon_after_a_move_into_a_black_hole_of_sizes(
    lab: LabUnderTest, network: str, most: int
) -> None:
    bound(lab, "office")
    passes(lab, CN6)
    lab.do(f'black_hole = {most}, on = "{network}"')
    source = program(lab, "mn", SOURCE)
    assert line(source) == "connected"
    bound(lab, network)
    assert source.stdin is not None
    source.stdin.write("go\n")
    source.stdin.flush()
    took = float(line(source))
    assert source.wait(PATIENCE) == 0
    print(f"a megabyte each way after {took:.2f} s")
    measured = {"pmtu_bytes": most, "pmtu_source": "measured", "verified": True}
    wait_until(lambda: measured.items() <= lab.path().items(), f"{measured}")
    lab.do(f'mend = "{network}"')


def test_payload_alone_repairs_a_nat_that_has_forgotten_everything(lab: LabUnderTest) -> None:
    bound(lab, "office")
    bound(lab, "cafe")
    passes(lab, CN6)
    before = lab.path().get("observed")
    lab.do('flush_nat = "cafe"')
    began = time.monotonic()
    talk = lab.start_python("mn", f"import os; os.system('ping -n -q -i 0.1 -c 50 {CN6} > /dev/null')")
    passes(lab, CN6)
    print(f"repaired after {time.monotonic() - began:.2f} s")
    talk.terminate()
    wait_until(lambda: lab.path().get("observed") != before, "the home agent tells of another port")
