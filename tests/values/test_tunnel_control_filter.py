"""The filter of the control socket, run by a small machine of our own and compared with a sentence."""

from __future__ import annotations

from ipaddress import IPv6Address

from hypothesis import given
from hypothesis import strategies as st

from tests.values.classic_bpf import run
from tunnel.control_filter import accept_control, accept_nothing
from wire.ip import IPv6Header

LOCAL = IPv6Address("2001:db8:99::2")
NEARLY = [IPv6Address(int(LOCAL) ^ 1 << bit) for bit in (0, 31, 32, 63, 64, 95, 96, 127)]


@given(
    destination=st.sampled_from([LOCAL, *NEARLY]),
    next_header=st.integers(0, 255),
    packet_type=st.integers(0, 4),
)
def test_control_to_this_address_and_nothing_else_passes(
    destination: IPv6Address, next_header: int, packet_type: int
) -> None:
    packet = IPv6Header(IPv6Address("2001:db8:1::9"), destination, next_header, 8).encode() + bytes(8)
    wanted = destination == LOCAL and next_header in (43, 50, 60, 135) and packet_type == 0
    assert bool(run(accept_control(LOCAL), packet, packet_type)) is wanted


@given(st.sampled_from([LOCAL, *NEARLY]), st.integers(0, 255), st.integers(0, 255), st.booleans())
def test_where_icmp_is_wanted_complaints_and_replies_of_discovery_pass_and_nothing_else_of_it(
    destination: IPv6Address, next_header: int, kind: int, icmp: bool
) -> None:
    payload = bytes([kind]) + bytes(7)
    for header in (next_header, 58):
        packet = IPv6Header(IPv6Address("2001:db8:1::9"), destination, header, 8).encode() + payload
        wanted = header in (43, 50, 60, 135) or (icmp and header == 58 and kind in (4, 145))
        wanted = wanted and destination == LOCAL
        assert bool(run(accept_control(LOCAL, icmp), packet, 0)) is wanted


@given(st.binary(max_size=60), st.integers(0, 4))
def test_nothing_passes_the_filter_of_a_quiet_socket_and_short_packets_pass_none(
    packet: bytes, packet_type: int
) -> None:
    assert run(accept_nothing(), packet, packet_type) == 0
    assert run(accept_control(LOCAL), packet[:39], packet_type) == 0
    assert run(accept_control(LOCAL, icmp=True), packet[:39], packet_type) == 0
