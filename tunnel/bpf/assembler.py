"""An assembler for eBPF: instructions as values, labels, and the byte order of the machine.

Pure. RFC 9669 (instruction set).
"""

from __future__ import annotations

import struct
import sys
from enum import Enum, IntEnum
from typing import NamedTuple

R0, R1, R2, R3, R4, R5, R6, R7, R8, R9, R10 = (f"r{number}" for number in range(11))
"""Registers. R0: result; R1 to R5: arguments, lost in a call; R6 to R9: kept; R10: the top of the stack."""
Register = str
Operand = Register | int

_LOAD, _STORE_IMMEDIATE, _STORE, _ALU32, _JUMP, _JUMP32, _ALU64 = 0x61, 0x62, 0x63, 0x04, 0x05, 0x06, 0x07
_LOAD_WIDE, _CALL, _EXIT, _TO_BIG_ENDIAN, _ATOMIC = 0x18, 0x85, 0x95, 0xDC, 0xC3
_FROM_REGISTER = 0x08
_FETCH = 0x01
_MAP, _MAP_VALUE = 1, 2  # what the 64 bits of a wide load stand for
_SIZES = {1: 0x10, 2: 0x08, 4: 0x00, 8: 0x18}


class Op(Enum):
    """What is computed."""

    ADD, SUB, MUL, DIV = 0x00, 0x10, 0x20, 0x30
    OR, AND, LEFT, RIGHT = 0x40, 0x50, 0x60, 0x70
    XOR, MOVE = 0xA0, 0xB0


class If(Enum):
    """What is compared, without signs."""

    EQUAL, NOT_EQUAL = 0x10, 0x50
    ABOVE, AT_LEAST, BELOW, AT_MOST = 0x20, 0x30, 0xA0, 0xB0
    ANY_OF = 0x40
    """Any of these bits is set."""


class Helper(IntEnum):
    """Functions of the kernel, by the numbers of linux/bpf.h."""

    MAP_LOOKUP = 1
    SKB_STORE_BYTES = 9
    REDIRECT = 23
    SKB_LOAD_BYTES = 26
    SKB_CHANGE_HEAD = 43
    SKB_ADJUST_ROOM = 50
    FIB_LOOKUP = 69
    SKB_ECN_SET_CE = 97
    KTIME_GET_BOOT_NS = 125
    RINGBUF_OUTPUT = 130
    CSUM_LEVEL = 135
    REDIRECT_NEIGH = 152
    CHECK_MTU = 163


class Instruction(NamedTuple):
    """One of 64 bits; a wide load is two of them. `target` is the label that a jump goes to.

    A named tuple, since a start makes thousands of them.
    """

    opcode: int
    destination: int = 0
    source: int = 0
    offset: int = 0
    immediate: int = 0
    target: str | None = None

    def encode(self, little: bool) -> bytes:
        registers = self.source << 4 | self.destination if little else self.destination << 4 | self.source
        order = "<" if little else ">"
        immediate = self.immediate & 0xFFFFFFFF
        return struct.pack(f"{order}BBhI", self.opcode, registers, self.offset, immediate)


