"""Who plays: addresses, keys and configurations of two home agents and two mobile nodes.

Pure.
"""

from __future__ import annotations

from functools import cache
from ipaddress import IPv4Address, IPv6Address

import home_agent.config
import mn_agent.config
from mn_agent.binding_update_list import HomeAgent
from tunnel.authentication import AuthenticationAssociation, Keys
from tunnel.protection import PAYLOAD_KEY_SIZE, PayloadKey
from tunnel.security import Encryption, Integrity, KeyPair, SecurityAssociation

LAPTOP6, TABLET6 = IPv6Address("2001:db8:99::77"), IPv6Address("2001:db8:99::78")
LAPTOP4 = IPv4Address("203.0.113.77")
CORRESPONDENT6, CORRESPONDENT4 = IPv6Address("2001:db8:cc::1"), IPv4Address("192.0.2.80")
MALLORY6, MALLORY4 = IPv6Address("2001:db8:bad::1"), IPv4Address("192.0.2.66")
HOMES = {"laptop": LAPTOP6, "tablet": TABLET6}

HA6, HA4 = IPv6Address("2001:db8:99::2"), IPv4Address("203.0.113.2")
AGENTS = (
    HomeAgent("ha1.example.net", HA6, HA4),
    HomeAgent("ha2.example.net", IPv6Address("2001:db8:99::3"), IPv4Address("203.0.113.3")),
)

_HOME_AGENT = """
[home_agent]
interface = "eth0"
ipv6 = "{ipv6}"
ipv4 = "{ipv4}"
[home_link]
ipv6_prefix = "2001:db8:99::/64"
ipv4_prefix = "203.0.113.0/24"
ipv4_pool = "203.0.113.128/26"
[wire]
profile = "{profile}"
[tunnel]
{more}
[[mobile_node]]
name = "laptop"
home_address = "2001:db8:99::77"
ipv4 = "203.0.113.77"
key_file = "laptop.toml"
[[mobile_node]]
name = "tablet"
home_address = "2001:db8:99::78"
key_file = "tablet.toml"
"""

PROTECTED = "protect_payload = true"
"""A line of the [tunnel] table at either end."""

_MOBILE_NODE = """
[home]
ipv6 = "{ipv6}"
ipv4 = "{ipv4}"
[home_agent]
{agent}
[security]
key_file = "keys.toml"
[binding]
lifetime = {lifetime}
[wire]
profile = "{profile}"
[tunnel]
{more}
"""

BY_ADDRESS = 'ipv6 = "2001:db8:99::2"\nipv4 = "203.0.113.2"'
BY_NAME = 'name = "ha1.example.net"'
BY_SERVICE = 'service = "example.net"'


@cache
def home_agent_configuration(
    number: int, profile: str = "rfc5555", more: str = ""
) -> home_agent.config.Configuration:
    agent = AGENTS[number]
    text = _HOME_AGENT.format(ipv6=agent.ipv6, ipv4=agent.ipv4, profile=profile, more=more)
    return home_agent.config.parse_configuration(text)


@cache
def mobile_node_configuration(
    name: str, agent: str = BY_ADDRESS, lifetime: int = 420, profile: str = "rfc5555", more: str = ""
) -> mn_agent.config.Configuration:
    """The laptop has a static IPv4 home address, the tablet asks for one."""
    ipv4 = str(LAPTOP4) if name == "laptop" else "dynamic"
    text = _MOBILE_NODE.format(
        ipv6=HOMES[name], ipv4=ipv4, agent=agent, lifetime=lifetime, profile=profile, more=more
    )
    return mn_agent.config.parse_configuration(text)


@cache
def payload_key_of(name: str) -> PayloadKey:
    return PayloadKey(bytes([int(HOMES[name]) & 0xFF, 4]) * (PAYLOAD_KEY_SIZE // 2))


@cache
def keys_for(name: str, protection: str) -> Keys:
    """Of "esp" or of the "option" (RFC 4285), the same at every home agent."""
    number = int(HOMES[name]) & 0xFF
    return (
        keys_of(name)
        if protection == "esp"
        else AuthenticationAssociation(0x3000 + number, bytes([number]) * 16)
    )


@cache
def keys_of(name: str) -> KeyPair:
    """For ESP. Updates are not encrypted, so that runs repeat octet by octet."""
    number = int(HOMES[name]) & 0xFF
    return KeyPair(
        SecurityAssociation(0x1000 + number, Integrity.HMAC_SHA256_128, bytes([number, 1]) * 16),
        SecurityAssociation(
            0x2000 + number, Integrity.HMAC_SHA1_96, bytes([number, 2]) * 10, Encryption.AES_CBC, bytes(16)
        ),
    )
