"""Parsers beyond the wire package: of the data plane, the control socket and the daemons' files."""

from __future__ import annotations

import json
from ipaddress import IPv4Address, IPv6Address, ip_network

from home_agent.config import parse_configuration as parse_home_agent
from mn_agent.config import parse_configuration as parse_mobile_node
from mn_agent.memory import recall
from movement.known_networks import MAX_NETWORKS, recall_networks
from movement.neighbours import neighbour_in
from runtime.control import decode_request
from runtime.settings import ConfigError
from tests.fuzz.runner import Target
from tunnel.endpoint import Endpoint, EndpointConfig, Role
from tunnel.forwarding import ForwardingTable, Route, peer_of
from tunnel.path import Encapsulation, TunnelPath
from wire.ip import IPv4Header, IPv6Header
from wire.neighbours import announcement, discovery_frame
from wire.netlink import attributes, message, split, text
from wire.options import UnknownOption
from wire.probe import Probe
from wire.profile import TlvLayout
from wire.reader import DecodeError
from wire.router_probes import answer_in, arp_request
from wire.rtnetlink import NEIGHBOUR
from wire.vendor import interruption_in, observed_in, path_mtu_in, protection_in, second_port_in

_HOME4, _HOME6 = IPv4Address("203.0.113.77"), IPv6Address("2001:db8:99::77")
_PEER4, _PEER6 = IPv4Address("192.0.2.9"), IPv6Address("2001:db8:cc::9")
_AGENT = IPv4Address("203.0.113.2")
_PATH = TunnelPath(IPv4Address("10.0.0.5"), _AGENT, Encapsulation.UDP, remote_port=4191)
_INNER4 = IPv4Header(_PEER4, _HOME4, 17, 60).encode() + bytes(40)
_INNER6 = IPv6Header(_PEER6, _HOME6, 17, 40).encode() + bytes(40)
_OUT4 = IPv4Header(_HOME4, _PEER4, 17, 60).encode() + bytes(40)
_TLV = b"\x00\x04\x00\x3c" + _INNER4


def _endpoint() -> Endpoint:
    endpoint = Endpoint(Role.MOBILE_NODE)
    endpoint.table = ForwardingTable(Route(ip_network(home), _PATH) for home in (_HOME4, _HOME6))
    endpoint.config = EndpointConfig(
        frozenset({_HOME6}),
        frozenset({IPv6Address("2001:db8:99::2")}),
        frozenset({_AGENT}),
        TlvLayout.RFC5845,
    )
    return endpoint


_ENDPOINT = _endpoint()
_PEER = peer_of(_AGENT, 4191)


def _inbound(data: bytes) -> object:
    _ENDPOINT.inbound_4500(_PEER, data)
    return _ENDPOINT.inbound(_PEER, data, data[0] if data else 0)


def _outbound(data: bytes) -> object:
    return _ENDPOINT.outbound(data, 0.0)


def _vendor(data: bytes) -> object:
    options = (UnknownOption(19, data),)
    numbers = interruption_in(options), path_mtu_in(options), second_port_in(options)
    return observed_in(options), numbers, protection_in(options)


def _netlink(data: bytes) -> object:
    return [(one.error, attributes(one.body, 4)) for one in split(data)]


def _recall(data: bytes) -> object:
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return recall(document, 7, 1_800_000_000.0) if isinstance(document, dict) else None


def _recall_networks(data: bytes) -> object:
    known = recall_networks(data, 5.0, 1_800_000_000.0)
    assert len(known.entries) <= MAX_NETWORKS
    return known.as_json(0.0)


def _answers(data: bytes) -> object:
    """As a frame, and as a message whose checksum is right whatever it says."""
    answer_in(data)
    body = data[:2].ljust(2, b"\0") + bytes(2) + data[4:].ljust(4, b"\0")
    return answer_in(discovery_frame(_HARDWARE, _LOCAL6, IPv6Address("ff02::1"), body))


