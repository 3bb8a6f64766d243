"""The rules of the tunnel at both ends: what passes, what is control, and what is refused and counted."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunnel.encapsulation import wrap
from tunnel.endpoint import (
    MALFORMED,
    NESTED,
    NOT_HOME,
    NOT_ROUTABLE,
    TOO_BIG,
    WRONG_PEER,
    Endpoint,
    EndpointConfig,
    Role,
)
from tunnel.forwarding import ForwardingTable, Peer, Route, peer_of
from tunnel.lane import CONTROL, Control, Lane, Pieces, Reply
from tunnel.path import Drop, Encapsulation, TunnelPath
from wire.icmp import PacketTooBig, decode_icmp6
from wire.ip import IPv4Header, IPv6Header
from wire.profile import TlvLayout

HOME6, HOME4 = IPv6Address("2001:db8:99::77"), IPv4Address("203.0.113.77")
OTHER6, OTHER4 = IPv6Address("2001:db8:99::78"), IPv4Address("203.0.113.78")
AGENT6, AGENT4 = IPv6Address("2001:db8:99::2"), IPv4Address("203.0.113.2")
CN6, CN4 = IPv6Address("2001:db8:9::9"), IPv4Address("192.0.2.9")
CARE_OF4, CARE_OF6 = IPv4Address("198.51.100.9"), IPv6Address("2001:db8:1::2")
STRANGER4, STRANGER6 = IPv4Address("198.51.100.66"), IPv6Address("2001:db8:1::66")

MOBILITY, ESP, DESTINATION_OPTIONS, ROUTING, ICMPV6, UDP, TCP = 135, 50, 60, 43, 58, 17, 6
NAT_PORT = 40123


def packet6(
    source: IPv6Address, destination: IPv6Address, next_header: int = TCP, size: int = 100, tos: int = 0
) -> bytes:
    header = IPv6Header(source, destination, next_header, size - 40, traffic_class=tos)
    return header.encode() + bytes(size - 40)


def packet4(
    source: IPv4Address, destination: IPv4Address, protocol: int = TCP, size: int = 100, **fields: object
) -> bytes:
    header = IPv4Header(source, destination, protocol, size, **fields)  # type: ignore[arg-type]
    return header.encode() + bytes(size - header.header_length)


def udp_path(role: Role, encapsulation: Encapsulation = Encapsulation.UDP, mtu: int = 1500) -> TunnelPath:
    """Behind a NAT: the home agent sees the mobile node's packets from another address and port."""
    if role is Role.MOBILE_NODE:
        return TunnelPath(IPv4Address("192.168.7.2"), AGENT4, encapsulation, 50000, 4191, "wlan0", mtu)
    return TunnelPath(AGENT4, CARE_OF4, encapsulation, 4191, NAT_PORT, "", mtu)


def ip_path(role: Role) -> TunnelPath:
    if role is Role.MOBILE_NODE:
        return TunnelPath(CARE_OF6, AGENT6, Encapsulation.IP_IN_IP)
    return TunnelPath(AGENT6, CARE_OF6, Encapsulation.IP_IN_IP)


def config(role: Role, tlv: TlvLayout | None = None) -> EndpointConfig:
    agent: frozenset[IPv4Address | IPv6Address] = frozenset((AGENT4, AGENT6))
    if role is Role.MOBILE_NODE:
        return EndpointConfig(frozenset({HOME6}), frozenset({AGENT6}), agent, tlv)
    return EndpointConfig(frozenset({AGENT6}), frozenset(), agent, tlv)


def end(role: Role, path: TunnelPath | None = None, tlv: TlvLayout | None = None) -> Endpoint:
    """One end of the tunnel with the home addresses of one mobile node on `path`."""
    path = path or udp_path(role)
    table = ForwardingTable([Route(ip_network(HOME6), path), Route(ip_network(HOME4), path)])
    return Endpoint(role, config(role, tlv), table)


def right_peer(role: Role) -> Peer:
    return peer_of(udp_path(role).remote, udp_path(role).remote_port)


def towards(role: Role, outbound: bool) -> tuple[bytes, bytes]:
    """An honest packet of each family that goes out of, or comes in at, the end of `role`."""
    if (role is Role.MOBILE_NODE) is outbound:
        return packet6(HOME6, CN6), packet4(HOME4, CN4)
    return packet6(CN6, HOME6), packet4(CN4, HOME4)


