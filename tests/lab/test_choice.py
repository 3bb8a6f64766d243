"""Where the mobile node goes when networks are not what they seem, judged from the home agent."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.lab.conftest import ROOT, LabUnderTest, mnctl_lab, unique_name
from tests.lab.patience import wait_until

LOOKS = 12
"""Packets in which the agent has asked the portal more than once."""
UNANSWERED_MS = 7000.0
"""After which three Binding Updates are unanswered, the RFC's reason to try another family."""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabUnderTest]:
    """Both daemons, a station with a captive portal and a train with NAT64; the mobile node in the cafe."""
    parts = [(ROOT / f"lab/{name}.toml").read_text() for name in ("captive", "nat64")]
    lines = [line for part in parts for line in part.splitlines() if not line.startswith(("base", "title"))]
    path = tmp_path_factory.mktemp("choice") / "choice.toml"
    path.write_text('base = "internet"\n' + "\n".join(lines))
    name = unique_name()
    done = mnctl_lab("up", "--name", name, "--topology", str(path))
    assert done.returncode == 0, done.stderr
    try:
        under_test = LabUnderTest(name)
        under_test.move("cafe")
        yield under_test
    finally:
        mnctl_lab("down", "--lab", name)


def answer(lab: LabUnderTest, *command: str) -> dict[str, Any]:
    return dict(json.loads(lab.run("mn", "mnctl", *command, "--json").stdout))


def care_of(lab: LabUnderTest) -> str | None:
    """As the home agent has it."""
    bindings = json.loads(lab.output("ha", "hactl", "bindings", "--json"))["bindings"]
    return bindings[0]["care_of"] if bindings else None


def captivity(lab: LabUnderTest) -> list[dict[str, Any]]:
    """What the agent says of a captive portal."""
    return [one for one in answer(lab, "status")["health"] if one["code"] == "captive-portal"]


@pytest.mark.requirement("R029", "R091")
def test_a_network_whose_ipv6_leads_nowhere_is_used_over_ipv4_before_three_updates_are_lost(
    lab: LabUnderTest,
) -> None:
    lab.do('block = { family = "ipv6" }, on = "campus"')
    lab.plug("eth0", "campus")
    wait_until(lambda: str(care_of(lab)).startswith("198.51.100."), "the home agent has the IPv4 address")
    wait_until(lambda: lab.bound_from("campus"), "the mobile node has its answer")
    reason = answer(lab, "why")
    assert (reason["in_use"], reason["rule"]) == ("eth0/v4", "poor")
    handover = answer(lab, "status")["last_handover"]
    assert handover["to"] == "eth0/v4"
    assert handover["total_ms"] < UNANSWERED_MS
    assert "no answer within" in lab.output("mn", "mnctl", "why")
    lab.do('mend = "campus"')


def test_netcheck_asks_over_every_interface_and_changes_nothing(lab: LabUnderTest) -> None:
    # Linux keeps ports, and with them mappings, unless it is told to choose them at random, as in the cafe.
    kept = "flush chain ip nat postrouting; add rule ip nat postrouting oifname uplink masquerade"
    lab.output("hotel", "nft", kept)
    lab.move("cafe")
    lab.plug("wlan0", "hotel")
    lab.wait_for("mn", "sh", "-c", "mnctl status --json | grep -q 10.20.0.")
    lab.wait_for("mn", "sh", "-c", "mnctl status -g path.verified | grep -q true")
    before = care_of(lab)
    found: dict[str, dict[str, Any]] = {}

    def all_is_known() -> bool:
        """A machine that is busy for seconds loses answers: then they are asked for again."""
        found.update({one["interface"]: one for one in answer(lab, "netcheck")["interfaces"]})
        return all((one["nat"] or {}).get("mapping") not in (None, "unknown") for one in found.values())

    wait_until(all_is_known, "both links and their NATs have been asked about")
    assert found["eth0"]["verdict"] == "in-use"
    assert found["eth0"]["udp_4191"] == "carries"
    assert found["wlan0"]["verdict"] == "ready"
    assert found["wlan0"]["ipv4"]["answers"]
    assert found["wlan0"]["ipv4"]["rtt_ms"] > 0
    assert found["wlan0"]["udp_4191"] == "answers"
    assert found["wlan0"]["nat"]["kind"] == "address and port translation"
    assert not found["wlan0"]["nat"]["observed"].startswith("10.20.0.")
    assert {name: one["nat"]["mapping"] for name, one in found.items()} == {
        "eth0": "port-dependent",
        "wlan0": "port-independent",
    }
    assert care_of(lab) == before
    wrong = lab.run("mn", "mnctl", "roam", "--to", "eth9")
    assert wrong.returncode == 10
    assert "no interface eth9. Candidates: eth0 (active), wlan0 (ready)." in wrong.stderr
    shown = lab.output("mn", "mnctl", "netcheck")
    assert "✔ wlan0 — ready" in shown
    lab.do('unplug = "wlan0"')


