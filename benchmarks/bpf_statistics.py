"""How long each eBPF program of this machine has run, as the kernel itself counts it on demand.

Performs I/O. bpf(2): BPF_ENABLE_STATS, BPF_PROG_GET_NEXT_ID, BPF_PROG_GET_FD_BY_ID, BPF_OBJ_GET_INFO_BY_FD.
"""

from __future__ import annotations

import ctypes
import os
import platform
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from struct import Struct

_SYSCALL = {"x86_64": 321, "aarch64": 280}
_NEXT_ID, _FD_BY_ID, _INFO_BY_FD, _ENABLE_STATS = 11, 13, 15, 32
_INFO_SIZE, _NAME, _RUN = 208, slice(64, 80), slice(192, 208)
"""struct bpf_prog_info: its name, and nanoseconds and number of its runs."""
_RUNS = Struct("=QQ")

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Runs:
    """Of one program, since it was loaded and while statistics were on."""

    name: str
    nanoseconds: int
    count: int


@contextmanager
def counted() -> Iterator[None]:
    """The kernel counts for the duration of a `with` block. OSError if it cannot."""
    attribute = bytearray(16)
    descriptor = _bpf(_ENABLE_STATS, attribute)
    try:
        yield
    finally:
        os.close(descriptor)


def programs() -> Mapping[int, Runs]:
    """All programs by their number."""
    found, number = {}, 0
    while (following := _next(number)) is not None:
        number = following
        runs = _runs(number)
        if runs is not None:
            found[number] = runs
    return found


def _next(number: int) -> int | None:
    attribute = bytearray(number.to_bytes(4, "little") + bytes(12))
    try:
        _bpf(_NEXT_ID, attribute)
    except FileNotFoundError:
        return None
    return int.from_bytes(attribute[4:8], "little")


def _runs(number: int) -> Runs | None:
    try:
        descriptor = _bpf(_FD_BY_ID, bytearray(number.to_bytes(4, "little") + bytes(12)))
    except FileNotFoundError:
        return None  # gone meanwhile
    try:
        info = ctypes.create_string_buffer(_INFO_SIZE)
        _bpf(_INFO_BY_FD, bytearray(Struct("=IIQ").pack(descriptor, _INFO_SIZE, ctypes.addressof(info))))
    finally:
        os.close(descriptor)
    nanoseconds, count = _RUNS.unpack(info.raw[_RUN])
    return Runs(info.raw[_NAME].rstrip(b"\0").decode(), nanoseconds, count)


def _bpf(command: int, attribute: bytearray) -> int:
    buffer = (ctypes.c_char * len(attribute)).from_buffer(attribute)
    result: int = _libc.syscall(_SYSCALL[platform.machine()], command, buffer, len(attribute))
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result
