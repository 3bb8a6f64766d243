"""What a program asks of an inner packet before it touches it: the rules of `tunnel.endpoint`, or stricter.

Pure. docs/security.md, as for tunnel.endpoint. Whatever is not plainly right is declined: it goes to user
space, where the endpoint judges, refuses and counts. Nothing is decided here that it would decide otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from tunnel.bpf.assembler import R0, R1, R2, R3, R4, R6, R7, R8, R9, R10, Assembler, Helper, If, Op, Operand
from tunnel.bpf.layout import KEY_SIZE
from wire.esp import UDP_PORT_NAT_TRAVERSAL
from wire.ip import (
    IPV4_HEADER,
    IPV6_HEADER,
    PROTOCOL_DESTINATION_OPTIONS,
    PROTOCOL_ESP,
    PROTOCOL_IPV4,
    PROTOCOL_IPV6,
    PROTOCOL_MOBILITY,
    PROTOCOL_ROUTING,
    PROTOCOL_UDP,
)
from wire.profile import HOME_AGENT_PORT

PROTOCOL_TCP, _PROTOCOL_GRE = 6, 47
_TUNNELS = (PROTOCOL_IPV4, PROTOCOL_IPV6, _PROTOCOL_GRE)
_CONTROL = (PROTOCOL_ROUTING, PROTOCOL_ESP, PROTOCOL_DESTINATION_OPTIONS, PROTOCOL_MOBILITY)
ETHERTYPE_IPV4, ETHERTYPE_IPV6 = 0x0800, 0x86DD

# struct __sk_buff of linux/bpf.h
SKB_LENGTH, SKB_PACKET_TYPE, SKB_MARK, SKB_PROTOCOL, SKB_VLAN_PRESENT = 0, 4, 8, 16, 20
SKB_IFINDEX, SKB_SEGMENT_SIZE = 40, 176

# The stack of either program, from its top. The header of the inner packet, and what was learned from it.
INNER = -40
KEY = INNER - KEY_SIZE
PREFIX_LENGTH = KEY - 4
PORTS = PREFIX_LENGTH - 4
SEGMENT = PORTS - 8
"""Octets of the largest packet that this one becomes, since TCP hands down many segments in one."""
SEGMENTS = SEGMENT - 8
OCTETS = SEGMENTS - 8
"""Octets of all of them together."""
BELOW = OCTETS


class Side(Enum):
    """Where in the inner packet the home address is."""

    SOURCE = "source"
    DESTINATION = "destination"


@dataclass(frozen=True, slots=True)
class Family:
    """Where an IP header has what."""

    version: int
    size: int
    next_header: int
    source: int
    destination: int
    address: int
    """Octets of an address."""


IPV4 = Family(4, IPV4_HEADER, 9, 12, 16, 4)
IPV6 = Family(6, IPV6_HEADER, 6, 8, 24, 16)


def inspect(a: Assembler, family: Family, side: Side, decline: str) -> None:
    """Look at the inner packet that begins R8 octets into the packet of R6 and is R7 octets long.

    Leaves its header, KEY, SEGMENT, SEGMENTS and OCTETS on the stack.
    """
    load_octets(a, R8, INNER, family.size, decline)
    _check_length(a, family, decline)
    for address in (family.source, family.destination):
        _check_routable(a, family, INNER + address, decline)
    _note_key(a, family, INNER + (family.source if side is Side.SOURCE else family.destination))
    _check_next_header(a, family, decline)
    _measure(a, family, decline)


def load_octets(a: Assembler, start: Operand, stack: int, size: int, decline: str, further: int = 0) -> None:
    """Copy `size` octets of the packet, from `start` + `further` on, to the stack."""
    a.move(R1, R6)
    a.move(R2, start)
    if further:
        a.alu(Op.ADD, R2, further)
    a.address(R3, R10, stack)
    a.move(R4, size)
    a.call(Helper.SKB_LOAD_BYTES)
    a.jump_if(If.NOT_EQUAL, R0, 0, decline)


def _check_length(a: Assembler, family: Family, decline: str) -> None:
    """Exactly this long, and without IPv4 options."""
    a.load(1, R1, R10, INNER)
    if family is IPV4:
        a.jump_if(If.NOT_EQUAL, R1, 0x45, decline)
        a.load(2, R1, R10, INNER + 2)
        a.to_network_order(R1, 16)
    else:
        a.alu(Op.RIGHT, R1, 4)
        a.jump_if(If.NOT_EQUAL, R1, 6, decline)
        a.load(2, R1, R10, INNER + 4)
        a.to_network_order(R1, 16)
        a.alu(Op.ADD, R1, IPV6_HEADER)
    a.jump_if(If.NOT_EQUAL, R1, R7, decline)


def _check_routable(a: Assembler, family: Family, address: int, decline: str) -> None:
    """Neither multicast nor of one link or host, by the first 32 bits."""
    a.load(4, R1, R10, address)
    a.to_network_order(R1, 32)
    if family is IPV6:
        a.jump_if(If.EQUAL, R1, 0, decline)
        a.alu(Op.RIGHT, R1, 24)
        a.jump_if(If.AT_LEAST, R1, 0xFE, decline)
        return
    a.move(R2, R1)
    a.alu(Op.RIGHT, R2, 16)
    a.jump_if(If.EQUAL, R2, 0xA9FE, decline)
    a.alu(Op.RIGHT, R1, 24)
    for first in (0, 127):
        a.jump_if(If.EQUAL, R1, first, decline)
    a.jump_if(If.AT_LEAST, R1, 224, decline)


def _note_key(a: Assembler, family: Family, address: int) -> None:
    if family is IPV4:
        a.store(8, R10, KEY, 0)
        a.store(4, R10, KEY + 8, 0)
        a.load(4, R1, R10, address)
        a.store(4, R10, KEY + 12, R1)
        return
    copy(a, R10, address, KEY, 16)


def _check_next_header(a: Assembler, family: Family, decline: str) -> None:
    """Neither control nor a tunnel inside the tunnel; R9 keeps the next header."""
    a.load(1, R9, R10, INNER + family.next_header)
    for refused in (*_TUNNELS, *(_CONTROL if family is IPV6 else ())):
        a.jump_if(If.EQUAL, R9, refused, decline)
    good = a.fresh("next-header")
    a.jump_if(If.NOT_EQUAL, R9, PROTOCOL_UDP, good)
    load_octets(a, R8, PORTS, 4, decline, family.size)
    for port in (PORTS, PORTS + 2):
        a.load(2, R1, R10, port)
        a.to_network_order(R1, 16)
        for refused in (HOME_AGENT_PORT, UDP_PORT_NAT_TRAVERSAL):
            a.jump_if(If.EQUAL, R1, refused, decline)
    a.label(good)


def _measure(a: Assembler, family: Family, decline: str) -> None:
    """How many packets it becomes on the way, and how long they are."""
    whole, udp, known = a.fresh("whole"), a.fresh("udp"), a.fresh("known")
    a.store(8, R10, SEGMENT, R7)
    a.store(8, R10, SEGMENTS, 1)
    a.store(8, R10, OCTETS, R7)
    a.load(4, R4, R6, SKB_SEGMENT_SIZE)
    a.jump_if(If.EQUAL, R4, 0, whole)
    a.jump_if(If.EQUAL, R9, PROTOCOL_UDP, udp)
    a.jump_if(If.NOT_EQUAL, R9, PROTOCOL_TCP, decline)
    load_octets(a, R8, PORTS, 1, decline, family.size + 12)
    a.load(1, R3, R10, PORTS)
    a.alu(Op.RIGHT, R3, 4)
    a.alu(Op.LEFT, R3, 2)
    a.alu(Op.ADD, R3, family.size)
    a.jump(known)
    a.label(udp)
    a.move(R3, family.size + 8)
    a.label(known)  # R3: the headers of each segment
    a.jump_if(If.AT_MOST, R7, R3, decline)
    a.load(4, R4, R6, SKB_SEGMENT_SIZE)
    a.move(R1, R4)
    a.alu(Op.ADD, R1, R3)
    a.store(8, R10, SEGMENT, R1)
    a.move(R1, R7)  # segments = ceil((length - headers) / size)
    a.alu(Op.SUB, R1, R3)
    a.alu(Op.ADD, R1, R4)
    a.alu(Op.SUB, R1, 1)
    a.alu(Op.DIV, R1, R4)
    a.store(8, R10, SEGMENTS, R1)
    a.alu(Op.SUB, R1, 1)
    a.alu(Op.MUL, R1, R3)
    a.alu(Op.ADD, R1, R7)
    a.store(8, R10, OCTETS, R1)
    a.label(whole)


def find_route(a: Assembler, homes: int, networks: int, decline: str) -> None:
    """R9 becomes the route of KEY: that of the address, else of the longest prefix."""
    found = a.fresh("found")
    a.map(R1, homes)
    a.address(R2, R10, KEY)
    a.call(Helper.MAP_LOOKUP)
    a.jump_if(If.NOT_EQUAL, R0, 0, found)
    a.store(4, R10, PREFIX_LENGTH, 8 * KEY_SIZE)
    a.map(R1, networks)
    a.address(R2, R10, PREFIX_LENGTH)
    a.call(Helper.MAP_LOOKUP)
    a.jump_if(If.EQUAL, R0, 0, decline)
    a.label(found)
    a.move(R9, R0)


def find_tally(a: Assembler, tallies: int, decline: str) -> None:
    """R8 becomes the tally of the lane of R9."""
    a.load(4, R1, R9, 0)
    a.store(4, R10, PORTS, R1)
    a.map(R1, tallies)
    a.address(R2, R10, PORTS)
    a.call(Helper.MAP_LOOKUP)
    a.jump_if(If.EQUAL, R0, 0, decline)
    a.move(R8, R0)


def count(a: Assembler, packets: int, octets: int, at: int) -> None:
    """Add SEGMENTS and OCTETS to the tally in R8, and say when: R7 has the time."""
    a.load(8, R1, R10, SEGMENTS)
    a.atomic_add(R8, packets, R1)
    a.load(8, R1, R10, OCTETS)
    a.atomic_add(R8, octets, R1)
    a.store(8, R8, at, R7)


def copy(a: Assembler, base: str, offset: int, stack: int, size: int) -> None:
    """Copy octets to the stack through R1; all of it lies at multiples of the largest step."""
    at = 0
    while at < size:
        step = next(
            step
            for step in (8, 4, 2, 1)
            if not (stack + at) % step and not (offset + at) % step and size - at >= step
        )
        a.load(step, R1, base, offset + at)
        a.store(step, R10, stack + at, R1)
        at += step
