"""home-agent.toml: what is accepted, and what is said about the rest."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

import pytest

from home_agent.config import parse_configuration
from runtime.settings import ConfigError
from tests.machines.ha_script import CONFIGURATION, configured
from tunnel.link_filter import MOST

EXAMPLE = Path(__file__).parents[2] / "examples" / "home-agent.toml"


def _node(home_address: str, *lines: str) -> str:
    return "\n".join(["[[mobile_node]]", f'home_address = "{home_address}"', 'key_file = "x"', *lines])


def errors_of(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse_configuration(text, "ha.toml")
    return list(caught.value.errors)


def with_lines(**parts: str) -> str:
    names = ("home_agent", "home_link", "laptop", "tablet", "router", "more")
    return CONFIGURATION.format(**{name: parts.get(name, "") for name in names})


def test_the_example_is_good_and_short() -> None:
    configuration = parse_configuration(EXAMPLE.read_text(), str(EXAMPLE))
    assert configuration.mobile_node[0].ipv4 == IPv4Address("203.0.113.77")
    assert configuration.home_agent.ipv6 == IPv6Address("2001:db8:99::2")
    used = [line for line in EXAMPLE.read_text().splitlines() if "=" in line and not line.startswith("#")]
    assert len(used) <= 10


def test_the_home_link_is_watched_for_a_bounded_number_of_home_addresses_and_need_not_be() -> None:
    watched = configured(laptop="").overheard
    assert {IPv6Address("2001:db8:99::77"), IPv4Address("203.0.113.77")} <= watched
    assert configured(home_link="overhear = false").overheard == frozenset()
    many = "\n".join(_node(f"2001:db8:99::{number:x}") for number in range(0x1000, 0x1000 + MOST))
    assert configured(more=many).overheard == frozenset()


def test_policies_come_from_the_mobile_node_before_the_section() -> None:
    configuration = configured(
        laptop='force_udp = "deny"\ntlv = false',
        more='[tunnel]\nforce_udp = "require"\n[wire]\nprofile = "draft-00"',
    )
    laptop, tablet, _ = configuration.mobile_node
    assert (configuration.force_udp(laptop), configuration.force_udp(tablet)) == ("deny", "require")
    assert (configuration.tlv(laptop), configuration.tlv(tablet)) == (False, True)


def test_every_mistake_is_named_with_its_line() -> None:
    errors = errors_of(with_lines(home_agent="prot = 4191", laptop="nat_refresh = 0"))
    assert len(errors) == 2
    assert errors[0].startswith('ha.toml:6: unknown key "prot" in [home_agent]')
    assert 'did you mean "port"?' in errors[0]
    assert "nat_refresh" in errors[1]


@pytest.mark.parametrize(
    ("parts", "culprit", "words"),
    [
        ({"more": _node("2001:db8:98::1")}, "db8:98::1", "not a unicast address of the home link"),
        ({"more": _node("2001:db8:99::77")}, "99::77", "already belongs to laptop"),
        ({"more": _node("2001:db8:99::2")}, '99::2"', "already belongs to the home agent"),
        (
            {"more": _node("2001:db8:99::80", 'ipv4 = "203.0.113.77"')},
            'ipv4 = "203.0.113.77"',
            "already belongs to laptop",
        ),
        (
            {"more": _node("2001:db8:99::80", 'ipv4 = "203.0.113.2"')},
            'ipv4 = "203.0.113.2"',
            "already belongs to the home agent",
        ),
        (
            {"more": _node("2001:db8:99::80", 'ipv4 = "224.0.0.1"')},
            'ipv4 = "224.0.0.1"',
            "not a usable unicast address",
        ),
        (
            {"tablet": 'prefixes = ["2001:db8:99::/48"]'},
            'prefixes = ["2001:db8:99::/48"]',
            "apart from the home link",
        ),
        (
            {"tablet": 'ipv4_prefixes = ["203.0.113.0/28"]'},
            'ipv4_prefixes = ["203.0.113.0/28"]',
            "apart from the home link",
        ),
        (
            {"more": _node("2001:db8:99::80", 'prefixes = ["2001:db8:7701::/48"]')},
            'prefixes = ["2001:db8:7701::/48"]',
            "overlaps a prefix of router",
        ),
        (
            {"more": _node("2001:db8:99::80", 'ipv4_prefixes = ["10.77.3.0/24"]')},
            'ipv4_prefixes = ["10.77.3.0/24"]',
            "overlaps a prefix of router",
        ),
        ({"home_agent": "second_port = 4191"}, "second_port = 4191", "in use for something else"),
        ({"home_agent": "second_port = 4500"}, "second_port = 4500", "in use for something else"),
        ({"tablet": "tlv = true"}, "tlv = true", "needs [wire] profile"),
        ({"more": "[tunnel]\ntlv = true"}, "tlv = true", "needs [wire] profile"),
    ],
)
def test_contradictions_are_named_with_their_line(parts: dict[str, str], culprit: str, words: str) -> None:
    text = with_lines(**parts)
    line = max(number for number, one in enumerate(text.splitlines(), 1) if culprit in one)
    (error,) = errors_of(text)
    assert error.startswith(f"ha.toml:{line}: ")
    assert words in error


def test_pools_must_not_overlap() -> None:
    text = with_lines().replace('"10.64.0.0/16"', '"203.0.113.0/24"')
    errors = errors_of(text)
    assert any("overlaps ipv4_pool" in error for error in errors)
    assert any("overlaps the home link itself" in error for error in errors)


def test_prefix_requests_need_a_pool() -> None:
    text = with_lines(laptop="ipv4_prefix_requests = true").replace('ipv4_prefix_pool = "10.64.0.0/16"', "")
    (error,) = errors_of(text)
    assert "needs [home_link] ipv4_prefix_pool" in error


@pytest.mark.parametrize("text", ["", "\0", "[home_agent", "mobile_node = [3]", "[[home_agent]]"])
def test_anything_else_is_a_configuration_error_too(text: str) -> None:
    assert errors_of(text)