class Assembler:
    """A program under construction. Every method adds to its end."""

    def __init__(self) -> None:
        self._instructions: list[Instruction] = []
        self._labels: dict[str, int] = {}
        self._made = 0

    def label(self, name: str) -> None:
        """The next instruction is called `name`. ValueError if another one is."""
        if name in self._labels:
            raise ValueError(f"label {name} is there twice")
        self._labels[name] = len(self._instructions)

    def fresh(self, name: str) -> str:
        """A label that nobody else has."""
        self._made += 1
        return f"{name}-{self._made}"

    def alu(self, op: Op, register: Register, operand: Operand, *, width: int = 64) -> None:
        opcode = (_ALU64 if width == 64 else _ALU32) | op.value
        self._with_operand(opcode, register, operand)

    def move(self, register: Register, operand: Operand) -> None:
        self.alu(Op.MOVE, register, operand)

    def address(self, register: Register, base: Register, offset: int) -> None:
        """`register` = `base` + `offset`."""
        self.move(register, base)
        if offset:
            self.alu(Op.ADD, register, offset)

    def load(self, size: int, register: Register, base: Register, offset: int) -> None:
        """`size` octets at `base` + `offset`, in the order of the machine."""
        self._add(_LOAD | _SIZES[size], register, base, offset)

    def store(self, size: int, base: Register, offset: int, operand: Operand) -> None:
        if isinstance(operand, int):
            self._add(_STORE_IMMEDIATE | _SIZES[size], base, None, offset, operand)
        else:
            self._add(_STORE | _SIZES[size], base, operand, offset)

    def to_network_order(self, register: Register, bits: int) -> None:
        """Exchange the order of the machine and that of the network; higher bits become zero."""
        self._add(_TO_BIG_ENDIAN, register, None, 0, bits)

    def atomic_add(self, base: Register, offset: int, register: Register, *, fetch: bool = False) -> None:
        """64 bits in memory += `register`, which gets the value before that if `fetch`."""
        self._add(_ATOMIC | _SIZES[8], base, register, offset, _FETCH if fetch else 0)

    def constant(self, register: Register, value: int) -> None:
        """Any 64 bits."""
        self._wide(register, 0, value & 0xFFFFFFFF, value >> 32)

    def map(self, register: Register, descriptor: int) -> None:
        """The map of this descriptor, for a call."""
        self._wide(register, _MAP, descriptor, 0)

    def map_value(self, register: Register, descriptor: int, offset: int = 0) -> None:
        """A pointer into the only value of an array map."""
        self._wide(register, _MAP_VALUE, descriptor, offset)

    def jump(self, target: str) -> None:
        self._instructions.append(Instruction(_JUMP, target=target))

    def jump_if(
        self, test: If, register: Register, operand: Operand, target: str, *, width: int = 64
    ) -> None:
        """An operand that is a number is extended with its sign, unless `width` is 32."""
        opcode = (_JUMP if width == 64 else _JUMP32) | test.value
        self._with_operand(opcode, register, operand, target)

    def call(self, helper: Helper) -> None:
        self._add(_CALL, None, None, 0, helper)

    def exit(self, result: int | None = None) -> None:
        """End with `result`, or with what R0 holds."""
        if result is not None:
            self.move(R0, result)
        self._add(_EXIT)

    def assemble(self, byteorder: str = sys.byteorder) -> bytes:
        """The program as the kernel takes it. ValueError for a label that is nowhere."""
        found = [self._placed(index, each) for index, each in enumerate(self._instructions)]
        return b"".join(each.encode(byteorder == "little") for each in found)

    def _placed(self, index: int, instruction: Instruction) -> Instruction:
        if instruction.target is None:
            return instruction
        if instruction.target not in self._labels:
            raise ValueError(f"label {instruction.target} is nowhere")
        return instruction._replace(offset=self._labels[instruction.target] - index - 1)

    def _with_operand(
        self, opcode: int, register: Register, operand: Operand, target: str | None = None
    ) -> None:
        if isinstance(operand, int):
            self._add(opcode, register, None, 0, operand, target)
        else:
            self._add(opcode | _FROM_REGISTER, register, operand, 0, 0, target)

    def _wide(self, register: Register, kind: int, low: int, high: int) -> None:
        self._instructions.append(Instruction(_LOAD_WIDE, _number(register), kind, 0, low))
        self._instructions.append(Instruction(0, immediate=high))

    def _add(
        self,
        opcode: int,
        destination: Register | None = None,
        source: Register | None = None,
        offset: int = 0,
        immediate: int = 0,
        target: str | None = None,
    ) -> None:
        self._instructions.append(
            Instruction(opcode, _number(destination), _number(source), offset, immediate, target)
        )


def _number(register: Register | None) -> int:
    return 0 if register is None else int(register[1:])
