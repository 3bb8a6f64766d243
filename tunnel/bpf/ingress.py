"""The program at the ingress of a physical link: it unwraps what comes by a known path for a home address.

Pure. RFC 5555 section 4.1, RFC 5845 section 6.5, RFC 2003, RFC 2473, RFC 4213, RFC 6040 section 4.2;
docs/security.md: open-tunnel, nested-tunnel, spoofed-payload, false-claim. Everything else goes on to the
host as if there were no program.
"""

from __future__ import annotations

from tunnel.bpf import layout
from tunnel.bpf.assembler import R0, R1, R2, R3, R4, R6, R7, R8, R9, R10, Assembler, Helper, If, Op
from tunnel.bpf.egress import fold
from tunnel.bpf.inspection import (
    BELOW,
    ETHERTYPE_IPV4,
    ETHERTYPE_IPV6,
    INNER,
    IPV4,
    IPV6,
    SEGMENT,
    SKB_LENGTH,
    SKB_PACKET_TYPE,
    SKB_PROTOCOL,
    SKB_VLAN_PRESENT,
    Side,
    copy,
    count,
    find_route,
    find_tally,
    inspect,
    load_octets,
)
from tunnel.bpf.layout import TLV_CODE, Descriptors, Verdict
from tunnel.path import IPV4_HEADER, IPV6_HEADER, TLV_HEADER, UDP_HEADER
from wire.ip import PROTOCOL_IPV4, PROTOCOL_IPV6, PROTOCOL_UDP
from wire.profile import DRAFT_TLV_TYPES, TlvLayout

_ADJUST_AT_MAC = 1
_FIXED_GSO, _DECAP_IPV4, _DECAP_IPV6 = 1, 128, 256
_REDIRECT_TO_INGRESS = 1
_CSUM_LEVEL_QUERY = 0
_FRAGMENT = 0x3FFF
_NOT_ECT, _ECT_1, _CE = 0, 1, 3

# The stack below what `inspection` uses.
_OUTER = BELOW - IPV6_HEADER
_PEER = _OUTER - layout.PEER.size
_HEADER = _PEER - 4
"""The octets after the UDP header."""
_ECN = _HEADER - 4
_LENGTH = _ECN - 4
"""What a TLV header says about the length of the packet; 0: nothing."""
_OUTER_SIZE = _LENGTH - 4


def ingress_program(maps: Descriptors, side: Side, link_header: int) -> bytes:
    """`link_header`: octets before the outer packet, 14 on Ethernet. `side`: of the home address."""
    a = Assembler()
    a.move(R6, R1)
    a.load(4, R1, R6, SKB_PACKET_TYPE)
    a.jump_if(If.NOT_EQUAL, R1, 0, "decline")  # not for this host
    a.load(4, R1, R6, SKB_VLAN_PRESENT)
    a.jump_if(If.NOT_EQUAL, R1, 0, "decline")  # for another device of this host
    a.load(4, R7, R6, SKB_LENGTH)
    a.alu(Op.SUB, R7, link_header)
    a.store(4, R10, _LENGTH, 0)
    a.load(4, R1, R6, SKB_PROTOCOL)
    a.to_network_order(R1, 16)
    a.jump_if(If.EQUAL, R1, ETHERTYPE_IPV4, "outer-ipv4")
    a.jump_if(If.NOT_EQUAL, R1, ETHERTYPE_IPV6, "decline")
    _read_outer_ipv6(a, link_header)
    _read_outer_ipv4(a, link_header)
    _read_udp(a, maps.switches, link_header)
    _unwrap(a, maps, side, link_header)
    a.label("decline")
    a.exit(Verdict.PASS)
    return a.assemble()


def _read_outer_ipv6(a: Assembler, link_header: int) -> None:
    load_octets(a, link_header, _OUTER, IPV6_HEADER, "decline")
    a.load(2, R1, R10, _OUTER + 4)
    a.to_network_order(R1, 16)
    a.alu(Op.ADD, R1, IPV6_HEADER)
    a.jump_if(If.NOT_EQUAL, R1, R7, "decline")
    a.load(4, R1, R10, _OUTER + 8)
    a.jump_if(If.EQUAL, R1, 0, "decline")  # looks like an IPv4 address, see layout.key_of
    a.load(2, R1, R10, _OUTER)
    a.to_network_order(R1, 16)
    a.alu(Op.RIGHT, R1, 4)
    a.alu(Op.AND, R1, _CE)
    a.store(4, R10, _ECN, R1)
    copy(a, R10, _OUTER + 8, _PEER, 32)
    a.store(8, R10, _PEER + layout.PEER_REMOTE_PORT, 0)
    a.move(R8, IPV6_HEADER)
    a.load(1, R1, R10, _OUTER + 6)
    a.jump_if(If.EQUAL, R1, PROTOCOL_IPV4, "inner-ipv4")
    a.jump_if(If.EQUAL, R1, PROTOCOL_IPV6, "inner-ipv6")
    a.jump("decline")


