"""Scenario files: what they may say, and how their mistakes are told."""

from __future__ import annotations

from itertools import pairwise, product
from pathlib import Path

import pytest

from lab.flows import End, conversations
from lab.library import NotFound, load_scenario, scenario_files
from lab.scenario import Scenario, StreamKind, parse_scenario, parse_step
from lab.step import Action
from lab.topology import parse_topology
from runtime.settings import ConfigError

ROOT = Path(__file__).parents[2]
INTERNET = parse_topology((ROOT / "lab/internet.toml").read_text(), "internet.toml")


def mistakes(text: str) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        parse_scenario(text, "s.toml").checked(INTERNET, text, "s.toml")
    return caught.value.errors


@pytest.mark.parametrize("name", sorted(path.stem for path in (ROOT / "examples/scenarios").glob("*.toml")))
def test_every_example_can_be_played(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    scenario, topology, path = load_scenario(name)
    assert scenario.step
    assert topology.mobile_node.plugged
    assert path.name == f"{name}.toml"


def test_the_tour_covers_every_ordered_pair_of_network_kinds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    scenario, topology, _ = load_scenario("tour")
    places = [topology.mobile_node.plugged["eth0"], *(step.move for step in scenario.step)]
    # IPv6 comes before IPv4, as RFC 5555 section 4.1 prefers it.
    kinds = ["ipv6" if topology.network[p].ipv6 else topology.kind(p) for p in places if p is not None]
    assert set(pairwise(kinds)) == set(product(("ipv6", "ipv4", "nat"), repeat=2))
    assert scenario.expect.outage_ms == 100
    assert {stream.kind for stream in scenario.stream} == set(StreamKind)


def test_the_matrix_takes_every_ordered_pair_of_the_six_kinds_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    scenario, topology, _ = load_scenario("matrix")
    places = [topology.mobile_node.plugged["eth0"], *(step.move or "" for step in scenario.step)]
    pairs = list(pairwise(topology.kind(place) for place in places))
    assert sorted(pairs) == sorted(product(("dual", "home", "ipv4", "ipv6", "nat", "nat64"), repeat=2))
    within = [(one, other) for one, other in pairwise(places) if topology.kind(one) == topology.kind(other)]
    assert all(one != other or one == "home" for one, other in within)
    assert scenario.expect.outage_beyond_round_trip_ms == 20


def test_a_scenario_by_a_name_that_is_not_there_says_what_is() -> None:
    with pytest.raises(NotFound, match="office-cafe"):
        load_scenario("offices")
    assert "tour" in scenario_files()


def test_a_scenario_may_choose_how_updates_are_authenticated() -> None:
    text = 'title = "t"\nstep = [{ wait = 0 }]\n'
    assert {key.method for key in parse_scenario(text, "s").checked(INTERNET, text, "s").keys} == {"esp"}
    text += 'keys = "authentication"\n'
    changed = parse_scenario(text, "s").checked(INTERNET, text, "s")
    assert [key.method for key in changed.keys] == ["authentication"] * len(INTERNET.keys)
    assert mistakes(text.replace("authentication", "tls"))


def test_a_scenario_may_begin_elsewhere_and_replace_files() -> None:
    text = """
title = "t"
step = [{ wait = 0 }]
start = { wlan0 = "cafe" }
[files.mn]
"/etc/mn-agent/mn-agent.toml" = "[home]"
"""
    topology = parse_scenario(text, "s.toml").checked(INTERNET, text, "s.toml")
    assert topology.mobile_node.plugged == {"wlan0": "cafe"}
    assert topology.mobile_node.files["/etc/mn-agent/mn-agent.toml"] == "[home]"
    assert topology.mobile_node.files["/etc/resolv.conf"] == INTERNET.mobile_node.files["/etc/resolv.conf"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('step = [{ move = "moon" }]', "s.toml:2: there is no network 'moon'"),
        ('step = [{ unplug = "eth7" }]', "s.toml:2: there is no interface 'eth7'"),
        ('step = [{ plug = "cafe", interface = "eth7" }]', "there is no interface 'eth7'"),
        ('step = [{ stop = "sshd" }]', "there is no service on mn 'sshd'"),
        ("step = [{ lose = 30 }]", "which network?"),
        ("step = [{ block = { protocol = 41 } }]", "which network?"),
        ('step = [{ block = { protocol = 41, udp = 4191 }, on = "cafe" }]', "exactly one of protocol, udp"),
        ('step = [{ captive = "cafe" }]', "there is no network with a portal 'cafe'"),
        ('step = [{ run = ["true"], on = "moon" }]', "no machine 'moon' (known: cn, dns, ha, mn, office"),
        ("step = [{ flap = { times_a_second = 50, seconds = 1 } }]", "times_a_second"),
        ('step = [{ move = "cafe", plug = "cafe" }]', "exactly one of"),
        ("step = [{ watch_s = 1 }]", "needs exactly one of move, plug"),
        ('step = [{ mov = "cafe" }]', 'unknown key "mov"'),
        ('step = []\n[[stream]]\nkind = "bulky"', 's.toml:4: stream.kind = "bulky" is not one of'),
        ("step = []\n[expect]\noutage = 1", 's.toml:4: unknown key "outage" in [expect]'),
        ('step = []\nstart = { eth0 = "moon" }', "s.toml:3: there is no network 'moon'"),
        ("step = []\n[files.xx]\na = 'b'", "there is no host 'xx'"),
        ("step = [", "s.toml:2: not TOML"),
    ],
)
def test_a_mistake_is_named_with_its_line(text: str, message: str) -> None:
    errors = mistakes(f'title = "t"\n{text}')
    assert any(message in error for error in errors), errors


