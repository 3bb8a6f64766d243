"""The program at the egress of the TUN device: it wraps what leaves and hands it to the physical link.

Pure. RFC 5555 section 4.1, RFC 5845 section 6.5, RFC 2003, RFC 2473, RFC 4213; DSCP and ECN: RFC 2983,
RFC 6040. The outer UDP checksum is zero, which IPv4 permits (RFC 768): a sum over a super-packet would cost
what this tier saves.
"""

from __future__ import annotations

import sys
from socket import AF_INET, AF_INET6

from tunnel.bpf import layout
from tunnel.bpf.assembler import R0, R1, R2, R3, R4, R5, R6, R7, R8, R9, R10, Assembler, Helper, If, Op
from tunnel.bpf.inspection import (
    BELOW,
    ETHERTYPE_IPV4,
    ETHERTYPE_IPV6,
    INNER,
    IPV4,
    IPV6,
    OCTETS,
    SEGMENT,
    SEGMENTS,
    SKB_IFINDEX,
    SKB_LENGTH,
    SKB_MARK,
    SKB_PROTOCOL,
    Side,
    copy,
    count,
    find_route,
    find_tally,
    inspect,
)
from tunnel.bpf.layout import Descriptors, Verdict, Wrapping
from tunnel.bpf.memory import remember
from tunnel.path import IPV4_HEADER, IPV6_HEADER, TLV_HEADER, UDP_HEADER
from wire.ip import PROTOCOL_IPV4, PROTOCOL_IPV6, PROTOCOL_UDP
from wire.profile import DRAFT_TLV_TYPES

ETHERNET = 14
_HOP_LIMIT = 64
_DONT_FRAGMENT = 0x40
_LARGEST = 65535 - IPV6_HEADER

# Flags of bpf_skb_adjust_room, and where in the packet the room is made.
_ADJUST_AT_MAC = 1
_FIXED_GSO, _ENCAP_IPV4, _ENCAP_IPV6, _ENCAP_UDP = 1, 2, 4, 16
_ENCAP_L2_SHIFT = 56

# struct bpf_fib_lookup, and its flags
FIB_SIZE = 64
_FIB_FAMILY, _FIB_PROTOCOL, _FIB_PORTS, _FIB_LENGTH, _FIB_IFINDEX = 0, 1, 2, 6, 8
_FIB_TOS, _FIB_SOURCE, _FIB_DESTINATION, _FIB_TABLE, _FIB_MARK = 12, 16, 32, 48, 52
FIB_MARK = 32
# struct bpf_redir_neigh: family, next hop
_NEXT_HOP_SIZE = 20

# The stack below what `inspection` uses.
_FIB = BELOW - FIB_SIZE
_OUTER = _FIB - IPV6_HEADER
_FRAME = _OUTER - ETHERNET
_NEXT_HOP = _OUTER - 40
_SPARE = _NEXT_HOP - 8

_OVERHEAD = {
    Wrapping.UDP: IPV4_HEADER + UDP_HEADER,
    Wrapping.UDP_TLV: IPV4_HEADER + UDP_HEADER + TLV_HEADER,
    Wrapping.UDP_TLV_DRAFT: IPV4_HEADER + UDP_HEADER + TLV_HEADER,
    Wrapping.IP_IN_IPV4: IPV4_HEADER,
    Wrapping.IP_IN_IPV6: IPV6_HEADER,
}


