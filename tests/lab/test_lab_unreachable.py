"""`reachable = false` behind a real NAT that has forgotten: a Binding Update goes before payload."""

from __future__ import annotations

import re
import time
from ipaddress import ip_address
from pathlib import Path

import pytest

from lab.evidence import Kind, Observer
from lab.pcap import GrowingCapture
from tests.lab.conftest import ROOT, LabUnderTest, mnctl_lab, unique_name
from tests.lab.patience import PATIENCE, wait_until

CHANGES = (
    (
        'key_file = "/etc/mn-agent/keys.toml"',
        'key_file = "/etc/mn-agent/keys.toml"\n[binding]\nreachable = false',
    ),
    ('ipv4 = "203.0.113.77"\nkey_file', 'ipv4 = "203.0.113.77"\nnat_refresh = 3\nkey_file'),
)
LETTERS = {Kind.UPDATE: "U", Kind.ACK: "A", Kind.PAYLOAD: "P"}
PING = f"ping -c3 -i0.2 -W{PATIENCE:g}"
IDLE = 7.0
"""Seconds: more than twice the mapping that the home agent tells of."""


@pytest.mark.requirement("R095")
def test_after_a_pause_the_first_payload_waits_for_a_binding_update_and_is_not_lost(tmp_path: Path) -> None:
    topology, pcap, name = tmp_path / "quiet.toml", tmp_path / "mn.pcap", unique_name()
    text = (ROOT / "lab/internet.toml").read_text()
    for old, new in CHANGES:
        assert old in text
        text = text.replace(old, new)
    topology.write_text(text)
    done = mnctl_lab("up", "--name", name, "--topology", str(topology))
    assert done.returncode == 0, done.stderr
    lab = LabUnderTest(name)
    try:
        lab.move("cafe")
        lab.wait_for("mn", "ping", "-c1", "-W1", "2001:db8:cc::10")
        wait_until(lambda: lab.path().get("verified") is True, "the agent's own questions are answered")
        with lab.capturing("mn", "eth0", pcap):  # and no longer: the agent says goodbye by another update
            time.sleep(IDLE)
            lab.output("cafe", "conntrack", "-F")
            # At once, lest the second one comes after another pause.
            said = lab.output("mn", "sh", "-c", f"{PING} 2001:db8:cc::10 & {PING} 192.0.2.10; wait")
            assert said.count(" 0% packet loss") == 2
    finally:
        mnctl_lab("down", "--lab", name)
    observer = Observer((ip_address("2001:db8:99::2"), ip_address("203.0.113.2")), 4191)
    frames = list(GrowingCapture().feed(pcap.read_bytes()))
    seen = [one for frame in frames if (one := observer.observe(frame)) is not None]
    told = "".join(LETTERS[one.kind] for one in seen)
    assert re.fullmatch("U+A+P[AP]*", told), "nothing before one update, or repetitions of it; then no other"
    assert next(one for one in seen if one.kind is Kind.PAYLOAD).outbound