def test_a_captive_portal_is_recognised_said_and_left_in_peace_until_somebody_logs_in(
    lab: LabUnderTest,
) -> None:
    lab.do('captive = "station"')
    lab.plug("eth0", "station")
    wait_until(lambda: bool(captivity(lab)), "the portal is recognised")
    found = captivity(lab)
    assert "http://172.16.5.1:8080/login" in found[0]["fix"]
    shown = answer(lab, "status")
    assert shown["state"] == "no-network"
    assert "captive portal" in shown["reason"]
    assert [c["held"] for c in answer(lab, "why")["candidates"]] == [shown["reason"]] * 2
    flows = (
        "tcp or udp port 4191 or ip proto 4 or ip6 proto 4 or ip6 proto 41 or ip6 proto 50 or ip6 proto 60"
    )
    # Some looks of the agent at the portal, however long they take.
    capture = ("timeout", "50", "tcpdump", "-n", "-Q", "out", "-i", "eth0", "-c", f"{LOOKS}", flows)
    watched = lab.run("mn", *capture).stdout.splitlines()
    assert len(watched) == LOOKS, "the agent looks whether the portal is open"
    others = [line for line in watched if "172.16.5.1.8080" not in line]
    assert not others, "nothing else, and no payload, leaves"
    page = lab.output(
        "mn", "curl", "-sS", "-X", "POST", "--interface", "eth0", "http://172.16.5.1:8080/login"
    )
    assert "online" in page
    lab.wait_for("mn", "mnctl", "wait", "--for", "bound", "--timeout", "1")
    assert not captivity(lab)


def test_an_ipv4_home_agent_is_reached_through_a_nat64(lab: LabUnderTest) -> None:
    """The home agent's IPv6 address is out of reach there."""
    chain = "type filter hook forward priority 0; ip6 daddr 2001:db8:99::/64 drop;"
    lab.output("train", "nft", f"table inet no_home {{ chain forward {{ {chain} }}; }}")
    lab.plug("eth0", "train")
    wait_until(lambda: str(care_of(lab)).startswith("192.0.0."), "the home agent has the IPv4 address")
    lab.wait_for("mn", "sh", "-c", "mnctl status -g path.care_of | grep -q ^192.0.0.")
    shown = answer(lab, "status")
    assert (shown["path"]["encap"], shown["path"]["nat"]) == ("udp4", "detected")
    assert shown["last_handover"]["total_ms"] < UNANSWERED_MS
    for home in ("203.0.113.77", "2001:db8:99::77"):
        lab.wait_for("cn", "ping", "-n", "-c", "1", "-W", "0.5", home)
    echo = ("ping", "-n", "-c", "1", "-W", "1", "-M", "do", "-s")
    lab.wait_for("mn", "sh", "-c", "mnctl status -g path.verified | grep -q true")
    widest = int(answer(lab, "status")["home"]["mtu"])
    lab.wait_for("cn", *echo, str(widest - 28), "203.0.113.77")
    (checked,) = answer(lab, "netcheck", "eth0")["interfaces"]
    assert checked["verdict"] == "in-use"
    assert checked["ipv4"]["nat64"] == "2001:db8:64:ff9b::/96"
    assert checked["ipv4"]["answers"]