BOTH_ENDS = pytest.mark.parametrize("role", list(Role))


# ---- what passes ----------------------------------------------------------------------------------------
@BOTH_ENDS
@pytest.mark.requirement("R089a")
def test_both_families_leave_by_the_one_path_of_the_home_addresses(role: Role) -> None:
    endpoint = end(role)
    for packet in towards(role, outbound=True):
        lane = endpoint.outbound(packet, 0.0)
        assert isinstance(lane, Lane)
        assert lane.path == udp_path(role)
    assert endpoint.drops == {}


@BOTH_ENDS
def test_honest_packets_come_in_untouched(role: Role) -> None:
    endpoint = end(role)
    for packet in towards(role, outbound=False):
        assert endpoint.inbound(right_peer(role), packet) is packet
    assert endpoint.drops == {}


@BOTH_ENDS
def test_a_mobile_network_prefix_travels_like_a_home_address(role: Role) -> None:
    behind6, behind4 = ip_address("2001:db8:77::5"), ip_address("10.7.7.5")
    path = udp_path(role)
    table = ForwardingTable(
        [Route(ip_network("2001:db8:77::/64"), path), Route(ip_network("10.7.7.0/24"), path)]
    )
    endpoint = Endpoint(role, config(role), table)
    assert isinstance(behind6, IPv6Address)
    assert isinstance(behind4, IPv4Address)
    for inside, far in (
        (packet6(behind6, CN6), packet6(CN6, behind6)),
        (packet4(behind4, CN4), packet4(CN4, behind4)),
    ):
        out, back = (inside, far) if role is Role.MOBILE_NODE else (far, inside)
        assert isinstance(endpoint.outbound(out, 0.0), Lane)
        assert endpoint.inbound(right_peer(role), back) is back


@pytest.mark.requirement("R083")
@pytest.mark.parametrize("layout", list(TlvLayout))
@BOTH_ENDS
def test_an_end_with_tlv_takes_both_formats(role: Role, layout: TlvLayout) -> None:
    kind = Encapsulation.UDP_TLV if layout is TlvLayout.RFC5845 else Encapsulation.UDP_TLV_DRAFT
    endpoint = end(role, tlv=layout)
    for packet in towards(role, outbound=False):
        assert endpoint.inbound(right_peer(role), wrap(packet, kind)) == packet
        assert endpoint.inbound(right_peer(role), packet) == packet


@BOTH_ENDS
def test_a_handover_is_one_assignment(role: Role) -> None:
    endpoint = end(role)
    packet = towards(role, outbound=True)[0]
    back = towards(role, outbound=False)[0]
    old, new = udp_path(role), ip_path(role)
    endpoint.table = ForwardingTable([Route(ip_network(HOME6), new, accept=(old,))])
    lane = endpoint.outbound(packet, 0.0)
    assert isinstance(lane, Lane)
    assert lane.path == new
    assert endpoint.inbound(right_peer(role), back) is back, "the old path still receives"
    assert endpoint.inbound(peer_of(new.remote), back) is back
    endpoint.table = ForwardingTable([Route(ip_network(HOME6), new)])
    assert endpoint.inbound(right_peer(role), back) is WRONG_PEER


@BOTH_ENDS
def test_a_path_keeps_its_history_when_it_comes_back(role: Role) -> None:
    endpoint = end(role)
    packet = towards(role, outbound=True)[0]
    lane = endpoint.outbound(packet, 0.0)
    assert isinstance(lane, Lane)
    lane.sent_at = 12.5
    for _ in range(100):
        route = Route(ip_network(HOME6), udp_path(role))
        endpoint.table = ForwardingTable([route])
        assert endpoint.outbound(packet, 0.0) is lane
    assert endpoint.last_sent(udp_path(role)) == 12.5
    assert endpoint.last_sent(ip_path(role)) == 0.0


# ---- control --------------------------------------------------------------------------------------------
@pytest.mark.parametrize("header", [MOBILITY, ESP, DESTINATION_OPTIONS, ROUTING])
def test_the_home_agent_hears_control_from_anybody(header: int) -> None:
    endpoint = end(Role.HOME_AGENT)
    update = packet6(OTHER6, AGENT6, header)
    assert endpoint.inbound(peer_of(STRANGER4, 1234), update) is CONTROL
    assert endpoint.control_packet(update) is update