def _read_outer_ipv4(a: Assembler, link_header: int) -> None:
    """A header without options, whole, of a packet that is no fragment."""
    a.label("outer-ipv4")
    load_octets(a, link_header, _OUTER, IPV4_HEADER + UDP_HEADER, "decline")
    a.load(1, R1, R10, _OUTER)
    a.jump_if(If.NOT_EQUAL, R1, 0x45, "decline")
    a.load(1, R9, R10, _OUTER + 9)
    known = a.fresh("known")
    for protocol in (PROTOCOL_UDP, PROTOCOL_IPV6, PROTOCOL_IPV4):
        a.jump_if(If.EQUAL, R9, protocol, known)
    a.jump("decline")
    a.label(known)
    a.load(2, R1, R10, _OUTER + 6)
    a.to_network_order(R1, 16)
    a.jump_if(If.ANY_OF, R1, _FRAGMENT, "decline")
    a.load(2, R1, R10, _OUTER + 2)
    a.to_network_order(R1, 16)
    a.jump_if(If.NOT_EQUAL, R1, R7, "decline")
    a.load(4, R1, R10, _OUTER + 12)
    a.jump_if(If.EQUAL, R1, 0, "decline")  # an unused place among the peers of a route
    a.move(R1, 0)
    for offset in range(0, IPV4_HEADER, 4):
        a.load(4, R2, R10, _OUTER + offset)
        a.alu(Op.ADD, R1, R2)
    fold(a, R1, R2)
    a.jump_if(If.NOT_EQUAL, R1, 0xFFFF, "decline")
    a.load(1, R1, R10, _OUTER + 1)
    a.alu(Op.AND, R1, _CE)
    a.store(4, R10, _ECN, R1)
    for address, at in ((12, layout.PEER_REMOTE), (16, layout.PEER_LOCAL)):
        a.store(8, R10, _PEER + at, 0)
        a.store(4, R10, _PEER + at + 8, 0)
        copy(a, R10, _OUTER + address, _PEER + at + 12, 4)
    a.store(8, R10, _PEER + layout.PEER_REMOTE_PORT, 0)
    a.move(R8, IPV4_HEADER)
    a.jump_if(If.EQUAL, R9, PROTOCOL_IPV4, "inner-ipv4")
    a.jump_if(If.EQUAL, R9, PROTOCOL_IPV6, "inner-ipv6")


def _read_udp(a: Assembler, switches: int, link_header: int) -> None:
    """Vanilla or with the TLV header of the profile. A checksum is left to the kernel, unless it is known."""
    a.load(2, R1, R10, _OUTER + IPV4_HEADER + 4)
    a.to_network_order(R1, 16)
    a.alu(Op.ADD, R1, IPV4_HEADER)
    a.jump_if(If.NOT_EQUAL, R1, R7, "decline")
    copy(a, R10, _OUTER + IPV4_HEADER, _PEER + layout.PEER_REMOTE_PORT, 4)
    load_octets(a, link_header, _HEADER, TLV_HEADER, "decline", IPV4_HEADER + UDP_HEADER)
    a.move(R8, IPV4_HEADER + UDP_HEADER)
    a.load(1, R9, R10, _HEADER)
    a.alu(Op.RIGHT, R9, 4)
    for version in (0, 4, 6):
        a.jump_if(If.EQUAL, R9, version, "format")
    a.jump("decline")
    a.label("format")
    a.load(2, R1, R10, _OUTER + IPV4_HEADER + 6)
    a.jump_if(If.EQUAL, R1, 0, "checked")
    a.move(R1, R6)
    a.move(R2, _CSUM_LEVEL_QUERY)
    a.call(Helper.CSUM_LEVEL)
    a.jump_if(If.ANY_OF, R0, 1 << 31, "decline", width=32)  # an error: nobody has verified it yet
    a.label("checked")
    a.jump_if(If.EQUAL, R9, 4, "inner-ipv4")
    a.jump_if(If.EQUAL, R9, 6, "inner-ipv6")
    _read_tlv(a, switches)


def _read_tlv(a: Assembler, switches: int) -> None:
    """The length is compared when the packet is known, whose segments each have it before them."""
    a.move(R8, IPV4_HEADER + UDP_HEADER + TLV_HEADER)
    a.map_value(R1, switches, layout.TLV)
    a.load(4, R1, R1, 0)
    a.jump_if(If.EQUAL, R1, TLV_CODE[TlvLayout.DRAFT], "draft")
    a.jump_if(If.NOT_EQUAL, R1, TLV_CODE[TlvLayout.RFC5845], "decline")
    a.load(2, R1, R10, _HEADER + 2)
    a.to_network_order(R1, 16)
    a.jump_if(If.EQUAL, R1, 0, "decline")
    a.store(4, R10, _LENGTH, R1)
    a.load(1, R1, R10, _HEADER + 1)
    a.jump_if(If.EQUAL, R1, PROTOCOL_IPV4, "inner-ipv4")
    a.jump_if(If.EQUAL, R1, PROTOCOL_IPV6, "inner-ipv6")
    a.jump("decline")
    a.label("draft")
    a.load(1, R1, R10, _HEADER + 1)
    a.store(4, R10, _LENGTH, R1)
    a.load(1, R1, R10, _HEADER)
    a.jump_if(If.EQUAL, R1, DRAFT_TLV_TYPES[PROTOCOL_IPV4], "inner-ipv4")
    a.jump_if(If.EQUAL, R1, DRAFT_TLV_TYPES[PROTOCOL_IPV6], "inner-ipv6")
    a.jump("decline")


