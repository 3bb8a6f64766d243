"""A small machine for classic BPF of our own, for filters of sockets."""

from __future__ import annotations

import struct

_SIZES = {0x20: 4, 0x28: 2, 0x30: 1}
"""Octets that each kind of load takes."""


def run(program: bytes, packet: bytes, packet_type: int = 0) -> int:
    """What classic BPF makes of a packet; a load beyond its end rejects, as in the kernel."""
    instructions = list(struct.iter_unpack("=HBBI", program))
    position = accumulator = 0
    while True:
        code, if_true, if_false, operand = instructions[position]
        position += 1
        if code == 0x20 and operand == 0xFFFFF004:
            accumulator = packet_type
        elif code in _SIZES:
            size = _SIZES[code]
            if operand + size > len(packet):
                return 0
            accumulator = int.from_bytes(packet[operand : operand + size], "big")
        elif code == 0x15:
            position += if_true if accumulator == operand else if_false
        else:
            assert code == 0x06
            return operand
