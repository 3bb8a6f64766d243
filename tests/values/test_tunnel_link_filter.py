"""The filter of what is kept of a link, run by a small machine of our own and compared with a sentence."""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunnel.link_filter import MOST, Towards, Watch, program

HOMES = frozenset(
    {IPv6Address("2001:db8:99::77"), IPv6Address("2001:db8:99::78"), IPv4Address("203.0.113.77")}
)
OTHERS = (IPv6Address("2001:db8:99::79"), IPv4Address("203.0.113.78"))
ETHERTYPES = {4: 0x0800, 6: 0x86DD}


def run(code: bytes, packet: bytes, protocol: int, packet_type: int) -> int:
    """What classic BPF makes of a packet; a load beyond its end rejects, as in the kernel."""
    instructions = list(struct.iter_unpack("=HBBI", code))
    position = accumulator = 0
    while True:
        operation, if_true, if_false, operand = instructions[position]
        position += 1
        match operation:
            case 0x20 | 0x28 if operand >= 0xFFFFF000:
                accumulator = {0xFFFFF000: protocol, 0xFFFFF004: packet_type}[operand]
            case 0x20:
                at = operand - 0xFFF00000
                if at + 4 > len(packet):
                    return 0
                accumulator = int.from_bytes(packet[at : at + 4], "big")
            case 0x15:
                position += if_true if accumulator == operand else if_false
            case 0x05:
                position += operand
            case _:
                assert operation == 0x06
                return operand


def packet_between(source: IPv4Address | IPv6Address, destination: IPv4Address | IPv6Address) -> bytes:
    before = bytes(12) if source.version == 4 else bytes(8)
    return before + source.packed + destination.packed


@given(
    st.sampled_from(sorted((*HOMES, *OTHERS), key=str)),
    st.booleans(),
    st.booleans(),
    st.integers(0, 4),
    st.sets(st.sampled_from(list(Towards)), min_size=1),
)
def test_frames_of_these_homes_in_these_directions_pass_and_no_others(
    home: IPv4Address | IPv6Address, by_source: bool, is_source: bool, kind: int, directions: set[Towards]
) -> None:
    code = program(Watch("eth0", tuple(directions), HOMES, by_source))
    far = IPv4Address("192.0.2.9") if home.version == 4 else IPv6Address("2001:db8:cc::9")
    packet = packet_between(home, far) if is_source else packet_between(far, home)
    wanted = home in HOMES and by_source is is_source and kind in set(directions)
    assert bool(run(code, packet, ETHERTYPES[home.version], kind)) is wanted
    assert run(code, packet, 0x0806, kind) == 0, "ARP"
    assert run(code, packet[:15], ETHERTYPES[home.version], kind) == 0, "half a header"


def test_a_filter_takes_a_bounded_number_of_addresses() -> None:
    many = frozenset(IPv6Address(number) for number in range(MOST))
    code = program(Watch("eth0", (Towards.LINK,), many, by_source=True))
    assert len(code) // 8 <= 4096
    last = packet_between(IPv6Address(MOST - 1), IPv6Address("::"))
    assert run(code, last, ETHERTYPES[6], Towards.LINK)
    with pytest.raises(ValueError, match="too many"):
        program(Watch("eth0", (Towards.LINK,), many | {IPv6Address(MOST)}, by_source=True))