@pytest.mark.parametrize("header", [MOBILITY, ESP, DESTINATION_OPTIONS, ROUTING])
def test_the_mobile_node_hears_control_from_its_home_agent_only(header: int) -> None:
    endpoint = end(Role.MOBILE_NODE)
    peer = right_peer(Role.MOBILE_NODE)
    assert endpoint.inbound(peer, packet6(AGENT6, HOME6, header)) is CONTROL
    assert endpoint.inbound(peer, packet6(CN6, HOME6, header)) == packet6(CN6, HOME6, header)


def test_control_reaches_an_end_without_any_binding() -> None:
    unbound = Endpoint(Role.MOBILE_NODE, config(Role.MOBILE_NODE))
    acknowledgement = packet6(AGENT6, HOME6, ESP)
    assert unbound.inbound(right_peer(Role.MOBILE_NODE), acknowledgement) is CONTROL
    assert unbound.inbound(right_peer(Role.MOBILE_NODE), packet6(CN6, HOME6)) is NOT_HOME


def test_esp_of_applications_is_data_in_both_directions() -> None:
    mobile_node, home_agent = end(Role.MOBILE_NODE), end(Role.HOME_AGENT)
    out, back = packet6(HOME6, CN6, ESP), packet6(CN6, HOME6, ESP)
    assert isinstance(mobile_node.outbound(out, 0.0), Lane)
    assert home_agent.inbound(right_peer(Role.HOME_AGENT), out) is out
    assert isinstance(home_agent.outbound(back, 0.0), Lane)
    assert mobile_node.inbound(right_peer(Role.MOBILE_NODE), back) is back


def test_control_in_a_tlv_header_is_unwrapped() -> None:
    endpoint = end(Role.HOME_AGENT, tlv=TlvLayout.RFC5845)
    update = packet6(HOME6, AGENT6, MOBILITY)
    wrapped = wrap(update, Encapsulation.UDP_TLV)
    assert endpoint.inbound(right_peer(Role.HOME_AGENT), wrapped) is CONTROL
    assert endpoint.control_packet(wrapped) == update


def test_prefix_solicitation_and_pings_to_the_home_agent_are_data() -> None:
    ping = packet6(HOME6, AGENT6, ICMPV6)
    assert end(Role.HOME_AGENT).inbound(right_peer(Role.HOME_AGENT), ping) is ping


# ---- who may send: open-tunnel, spoofed-payload, false-claim in docs/security.md --------------------------
@BOTH_ENDS
def test_only_the_bound_address_and_port_may_send(role: Role) -> None:
    endpoint = end(role)
    remote, port = udp_path(role).remote, udp_path(role).remote_port
    strangers: list[Peer] = [
        peer_of(remote, port + 1),
        peer_of(remote, 0),  # the same address, but IP in IP: a NAT's other customers look like that
        peer_of(STRANGER4, port),
        peer_of(STRANGER6, 0),
    ]
    for packet in towards(role, outbound=False):
        for stranger in strangers:
            assert endpoint.inbound(stranger, packet) is WRONG_PEER
    assert endpoint.drops == {"wrong-peer": 8}


def test_an_authorised_mobile_node_cannot_send_for_another() -> None:
    endpoint = end(Role.HOME_AGENT)
    others = TunnelPath(AGENT4, STRANGER4, Encapsulation.UDP, 4191, 777)
    endpoint.table = endpoint.table.with_routes(
        Route(ip_network(OTHER6), others), Route(ip_network(OTHER4), others)
    )
    for stolen in (packet6(OTHER6, CN6), packet4(OTHER4, CN4)):
        assert endpoint.inbound(right_peer(Role.HOME_AGENT), stolen) is WRONG_PEER


def test_the_home_agent_carries_nothing_for_unbound_sources() -> None:
    endpoint = end(Role.HOME_AGENT)
    for packet in (packet6(STRANGER6, CN6), packet4(STRANGER4, CN4), packet6(CN6, HOME6)):
        assert endpoint.inbound(right_peer(Role.HOME_AGENT), packet) is NOT_HOME


def test_the_mobile_node_takes_nothing_for_other_destinations() -> None:
    endpoint = end(Role.MOBILE_NODE)
    for packet in (packet6(CN6, OTHER6), packet4(CN4, OTHER4), packet4(CN4, CARE_OF4)):
        assert endpoint.inbound(right_peer(Role.MOBILE_NODE), packet) is NOT_HOME


