"""bpf(2): programs, maps and the links between programs and devices.

Performs I/O (system calls by ctypes: no library and no compiler on the user's machine). linux/bpf.h.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import platform
import struct
from dataclasses import dataclass
from enum import IntEnum

_NUMBERS = {
    "x86_64": 321,
    "aarch64": 280,
    "riscv64": 280,
    "loongarch64": 280,
    "ppc64le": 361,
    "s390x": 351,
    "armv7l": 386,
    "i686": 357,
}
_NUMBER = _NUMBERS.get(platform.machine())
_libc = ctypes.CDLL(None, use_errno=True)

_MAP_CREATE, _MAP_LOOKUP, _MAP_UPDATE, _MAP_DELETE, _PROG_LOAD = 0, 1, 2, 3, 5
_PROG_TEST_RUN, _LINK_CREATE, _LINK_UPDATE = 10, 28, 29
_SCHED_CLS = 3
_ATTRIBUTES = 128  # octets of `union bpf_attr` that are given; the kernel takes zeros beyond what it knows
_LOG = 1 << 20  # octets for what the verifier has to say
_CONTEXT = 192  # octets of `struct __sk_buff`


class MapType(IntEnum):
    HASH = 1
    ARRAY = 2
    LPM_TRIE = 11
    RINGBUF = 27


class MapFlag(IntEnum):
    NO_PREALLOC = 1
    MMAPABLE = 1 << 10


class Hook(IntEnum):
    """Where on a device a program runs."""

    INGRESS = 46
    EGRESS = 47


class VerifierError(OSError):
    """The kernel does not take a program; `log` is what its verifier says."""

    def __init__(self, number: int, name: str, log: str) -> None:
        lines = [line for line in log.splitlines() if line and not line.startswith("processed ")]
        reason = lines[-1] if lines else os.strerror(number)
        super().__init__(number, f"the kernel refuses the {name} program: {reason}")
        self.log = log


class Map:
    """A map and its descriptor."""

    def __init__(
        self, kind: MapType, name: str, key_size: int, value_size: int, entries: int, flags: int = 0
    ) -> None:
        self.value_size = value_size
        attributes = struct.pack(
            "=IIIIIII16s", kind, key_size, value_size, entries, flags, 0, 0, name.encode()
        )
        self.descriptor = _bpf(_MAP_CREATE, attributes)[0]

    def update(self, key: bytes, value: bytes) -> None:
        """Put `value` in one step. OSError if the map is full."""
        self._element(_MAP_UPDATE, key, _memory(value))

    def delete(self, key: bytes) -> None:
        """Deleting what is not there does nothing."""
        try:
            self._element(_MAP_DELETE, key, None)
        except OSError as error:
            if error.errno != errno.ENOENT:
                raise

    def lookup(self, key: bytes) -> bytes | None:
        value = _memory(bytes(self.value_size))
        try:
            self._element(_MAP_LOOKUP, key, value)
        except OSError as error:
            if error.errno != errno.ENOENT:
                raise
            return None
        return value.raw

    def memory(self, size: int) -> mmap.mmap:
        """The values of a map that was made with MMAPABLE, shared with the programs that use it."""
        return mmap.mmap(self.descriptor, -(-size // mmap.PAGESIZE) * mmap.PAGESIZE)

    def close(self) -> None:
        """Closing twice does nothing. Programs that use the map keep it alive."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1

    def _element(self, command: int, key: bytes, value: ctypes.Array[ctypes.c_char] | None) -> None:
        held = _memory(key)
        where = 0 if value is None else ctypes.addressof(value)
        _bpf(command, struct.pack("=IxxxxQQQ", self.descriptor, ctypes.addressof(held), where, 0))


@dataclass(frozen=True, slots=True)
class TestRun:
    """What a program did with a packet."""

    verdict: int
    packet: bytes
    nanoseconds: int
    """On average, if it ran more than once."""


class Program:
    """A program of the traffic control hooks, checked and compiled by the kernel."""

    def __init__(self, name: str, instructions: bytes) -> None:
        """VerifierError if the kernel does not take it."""
        code, license_ = _memory(instructions), _memory(b"GPL\0")

        def attributes(log: ctypes.Array[ctypes.c_char] | None) -> bytes:
            where, size = (0, 0) if log is None else (ctypes.addressof(log), len(log))
            return struct.pack(
                "=IIQQIIQII16s",
                _SCHED_CLS,
                len(instructions) // 8,
                ctypes.addressof(code),
                ctypes.addressof(license_),
                1 if log is not None else 0,
                size,
                where,
                0,
                0,
                name.encode(),
            )

        try:
            self.descriptor = _bpf(_PROG_LOAD, attributes(None))[0]
        except OSError as refused:
            if refused.errno == errno.EPERM:
                raise
            log = _memory(bytes(_LOG))
            try:  # once more, to hear why
                self.descriptor = _bpf(_PROG_LOAD, attributes(log))[0]
            except OSError as error:
                raise VerifierError(error.errno or 0, name, log.value.decode(errors="replace")) from None

    def test(self, packet: bytes, context: bytes = b"", repeat: int = 1) -> TestRun:
        """Run it on a packet, from its Ethernet header on, that goes nowhere (BPF_PROG_TEST_RUN)."""
        given, result = _memory(packet), _memory(bytes(len(packet) + 256))
        surroundings = _memory(context.ljust(_CONTEXT, b"\0"))
        attributes = struct.pack(
            "=IIIIQQIIIIQQ",
            self.descriptor,
            0,
            len(packet),
            len(result),
            ctypes.addressof(given),
            ctypes.addressof(result),
            repeat,
            0,
            _CONTEXT if context else 0,
            0,
            ctypes.addressof(surroundings) if context else 0,
            0,
        )
        told = _bpf(_PROG_TEST_RUN, attributes)[1]
        verdict, size, nanoseconds = (struct.unpack_from("=I", told, offset)[0] for offset in (4, 12, 36))
        return TestRun(verdict, result.raw[:size], nanoseconds)

    def close(self) -> None:
        """Closing twice does nothing. A link keeps the program alive."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1


class Link:
    """A program at work on a device (tcx). It ends with `close`, with this process, or with the device."""

    def __init__(self, program: Program, ifindex: int, hook: Hook) -> None:
        """OSError: EINVAL without tcx (Linux 6.6), ENODEV without such a device."""
        self._descriptor = _bpf(_LINK_CREATE, struct.pack("=IIII", program.descriptor, ifindex, hook, 0))[0]

    def replace(self, program: Program) -> None:
        """Let `program` work from the next packet on."""
        _bpf(_LINK_UPDATE, struct.pack("=IIII", self._descriptor, program.descriptor, 0, 0))

    def close(self) -> None:
        """Closing twice does nothing."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def _memory(octets: bytes) -> ctypes.Array[ctypes.c_char]:
    return ctypes.create_string_buffer(octets, len(octets))


def _bpf(command: int, attributes: bytes) -> tuple[int, bytes]:
    """What the call returns, and the attributes as the kernel left them."""
    if _NUMBER is None:
        raise OSError(errno.ENOSYS, f"bpf(2) has no known number on {platform.machine()}")
    given = _memory(attributes.ljust(_ATTRIBUTES, b"\0"))
    result = _libc.syscall(_NUMBER, command, given, ctypes.c_uint(_ATTRIBUTES))
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result, given.raw