def test_every_action_is_a_key_of_a_step() -> None:
    text = 'title = "t"\nstep = [{ run = ["ip", "link"], on = "cn" }]'
    step = parse_scenario(text, "s.toml").step[0]
    assert step.action is Action.RUN
    assert step.text == "run ip link on cn"
    step = parse_step('block = { udp = 4191, way = "in" }, on = "cafe"', INTERNET)
    assert step.action is Action.BLOCK
    assert step.text == "block udp 4191, way in on cafe"


def test_the_default_streams_are_one_of_each_kind_in_each_family() -> None:
    scenario = Scenario(title="t", step=())
    homes, there = INTERNET.roles.home_addresses, INTERNET.correspondent.addresses
    found = list(conversations(scenario.stream, homes, there, Path("/x")))
    assert [c.name for c in found] == [f"{k.value}-v{v}" for k in StreamKind for v in (6, 4)]
    ports = [word for c in found for p in c.programs for word in p.words if word.startswith("--port")]
    assert len(set(ports)) == 8
    assert [f.name for f in found[0].flows] == ["bulk-up-v6", "bulk-down-v6"]


def test_only_the_correspondent_sends_downwards() -> None:
    scenario = Scenario(title="t", step=())
    homes, there = INTERNET.roles.home_addresses, INTERNET.correspondent.addresses
    down = next(c for c in conversations(scenario.stream, homes, there, Path("/x")) if c.name == "down-v4")
    receive, send = down.programs
    assert (receive.end, receive.words[0]) == (End.MOBILE_NODE, "receive")
    assert (send.end, send.words[0]) == (End.CORRESPONDENT, "send")
    assert "--to=203.0.113.77" in send.words
    assert down.flows[0].sent is not None


def test_the_example_of_the_documentation_is_right() -> None:
    page = (ROOT / "docs/scenarios.md").read_text()
    text = page.split("```toml\n")[1].split("```")[0]
    topology = parse_scenario(text, "docs").checked(INTERNET, text, "docs")
    assert topology.mobile_node.plugged == {"eth0": "office"}
    assert all(f"`{action.value} = " in page for action in Action)
