"""Protected payload at both ends: who may send, what is refused in every encapsulation, and fail closed."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address, ip_network
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.values.test_tunnel_endpoint import (
    AGENT4,
    AGENT6,
    CARE_OF4,
    CARE_OF6,
    CN4,
    CN6,
    ESP,
    HOME4,
    HOME6,
    MOBILITY,
    NAT_PORT,
    OTHER6,
    STRANGER4,
    STRANGER6,
    config,
    packet4,
    packet6,
    towards,
    tunnel_packets,
)
from tunnel.carriers import KEYS_USED_UP, NO_CARRIER, NO_KEYS, QUEUE_FULL, Carriers, reason_not_sent
from tunnel.encapsulation import ESP_MALFORMED, IKE, KEEPALIVE, esp_in, wrap
from tunnel.endpoint import (
    ASTRAY,
    MALFORMED,
    NESTED,
    NOT_HOME,
    NOT_ROUTABLE,
    UNPROTECTED,
    WRONG_PEER,
    Endpoint,
    Role,
)
from tunnel.forwarding import ForwardingTable, Peer, Route, peer_of
from tunnel.keyring import Keyring, PayloadPair
from tunnel.lane import Lane
from tunnel.path import Drop, Encapsulation, TunnelPath
from tunnel.payload_esp import AssociationExhausted, PayloadAssociation, PayloadSealer
from tunnel.plane import Intake, Seal, Send
from tunnel.security import BAD_ICV, DUMMY, REPLAYED, UNKNOWN_SPI

BOTH_ENDS = pytest.mark.parametrize("role", list(Role))
SPI, OTHER_SPI, OLD_SPI = 0xAAAA_0001, 0xAAAA_0002, 0xAAAA_0003


def association(spi: int, number: int) -> PayloadAssociation:
    return PayloadAssociation(spi, bytes([number]) * 32, b"salt")


def pair(spi: int = SPI, number: int = 1, stand_in: int = 0) -> PayloadPair:
    """`number` stands for the other end: another one has other keys in both directions."""
    return PayloadPair(association(0xBBBB_0000, 100 + number), association(spi, number), stand_in)


def sealer(of: PayloadPair | None = None) -> PayloadSealer:
    """The other end, which sends to this one."""
    return PayloadSealer((of or pair()).inbound)


def path(role: Role, outer: int = 4, spi: int = SPI) -> TunnelPath:
    kind, port = (Encapsulation.ESP_UDP, 4500) if outer == 4 else (Encapsulation.ESP, 0)
    care_of: IPv4Address | IPv6Address = CARE_OF4 if outer == 4 else CARE_OF6
    agent: IPv4Address | IPv6Address = AGENT4 if outer == 4 else AGENT6
    local, remote = (care_of, agent) if role is Role.MOBILE_NODE else (agent, care_of)
    return TunnelPath(local, remote, kind, 0, port, spi=spi)


def end(role: Role, *pairs: PayloadPair, outer: int = 4, accept: tuple[TunnelPath, ...] = ()) -> Endpoint:
    """An end that protects HOME; the keys of another mobile node and its home address are there as well."""
    other = pair(OTHER_SPI, 2)
    keyring = Keyring((*(pairs or (pair(),)), other))
    mine, theirs = path(role, outer), path(role, outer, OTHER_SPI)
    table = ForwardingTable(
        [
            Route(ip_network(HOME6), mine, accept),
            Route(ip_network(HOME4), mine, accept),
            Route(ip_network(OTHER6), theirs),
        ]
    )
    return Endpoint(role, replace(config(role), keyring=keyring), table)


def peer(role: Role, outer: int = 4) -> Peer:
    here = path(role, outer)
    return peer_of(here.remote, here.remote_port)


# ---- what passes ------------------------------------------------------------------------------------------
@pytest.mark.requirement("R135")
@BOTH_ENDS
@pytest.mark.parametrize("outer", [4, 6])
def test_what_the_other_end_has_sealed_comes_in(role: Role, outer: int) -> None:
    endpoint, sealing = end(role, outer=outer), sealer()
    for packet in towards(role, outbound=False):
        assert endpoint.inbound_protected(peer(role, outer), sealing.seal(packet)) == packet
    assert endpoint.drops == {}


@BOTH_ENDS
def test_the_keys_and_not_the_outer_source_say_whom_a_packet_is_from(role: Role) -> None:
    """After a move payload may overtake the Binding Update; the section on selectors is RFC 4301's."""
    endpoint, sealing = end(role), sealer()
    for source in (peer_of(STRANGER4, 9), peer_of(STRANGER6), peer_of(CARE_OF4, 1)):
        packet = towards(role, outbound=False)[0]
        assert endpoint.inbound_protected(source, sealing.seal(packet)) == packet


