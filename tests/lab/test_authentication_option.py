"""Both daemons with the authentication option on real links, and tshark as the witness."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.lab.conftest import OUTAGE_MS, mnctl_lab, patient

pytestmark = [
    pytest.mark.lab,
    pytest.mark.skipif(shutil.which("tshark") is None, reason="tshark is not installed"),
]

# The outage is bounded for a machine that does other things too; examples/scenarios has the real goal.
SCENARIO = f"""
title = "the authentication option"
keys = "authentication"
start = {{ eth0 = "office" }}
watch_s = 1.0
[expect]
handovers = 2
outage_ms = {OUTAGE_MS}
[[stream]]
kind = "down"
[[step]]
run = ["sh", "-c", "mnctl status -g binding.protection | grep -qx 'authentication-option hmac-sha1-96'"]
[[step]]
run = ["sh", "-c", "hactl show 2001:db8:99::77 | grep -q authentication-option"]
on = "ha"
[[step]]
move = "cafe"
[[step]]
stop = "home-agent"
on = "ha"
signal = "KILL"
watch_s = 0
[[step]]
start = "home-agent"
on = "ha"
[[step]]
move = "office"
"""
FIELDS = ("mip6.mhtype", "mip6.ba.status", "mip6.auth.subtype", "mip6.auth.mobility_spi", "esp.spi")


@pytest.mark.requirement("R096i")
def test_a_mobile_node_roams_without_any_esp(tmp_path: Path) -> None:
    scenario = tmp_path / "option.toml"
    scenario.write_text(patient(SCENARIO))
    done = mnctl_lab("run", str(scenario), "--json", "--report", str(tmp_path / "report"), timeout=400)
    assert done.stdout, done.stderr
    assert json.loads(done.stdout)["reasons"] == []
    messages = read_by_tshark(tmp_path / "report/ha-eth0.pcap")
    assert all(message[4] == "" for message in messages), "no ESP"
    assert {message[2] for message in messages} == {"1"}, "an option of mobile node and home agent in each"
    assert len({message[3] for message in messages}) == 1
    kinds = [message[0] for message in messages]
    assert kinds.count("5") >= 3
    assert {message[1] for message in messages if message[0] == "6"} == {"0"}, "accepted, every time"


def read_by_tshark(capture: Path) -> list[list[str]]:
    command = ["tshark", "-n", "-r", str(capture), "-d", "udp.port==4191,ip", "-Y", "mipv6 or esp"]
    command += ["-T", "fields", "-E", "separator=;", *(word for name in FIELDS for word in ("-e", name))]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return [line.split(";") for line in done.stdout.splitlines()]
