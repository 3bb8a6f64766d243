"""A scenario with the real daemons: what the judge says, and what the captures show by themselves."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from itertools import pairwise
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from lab.evidence import Kind, Observer, Sighting
from lab.pcap import Frame, GrowingCapture
from lab.registry import running_labs
from tests.lab.conftest import OUTAGE_MS, mnctl_lab, patient
from tunnel.path import Encapsulation

AGENT = tuple(ip_address(address) for address in ("2001:db8:99::2", "203.0.113.2"))
STREAMS = {
    f"{kind}-v{version}"
    for kind in ("bulk-up", "bulk-down", "echo", "up", "down", "ping")
    for version in (6, 4)
}
# The outage is bounded for a machine that does other things too; `mnctl lab run tour` has the real goal.
SCENARIO = f"""
title = "one network of each of the six kinds"
topology = "kinds"
start = {{ eth0 = "office" }}
watch_s = 1.0
[expect]
handovers = 5
outage_ms = {OUTAGE_MS}
updates_a_second = 4
[[step]]
move = "campus"
[[step]]
move = "train"
[[step]]
move = "home"
[[step]]
move = "cafe"
[[step]]
move = "mobile"
"""


@dataclass(frozen=True, slots=True)
class Run:
    """One played scenario and all that it left."""

    code: int
    report: dict[str, Any]
    directory: Path

    def frames(self, name: str) -> Iterator[Frame]:
        yield from GrowingCapture().feed((self.directory / name).read_bytes())

    def sightings(self, name: str) -> list[Sighting]:
        observer = Observer(AGENT, 4191)
        return [one for frame in self.frames(name) if (one := observer.observe(frame)) is not None]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    directory = tmp_path_factory.mktemp("run")
    scenario = directory / "kinds.toml"
    scenario.write_text(patient(SCENARIO))
    done = mnctl_lab("run", str(scenario), "--json", "--report", str(directory / "report"), timeout=400)
    assert done.stdout, done.stderr
    return Run(done.returncode, json.loads(done.stdout), directory / "report")


def test_all_sessions_survive_every_kind_of_network(run: Run) -> None:
    assert run.report["reasons"] == []
    assert (run.code, run.report["verdict"], run.report["scenario"]) == (0, "pass", "kinds")
    assert all(session["survived"] for session in run.report["sessions"])
    summed = {one["name"]: one["sha256_ok"] for one in run.report["sessions"] if one["sha256_ok"] is not None}
    assert summed == {"bulk-v6": True, "bulk-v4": True, "echo-v6": True, "echo-v4": True}


def test_the_report_says_how_packets_travelled(run: Run) -> None:
    seen = [
        (one["from"], one["to"], one["family_from"], one["family_to"], one["encapsulation"], one["nat"])
        for one in run.report["handovers"]
    ]
    assert seen == [
        ("office", "campus", "ipv6", "ipv6", "ip-in-ip", False),
        ("campus", "train", "ipv6", "ipv6", "ip-in-ip", False),
        ("train", "home", "ipv6", "home", "direct", False),
        ("home", "cafe", "home", "ipv4", "udp", True),
        ("cafe", "mobile", "ipv4", "ipv4", "ip-in-ip", False),
    ]
    for one in run.report["handovers"]:
        assert 0 < one["round_trip_ms"] < one["phases_ms"]["register"]
        assert one["two_links"] is False
        assert set(one["outage_ms"]) == STREAMS
        assert set(one["lost_packets"]) == {name for name in STREAMS if not name.startswith(("bulk", "echo"))}
        # The witness may tell of the address later than the agent has used it.
        assert one["phases_ms"]["detect"] is not None
        assert all(one["phases_ms"][phase] >= 0 for phase in ("register", "resume"))


def test_everything_that_was_judged_is_there_to_be_looked_at(run: Run) -> None:
    assert json.loads((run.directory / "report.json").read_text()) == run.report
    ElementTree.parse(run.directory / "timeline.svg")
    names = {path.name for path in run.directory.glob("*.pcap")}
    assert names == {"mn-eth0.pcap", "mn-wlan0.pcap", "ha-eth0.pcap", "cn-eth0.pcap"}
    assert (run.directory / "streams/down-v4.received").stat().st_size > 20 * 100
    assert (run.directory / "log/mn.mn-agent.log").exists()


@pytest.mark.requirement("R003", "R005")
def test_one_update_behind_a_nat_serves_both_home_addresses(run: Run) -> None:
    assert run.report["handovers"][3]["nat"]
    inside = [one for one in run.sightings("mn-eth0.pcap") if one.care_of in CAFE]
    sent, answered = ([one.at_ns for one in inside if one.kind is kind] for kind in (Kind.UPDATE, Kind.ACK))
    assert sent[-1] < answered[0] + AGAIN_NS, "the first answer is for both"
    assert all(later - one > AGAIN_NS for one, later in pairwise(sent)), "a second one repeats it"
    updates = [one for one in run.sightings("ha-eth0.pcap") if one.kind is Kind.UPDATE]
    behind = [one for one in updates if one.care_of in NAT_OUTSIDE]
    assert behind
    assert all(one.port != 4191 for one in behind)


AGAIN_NS = 100_000_000
"""Nothing is repeated sooner."""
CAFE = ip_network("192.168.7.0/24")
NAT_OUTSIDE = {ip_address(int(ip_address("192.0.2.128")) + offset) for offset in range(128)}


@pytest.mark.requirement("R022")
def test_both_inner_families_travel_in_ipv6_on_an_ipv6_link(run: Run) -> None:
    outer6 = [f.octets[14:] for f in run.frames("mn-eth0.pcap") if f.octets[12:14] == b"\x86\xdd"]
    inbound = {packet[6] for packet in outer6 if packet[8:24] == AGENT[0].packed}
    assert {4, 41} <= inbound


AT_ONCE_NS = 500_000_000
CAMPUS = {6: ip_network("2001:db8:2::/64"), 4: ip_network("198.51.100.128/26")}


def advertises(frame: bytes, prefix: bytes) -> bool:
    """Whether it is a router advertisement with that prefix."""
    return frame[12:14] == b"\x86\xdd" and frame[20] == 58 and frame[54] == 134 and prefix in frame[54:]


@pytest.mark.requirement("R028")
def test_on_a_dual_stack_link_the_update_goes_over_ipv6(run: Run) -> None:
    updates = [one for one in run.sightings("mn-eth0.pcap") if one.kind is Kind.UPDATE]
    assert [one for one in updates if one.care_of in CAMPUS[6]]
    # Where the DHCP server was faster than the advertisement, IPv4 is all that there is at first.
    prefix = CAMPUS[6].network_address.packed
    offered = next(frame.at_ns for frame in run.frames("mn-eth0.pcap") if advertises(frame.octets, prefix))
    assert not [one for one in updates if one.care_of in CAMPUS[4] and one.at_ns > offered + AT_ONCE_NS]
    assert all(one.encapsulation is None for one in updates if one.care_of.version == 6)
    assert all(one.encapsulation is Encapsulation.UDP for one in updates if one.care_of.version == 4)


def test_a_run_leaves_nothing_running(run: Run) -> None:
    assert run.directory.exists()
    assert not [lab for lab in running_labs() if "kinds" in Path(f"/proc/{lab.pid}/cmdline").read_text()]


def test_a_run_that_misses_its_expectation_fails(tmp_path: Path) -> None:
    scenario = tmp_path / "strict.toml"
    scenario.write_text(
        'title = "t"\nwatch_s = 0.5\nexpect = { outage_ms = 0, handovers = 2 }\n'
        '[[stream]]\nkind = "down"\nfamilies = ["ipv4"]\n'
        '[[step]]\nmove = "mobile"\n'
    )
    done = mnctl_lab("run", str(scenario), timeout=400)
    assert done.returncode == 1
    assert "1 handovers instead of 2" in done.stdout
    assert "✘ fail" in done.stdout
