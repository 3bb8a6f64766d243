"""Packets that are called alike: the endpoint must think the same of them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.values.test_tunnel_endpoint import (
    AGENT4,
    AGENT6,
    CN4,
    CN6,
    HOME4,
    HOME6,
    UDP,
    end,
    packet4,
    packet6,
    right_peer,
    towards,
)
from tunnel.encapsulation import wrap
from tunnel.endpoint import Endpoint, Role
from tunnel.lane import CONTROL, Lane
from tunnel.likeness import likeness
from tunnel.path import Drop, Encapsulation
from wire.profile import TlvLayout

CHANGES = st.lists(st.tuples(st.integers(0, 55), st.integers(0, 255)), min_size=1, max_size=3)
PORT = (4191).to_bytes(2, "big")


def are_alike(first: bytes, other: bytes, before: int = 0) -> bool:
    span, mask, key = likeness(first, before)
    return len(first) == len(other) and int.from_bytes(other[:span], "big") & mask == key


def with_port(packet: bytes, begin: int) -> bytes:
    """The same, from a UDP port that a nested tunnel would have."""
    return packet[:begin] + PORT + packet[begin + 2 :]


def packets(role: Role, outbound: bool) -> list[bytes]:
    sides4, sides6 = (HOME4, AGENT4), (HOME6, AGENT6)
    if (role is Role.MOBILE_NODE) is not outbound:
        sides4, sides6 = (CN4, HOME4), (CN6, HOME6)
    return [
        *towards(role, outbound),
        packet4(*sides4, UDP),
        packet6(*sides6, UDP),
        with_port(packet4(*sides4, UDP), 20),
        with_port(packet6(*sides6, UDP), 40),
        packet4(*sides4, UDP, options=bytes([1, 1, 1, 1])),
    ]


def changed(packet: bytes, changes: list[tuple[int, int]]) -> bytes:
    octets = bytearray(packet)
    for place, value in changes:
        octets[place] = value
    return bytes(octets)


@pytest.mark.parametrize("role", list(Role))
@given(number=st.integers(0, 6), changes=CHANGES)
def test_what_is_alike_leaves_by_the_same_lane_or_not_at_all(
    role: Role, number: int, changes: list[tuple[int, int]]
) -> None:
    packet = packets(role, outbound=True)[number]
    other = changed(packet, changes)
    if are_alike(packet, other):
        endpoint = end(role)
        verdict = endpoint.outbound(packet, 0.0)
        assert isinstance(verdict, Lane | Drop)
        assert endpoint.outbound(other, 0.0) is verdict


@pytest.mark.parametrize("role", list(Role))
@given(number=st.integers(0, 6), changes=CHANGES, tlv=st.booleans())
def test_what_is_alike_comes_in_or_is_refused_together(
    role: Role, number: int, changes: list[tuple[int, int]], tlv: bool
) -> None:
    inner = packets(role, outbound=False)[number]
    packet = wrap(inner, Encapsulation.UDP_TLV) if tlv else inner
    other = changed(packet, changes)
    before = len(packet) - len(inner)
    if are_alike(packet, other, before):
        endpoint = end(role, tlv=TlvLayout.RFC5845)
        assert kind(endpoint, role, other, before) == kind(endpoint, role, packet, before)


def kind(endpoint: Endpoint, role: Role, payload: bytes, before: int) -> str:
    match endpoint.inbound(right_peer(role), payload):
        case Drop(reason=reason):
            return reason
        case bytes() as taken:
            assert taken == payload[before:]
            return "taken"
        case verdict:
            assert verdict is CONTROL
            return "control"


@pytest.mark.parametrize("role", list(Role))
def test_packets_of_one_flow_are_alike_and_those_of_another_are_not(role: Role) -> None:
    for packet in packets(role, outbound=True)[:4]:
        version4 = packet[0] >> 4 == 4
        free = {4, 5, 6, 7, 8, 10, 11} if version4 else {7}  # identification to checksum, or the hop limit
        headers = range(24 if version4 else 44)
        for place in headers:
            other = changed(packet, [(place, packet[place] ^ 1)])
            assert are_alike(packet, other) is (place in free)
        assert are_alike(packet, changed(packet, [(60, 9)]))
        assert not are_alike(packet, packet + b"\0")


@given(st.binary(max_size=60), st.integers(0, 4))
def test_of_strange_octets_nothing_is_alike_but_what_looks_like_a_header(octets: bytes, before: int) -> None:
    looks = len(octets) >= before + 24 and (
        octets[before] == 0x45 or (octets[before] >> 4 == 6 and len(octets) >= before + 44)
    )
    assert are_alike(octets, octets, before) is looks
