"""Both daemons as a user meets them: in a lab, with their configuration files, judged from outside."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest

from tests.lab.conftest import LabUnderTest, mnctl_lab, unique_name
from tests.lab.patience import wait_until

HOST_STATE = (
    "ip -d address show; ip -d link show; ip rule; ip -6 rule; ip route show table all; "
    "ip -6 route show table all; nft list ruleset; ls /run/mn-agent 2>/dev/null"
)
BINDINGS = ("hactl", "bindings", "--json")
AGENT = "setsid mn-agent >/tmp/mn-agent.again.log 2>&1 &"


@pytest.fixture(scope="module")
def lab() -> Iterator[LabUnderTest]:
    """A lab with both daemons, the mobile node in the cafe (behind a NAT)."""
    name = unique_name()
    done = mnctl_lab("up", "--name", name)
    assert done.returncode == 0, done.stderr
    try:
        under_test = LabUnderTest(name)
        under_test.move("cafe")
        yield under_test
    finally:
        mnctl_lab("down", "--lab", name)


def bound(lab: LabUnderTest) -> None:
    lab.wait_until_bound_from("cafe")


def host_state(lab: LabUnderTest) -> str:
    """Addresses, rules, routes and nft tables, without what counts or ages by itself."""
    text = lab.output("mn", "sh", "-c", HOST_STATE)
    return re.sub(r"(expires|valid_lft|preferred_lft|age|packets|bytes) \S+|hoplimit \d+ pref \w+", "", text)


def end_agent(lab: LabUnderTest, signal: str = "-15") -> None:
    wait = "while pidof -x mn-agent; do sleep 0.05; done"
    lab.output("mn", "sh", "-c", f"kill {signal} $(pidof -x mn-agent); {wait}")
    lab.wait_for("mn", "sh", "-c", "! ip link show mip0")  # a process is gone before its devices are


def pings(lab: LabUnderTest) -> None:
    for home in ("203.0.113.77", "2001:db8:99::77"):
        lab.wait_for("cn", "ping", "-n", "-c", "1", "-W", "0.5", home)


@pytest.mark.requirement("R003", "R005", "R019", "R096a")
def test_both_home_addresses_answer_behind_a_nat_and_status_says_what_the_home_agent_sees(
    lab: LabUnderTest,
) -> None:
    bound(lab)
    pings(lab)
    path = lab.status()["path"]
    assert isinstance(path, dict)
    assert path["nat"] == "detected"
    assert path["encap"] == "udp4"
    assert str(path["care_of"]).startswith("192.168.7.")
    assert str(path["observed"]).startswith("192.0.2."), "the address that the NAT put there"
    (binding,) = json.loads(lab.output("ha", *BINDINGS))["bindings"]
    assert binding["observed"] == path["observed"]


def test_the_agent_itself_and_dns_stay_outside_the_tunnel(lab: LabUnderTest) -> None:
    """Everything the agent sends carries its mark; what applications send enters the tunnel."""
    bound(lab)
    outside = lab.output("mn", "ip", "-j", "route", "get", "203.0.113.2", "mark", "0x4d4e")
    inside = lab.output("mn", "ip", "-j", "route", "get", "203.0.113.2")
    assert json.loads(outside)[0]["dev"] == "eth0"
    assert json.loads(inside)[0]["dev"] == "mip0"


def test_garbage_on_every_socket_changes_nothing(lab: LabUnderTest) -> None:
    """Random and mutated octets to UDP 4191, protocols 4, 41 and 135, and the control socket."""
    bound(lab)
    before = json.loads(lab.output("ha", *BINDINGS))["bindings"][0]["care_of"]
    lab.python(
        "cn",
        """
import contextlib, random, socket
rng = random.Random(5)
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
raw = [socket.socket(socket.AF_INET, socket.SOCK_RAW, p) for p in (4, 41, 50)]
raw6 = [socket.socket(socket.AF_INET6, socket.SOCK_RAW, p) for p in (4, 41, 50, 60, 135)]
for _ in range(3000):
    ipv6 = b"\\x60" + bytes(5)
    head = rng.choice([b"\\x45", ipv6 + b"\\x87", ipv6 + b"\\x32", b"\\x00", b""])
    junk = head + rng.randbytes(rng.randrange(0, 120))
    udp.sendto(junk, ("203.0.113.2", 4191))
    rng.choice(raw).sendto(junk or b"x", ("203.0.113.2", 0))
    with contextlib.suppress(OSError):  # a raw socket of mobility headers wants room for a checksum
        rng.choice(raw6).sendto(junk or b"x", ("2001:db8:99::2", 0))
