"""Topology files, and the plan that a topology becomes."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab.plan import plan
from lab.topology import CORE, Topology, base_of, parse_topology
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
        "campus": "dual",
        "mobile": "ipv4",
        "airport": "ipv4",
        "cafe": "nat",
        "hotel": "nat",
        "home": "dual",
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


# ---- mobile networks ------------------------------------------------------------------------
EXTENSION = (Path(__file__).parents[2] / "lab/mobile-router.toml").read_text()


def van() -> Topology:
    return parse_topology(EXTENSION, "mobile-router.toml", internet())


def test_a_topology_can_extend_another_one_and_leaves_that_as_it_is() -> None:
    assert base_of(EXTENSION) == "internet"
    assert base_of(INTERNET) is None
    assert set(van().host) - set(internet().host) == {"van"}
    assert van().session_host == "van"
    assert [str(address) for address in van().session_addresses] == ["2001:db8:77::10", "198.51.100.202"]
    assert internet().session_addresses == internet().roles.home_addresses
    assert parse_configuration(van().mobile_node.files["/etc/mn-agent/mn-agent.toml"]).router is not None
    assert "/etc/dhcpcd.conf" in van().mobile_node.files


def test_a_mobile_network_is_a_switch_in_its_router_and_reached_through_the_home_agent() -> None:
    laid_out = plan(van())
    machines = {machine.name: machine for machine in laid_out.machines}
    assert "onboard" not in machines
    assert ("van", "eth0", "mn", "van-eth0") in {
        (wire.machine, wire.interface, wire.other, wire.other_interface) for wire in laid_out.wires
    }
    assert "link set van-eth0 addrgenmode none master lan0 up" in machines["mn"].ip
    assert "address add 198.51.100.193/26 dev lan0" in machines["mn"].ip
    assert "route add default via 2001:db8:77::1" in machines["van"].ip
    assert "route add 2001:db8:77::/64 via 2001:db8:99::2" in machines["home"].ip
    assert any(line.startswith("route add 198.51.100.192/26 via") for line in machines[CORE].ip)
    assert not any("2001:db8:77" in line for line in machines["office"].ip)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('router = "mn"', 'router = "cn"', '"cn" is no host that moves'),
        ('network = "onboard"', 'network = "onbord"', 'there is no network "onbord"'),
        ('"198.51.100.202"', '"198.51.100.2"', "198.51.100.2 is not in network onboard"),
        ('sessions = "van"', 'sessions = "mn"', '"mn" is no host with addresses'),
        ("[host.van]", "[host.vans]", '"van" is no host with addresses'),
        ("[files.mn]", "[file.mn]", 'unknown key "file"'),
        ("[mobile_network.onboard]", "[mobile_network.office]", 'the name "office" is taken'),
    ],
)
def test_a_mistake_in_an_extension_is_named_with_its_line(old: str, new: str, message: str) -> None:
    assert old in EXTENSION
    with pytest.raises(ConfigError) as caught:
        parse_topology(EXTENSION.replace(old, new, 1), "mobile-router.toml", internet())
    assert message in str(caught.value)
    assert all(error.startswith("mobile-router.toml:") for error in caught.value.errors)
