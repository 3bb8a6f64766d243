"""Home and away with the real daemons, and a network that only pretends to be home."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.conftest import OUTAGE_MS, ROOT, LabUnderTest, mnctl_lab, patient, unique_name
from tests.lab.patience import PATIENCE, wait_until

HOME6, HOME4, AGENT6 = "2001:db8:99::77", "203.0.113.77", "2001:db8:99::2"


@pytest.fixture
def lab() -> Iterator[LabUnderTest]:
    name = unique_name()
    done = mnctl_lab("up", "--name", name)
    assert done.returncode == 0, done.stderr
    try:
        yield LabUnderTest(name)
    finally:
        mnctl_lab("down", "--lab", name)


def state(lab: LabUnderTest) -> str:
    return str(json.loads(lab.output("mn", "mnctl", "status", "--json"))["state"])


def shown_by_agent(lab: LabUnderTest) -> list[str]:
    """Words of its kernel: for whom it answers on the home link, and whom it leads into a tunnel."""
    show = "ip -6 neigh show proxy; ip neigh show proxy; ip -6 route show proto 191"
    return lab.output("ha", "sh", "-c", show).split()


def seen(path: Path, what: str, *fields: str) -> list[str]:
    """Frames of a capture that tshark's filter lets through, as lines."""
    wanted = [word for field in fields for word in ("-e", field)]
    shown = ["-T", "fields", *wanted] if fields else []
    done = subprocess.run(
        ["tshark", "-r", str(path), "-d", "udp.port==4191,ip", "-Y", what, *shown],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.splitlines()


@pytest.mark.requirement("R023", "R097")
def test_all_sessions_survive_home_and_away(tmp_path: Path) -> None:
    """The shipped scenario, with an outage bounded for a machine that does other things too."""
    text = (ROOT / "examples/scenarios/home-and-away.toml").read_text()
    assert "outage_ms = 100\n" in text
    scenario = tmp_path / "home.toml"
    scenario.write_text(patient(text.replace("outage_ms = 100\n", f"outage_ms = {OUTAGE_MS}\n")))
    done = mnctl_lab("run", str(scenario), "--json", "--report", str(tmp_path / "report"), timeout=400)
    assert done.stdout, done.stderr
    report = json.loads(done.stdout)
    assert report["reasons"] == []
    moves = [(one["from"], one["to"], one["family_to"], one["encapsulation"]) for one in report["handovers"]]
    assert moves == [
        ("office", "home", "home", "direct"),
        ("home", "cafe", "ipv4", "udp"),
        ("cafe", "home", "home", "direct"),
    ]
    parts = [
        10 * max(one["lost_packets"].values()) / max(one["gap_ms"].values()) for one in report["handovers"]
    ]
    # How late the kernel tells of a lost carrier depends on what else this machine does.
    assert min(parts) < 0.4, "of a datagram every 10 ms hardly one is lost in a break"
    frames = tmp_path / "report" / "mn-eth0.pcap"
    there, back = (f"ipv6.src=={a} && ipv6.dst=={b}" for a, b in ((HOME6, AGENT6), (AGENT6, HOME6)))
    ends = f"(({there}) || ({back})) && esp && !udp"
    signals = [line.split() for line in seen(frames, ends, "ipv6.src", "frame.protocols")]
    asked = "".join("U" if source == HOME6 else "A" for source, _ in signals)
    assert re.fullmatch("(U+A+){2,4}", asked), "a deregistration each time, and hardly ever another"
    assert all(protocols.endswith("ipv6:esp") for _, protocols in signals), "no option, no routing header"
    assert (
        len(seen(frames, f"icmpv6.type==136 && icmpv6.nd.na.target_address=={HOME6} && ipv6.dst==ff02::1"))
        >= 2
    )
    assert len(seen(frames, f"arp.isgratuitous && arp.src.proto_ipv4=={HOME4}")) >= 2


def test_the_home_agent_lets_go_at_once_and_takes_up_again_when_the_node_leaves(lab: LabUnderTest) -> None:
    lab.wait_for("mn", "mnctl", "wait", "--for", "away", "--timeout", "1")
    wait_until(lambda: HOME6 in shown_by_agent(lab), "the home agent stands in for it")
    lab.plug("eth0", "home")
    lab.wait_for("mn", "mnctl", "wait", "--for", "home", "--timeout", "1")
    wait_until(lambda: not {HOME6, HOME4} & set(shown_by_agent(lab)), "the home agent has let go")
    assert json.loads(lab.output("ha", "hactl", "bindings", "--json"))["bindings"] == []
    for address in (HOME6, HOME4):
        lab.wait_for("cn", "ping", "-c1", "-W1", address)
        lab.wait_for("ha", "ping", "-c1", "-W1", address)
    shown = lab.output("mn", "ip", "route", "get", "192.0.2.10")
    assert f"src {HOME4}" in shown
    assert "dev eth0" in shown
    lab.move("mobile")
    for address in (HOME6, HOME4):
        lab.wait_for("cn", "ping", "-c1", "-W1", address)
    assert HOME6 in shown_by_agent(lab)


def test_started_at_home_it_is_at_home_without_ever_having_been_away(lab: LabUnderTest) -> None:
    lab.plug("eth0", "home")
    lab.wait_for("mn", "mnctl", "wait", "--for", "home", "--timeout", "1")
    lab.output("mn", "sh", "-c", "kill -9 $(pidof -x mn-agent); setsid mn-agent >/dev/null 2>&1 &")
    lab.wait_for("mn", "mnctl", "wait", "--for", "home", "--timeout", "1")
    lab.wait_for("cn", "ping", "-c1", "-W1", HOME6)


def test_a_network_that_claims_to_be_home_gets_nothing_in_clear_and_protection_stays(
    lab: LabUnderTest, tmp_path: Path
) -> None:
    """An access point advertises the home prefix, and has the home agent's address (docs/security.md)."""
    lab.move("cafe")
    lab.wait_for("cn", "ping", "-c1", "-W1", HOME6)
    frames = tmp_path / "trap.pcap"
    with lab.capturing("mn", "eth0", frames):
        pings = lab.start_python(
            "cn",
            "import subprocess\n"
            f"print(subprocess.run(['ping', '-i0.05', '-c200', '-W1', '{HOME6}'], capture_output=True,"
            " text=True).stdout)",
        )
        lab.output(
            "cafe",
            "sh",
            "-ec",
            "ip addr add 2001:db8:99::1/64 dev lan nodad; ip addr add 2001:db8:99::2/64 dev lan nodad;"
            "dnsmasq --conf-file=/dev/null --port=0 --interface=lan --bind-interfaces --enable-ra"
            " --dhcp-range=2001:db8:99::,ra-only,64 --user=root --pid-file=/run/trap.pid",
        )
        lab.wait_for(
            "mn", "sh", "-c", "ip -6 addr show dev eth0 scope global | grep -q 2001:db8:99:0:"
        )
        states = set()
        began = time.monotonic()
        while time.monotonic() - began < 10:
            states.add(state(lab))
            time.sleep(0.5)
        assert states == {"bound"}
        said, _ = pings.communicate(timeout=2 * PATIENCE)
    assert " 0% packet loss" in said, "the tunnel carries everything meanwhile"
    assert seen(frames, f"ipv6.src=={HOME6} && ipv6.dst=={AGENT6} && esp && !udp"), "it has asked"
    clear = f"(ipv6.addr=={HOME6} || ip.addr=={HOME4} || arp.src.proto_ipv4=={HOME4}) && !udp.port==4191"
    others = "esp || icmpv6.type in {1, 4, 133, 134, 135, 136}"
    assert seen(frames, f"({clear}) && !({others})") == []