@BOTH_ENDS
def test_nothing_leaves_for_an_address_that_is_not_home(role: Role) -> None:
    endpoint = end(role)
    for packet in (packet6(STRANGER6, OTHER6), packet4(CARE_OF4, AGENT4), packet4(STRANGER4, OTHER4)):
        assert endpoint.outbound(packet, 0.0) is NOT_HOME


@BOTH_ENDS
@pytest.mark.parametrize(
    "unroutable",
    [
        "ff02::1",
        "ff0e::1",
        "fe80::1",
        "febf::1",
        "::",
        "::1",
        "224.0.0.1",
        "239.1.2.3",
        "255.255.255.255",
        "240.0.0.1",
        "169.254.1.1",
        "127.0.0.1",
        "0.0.0.0",
    ],
)
def test_link_local_and_multicast_packets_pass_in_neither_direction(role: Role, unroutable: str) -> None:
    endpoint, address = end(role), ip_address(unroutable)
    if isinstance(address, IPv6Address):
        packets = [packet6(HOME6, address), packet6(address, HOME6)]
    else:
        packets = [packet4(HOME4, address), packet4(address, HOME4)]
    for packet in packets:
        assert endpoint.outbound(packet, 0.0) is NOT_ROUTABLE
        assert endpoint.inbound(right_peer(role), packet) is NOT_ROUTABLE


# ---- one nesting level: nested-tunnel in docs/security.md -------------------------------------------------
def tunnel_packets(source: str, destination: str) -> list[bytes]:
    a, b = ip_address(source), ip_address(destination)
    if isinstance(a, IPv6Address) and isinstance(b, IPv6Address):
        packets = [packet6(a, b, protocol) for protocol in (4, 41, 47)]
        bare = packet6(a, b, UDP)
        return [*packets, bare[:40] + b"\x12\x34\x10\x5f" + bare[44:], bare[:40] + b"\x10\x5f" + bare[42:]]
    assert isinstance(a, IPv4Address)
    assert isinstance(b, IPv4Address)
    packets = [packet4(a, b, protocol) for protocol in (4, 41, 47)]
    bare = packet4(a, b, UDP, options=bytes(4))
    return [*packets, bare[:24] + b"\x12\x34\x10\x5f" + bare[28:], bare[:24] + b"\x10\x5f" + bare[26:]]


@BOTH_ENDS
def test_a_tunnel_packet_of_the_home_agent_is_never_carried_inside(role: Role) -> None:
    endpoint = end(role)
    for home, agent in ((str(HOME6), str(AGENT6)), (str(HOME4), str(AGENT4))):
        for packet in tunnel_packets(home, agent) + tunnel_packets(agent, home):
            assert endpoint.outbound(packet, 0.0) is NESTED
            assert endpoint.inbound(right_peer(role), packet) is NESTED


@BOTH_ENDS
def test_tunnels_between_others_and_plain_udp_to_the_home_agent_are_data(role: Role) -> None:
    endpoint = end(role)
    inbound_home = role is Role.MOBILE_NODE
    others = tunnel_packets(*((str(CN6), str(HOME6)) if inbound_home else (str(HOME6), str(CN6))))
    dns = packet6(AGENT6, HOME6, UDP) if inbound_home else packet6(HOME6, AGENT6, UDP)
    for packet in (*others, dns):
        assert endpoint.inbound(right_peer(role), packet) is packet


# ---- malformed ------------------------------------------------------------------------------------------
@BOTH_ENDS
def test_lengths_that_lie_are_malformed(role: Role) -> None:
    endpoint = end(role)
    for packet in (*towards(role, True), *towards(role, False)):
        for broken in (packet[:-1], packet + b"\0", packet[:19], b"\x45" + packet[1:19], b""):
            assert isinstance(endpoint.outbound(broken, 0.0), Drop)
            assert isinstance(endpoint.inbound(right_peer(role), broken), Drop)
    short_header = b"\x44" + packet4(HOME4, CN4)[1:]
    assert endpoint.outbound(short_header, 0.0) is MALFORMED


