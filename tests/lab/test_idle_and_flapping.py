"""A link that flaps costs no more than it may and leaves nothing behind; without a network, nothing runs."""

from __future__ import annotations

import time
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path

import pytest

from lab.evidence import Observer, Seen
from lab.judge import Evidence, busiest_second
from lab.pcap import GrowingCapture
from tests.lab.conftest import LabUnderTest, mnctl_lab, unique_name
from tests.lab.patience import wait_until

AGENT = tuple(ip_address(address) for address in ("2001:db8:99::2", "203.0.113.2"))
PID = "$(pgrep -f '^/.*bin/mn-agent$')"
MOST = 3
"""Binding Updates a second. When one is held up on its way, the second in which it is seen has one more."""
POOLED = 3
"""A pool of threads may have grown meanwhile; thirty flaps that leak anything leave thirty of it."""
QUIET = 4.0
SWITCHES = 4
"""So few would be one a second: an agent that asks anything regularly has more."""


@pytest.fixture(scope="module")
def lab() -> Iterator[LabUnderTest]:
    name = unique_name()
    done = mnctl_lab("up", "--name", name)
    assert done.returncode == 0, done.stderr
    try:
        yield LabUnderTest(name)
    finally:
        mnctl_lab("down", "--lab", name)


def bound(lab: LabUnderTest) -> None:
    lab.wait_for("mn", "ping", "-n", "-q", "-c", "1", "-W", "0.2", "2001:db8:cc::10")


def footprint(lab: LabUnderTest) -> list[int]:
    """What a leak would make grow: descriptors, threads, rules, routes, packet filter."""
    script = f"""
ls /proc/{PID}/fd | wc -l
ls /proc/{PID}/task | wc -l
ip rule show | wc -l; ip -6 rule show | wc -l
ip route show table all | grep -c mip0; ip -6 route show table all | grep -c mip0
nft list ruleset | wc -l
"""
    found = [int(line) for line in lab.output("mn", "sh", "-c", script).split()]
    assert min(found) > 0
    return found


def test_ten_flaps_a_second_are_three_updates_at_most_and_end_bound_with_nothing_left_over(
    lab: LabUnderTest, tmp_path: Path
) -> None:
    bound(lab)
    wait_until(lambda: lab.path().get("verified") is True, "the agent's own questions are answered")
    before, pcap = footprint(lab), tmp_path / "mn.pcap"
    with lab.capturing("mn", "eth0", pcap):
        lab.do("flap = { times_a_second = 10, seconds = 3 }")
        bound(lab)
    observer, seen = Observer(AGENT, 4191), Seen()
    for frame in GrowingCapture().feed(pcap.read_bytes()):
        if (sighting := observer.observe(frame)) is not None:
            seen.add(sighting)
    assert seen.signals
    assert busiest_second(Evidence([], {"eth0": seen}, Seen(), {})) <= MOST + 1

    def gone() -> bool:
        return all(now <= was + POOLED for was, now in zip(before, footprint(lab), strict=True))

    wait_until(gone, f"nothing is left over that was not among {before}")


def test_without_a_network_the_agent_is_not_woken_up_at_all(lab: LabUnderTest) -> None:
    assert mnctl_lab("unplug", "--lab", lab.name, "eth0").returncode == 0
    time.sleep(3.0)

    def switches() -> int:
        script = f"grep -h ctxt_switches /proc/{PID}/task/*/status"
        return sum(int(line.split()[1]) for line in lab.output("mn", "sh", "-c", script).splitlines())

    def quiet() -> bool:
        before = switches()
        time.sleep(QUIET)
        return switches() - before <= SWITCHES

    wait_until(quiet, f"at most {SWITCHES} switches in {QUIET:g} s")