def _configuration(data: bytes) -> object:
    text = data.decode("utf-8", errors="replace")
    return (parse_mobile_node if len(data) % 2 else parse_home_agent)(text)


_MOBILE_NODE = b"""[home]
ipv6 = "2001:db8:99::77"
ipv4 = "203.0.113.77"
[home_agent]
name = "ha.example.net"
[security]
key_file = "/k"
"""
_HOME_AGENT = b"""[home_agent]
interface = "eth0"
ipv6 = "2001:db8:99::2"
ipv4 = "203.0.113.2"
[home_link]
ipv6_prefix = "2001:db8:99::/64"
[[mobile_node]]
home_address = "2001:db8:99::77"
key_file = "/k"
"""
_MEMORY = b'{"next_sequence":7,"next_esp_sequence":9,"seen":[["2001:db8::1",7,3]],"home_agents":[]}'
_NETLINK = 2 * message(20, 1, bytes(4), [(3, text("eth0")), (8, bytes(4))])
_NETWORKS = (
    b'{"networks":[{"router":"192.168.1.1","hardware":"02:00:00:00:00:01","prefix":"192.168.1.0/24","facts":'
    b'{"leases":[{"value":{"address":"192.168.1.5"},"until":1800000100.0}],"address6":null}}]}'
)
_NEIGHBOURS = tuple(
    message(28, 0, NEIGHBOUR.pack(2, 3, 2, 0, 1), [(1, IPv4Address(a).packed), (2, b"\2\0\0\0\0\1")])[16:]
    for a in ("192.168.1.1", "0.0.0.0")
)
_LOCAL6, _HARDWARE = IPv6Address("fe80::1"), bytes((2, 0, 0, 0, 0, 1))
_ARP = arp_request(IPv4Address("192.168.1.1"), _HARDWARE, IPv4Address("192.168.1.5"), _HARDWARE)
_FRAMES = (_ARP, announcement(_LOCAL6, _HARDWARE, _LOCAL6, router=True))
_ADVERTISEMENTS = (
    bytes.fromhex("8600000040080708000000000000000001010200000000010701000000000bb8")
    + bytes.fromhex("030440c000000258000002580000000020010db8000700000000000000000000"),
    bytes.fromhex("88000000e0000000fe8000000000000000000000000000010201020000000001"),
)
_REQUEST = b'{"jsonrpc":"2.0","id":1,"method":"roam","params":{"to":"eth0","dry_run":true}}'

_PROBE = bytes.fromhex("8100000012340007") + 24 * b"n"
_VENDOR = ("00007ed901c63364072726", "00007ed90200fa", "00007ed9040578", "00007ed903" + 24 * "01")

DAEMON_TARGETS: tuple[Target, ...] = (
    Target("tunnel, inbound", (_INNER4, _INNER6, _TLV), _inbound, ()),
    Target("tunnel, outbound", (_OUT4, _INNER6), _outbound, ()),
    Target(
        "vendor options",
        tuple(map(bytes.fromhex, _VENDOR)),
        _vendor,
        (),
    ),
    Target("control request", (_REQUEST,), decode_request, ()),
    Target("netlink", (_NETLINK,), _netlink, ()),
    Target("memory", (_MEMORY,), _recall, ()),
    Target("probe", (_PROBE,), Probe.of_reply, (DecodeError,)),
    Target("known networks", (_NETWORKS,), _recall_networks, (ValueError,)),
    Target("neighbour table", _NEIGHBOURS, neighbour_in, ()),
    Target("routers' answers", (*_FRAMES, *_ADVERTISEMENTS), _answers, ()),
)
SLOW_TARGETS: tuple[Target, ...] = (
    Target("configuration", (_MOBILE_NODE, _HOME_AGENT, b"mobile_node = 3"), _configuration, (ConfigError,)),
)
"""Read once, by a person's own hand: neither the millisecond nor the hundred thousand are asked of them."""