@given(octets=st.binary(max_size=120), first=st.integers(0, 255), role=st.sampled_from(Role))
def test_any_octets_get_a_verdict(octets: bytes, first: int, role: Role) -> None:
    for layout in (None, *TlvLayout):
        endpoint = end(role, tlv=layout)
        for octet in (bytes((first,)), b"\x45", b"\x60", b"\x00", b""):
            endpoint.outbound(octet + octets, 0.0)
            for peer in (right_peer(role), peer_of(udp_path(role).remote)):
                verdict = endpoint.inbound(peer, octet + octets, first)
                assert isinstance(verdict, bytes | Control | Drop)


@given(
    flips=st.lists(st.tuples(st.integers(0, 99), st.integers(1, 255)), max_size=4), role=st.sampled_from(Role)
)
def test_no_corrupted_packet_gets_past_the_address_checks(flips: list[tuple[int, int]], role: Role) -> None:
    endpoint = end(role)
    for packet in towards(role, outbound=False):
        octets = bytearray(packet)
        for position, change in flips:
            octets[position] ^= change
        verdict = endpoint.inbound(right_peer(role), bytes(octets))
        if isinstance(verdict, bytes):
            six = verdict[0] >> 4 == 6
            start = {(True, True): 24, (True, False): 8, (False, True): 16, (False, False): 12}[
                six, role is Role.MOBILE_NODE
            ]
            home = HOME6.packed if six else HOME4.packed
            assert verdict[start : start + len(home)] == home


def test_a_tlv_header_without_udp_is_malformed() -> None:
    endpoint = end(Role.HOME_AGENT, tlv=TlvLayout.RFC5845)
    wrapped = wrap(packet6(HOME6, CN6), Encapsulation.UDP_TLV)
    assert endpoint.inbound(peer_of(CARE_OF4, 0), wrapped) is MALFORMED


def test_drops_are_counted_by_reason() -> None:
    endpoint = end(Role.MOBILE_NODE)
    endpoint.outbound(packet6(STRANGER6, CN6), 0.0)
    endpoint.outbound(packet6(STRANGER6, CN6), 0.0)
    endpoint.inbound(right_peer(Role.MOBILE_NODE), b"")
    endpoint.inbound(right_peer(Role.MOBILE_NODE), wrap(packet6(CN6, HOME6), Encapsulation.UDP_TLV))
    assert endpoint.drops == {"not-a-home-address": 2, "udp-empty": 1, "tlv-not-negotiated": 1}


# ---- congestion -----------------------------------------------------------------------------------------
@BOTH_ENDS
def test_a_congestion_mark_on_the_outer_header_reaches_the_inner_one(role: Role) -> None:
    endpoint = end(role)
    capable, incapable = (
        (packet6(CN6, HOME6, tos=2), packet6(CN6, HOME6))
        if role is Role.MOBILE_NODE
        else (packet6(HOME6, CN6, tos=2), packet6(HOME6, CN6))
    )
    marked = endpoint.inbound(right_peer(role), capable, 3)
    assert isinstance(marked, bytes)
    assert IPv6Header.decode(marked).traffic_class == 3
    assert isinstance(endpoint.inbound(right_peer(role), incapable, 3), Drop)
    assert endpoint.drops == {"ecn-congested": 1}


# ---- MTU ------------------------------------------------------------------------------------------------
@BOTH_ENDS
def test_packets_up_to_the_inner_mtu_leave_whole(role: Role) -> None:
    endpoint = end(role)
    home6, home4 = (HOME6, CN6), (HOME4, CN4)
    if role is Role.HOME_AGENT:
        home6, home4 = (CN6, HOME6), (CN4, HOME4)
    assert isinstance(endpoint.outbound(packet6(*home6, size=1472), 0.0), Lane)
    assert isinstance(endpoint.outbound(packet4(*home4, size=1472), 0.0), Lane)
    assert isinstance(endpoint.outbound(packet6(*home6, size=1473), 0.0), Reply)
    assert isinstance(endpoint.outbound(packet4(*home4, size=1473), 0.0), Reply)


def test_a_large_ipv6_packet_is_answered_with_the_mtu_of_the_path() -> None:
    packet = packet6(HOME6, CN6, size=1500)
    reply = end(Role.MOBILE_NODE).outbound(packet, 0.0)
    assert isinstance(reply, Reply)
    header = IPv6Header.decode(reply.packet)
    assert (header.source, header.destination) == (CN6, HOME6)
    message = decode_icmp6(reply.packet[40:], header.source, header.destination)
    assert message == PacketTooBig(1472, packet[: 1280 - 48])


