"""Programs of classic BPF, for the filters of sockets.

Pure. linux/filter.h.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable

Instruction = tuple[int, int, int, int]
"""Code, jump if true, jump if false, operand."""

_INSTRUCTION = struct.Struct("=HBBI")


def assembled(instructions: Iterable[Instruction]) -> bytes:
    """`instructions` as the kernel takes them."""
    return b"".join(_INSTRUCTION.pack(*instruction) for instruction in instructions)