def egress_program(
    maps: Descriptors, side: Side, mark: int, again: int, patience: float, link_header: int = 0
) -> bytes:
    """`mark`: of outer packets; `again`: of packets that are sent a second time and not remembered again.

    `patience`: seconds without an answer before the bell is rung, 0 for never. `link_header`: octets before
    the inner packet. A TUN device has none; BPF_PROG_TEST_RUN knows only packets with an Ethernet header.
    """
    a = Assembler()
    a.move(R6, R1)
    a.load(4, R7, R6, SKB_LENGTH)
    if link_header:
        a.alu(Op.SUB, R7, link_header)
    a.jump_if(If.ABOVE, R7, _LARGEST, "decline")
    a.move(R8, link_header)
    a.load(4, R1, R6, SKB_PROTOCOL)
    a.to_network_order(R1, 16)
    a.jump_if(If.EQUAL, R1, ETHERTYPE_IPV4, "ipv4")
    a.jump_if(If.NOT_EQUAL, R1, ETHERTYPE_IPV6, "decline")
    inspect(a, IPV6, side, "decline")
    a.load(2, R1, R10, INNER)  # the traffic class
    a.to_network_order(R1, 16)
    a.alu(Op.RIGHT, R1, 4)
    a.alu(Op.AND, R1, 0xFF)
    a.move(R2, PROTOCOL_IPV6)
    a.jump("routed")
    a.label("ipv4")
    inspect(a, IPV4, side, "decline")
    a.load(1, R1, R10, INNER + 1)
    a.move(R2, PROTOCOL_IPV4)
    a.label("routed")
    a.store(1, R10, INNER, R2)  # the inner header has been read: what is kept of it
    a.store(1, R10, INNER + 1, R1)
    find_route(a, maps.homes, maps.networks, "decline")
    _check_size(a)
    _look_up_next_hop(a, mark)
    a.load(4, R1, R6, SKB_MARK)
    a.jump_if(If.EQUAL, R1, again, "not-again", width=32)
    remember(a, maps.recent, link_header, _SPARE, "not-again")
    a.label("not-again")
    find_tally(a, maps.tallies, "decline")
    _write_outer_header(a)
    _make_room(a, link_header)
    a.move(R1, mark)
    a.store(4, R6, SKB_MARK, R1)
    a.call(Helper.KTIME_GET_BOOT_NS)
    a.move(R7, R0)
    count(a, layout.TX_PACKETS, layout.TX_OCTETS, layout.SENT_AT)
    if patience:
        _ring_if_nobody_answers(a, maps, int(patience * 1e9))
    _redirect(a)
    a.label("lost")  # half wrapped, so nobody else could make sense of it
    a.move(R1, 1)
    a.atomic_add(R8, layout.REFUSED, R1)
    a.exit(Verdict.DROP)
    a.label("decline")
    a.exit(Verdict.PASS)
    return a.assemble()


def _check_size(a: Assembler) -> None:
    """Whatever is too big gets its error from user space; so does what has no path that a program knows."""
    a.load(1, R1, R9, layout.WRAPPING)
    a.jump_if(If.EQUAL, R1, Wrapping.NONE, "decline")
    a.load(8, R1, R10, SEGMENT)
    a.load(4, R2, R9, layout.LIMIT)
    a.jump_if(If.ABOVE, R1, R2, "decline")
    # The header of RFC 5845 has the length of its packet in it, and one header becomes that of all segments.
    a.load(1, R2, R9, layout.WRAPPING)
    a.jump_if(If.NOT_EQUAL, R2, Wrapping.UDP_TLV, "alike")
    a.load(8, R2, R10, SEGMENTS)
    a.alu(Op.MUL, R2, R1)
    a.load(8, R1, R10, OCTETS)
    a.jump_if(If.NOT_EQUAL, R1, R2, "decline")
    a.label("alike")