@BOTH_ENDS
def test_both_families_leave_by_the_protected_path(role: Role) -> None:
    endpoint = end(role)
    for packet in towards(role, outbound=True):
        lane = endpoint.outbound(packet, 0.0)
        assert isinstance(lane, Lane)
        assert lane.path == path(role)
        assert lane.limit == 1438


@BOTH_ENDS
def test_during_a_change_of_keys_the_old_ones_are_taken_as_well(role: Role) -> None:
    old = pair(OLD_SPI, 3)
    endpoint = end(role, pair(), old, accept=(path(role, spi=OLD_SPI),))
    packet = towards(role, outbound=False)[0]
    assert endpoint.inbound_protected(peer(role), sealer(old).seal(packet)) == packet
    assert endpoint.inbound_protected(peer(role), sealer().seal(packet)) == packet


@BOTH_ENDS
def test_congestion_marks_of_the_outer_header_come_in(role: Role) -> None:
    endpoint, sealing = end(role), sealer()
    source, destination = (CN6, HOME6) if role is Role.MOBILE_NODE else (HOME6, CN6)
    got = endpoint.inbound_protected(peer(role), sealing.seal(packet6(source, destination, tos=2)), 3)
    assert got == packet6(source, destination, tos=3)


# ---- the matrix: every way in, against every way that a home address can be reached ----------------------
PLAIN = {
    "udp": (Encapsulation.UDP, 4),
    "udp-tlv": (Encapsulation.UDP_TLV, 4),
    "udp-tlv-draft": (Encapsulation.UDP_TLV_DRAFT, 4),
    "ip4": (Encapsulation.IP_IN_IP, 4),
    "ip6": (Encapsulation.IP_IN_IP, 6),
}
PROTECTED = {"esp-udp": (Encapsulation.ESP_UDP, 4), "esp": (Encapsulation.ESP, 6)}


def path_of(role: Role, kind: Encapsulation, outer: int) -> TunnelPath:
    if kind.protected:
        return path(role, outer)
    base = path(role, outer)
    port = (4191 if role is Role.MOBILE_NODE else NAT_PORT) if kind.in_udp else 0
    return TunnelPath(base.local, base.remote, kind, 0, port)


@pytest.mark.requirement("R135")
@BOTH_ENDS
@pytest.mark.parametrize(("route", "way"), list(product({**PLAIN, **PROTECTED}, {**PLAIN, **PROTECTED})))
def test_a_packet_passes_only_the_way_that_its_home_address_is_bound_to(
    role: Role, route: str, way: str
) -> None:
    here = path_of(role, *{**PLAIN, **PROTECTED}[route])
    layout = {"udp-tlv": "rfc5845", "udp-tlv-draft": "draft"}
    tlv = next((t for t in _tlv_layouts() if t.value == layout.get(way)), None)
    table = ForwardingTable(Route(ip_network(home), here) for home in (HOME6, HOME4))
    endpoint = Endpoint(role, replace(config(role, tlv), keyring=Keyring([pair()])), table)
    sealing = sealer()
    for packet in towards(role, outbound=False):
        kind, outer = {**PLAIN, **PROTECTED}[way]
        other = path_of(role, kind, outer)
        source = peer_of(other.remote, other.remote_port)
        if kind.protected:
            verdict = endpoint.inbound_protected(source, sealing.seal(packet))
        else:
            verdict = endpoint.inbound(source, wrap(packet, kind))
        both_udp = not here.encapsulation.protected and here.encapsulation.in_udp and kind.in_udp
        if route == way or (both_udp and not kind.protected):
            assert verdict == packet
        elif here.encapsulation.protected:
            expected = packet if kind.protected else UNPROTECTED
            assert verdict == expected
        else:
            assert verdict is WRONG_PEER


