"""What is wrong with a network, as the packet filter of its router is told."""

from __future__ import annotations

from ipaddress import IPv6Network

import pytest

from lab.advertise import advertisement, portal_option, pref64_option
from lab.faults import Faults, ruleset
from lab.step import Block


def rules(faults: Faults) -> list[str]:
    return [line.strip() for line in ruleset(faults).splitlines() if line.strip().endswith("drop")]


def test_nothing_wrong_is_no_table() -> None:
    assert ruleset(Faults()).splitlines()[-1] == "delete table inet mn-lab-faults"
    assert rules(Faults()) == []


def test_loss_and_a_black_hole_meet_both_ways() -> None:
    for faults, rule in (
        (Faults(lose=30), "numgen random mod 100 < 30 drop"),
        (Faults(black_hole=1400), "meta length > 1400 drop"),
    ):
        assert rules(faults) == [f'oifname "uplink" {rule}', f'iifname "uplink" {rule}']


@pytest.mark.parametrize(
    ("block", "rule"),
    [
        (Block(udp=4191, way="out"), 'oifname "uplink" udp dport 4191 drop'),
        (Block(udp=4191, way="in"), 'iifname "uplink" udp sport 4191 drop'),
        (Block(tcp=443, way="out"), 'oifname "uplink" tcp dport 443 drop'),
        (Block(protocol=41, way="in"), 'iifname "uplink" meta l4proto 41 drop'),
        (Block(family="ipv6", way="out"), 'oifname "uplink" meta nfproto ipv6 drop'),
    ],
)
def test_a_block_names_the_port_of_whoever_is_out_there(block: Block, rule: str) -> None:
    assert rules(Faults(blocks=(block,))) == [rule]


def test_a_silent_dhcp_server_hears_nobody_of_its_network() -> None:
    assert rules(Faults(silent_dhcp=True)) == ['iifname "lan" udp dport { 67, 547 } drop']


def test_an_advertisement_says_what_dnsmasq_cannot() -> None:
    """RFC 8781 section 4: scaled lifetime 225 and code 0 (/96); RFC 8910 section 2.3."""
    assert pref64_option(IPv6Network("64:ff9b::/96")).hex() == "260207080064ff9b0000000000000000"
    assert pref64_option(IPv6Network("2001:db8::/32")).hex() == "2602070d20010db80000000000000000"
    option = portal_option("http://[2001:db8::1]/api")
    assert (option[0], 8 * option[1], option[2:].rstrip(b"\0")) == (37, len(option), b"http://[2001:db8::1]/api")
    assert advertisement(None, None).hex() == "86000000400007080000000000000000"