def _look_up_next_hop(a: Assembler, mark: int) -> None:
    """Of a path without a link: by the routes for marked packets, as sockets do, if its MTU is enough there.

    With a next hop from here the kernel could not let a packet wait for its neighbour (it would leave without
    a link header), so the first ones are declined. Where the link is given the kernel finds the next hop by
    itself, and the MTU of the link counts beside the path's own: the helper asked here would answer only on
    hosts that forward what comes in by that link.
    """
    for offset in range(0, _NEXT_HOP_SIZE, 4):
        a.store(4, R10, _NEXT_HOP + offset, 0)
    a.load(8, R3, R10, SEGMENT)
    a.load(1, R1, R9, layout.OVERHEAD)
    a.alu(Op.ADD, R3, R1)  # octets of the outer packet
    a.load(4, R2, R9, layout.IFINDEX)
    a.store(4, R10, _FIB + _FIB_IFINDEX, R2)
    a.jump_if(If.NOT_EQUAL, R2, 0, "known-link")
    for offset in range(0, FIB_SIZE, 8):
        a.store(8, R10, _FIB + offset, 0)
    a.store(2, R10, _FIB + _FIB_LENGTH, R3)
    a.load(1, R2, R9, layout.WRAPPING)
    a.jump_if(If.EQUAL, R2, Wrapping.IP_IN_IPV6, "fib-ipv6")
    a.store(1, R10, _FIB + _FIB_FAMILY, AF_INET)
    for address, at in ((layout.LOCAL, _FIB_SOURCE), (layout.REMOTE, _FIB_DESTINATION)):
        copy(a, R9, address + 12, _FIB + at, 4)
    a.jump_if(If.EQUAL, R2, Wrapping.IP_IN_IPV4, "fib")
    a.store(1, R10, _FIB + _FIB_PROTOCOL, PROTOCOL_UDP)
    copy(a, R9, layout.LOCAL_PORT, _FIB + _FIB_PORTS, 2)
    copy(a, R9, layout.REMOTE_PORT, _FIB + _FIB_PORTS + 2, 2)
    a.jump("fib")
    a.label("fib-ipv6")
    a.store(1, R10, _FIB + _FIB_FAMILY, AF_INET6)
    for address, at in ((layout.LOCAL, _FIB_SOURCE), (layout.REMOTE, _FIB_DESTINATION)):
        copy(a, R9, address, _FIB + at, 16)
    a.label("fib")
    a.store(4, R10, _FIB + _FIB_MARK, mark)
    a.load(4, R1, R6, SKB_IFINDEX)  # as if it came in by the TUN device
    a.store(4, R10, _FIB + _FIB_IFINDEX, R1)
    a.move(R1, R6)
    a.address(R2, R10, _FIB)
    a.move(R3, FIB_SIZE)
    a.move(R4, FIB_MARK)
    a.call(Helper.FIB_LOOKUP)
    a.jump_if(If.NOT_EQUAL, R0, 0, "decline")
    a.load(1, R1, R10, _FIB + _FIB_FAMILY)
    a.store(4, R10, _NEXT_HOP, R1)
    copy(a, R10, _FIB + _FIB_DESTINATION, _NEXT_HOP + 4, 16)
    a.jump("way-known")
    a.label("known-link")
    a.store(8, R10, _SPARE, R3)
    a.store(4, R10, _FIB, 0)
    a.move(R1, R6)
    a.address(R3, R10, _FIB)
    a.move(R4, 0)
    a.move(R5, 0)
    a.call(Helper.CHECK_MTU)  # of whole packets; what is asked here is the MTU itself
    a.load(4, R1, R10, _FIB)
    a.load(8, R2, R10, _SPARE)
    a.jump_if(If.BELOW, R1, R2, "decline")
    a.label("way-known")


def _write_outer_header(a: Assembler) -> None:
    """On the stack. R5 becomes its size, R4 the flags for adjust_room."""
    a.load(1, R2, R9, layout.WRAPPING)
    a.load(1, R4, R10, INNER)  # 4 or 41
    a.jump_if(If.EQUAL, R2, Wrapping.IP_IN_IPV6, "outer-ipv6")
    _write_ipv4_start(a)
    for wrapping, label in (
        (Wrapping.UDP, "udp"),
        (Wrapping.UDP_TLV, "tlv"),
        (Wrapping.UDP_TLV_DRAFT, "draft"),
    ):
        a.jump_if(If.EQUAL, R2, wrapping, label)
    _finish_ipv4(a, Wrapping.IP_IN_IPV4, _FIXED_GSO | _ENCAP_IPV4)

    a.label("udp")
    _write_udp(a, 0)
    _finish_ipv4(a, Wrapping.UDP, _FIXED_GSO | _ENCAP_IPV4 | _ENCAP_UDP)

    tlv_flags = _FIXED_GSO | _ENCAP_IPV4 | _ENCAP_UDP | TLV_HEADER << _ENCAP_L2_SHIFT
    tlv = _OUTER + IPV4_HEADER + UDP_HEADER
    a.label("tlv")
    a.store(1, R10, tlv, 0)
    a.store(1, R10, tlv + 1, R4)
    a.load(8, R1, R10, SEGMENT)
    a.to_network_order(R1, 16)
    a.store(2, R10, tlv + 2, R1)
    _write_udp(a, TLV_HEADER)
    _finish_ipv4(a, Wrapping.UDP_TLV, tlv_flags)

    a.label("draft")
    a.move(R1, DRAFT_TLV_TYPES[PROTOCOL_IPV4])
    a.jump_if(If.EQUAL, R4, PROTOCOL_IPV4, "draft-type")
    a.move(R1, DRAFT_TLV_TYPES[PROTOCOL_IPV6])
    a.label("draft-type")
    a.store(4, R10, tlv, 0)
    a.store(1, R10, tlv, R1)
    # 0 says: see the UDP length. The last segment may be shorter than the others.
    a.jump_if(If.ABOVE, R7, 255, "draft-long")
    a.load(8, R1, R10, SEGMENTS)
    a.jump_if(If.NOT_EQUAL, R1, 1, "draft-long")
    a.store(1, R10, tlv + 1, R7)
    a.label("draft-long")
    _write_udp(a, TLV_HEADER)
    _finish_ipv4(a, Wrapping.UDP_TLV_DRAFT, tlv_flags)

    a.label("outer-ipv6")
    _write_ipv6(a)
    a.label("written")


