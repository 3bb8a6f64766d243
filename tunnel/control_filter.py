"""Classic BPF programs that let a socket see control packets only, or nothing.

Pure. Instructions as in linux/filter.h; next headers as in protocol.md section 6.
"""

from __future__ import annotations

import struct
from ipaddress import IPv6Address

from wire.ip import (
    PROTOCOL_DESTINATION_OPTIONS,
    PROTOCOL_ESP,
    PROTOCOL_MOBILITY,
    PROTOCOL_ROUTING,
)

_INSTRUCTION = struct.Struct("=HBBI")  # code, jump if true, jump if false, operand
_LOAD_WORD, _LOAD_OCTET, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x30, 0x15, 0x06
_PACKET_TYPE = 0xFFFFF000 + 4  # SKF_AD_OFF + SKF_AD_PKTTYPE
_TO_THIS_HOST = 0
_NEXT_HEADER_AT, _DESTINATION_AT = 6, 24
_WHOLE_PACKET = 0x40000
_CONTROL = (PROTOCOL_MOBILITY, PROTOCOL_ROUTING, PROTOCOL_DESTINATION_OPTIONS, PROTOCOL_ESP)


def accept_control(local: IPv6Address) -> bytes:
    """For a packet socket of type SOCK_DGRAM: IPv6 to `local`, for this host, with a control header first.

    Control of IPv6 links starts with a home address option (BU), a type 2 routing header (BA), ESP or a
    bare mobility header (at home).
    """
    conditions = [(_LOAD_WORD, _PACKET_TYPE, (_TO_THIS_HOST,)), (_LOAD_OCTET, _NEXT_HEADER_AT, _CONTROL)]
    for index, word in enumerate(struct.unpack("!4I", local.packed)):
        conditions.append((_LOAD_WORD, _DESTINATION_AT + 4 * index, (word,)))
    length = sum(1 + len(values) for _, _, values in conditions) + 2
    program: list[tuple[int, int, int, int]] = []
    for load, where, values in conditions:
        program.append((load, 0, 0, where))
        for others in reversed(range(len(values))):
            # Right: over the comparisons that are left. Wrong: to the next one, or after the last to the end.
            wrong = 0 if others else length - 1 - (len(program) + 1)
            program.append((_JUMP_IF_EQUAL, others, wrong, values[len(values) - 1 - others]))
    program += [(_RETURN, 0, 0, _WHOLE_PACKET), (_RETURN, 0, 0, 0)]
    return b"".join(_INSTRUCTION.pack(*instruction) for instruction in program)


def accept_nothing() -> bytes:
    """For a socket that exists only so that the kernel does not answer for want of one."""
    return _INSTRUCTION.pack(_RETURN, 0, 0, 0)
