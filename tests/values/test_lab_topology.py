"""Topology files, and the plan that a topology becomes."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab.plan import plan
from lab.topology import CORE, Topology, parse_topology
from mn_agent.config import parse_configuration
from runtime.settings import ConfigError

INTERNET = (Path(__file__).parents[2] / "lab/internet.toml").read_text()


def internet() -> Topology:
    return parse_topology(INTERNET, "internet.toml")


def changed(old: str, new: str) -> str:
    assert old in INTERNET
    return INTERNET.replace(old, new, 1)


def test_the_internet_has_every_kind_of_network() -> None:
    kinds = {name: network.kind for name, network in internet().access_networks.items()}
    assert kinds == {
        "office": "ipv6",
        "campus": "ipv6",
        "mobile": "ipv4",
        "airport": "ipv4",
        "cafe": "nat",
        "hotel": "nat",
        "home": "ipv6",
    }


def test_every_machine_has_a_plan_and_servers_come_before_those_who_need_them() -> None:
    names = [machine.name for machine in plan(internet()).machines]
    assert set(names) == {CORE, *internet().network, *internet().host}
    assert names.index("dns") < names.index("ha") < names.index("mn")


def test_a_nat_network_translates_with_random_ports_and_is_not_routed_to() -> None:
    machines = {machine.name: machine for machine in plan(internet()).machines}
    assert "masquerade fully-random" in machines["cafe"].nft
    assert machines["mobile"].nft == ""
    assert not any("192.168.7.0" in line for line in machines[CORE].ip)
    assert any(line.startswith("route add 198.51.100.0/26 via") for line in machines[CORE].ip)


def test_an_access_router_leases_at_once_and_advertises_what_it_has() -> None:
    machines = {machine.name: machine for machine in plan(internet()).machines}
    office = machines["office"].files["/etc/dnsmasq.conf"]
    assert "enable-ra" in office
    assert "no-ping" not in office
    cafe = machines["cafe"].files["/etc/dnsmasq.conf"].splitlines()
    assert {"no-ping", "dhcp-authoritative", "dhcp-option=option:dns-server,192.0.2.53"} <= set(cafe)
    assert "enable-ra" not in cafe
    assert not machines["servers"].services


def test_the_mobile_node_is_configured_in_ten_lines_as_a_user_would() -> None:
    text = internet().mobile_node.files["/etc/mn-agent/mn-agent.toml"].strip()
    assert len(text.splitlines()) <= 10
    assert parse_configuration(text).home_agent.name == "ha.example.net"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (changed("nat = true", "natt = true"), 'internet.toml:29: unknown key "natt" in [network.cafe]'),
        (changed('network = "home"', 'network = "hom"'), 'there is no network "hom"'),
        (changed('"192.0.2.10"', '"192.0.3.10"'), "192.0.3.10 is not in network servers"),
        (changed('eth0 = "office"', 'eth7 = "office"'), '[host.mn] has no interface "eth7"'),
        (changed('eth0 = "office"', 'eth0 = "offices"'), 'there is no network "offices"'),
        (changed('mobile_node = "mn"', 'mobile_node = "cn"'), '"cn" has no interfaces, so it cannot move'),
        (changed('home_agent = "ha"', 'home_agent = "hb"'), 'there is no host "hb"'),
        (changed("paths = { mn =", "paths = { me ="), 'there is no host "me"'),
        (changed('ipv6 = "2001:db8:1::/64"', ""), "[network.office] needs ipv4 or ipv6"),
        (changed('1::/64"', '1::/64"\nnat = true'), "nat = true needs ipv4"),
        (changed("[network.office]", "[network.net]"), 'the name "net" is taken'),
        (changed('interfaces = ["eth0", "wlan0"]', ""), "needs either network"),
    ],
)
def test_a_mistake_is_named_with_its_line(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_topology(text, "internet.toml")
    assert message in str(caught.value)
    assert all(error.startswith("internet.toml:") for error in caught.value.errors)