def _tlv_layouts() -> list[object]:
    from wire.profile import TlvLayout

    return list(TlvLayout)


# ---- who may not ------------------------------------------------------------------------------------------
@BOTH_ENDS
def test_keys_of_another_mobile_node_open_no_door(role: Role) -> None:
    endpoint = end(role)
    stolen = sealer(pair(OTHER_SPI, 2)).seal(towards(role, outbound=False)[0])
    assert endpoint.inbound_protected(peer(role), stolen) is WRONG_PEER
    assert endpoint.drops == {"wrong-peer": 1}


@BOTH_ENDS
def test_forged_replayed_and_unknown_packets_are_counted_by_reason(role: Role) -> None:
    endpoint, packet = end(role), towards(role, outbound=False)[0]
    honest = sealer().seal(packet)
    assert endpoint.inbound_protected(peer(role), honest) == packet
    assert endpoint.inbound_protected(peer(role), honest) is REPLAYED
    forged = PayloadSealer(association(SPI, 9))
    forged.next_sequence = 2
    assert endpoint.inbound_protected(peer(role), forged.seal(packet)) is BAD_ICV
    assert (
        endpoint.inbound_protected(peer(role), PayloadSealer(association(0x777, 1)).seal(packet))
        is UNKNOWN_SPI
    )
    assert endpoint.drops == {"esp-replayed": 1, "esp-bad-icv": 1, "esp-unknown-spi": 1}


@BOTH_ENDS
def test_without_keys_nothing_comes_in_and_nothing_may_leave(role: Role) -> None:
    endpoint = end(role)
    endpoint.config = replace(endpoint.config, keyring=Keyring())
    packet = towards(role, outbound=False)[0]
    assert endpoint.inbound_protected(peer(role), sealer().seal(packet)) is UNKNOWN_SPI
    assert endpoint.inbound(peer(role), packet) is UNPROTECTED
    assert endpoint.session(path(role)) is None
    assert endpoint.session(path(role, spi=0)) is None


@BOTH_ENDS
@pytest.mark.parametrize("header", [MOBILITY, ESP])
def test_signalling_inside_protected_payload_is_astray(role: Role, header: int) -> None:
    update = packet6(AGENT6, HOME6, header) if role is Role.MOBILE_NODE else packet6(HOME6, AGENT6, header)
    assert end(role).inbound_protected(peer(role), sealer().seal(update)) is ASTRAY


@BOTH_ENDS
def test_the_rules_for_inner_packets_hold_inside_as_well(role: Role) -> None:
    endpoint, sealing = end(role), sealer()

    def verdict(packet: bytes) -> object:
        return endpoint.inbound_protected(peer(role), sealing.seal(packet))

    assert verdict(packet6(STRANGER6, CN6)) is NOT_HOME
    assert verdict(packet6(HOME6, IPv6Address("ff02::1"))) is NOT_ROUTABLE
    assert verdict(packet4(IPv4Address("127.0.0.1"), HOME4)) is NOT_ROUTABLE
    for home, agent in ((str(HOME6), str(AGENT6)), (str(HOME4), str(AGENT4))):
        for packet in tunnel_packets(home, agent) + tunnel_packets(agent, home):
            assert verdict(packet) is NESTED
    assert verdict(b"\x60" + bytes(5)) is MALFORMED
    assert verdict(b"\x00" + bytes(60)) is MALFORMED