def _write_ipv4_start(a: Assembler) -> None:
    """Everything but length, protocol and checksum. The inner protocol stays in R4, the format in R2."""
    a.store(1, R10, _OUTER, 0x45)
    a.load(1, R1, R10, INNER + 1)
    a.store(1, R10, _OUTER + 1, R1)
    a.store(4, R10, _OUTER + 4, 0)
    a.store(1, R10, _OUTER + 6, _DONT_FRAGMENT)
    a.store(1, R10, _OUTER + 8, _HOP_LIMIT)
    a.store(1, R10, _OUTER + 9, R4)
    a.store(2, R10, _OUTER + 10, 0)
    copy(a, R9, layout.LOCAL + 12, _OUTER + 12, 4)
    copy(a, R9, layout.REMOTE + 12, _OUTER + 16, 4)


def _write_udp(a: Assembler, tlv: int) -> None:
    a.store(1, R10, _OUTER + 9, PROTOCOL_UDP)
    copy(a, R9, layout.LOCAL_PORT, _OUTER + IPV4_HEADER, 4)
    a.move(R1, R7)
    a.alu(Op.ADD, R1, UDP_HEADER + tlv)
    a.to_network_order(R1, 16)
    a.store(2, R10, _OUTER + IPV4_HEADER + 4, R1)
    a.store(2, R10, _OUTER + IPV4_HEADER + 6, 0)


def _finish_ipv4(a: Assembler, wrapping: Wrapping, flags: int) -> None:
    """Length and header checksum (RFC 1071: the sum is the same in any byte order)."""
    a.move(R1, R7)
    a.alu(Op.ADD, R1, _OVERHEAD[wrapping])
    a.to_network_order(R1, 16)
    a.store(2, R10, _OUTER + 2, R1)
    a.move(R1, 0)
    for offset in range(0, IPV4_HEADER, 4):
        a.load(4, R3, R10, _OUTER + offset)
        a.alu(Op.ADD, R1, R3)
    fold(a, R1, R3)
    a.alu(Op.XOR, R1, 0xFFFF)
    a.store(2, R10, _OUTER + 10, R1)
    a.store(2, R10, _FRAME + 12, _in_packet(ETHERTYPE_IPV4))
    a.move(R5, _OVERHEAD[wrapping])
    a.constant(R4, flags)
    a.jump("written")


def _write_ipv6(a: Assembler) -> None:
    """The flow label is zero."""
    a.load(1, R1, R10, INNER + 1)
    a.alu(Op.LEFT, R1, 20)
    a.alu(Op.OR, R1, 6 << 28, width=32)
    a.to_network_order(R1, 32)
    a.store(4, R10, _OUTER, R1)
    a.move(R1, R7)
    a.to_network_order(R1, 16)
    a.store(2, R10, _OUTER + 4, R1)
    a.store(1, R10, _OUTER + 6, R4)
    a.store(1, R10, _OUTER + 7, _HOP_LIMIT)
    copy(a, R9, layout.LOCAL, _OUTER + 8, 32)
    a.store(2, R10, _FRAME + 12, _in_packet(ETHERTYPE_IPV6))
    a.move(R5, IPV6_HEADER)
    a.constant(R4, _FIXED_GSO | _ENCAP_IPV6)


