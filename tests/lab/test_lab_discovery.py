"""Home agents by anycast and home prefixes by solicitation, with the real daemons, read by tshark."""

from __future__ import annotations

import json
import time
from functools import partial

import pytest

from tests.lab.conftest import ROOT, LabUnderTest, mnctl_lab, unique_name
from tests.lab.dissection import Frame, dissect
from tests.lab.patience import PATIENCE, wait_until

HOME6, AGENT6 = "2001:db8:99::77", "2001:db8:99::2"
ANYCAST = "2001:db8:99:0:fdff:ffff:ffff:fffe"
FIELDS = (
    "frame.protocols", "ipv6.src", "ipv6.dst", "icmpv6.type", "icmpv6.mip6.identifier", "esp.icv_good",
    "ipv6.opt.mipv6.home_address", "ipv6.routing.mipv6.home_address", "icmpv6.mip6.home_agent_address",
    "icmpv6.opt.prefix",
)  # fmt: skip
PREFERRED = 60
CHANGES = (
    ('name = "ha.example.net"', 'name = "ha.example.net"\nprefix = "2001:db8:99::/64"'),
    ("ipv4_pool =", f"prefix_preferred_lifetime = {PREFERRED}\nipv4_pool ="),
)


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> list[Frame]:
    """ICMPv6 of mobility on the mobile node's link: in the office, in the cafe, and on public IPv4."""
    directory = tmp_path_factory.mktemp("discovery")
    topology, pcap, name = directory / "asking.toml", directory / "mn.pcap", unique_name()
    text = (ROOT / "lab/internet.toml").read_text()
    for old, new in CHANGES:
        assert old in text
        text = text.replace(old, new)
    topology.write_text(text)
    done = mnctl_lab("up", "--name", name, "--topology", str(topology))
    assert done.returncode == 0, done.stderr
    lab = LabUnderTest(name)
    try:
        keys = lab.output("mn", "cat", "/etc/mn-agent/keys.toml")
        lab.wait_until_bound_from("office")
        with lab.capturing("mn", "eth0", pcap):
            began, ended = time.monotonic(), "while pidof -x mn-agent; do sleep 0.05; done"
            lab.output("mn", "sh", "-c", f"kill $(pidof -x mn-agent); {ended}")
            lab.output("mn", "sh", "-c", "setsid mn-agent >/dev/null 2>&1 &")
            # What is asked while the cable is pulled is asked again 3 s later: wait for each answer.
            wait_until(lambda: lab.bound_from("office") and answered(lab, began), "an answer in the office")
            for network in ("cafe", "mobile"):
                told = partial(answered, lab, time.monotonic())
                lab.move(network)
                wait_until(told, f"an answer in {network}")
    finally:
        mnctl_lab("down", "--lab", name)
    return dissect(pcap, keys, "icmpv6.type in {144, 145, 146, 147}", FIELDS)


def answered(lab: LabUnderTest, since: float) -> bool:
    """Whether the home agent has told since then for how long the prefix is preferred."""
    prefix = (lab.status().get("home") or {}).get("prefix")
    return prefix is not None and PREFERRED - prefix["preferred_s"] < time.monotonic() - since - 0.1


def of(frames: list[Frame], kind: int, carried: bool | None = None) -> list[Frame]:
    """Frames of an ICMPv6 type; `carried` over IPv4 or not."""
    return [
        frame
        for frame in frames
        if str(kind) in frame["icmpv6.type"]
        and (carried is None or (":ip:" in frame["frame.protocols"][0]) is carried)
    ]


@pytest.mark.requirement("R008")
def test_home_agents_are_asked_at_the_anycast_address_from_the_ipv6_link_only(frames: list[Frame]) -> None:
    requests, replies = of(frames, 144), of(frames, 145)
    assert requests
    assert replies
    for frame in requests:
        assert frame["ipv6.dst"] == [ANYCAST]
        assert frame["ipv6.src"][0].startswith("2001:db8:1:")
        assert "udp" not in frame["frame.protocols"][0]
    for frame in replies:
        assert frame["ipv6.src"] == [AGENT6]
    asked = {frame["icmpv6.mip6.identifier"][0] for frame in requests}
    assert {frame["icmpv6.mip6.identifier"][0] for frame in replies} <= asked


@pytest.mark.requirement("R018")
def test_on_ipv6_the_home_prefix_is_asked_inside_esp_and_answered_with_a_routing_header(
    frames: list[Frame],
) -> None:
    questions, answers = of(frames, 146, carried=False), of(frames, 147, carried=False)
    assert questions
    assert answers
    for frame in questions:
        assert "ipv6.dstopts:esp:icmpv6" in frame["frame.protocols"][0]
        assert frame["ipv6.opt.mipv6.home_address"] == [HOME6]
        assert frame["ipv6.src"][0].startswith("2001:db8:1:")
    for frame in answers:
        assert "ipv6.routing:esp:icmpv6" in frame["frame.protocols"][0]
        assert frame["ipv6.routing.mipv6.home_address"] == [HOME6]
        assert frame["icmpv6.opt.prefix"] == ["2001:db8:99::"]
    for frame in questions + answers:
        assert set(frame["esp.icv_good"]) <= {"True", "1"}


@pytest.mark.requirement("R017", "R018")
def test_on_ipv4_question_and_answer_are_ipv6_packets_of_the_tunnel(frames: list[Frame]) -> None:
    questions, answers = of(frames, 146, carried=True), of(frames, 147, carried=True)
    assert len(questions) >= 2, "behind the NAT, and with a public address"
    assert len(answers) >= 2
    for frame in questions:
        assert frame["ipv6.src"] == [HOME6]
        assert frame["ipv6.dst"] == [AGENT6]
        assert frame["ipv6.opt.mipv6.home_address"] == [HOME6]
        assert "ipv6.dstopts:esp:icmpv6" in frame["frame.protocols"][0]
    for frame in answers:
        assert frame["ipv6.src"] == [AGENT6]
        assert frame["ipv6.dst"] == [HOME6]


def test_a_host_without_home_agent_complains_and_that_is_shown_and_nothing_else_happens() -> None:
    """Its kernel does not know home address options: parameter problem, code 2."""
    name = unique_name()
    done = mnctl_lab("up", "--name", name)
    assert done.returncode == 0, done.stderr
    lab = LabUnderTest(name)
    try:
        lab.wait_for("mn", "mnctl", "wait", "--for", "bound", "--timeout", "1")
        lab.output("ha", "sh", "-c", "kill -9 $(pidof -x home-agent); nft delete table inet home_agent")
        lab.run("mn", "timeout", "1", "mnctl", "refresh")
        lab.wait_for("mn", "sh", "-c", "mnctl status --json | grep -q complaint")
        shown = json.loads(lab.output("mn", "mnctl", "status", "--json"))
        assert shown["state"] == "bound"
        (item,) = (item for item in shown["health"] if item["code"] == "complaint")
        assert "does not know the home address option" in item["text"]
        lab.output("ha", "sh", "-c", "setsid home-agent >/dev/null 2>&1 &")
        lab.wait_for("mn", "sh", "-c", "! mnctl status --json | grep -q complaint", within=2 * PATIENCE)
    finally:
        mnctl_lab("down", "--lab", name)