@BOTH_ENDS
def test_a_tunnel_to_port_4500_of_the_home_agent_is_never_carried_inside(role: Role) -> None:
    endpoint, sealing = end(role), sealer()
    for source, destination in ((HOME4, AGENT4), (AGENT4, HOME4)):
        datagram = packet4(source, destination, 17)
        for ports in (b"\x12\x34\x11\x94", b"\x11\x94\x12\x34"):
            packet = datagram[:20] + ports + datagram[24:]
            assert endpoint.outbound(packet, 0.0) is NESTED
            assert endpoint.inbound_protected(peer(role), sealing.seal(packet)) is NESTED


# ---- port 4500 --------------------------------------------------------------------------------------------
@BOTH_ENDS
def test_port_4500_is_shared_as_rfc_3948_says(role: Role) -> None:
    endpoint, packet = end(role), towards(role, outbound=False)[0]
    assert endpoint.inbound_4500(peer(role), b"\xff") is KEEPALIVE
    assert endpoint.inbound_4500(peer(role), sealer().seal(b"")) is DUMMY
    assert endpoint.drops == {}, "neither is a refusal"
    assert endpoint.inbound_4500(peer(role), bytes(4) + b"an IKE message") is IKE
    for short in (b"", b"\xff\xff", b"\0", bytes(8), b"\x01" * 8):
        assert endpoint.inbound_4500(peer(role), short) is ESP_MALFORMED
    sealing = sealer()
    sealing.next_sequence = 2
    assert endpoint.inbound_4500(peer(role), sealing.seal(packet)) == packet
    assert endpoint.drops == {"ike-unsupported": 1, "esp-malformed": 5}


@given(octets=st.binary(max_size=120), role=st.sampled_from(Role), known=st.booleans())
def test_any_octets_on_port_4500_get_a_verdict(octets: bytes, role: Role, known: bool) -> None:
    endpoint = end(role)
    datagram = SPI.to_bytes(4, "big") + octets if known else octets
    verdict = endpoint.inbound_4500(peer(role), datagram)
    assert isinstance(verdict, Drop)
    assert isinstance(esp_in(datagram), bytes | Drop)


# ---- where to send: spoofed-payload in docs/security.md ---------------------------------------------------
@pytest.mark.requirement("R136b")
def test_the_home_agent_follows_only_authentic_packets_that_are_new() -> None:
    endpoint, here = end(Role.HOME_AGENT), path(Role.HOME_AGENT)
    lane = endpoint.lane(here)
    lane.send = lambda packet: None
    endpoint.connected(lane)
    assert endpoint.destination(here).remote_port == 4500
    sealing = sealer()
    honest = sealing.seal(packet6(HOME6, CN6))
    forged = honest[:-1] + bytes([honest[-1] ^ 1])
    for port in range(1, 200):
        endpoint.inbound_protected((str(CARE_OF4), port), forged)
    assert endpoint.destination(here).remote_port == 4500
    assert lane.send is not None
    endpoint.inbound_protected((str(CARE_OF4), NAT_PORT), honest)
    assert endpoint.destination(here).remote_port == NAT_PORT
    assert lane.send is None, "it has to be connected anew"
    endpoint.inbound_protected((str(CARE_OF4), 666), honest)
    assert endpoint.destination(here).remote_port == NAT_PORT, "a replay moves nothing"


def test_no_packet_moves_a_mobile_node_to_another_address() -> None:
    """Only a Binding Update does: else whoever copies a packet could send a stream to a third party."""
    endpoint, here = end(Role.HOME_AGENT), path(Role.HOME_AGENT)
    endpoint.inbound_protected((str(STRANGER4), 777), sealer().seal(packet6(HOME6, CN6)))
    assert endpoint.destination(here) == here
    moved = replace(here, remote=STRANGER4)
    assert endpoint.destination(moved).remote_port == 777, "but once it has moved, its port is known"