def _make_room(a: Assembler, link_header: int) -> None:
    """Put the header of R5 octets in front. `redirect_neigh` wants an Ethernet header and fills it in."""
    a.store(8, R10, _SPARE, R5)
    for size, offset in ((2, 0), (4, 2), (4, 6), (2, 10)):
        a.store(size, R10, _FRAME + offset, 0)
    a.move(R1, R6)
    a.move(R2, R5)
    a.move(R3, _ADJUST_AT_MAC)
    a.call(Helper.SKB_ADJUST_ROOM)
    a.jump_if(If.NOT_EQUAL, R0, 0, "lost")
    if not link_header:
        a.move(R1, R6)
        a.move(R2, ETHERNET)
        a.move(R3, 0)
        a.call(Helper.SKB_CHANGE_HEAD)
        a.jump_if(If.NOT_EQUAL, R0, 0, "lost")
    a.move(R1, R6)
    a.move(R2, 0)
    a.address(R3, R10, _FRAME)
    a.load(8, R4, R10, _SPARE)
    a.alu(Op.ADD, R4, ETHERNET)
    a.move(R5, 0)
    a.call(Helper.SKB_STORE_BYTES)
    a.jump_if(If.NOT_EQUAL, R0, 0, "lost")


def _ring_if_nobody_answers(a: Assembler, maps: Descriptors, patience: int) -> None:
    """The first packet after an answer asks; user space hears once a patience that there is no answer."""
    a.load(8, R1, R8, layout.ASKED_AT)
    a.load(8, R2, R8, layout.RECEIVED_AT)
    a.jump_if(If.ABOVE, R1, R2, "asked")
    a.store(8, R8, layout.ASKED_AT, R7)
    a.jump("answered")
    a.label("asked")
    a.move(R2, R7)
    a.alu(Op.SUB, R2, R1)
    a.constant(R3, patience)
    a.jump_if(If.BELOW, R2, R3, "answered")
    a.map_value(R1, maps.switches, layout.TOLD_AT)
    a.load(8, R2, R1, 0)
    a.alu(Op.ADD, R2, R3)
    a.jump_if(If.BELOW, R7, R2, "answered")
    a.store(8, R1, 0, R7)
    a.load(4, R1, R9, layout.LANE)
    a.store(8, R10, _SPARE, R1)
    a.map(R1, maps.bell)
    a.address(R2, R10, _SPARE)
    a.move(R3, 8)
    a.move(R4, 0)
    a.call(Helper.RINGBUF_OUTPUT)
    a.label("answered")


def _in_packet(number: int) -> int:
    """16 bits that are in network order when they are stored."""
    return int.from_bytes(number.to_bytes(2, "big"), sys.byteorder)


def _redirect(a: Assembler) -> None:
    a.load(4, R1, R10, _FIB + _FIB_IFINDEX)
    a.move(R2, 0)
    a.move(R3, 0)
    a.load(4, R4, R9, layout.IFINDEX)
    a.jump_if(If.NOT_EQUAL, R4, 0, "redirect")
    a.address(R2, R10, _NEXT_HOP)
    a.move(R3, _NEXT_HOP_SIZE)
    a.label("redirect")
    a.move(R4, 0)
    a.call(Helper.REDIRECT_NEIGH)
    a.exit()


def fold(a: Assembler, register: str, spare: str) -> None:
    """A sum of 32-bit words becomes one of 16 bits, carries included (RFC 1071)."""
    for shift in (32, 16, 16, 16):
        a.move(spare, register)
        a.alu(Op.RIGHT, spare, shift)
        if shift == 32:
            a.alu(Op.LEFT, register, 32)
            a.alu(Op.RIGHT, register, 32)
        else:
            a.alu(Op.AND, register, 0xFFFF)
        a.alu(Op.ADD, register, spare)
