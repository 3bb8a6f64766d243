"""The scenario protected-payload, and what an eavesdropper on the visited links has seen of it."""

from __future__ import annotations

import json
from ipaddress import ip_address

import pytest

from lab.evidence import Kind
from tests.lab.conftest import OUTAGE_MS, ROOT, mnctl_lab, patient
from tests.lab.test_lab_scenarios import Run
from tunnel.path import Encapsulation

HOME4 = ip_address("203.0.113.77").packed
CORRESPONDENTS = tuple(ip_address(address).packed for address in ("2001:db8:cc::10", "192.0.2.10"))
LINK = "mn-eth0.pcap"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    directory = tmp_path_factory.mktemp("protected")
    scenario = (ROOT / "examples/scenarios/protected-payload.toml").read_text()
    file = directory / "protected.toml"
    # The outage is bounded for a machine that does other things too; `mnctl lab run` has the real goal.
    assert "outage_ms = 200 " in scenario
    file.write_text(patient(scenario.replace("outage_ms = 200 ", f"outage_ms = {OUTAGE_MS} ")))
    done = mnctl_lab("run", str(file), "--json", "--report", str(directory / "report"), timeout=400)
    assert done.stdout, done.stderr
    return Run(done.returncode, json.loads(done.stdout), directory / "report")


@pytest.mark.requirement("R135", "R136b", "R136g", "R136a")
def test_every_stream_survives_every_move_and_the_death_of_the_home_agent(run: Run) -> None:
    assert run.report["reasons"] == []
    assert (run.code, run.report["verdict"]) == (0, "pass")
    assert all(session["survived"] for session in run.report["sessions"])
    travelled = [
        (one["from"], one["to"], one["encapsulation"], one["nat"]) for one in run.report["handovers"]
    ]
    assert travelled == [
        ("office", "cafe", "esp-udp", True),
        ("cafe", "mobile", "esp-udp", False),
        ("mobile", "hotel", "esp-udp", True),
        ("hotel", "office", "esp", False),
    ]


@pytest.mark.requirement("R135", "R134")
def test_on_the_visited_links_there_is_signalling_and_esp_and_nothing_else(run: Run) -> None:
    sightings = run.sightings(LINK)
    payload = [one for one in sightings if one.kind is Kind.PAYLOAD]
    assert len(payload) > 2000
    over_ipv4 = {one.encapsulation for one in payload if one.care_of.version == 4}
    over_ipv6 = {one.encapsulation for one in payload if one.care_of.version == 6}
    assert (over_ipv4, over_ipv6) == ({Encapsulation.ESP_UDP}, {Encapsulation.ESP})
    signalling = [one for one in sightings if one.kind is not Kind.PAYLOAD]
    assert all(one.port != 4500 for one in signalling)
    assert {one.encapsulation for one in signalling if one.care_of.version == 4} == {Encapsulation.UDP}


@pytest.mark.requirement("R135")
def test_no_frame_on_the_visited_links_tells_who_talks_with_whom(run: Run) -> None:
    """Neither a correspondent's address nor the IPv4 home address is anywhere in a frame, at any offset."""
    frames = 0
    for frame in run.frames(LINK):
        frames += 1
        for address in (*CORRESPONDENTS, HOME4):
            assert address not in frame.octets, frame.octets.hex()
    assert frames > 2000


@pytest.mark.requirement("R136b")
def test_behind_a_nat_the_home_agent_sends_to_the_port_it_hears_from(run: Run) -> None:
    ports = {
        (one.care_of, one.port)
        for one in run.sightings("ha-eth0.pcap")
        if one.encapsulation is Encapsulation.ESP_UDP and one.outbound
    }
    nats = {address for address, port in ports if port != 4500}
    assert len(nats) == 2, "the cafe's and the hotel's"
    astray = [
        one
        for one in run.sightings("ha-eth0.pcap")
        if one.encapsulation is Encapsulation.ESP_UDP and not one.outbound and one.care_of in nats
    ]
    wrong = sum((one.care_of, one.port) not in ports for one in astray)
    assert wrong < len(astray) / 4, "until it hears, port 4500 is a guess"
