"""Classic BPF programs that let a socket see control packets only, or nothing.

Pure. Instructions as in linux/filter.h; next headers of RFC 6275 sections 6.1, 6.3 and 6.4, and of ESP.
"""

from __future__ import annotations

import struct
from ipaddress import IPv6Address

from wire.classic_bpf import Instruction, assembled
from wire.icmp import HOME_AGENT_DISCOVERY_REPLY, ICMPV6_PARAMETER_PROBLEM
from wire.ip import (
    PROTOCOL_DESTINATION_OPTIONS,
    PROTOCOL_ESP,
    PROTOCOL_ICMPV6,
    PROTOCOL_MOBILITY,
    PROTOCOL_ROUTING,
)

_LOAD_WORD, _LOAD_OCTET, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x30, 0x15, 0x06
_PACKET_TYPE = 0xFFFFF000 + 4  # SKF_AD_OFF + SKF_AD_PKTTYPE
_TO_THIS_HOST = 0
_NEXT_HEADER_AT, _ICMP_TYPE_AT = 6, 40
_DESTINATION_WORDS = (24, 28, 32, 36)
_WHOLE_PACKET = 0x40000
_CONTROL = (PROTOCOL_MOBILITY, PROTOCOL_ROUTING, PROTOCOL_DESTINATION_OPTIONS, PROTOCOL_ESP)
_ICMP = (ICMPV6_PARAMETER_PROBLEM, HOME_AGENT_DISCOVERY_REPLY)


def accept_control(local: IPv6Address, icmp: bool = False) -> bytes:
    """For a packet socket of type SOCK_DGRAM: IPv6 to `local`, for this host, with a control header first.

    Control of IPv6 links starts with a home address option (BU), a type 2 routing header (BA), ESP or a
    bare mobility header (at home). With `icmp` some messages of ICMPv6 belong to it.
    """
    program: list[Instruction] = []
    conditions = [(_PACKET_TYPE, _TO_THIS_HOST)]
    conditions += zip(_DESTINATION_WORDS, struct.unpack("!4I", local.packed), strict=True)
    # What follows these five pairs: next header, its comparisons, ICMPv6 type, its comparisons, the two ends.
    kinds = (PROTOCOL_ICMPV6,) if icmp else ()
    types = _ICMP if icmp else ()
    accept = 2 * len(conditions) + 1 + len(_CONTROL) + len(kinds) + bool(types) + len(types)
    for where, value in conditions:
        program.append((_LOAD_WORD, 0, 0, where))
        program.append((_JUMP_IF_EQUAL, 0, accept - len(program), value))
    program.append((_LOAD_OCTET, 0, 0, _NEXT_HEADER_AT))
    for value in _CONTROL:
        program.append((_JUMP_IF_EQUAL, accept - len(program) - 1, 0, value))
    for value in kinds:
        program.append((_JUMP_IF_EQUAL, 0, accept - len(program), value))
    if types:
        program.append((_LOAD_OCTET, 0, 0, _ICMP_TYPE_AT))
    for value in types:
        program.append((_JUMP_IF_EQUAL, accept - len(program) - 1, 0, value))
    last, reject = program[-1], accept + 1 - len(program)
    program[-1] = (last[0], last[1], reject, last[3])
    program += [(_RETURN, 0, 0, _WHOLE_PACKET), (_RETURN, 0, 0, 0)]
    return assembled(program)


def accept_nothing() -> bytes:
    """For a socket that exists only so that the kernel does not answer for want of one."""
    return assembled([(_RETURN, 0, 0, 0)])