def test_the_mobile_node_knows_where_its_home_agent_is() -> None:
    endpoint, here = end(Role.MOBILE_NODE), path(Role.MOBILE_NODE)
    endpoint.inbound_protected((str(AGENT4), 4501), sealer().seal(packet6(CN6, HOME6)))
    assert endpoint.destination(here) == here


# ---- carriers: fail closed --------------------------------------------------------------------------------
class FakeCarrier:
    """Sockets at one address that keep what they are given."""

    port = 4191
    interface = ""
    intakes: tuple[Intake, ...] = ()

    def __init__(self, local: IPv4Address | IPv6Address) -> None:
        self.local = local
        self.sent: list[tuple[TunnelPath, bytes]] = []

    def sender(self, path: TunnelPath, seal: Seal | None) -> Send:
        return lambda packet: self.sent.append((path, packet if seal is None else seal.seal(packet)))

    fragmenting_sender = sender

    def train_sender(self, path: TunnelPath, seal: Seal | None) -> None:
        """No trains here."""

    def path_mtu(self, path: TunnelPath) -> int:
        return path.link_mtu


@BOTH_ENDS
def test_what_cannot_be_sealed_is_not_sent(role: Role) -> None:
    carrier = FakeCarrier(path(role).local)
    carriers = Carriers([carrier])
    endpoint = end(role)
    for keyless in (path(role, spi=0), path(role, spi=0x999)):
        lane = endpoint.lane(keyless)
        with pytest.raises(OSError, match="no keys") as caught:
            carriers.connect(lane, endpoint)(b"secret")
        assert reason_not_sent(caught.value) is NO_KEYS
        assert lane.send is None
    assert carrier.sent == []


@BOTH_ENDS
def test_a_lane_is_sealed_by_its_own_keys_and_counts_on(role: Role) -> None:
    carrier, endpoint = FakeCarrier(path(role).local), end(role)
    carriers, lane = Carriers([carrier]), endpoint.lane(path(role))
    for _ in range(3):
        carriers.connect(lane, endpoint)(packet6(HOME6, CN6))
    assert lane.send_fragmented is not None
    lane.send_fragmented(packet6(HOME6, CN6))
    sent = [int.from_bytes(esp[:8], "big") for _, esp in carrier.sent]
    assert sent == [0xBBBB_0000_0000_0001 + number for number in range(4)]


def test_refusals_of_carriers_have_their_reasons() -> None:
    endpoint = end(Role.MOBILE_NODE)
    with pytest.raises(OSError, match="no underlay") as caught:
        Carriers().connect(endpoint.lane(path(Role.MOBILE_NODE)), endpoint)(b"")
    assert reason_not_sent(caught.value) is NO_CARRIER
    assert reason_not_sent(AssociationExhausted()) is KEYS_USED_UP
    assert reason_not_sent(BlockingIOError(11, "again")) is QUEUE_FULL
    assert reason_not_sent(OSError(1, "not permitted")) == Drop("send-eperm")


# ---- sizes ------------------------------------------------------------------------------------------------
@pytest.mark.requirement("R135")
@pytest.mark.parametrize(("outer", "overhead"), [(4, 20 + 8 + 34), (6, 40 + 34)])
def test_the_largest_inner_packet_fills_the_link_and_one_octet_more_does_not_fit(
    outer: int, overhead: int
) -> None:
    here = path(Role.MOBILE_NODE, outer)
    assert here.overhead == overhead
    headers = overhead - 34
    for mtu in range(1280, 1504):
        room = replace(here, link_mtu=mtu).inner_mtu
        sealing = sealer()
        assert headers + len(sealing.seal(b"\x60" + bytes(room - 1))) <= mtu
        assert headers + len(sealing.seal(b"\x60" + bytes(room))) > mtu


@pytest.mark.parametrize("kind", [Encapsulation.ESP, Encapsulation.ESP_UDP])
def test_esp_is_never_wrapped_without_keys(kind: Encapsulation) -> None:
    with pytest.raises(ValueError, match="needs keys"):
        wrap(packet4(HOME4, CN4), kind)