def _unwrap(a: Assembler, maps: Descriptors, side: Side, link_header: int) -> None:
    """R8: octets before the inner packet; R7: octets of the outer one."""
    for family, label, flag in ((IPV4, "inner-ipv4", _DECAP_IPV4), (IPV6, "inner-ipv6", _DECAP_IPV6)):
        a.label(label)
        a.store(4, R10, _OUTER_SIZE, R8)
        a.alu(Op.SUB, R7, R8)
        a.alu(Op.ADD, R8, link_header)
        inspect(a, family, side, "decline")
        a.store(4, R10, _HEADER, _FIXED_GSO | flag)
        a.load(2, R1, R10, INNER)  # version, then DSCP and ECN
        a.to_network_order(R1, 16)
        if family is IPV6:
            a.alu(Op.RIGHT, R1, 4)
        a.alu(Op.AND, R1, _CE)
        a.jump("inspected") if family is IPV4 else a.label("inspected")
    a.map_value(R2, maps.switches, layout.TUN_IFINDEX)
    a.load(4, R2, R2, 0)
    a.jump_if(If.EQUAL, R2, 0, "decline")  # there is no device at the moment
    _check_marks(a)
    _check_tlv_length(a)
    find_route(a, maps.homes, maps.networks, "decline")
    _check_peer(a)
    find_tally(a, maps.tallies, "decline")
    _take_off(a)
    a.call(Helper.KTIME_GET_BOOT_NS)
    a.move(R7, R0)
    count(a, layout.RX_PACKETS, layout.RX_OCTETS, layout.RECEIVED_AT)
    a.map_value(R1, maps.switches, layout.TUN_IFINDEX)
    a.load(4, R1, R1, 0)
    a.move(R2, _REDIRECT_TO_INGRESS)
    a.call(Helper.REDIRECT)
    a.exit()
    a.label("lost")
    a.move(R1, 1)
    a.atomic_add(R8, layout.REFUSED, R1)
    a.exit(Verdict.DROP)


def _check_marks(a: Assembler) -> None:
    """A congestion mark in the outer header is merged below, if the inner packet can carry it at all."""
    congested, good = a.fresh("congested"), a.fresh("good")
    a.load(4, R2, R10, _ECN)
    a.jump_if(If.EQUAL, R2, _CE, congested)
    a.jump_if(If.NOT_EQUAL, R2, _ECT_1, good)
    a.jump_if(If.NOT_EQUAL, R1, _ECT_1, "decline")
    a.jump(good)
    a.label(congested)
    a.jump_if(If.EQUAL, R1, _NOT_ECT, "decline")
    a.label(good)


def _check_tlv_length(a: Assembler) -> None:
    good = a.fresh("good")
    a.load(4, R1, R10, _LENGTH)
    a.jump_if(If.EQUAL, R1, 0, good)
    a.load(8, R2, R10, SEGMENT)
    a.jump_if(If.NOT_EQUAL, R1, R2, "decline")
    a.label(good)


def _check_peer(a: Assembler) -> None:
    """The outer packet came from the other end of this home address's path, to our end of it."""
    for place in range(layout.PEERS):
        other = a.fresh("other-peer")
        peer = layout.FIRST_PEER + place * layout.PEER.size
        for size, offset in ((8, 0), (8, 8), (4, layout.PEER_REMOTE_PORT), (8, 16), (8, 24)):
            a.load(size, R1, R10, _PEER + offset)
            a.load(size, R2, R9, peer + offset)
            a.jump_if(If.NOT_EQUAL, R1, R2, other)
        a.jump("from-peer")
        a.label(other)
    a.jump("decline")
    a.label("from-peer")


def _take_off(a: Assembler) -> None:
    """The outer header goes, and its congestion mark stays (RFC 6040)."""
    a.move(R1, R6)
    a.move(R2, 0)
    a.load(4, R3, R10, _OUTER_SIZE)
    a.alu(Op.SUB, R2, R3)
    a.move(R3, _ADJUST_AT_MAC)
    a.load(4, R4, R10, _HEADER)
    a.call(Helper.SKB_ADJUST_ROOM)
    a.jump_if(If.NOT_EQUAL, R0, 0, "lost")
    a.load(4, R1, R10, _ECN)
    unmarked = a.fresh("unmarked")
    a.jump_if(If.NOT_EQUAL, R1, _CE, unmarked)
    a.move(R1, R6)
    a.call(Helper.SKB_ECN_SET_CE)
    a.label(unmarked)
