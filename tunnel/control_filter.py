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
    words = struct.unpack("!4I", local.packed)
    checks = 2 + 1 + len(_CONTROL) + 2 * len(words)
    program = [(_LOAD_WORD, 0, 0, _PACKET_TYPE), (_JUMP_IF_EQUAL, 0, checks - 2, _TO_THIS_HOST)]
    program.append((_LOAD_OCTET, 0, 0, _NEXT_HEADER_AT))
    for index, header in enumerate(_CONTROL):
        remaining = len(_CONTROL) - 1 - index
        otherwise = 0 if remaining else 2 * len(words) + 1
        program.append((_JUMP_IF_EQUAL, remaining, otherwise, header))
    for index, word in enumerate(words):
        program.append((_LOAD_WORD, 0, 0, _DESTINATION_AT + 4 * index))
        program.append((_JUMP_IF_EQUAL, 0, 2 * (len(words) - 1 - index) + 1, word))
    program.append((_RETURN, 0, 0, _WHOLE_PACKET))
    program.append((_RETURN, 0, 0, 0))
    return b"".join(_INSTRUCTION.pack(*instruction) for instruction in program)


def accept_nothing() -> bytes:
    """For a socket that exists only so that the kernel does not answer for want of one."""
    return _INSTRUCTION.pack(_RETURN, 0, 0, 0)