""",
    )
    lab.python(
        "mn",
        """
import random, socket
rng = random.Random(6)
for _ in range(200):
    with socket.socket(socket.AF_UNIX) as control:
        control.connect("/run/mn-agent/control.sock")
        control.sendall(rng.randbytes(rng.randrange(1, 300)) + b"\\n")
        control.shutdown(socket.SHUT_WR)
        control.recv(100)
""",
    )
    pings(lab)
    after = json.loads(lab.output("ha", *BINDINGS))["bindings"][0]
    assert after["care_of"] == before
    assert lab.status()["state"] == "bound"
    ignored = json.loads(lab.output("ha", "hactl", "status", "--json"))["totals"]
    assert sum(ignored["updates_ignored"].values()) + sum(ignored["drops"].values()) > 100


@pytest.mark.requirement("R117")
def test_a_home_agent_that_is_killed_comes_back_with_its_bindings_and_nobody_notices(
    lab: LabUnderTest,
) -> None:
    bound(lab)
    before = lab.status()["binding"]
    assert isinstance(before, dict)
    lab.output("ha", "sh", "-c", "kill -9 $(pidof -x home-agent)")
    lab.output("ha", "sh", "-c", "setsid home-agent >/tmp/again.log 2>&1 &")
    pings(lab)
    after = lab.status()["binding"]
    assert isinstance(after, dict)
    assert after["sequence"] == before["sequence"], "no registration was needed"


def test_roam_dry_run_and_refusals_have_their_exit_codes(lab: LabUnderTest) -> None:
    bound(lab)
    assert lab.run("mn", "mnctl", "roam", "--to", "eth9").returncode == 10
    lab.plug("wlan0", "office")
    wait_until(lambda: bool(lab.status()["standby"]), "the other link is ready")
    used = lab.status()["path"]
    assert isinstance(used, dict)
    other = "wlan0" if used["interface"] == "eth0" else "eth0"
    shown = lab.output("mn", "mnctl", "roam", "--to", other, "--dry-run")
    assert "Nothing changed" in shown
    done = json.loads(lab.output("mn", "mnctl", "roam", "--to", other, "--json"))
    assert (done["result"], done["to"], done["mode"]) == ("ok", other, "make-before-break")
    assert done["outage_ms"] == 0
    lab.output("mn", "mnctl", "roam", "--to", "eth0")
    lab.unplug("wlan0")
    lab.wait_for("mn", "sh", "-c", "! ip addr show dev wlan0 scope global | grep inet")


def test_a_clean_stop_deregisters_and_leaves_the_host_as_it_was(lab: LabUnderTest) -> None:
    bound(lab)
    end_agent(lab)
    wait_until(lambda: json.loads(lab.output("ha", *BINDINGS))["bindings"] == [], "the home agent lets go")
    without = host_state(lab)
    assert "mip0" not in without
    assert "mn_agent" not in without
    lab.output("mn", "sh", "-c", AGENT)
    bound(lab)
    assert "mn_agent" in host_state(lab)
    end_agent(lab)
    assert host_state(lab) == without
    lab.output("mn", "sh", "-c", AGENT)
    bound(lab)


def test_after_kill_9_cleanup_or_the_next_start_put_the_host_right(lab: LabUnderTest) -> None:
    bound(lab)
    end_agent(lab)
    without = host_state(lab)
    for _ in range(2):
        lab.output("mn", "sh", "-c", AGENT)
        bound(lab)
        end_agent(lab, "-9")
        assert "mn_agent" in host_state(lab), "the guard outlives the agent: nothing leaks meanwhile"
    lab.output("mn", "mn-agent", "--cleanup")
    assert re.sub(r"\ncontrol.sock$", "", host_state(lab).rstrip()) == without.rstrip()
    lab.output("mn", "sh", "-c", AGENT)
    bound(lab)
    pings(lab)