def test_a_large_ipv4_packet_is_answered_if_it_must_not_be_fragmented_and_cut_if_it_may() -> None:
    endpoint = end(Role.MOBILE_NODE)
    reply = endpoint.outbound(packet4(HOME4, CN4, size=1500), 0.0)
    assert isinstance(reply, Reply)
    assert reply.packet[20:22] == b"\x03\x04"
    assert reply.packet[26:28] == (1472).to_bytes(2, "big")
    pieces = endpoint.outbound(packet4(HOME4, CN4, size=3000, dont_fragment=False), 0.0)
    assert isinstance(pieces, Pieces)
    assert len(pieces.packets) == 3
    assert max(map(len, pieces.packets)) <= 1472
    assert not pieces.fragment_outer


def test_below_the_least_ipv6_mtu_the_outer_packet_is_fragmented() -> None:
    path = replace(udp_path(Role.MOBILE_NODE, mtu=1200), encapsulation=Encapsulation.IP_IN_IP, remote_port=0)
    endpoint = end(Role.MOBILE_NODE, path)
    packet = packet6(HOME6, CN6, size=1280)
    assert endpoint.outbound(packet, 0.0) == Pieces(endpoint.lane(path), (packet,), fragment_outer=True)


def test_in_udp_it_is_the_inner_packet_that_is_fragmented_then() -> None:
    endpoint = end(Role.MOBILE_NODE, udp_path(Role.MOBILE_NODE, mtu=1200))
    pieces = endpoint.outbound(packet6(HOME6, CN6, size=1280), 0.0)
    assert isinstance(pieces, Pieces)
    assert not pieces.fragment_outer
    assert [piece[6] for piece in pieces.packets] == [44, 44]
    assert max(map(len, pieces.packets)) <= 1172
    options = endpoint.outbound(packet6(HOME6, CN6, 60, size=1280), 0.0)
    assert isinstance(options, Pieces)
    assert options.fragment_outer, "an extension header may belong before the fragment header"
    reply = endpoint.outbound(packet6(HOME6, CN6, size=1281), 0.0)
    assert isinstance(reply, Reply)
    assert reply.packet[44:48] == (1280).to_bytes(4, "big")


def test_a_reported_path_mtu_is_believed_for_ten_minutes_and_not_below_1280() -> None:
    endpoint = end(Role.MOBILE_NODE)
    packet = packet6(HOME6, CN6, size=1472)
    lane = endpoint.outbound(packet, 0.0)
    assert isinstance(lane, Lane)
    lane.reduce(1400, now=0.0)
    assert lane.limit == 1372
    lane.reduce(68, now=0.0)
    assert lane.limit == 1280
    assert isinstance(endpoint.outbound(packet, 599.0), Reply)
    assert endpoint.outbound(packet, 600.0) is lane


def test_errors_are_not_answered_with_errors_and_not_without_end() -> None:
    endpoint = end(Role.MOBILE_NODE)
    error = packet6(HOME6, CN6, ICMPV6, size=1500)
    too_big_itself = error[:40] + b"\x02" + error[41:]
    assert endpoint.outbound(too_big_itself, 0.0) is TOO_BIG
    verdicts = [endpoint.outbound(packet6(HOME6, CN6, size=1500), 0.0) for _ in range(1000)]
    assert sum(isinstance(verdict, Reply) for verdict in verdicts) == 50
    assert isinstance(endpoint.outbound(packet6(HOME6, CN6, size=1500), 1.0), Reply)


@pytest.mark.parametrize("header", [43, 50, 60, 135])
def test_messages_between_home_address_and_home_agent_are_signalling_outside_the_tunnel_too(
    header: int,
) -> None:
    agent, far = IPv6Address("2001:db8:99::2"), IPv6Address("2001:db8:cc::1")
    end = Endpoint(Role.MOBILE_NODE, EndpointConfig(home_agent=frozenset({agent})))
    for source, destination, wanted in ((agent, HOME6, True), (HOME6, agent, True), (HOME6, far, False)):
        packet = IPv6Header(source, destination, header, 8).encode() + bytes(8)
        assert end.is_signalling(packet) is wanted
        assert not end.is_signalling(packet[:39])
    assert not end.is_signalling(IPv6Header(HOME6, agent, 17, 8).encode() + bytes(8))
