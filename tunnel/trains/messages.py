"""Many messages a system call: sendmmsg(2) and recvmmsg(2), which the socket module does not have.

Performs I/O (libc by ctypes). The structures of linux/socket.h are laid out here as the machine has them.
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import socket
import struct
import sys
from collections.abc import Iterator
from typing import NamedTuple

from tunnel.forwarding import Peer

_MOST_SENT, _MOST_RECEIVED = 64, 192
"""Messages a system call. Super-packets are joined from what one call brings, so it had better be several."""
_MESSAGE = struct.Struct("@PIPNPNi0PI0P")
"""struct mmsghdr: name, its length, vector, its length, control, its length, flags; length of the message."""
_CONTROL_LENGTH, _LENGTH = struct.calcsize("@PIPNP"), struct.calcsize("@PIPNPNi0P")
_VECTOR = struct.Struct("@PN")
_CONTROL = struct.Struct("@NiiI0N")
_WORD = struct.calcsize("P")
_CONTROL_HEADER = struct.calcsize("@Nii")
_NAME, _CONTROL_ROOM = 32, 64
_SLOT = 65536 + 2048 + 64
"""Room for any packet; not a power of two, or the slots would compete for the same lines of the caches."""
_DONTWAIT = socket.MSG_DONTWAIT

_NO_NAMES, _NO_CONTROLS = bytes(_MOST_RECEIVED * _NAME), bytes(_MOST_RECEIVED * _CONTROL_ROOM)

_libc = ctypes.CDLL(None, use_errno=True)
_sendmmsg, _recvmmsg = _libc.sendmmsg, _libc.recvmmsg
_sendmmsg.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, ctypes.c_int]
_recvmmsg.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, ctypes.c_int, ctypes.c_void_p]


def _address_of(octets: bytearray | memoryview) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(octets))


def _failure() -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number))


class Outbox:
    """Sends rows of one length to one address."""

    def __init__(
        self, opened: socket.socket, address: Peer, marks: tuple[list[tuple[int, int, bytes]], ...]
    ) -> None:
        self._socket = opened
        self._marks = marks
        self._name = bytearray(_socket_address(opened.family, address))
        self._vectors = bytearray(_MOST_SENT * _VECTOR.size)
        self._laid_out = (0, 0)
        self._control = bytearray(_CONTROL.size)
        self._messages = bytearray()
        self._tos = -1
        self._point(0)

    def _point(self, tos: int) -> None:
        """Lay the messages out for packets of this TOS; the next ones will most likely have it too."""
        if tos == self._tos:
            return
        self._tos = tos
        control, size = 0, 0
        if tos:
            ((level, kind, _),) = self._marks[tos]
            _CONTROL.pack_into(self._control, 0, _CONTROL_HEADER + 4, level, kind, tos)
            control, size = _address_of(self._control), _CONTROL.size
        name, vectors = _address_of(self._name), _address_of(self._vectors)
        self._messages = bytearray().join(
            _MESSAGE.pack(name, len(self._name), vectors + i * _VECTOR.size, 1, control, size, 0, 0)
            for i in range(_MOST_SENT)
        )
        self._start = _address_of(self._messages)

    def send(self, rows: memoryview, width: int, tos: int) -> int:
        """As `tunnel.plane.TrainSender.send`."""
        self._point(tos)
        first, length = _address_of(rows), len(rows)
        count = min(-(-length // width), _MOST_SENT)
        self._lay_out(first, width)
        last = (count - 1) * width
        _VECTOR.pack_into(self._vectors, (count - 1) * _VECTOR.size, first + last, min(width, length - last))
        sent: int = _sendmmsg(self._socket.fileno(), self._start, count, _DONTWAIT)
        if length - last < width:
            _VECTOR.pack_into(self._vectors, (count - 1) * _VECTOR.size, first + last, width)
        if sent < 0:
            raise _failure()
        return sent

    def _lay_out(self, first: int, width: int) -> None:
        """Point to rows; those of another length, or elsewhere, are the exception."""
        if self._laid_out == (first, width):
            return
        self._laid_out = (first, width)
        for i in range(_MOST_SENT):
            _VECTOR.pack_into(self._vectors, i * _VECTOR.size, first + i * width, width)


def _socket_address(family: int, address: Peer) -> bytes:
    packed = socket.inet_pton(family, address[0])
    if family == socket.AF_INET:
        return struct.pack("=H", family) + struct.pack("!H4s8x", address[1], packed)
    return struct.pack("=H", family) + struct.pack("!HI16sI", address[1], 0, packed, 0)


class Batch(NamedTuple):
    """Messages in a row, from one peer, with one mark and of one length: slots `first` to `last` less one."""

    peer: Peer
    tos: int
    size: int
    first: int
    last: int


class Inbox:
    """Slots that messages are received into. One serves all sockets of a thread."""

    stride = _SLOT

    def __init__(self) -> None:
        self.octets = _lazy_memory(_MOST_RECEIVED * _SLOT)
        self._names = bytearray(_MOST_RECEIVED * _NAME)
        self._controls = bytearray(_MOST_RECEIVED * _CONTROL_ROOM)
        self._vectors = bytearray(_MOST_RECEIVED * _VECTOR.size)
        slots, names = _address_of(self.octets), _address_of(self._names)
        vectors, controls = _address_of(self._vectors), _address_of(self._controls)
        for i in range(_MOST_RECEIVED):
            _VECTOR.pack_into(self._vectors, i * _VECTOR.size, slots + i * _SLOT, _SLOT)
        self._blank = b"".join(
            _MESSAGE.pack(
                names + i * _NAME,
                _NAME,
                vectors + i * _VECTOR.size,
                1,
                controls + i * _CONTROL_ROOM,
                _CONTROL_ROOM,
                0,
                0,
            )
            for i in range(_MOST_RECEIVED)
        )
        self._messages = bytearray(self._blank)
        self._lengths = memoryview(self._messages).cast("I")[_LENGTH // 4 :: _MESSAGE.size // 4]
        first, step = _CONTROL_LENGTH // _WORD, _MESSAGE.size // _WORD
        self._controlled = memoryview(self._messages).cast("P")[first::step]
        self._start = _address_of(self._messages)
        self._used = 0

    def receive(self, opened: socket.socket) -> Iterator[Batch]:
        """Up to 192 messages; BlockingIOError if there is none. The slots are valid until the next call."""
        self._forget_last()
        count: int = _recvmmsg(opened.fileno(), self._start, _MOST_RECEIVED, _DONTWAIT, None)
        if count < 0:
            raise _failure()
        self._used = count
        return self._batches(opened.family, count)

    def alike(self, batch: Batch, octets: int) -> Iterator[tuple[int, int]]:
        """The parts of a batch, as `first` and `last`, whose messages begin with the same octets."""
        first, last = batch.first * _SLOT, batch.last * _SLOT
        if all(_is_uniform(self.octets[first + i : last : _SLOT].tobytes(), 1) for i in range(octets)):
            yield batch.first, batch.last
            return
        first, begins = batch.first, bytes(self.slot(batch.first, octets))
        for number in range(batch.first + 1, batch.last):
            if self.slot(number, octets) != begins:
                yield first, number
                first, begins = number, bytes(self.slot(number, octets))
        yield first, batch.last

    def slots(self, batch: Batch) -> memoryview:
        """All of a batch, one every `stride`."""
        return self.octets[batch.first * _SLOT : batch.last * _SLOT]

    def slot(self, number: int, size: int) -> memoryview:
        start = number * _SLOT
        return self.octets[start : start + size]

    def _forget_last(self) -> None:
        """Prepare the messages that were used once more; most of the time it is one."""
        used = self._used
        for octets, blank, size in (
            (self._messages, self._blank, _MESSAGE.size),
            (self._names, _NO_NAMES, _NAME),
            (self._controls, _NO_CONTROLS, _CONTROL_ROOM),
        ):
            octets[: used * size] = blank[: used * size]
        self._used = 0

    def _batches(self, family: int, count: int) -> Iterator[Batch]:
        names, lengths = self._names, self._lengths
        if (
            _is_uniform(lengths[:count].tobytes(), lengths.itemsize)
            and _is_uniform(names[: count * _NAME], _NAME)
            and _is_uniform(self._controls[: count * _CONTROL_ROOM], _CONTROL_ROOM)
        ):
            yield Batch(_peer(family, bytes(names[:_NAME])), self._tos(0), lengths[0], 0, count)
            return
        first = 0
        name, tos, size = bytes(names[:_NAME]), self._tos(0), lengths[0]
        for i in range(1, count):
            found = bytes(names[i * _NAME : (i + 1) * _NAME])
            mark = self._tos(i)
            if lengths[i] != size or found != name or mark != tos:
                yield Batch(_peer(family, name), tos, size, first, i)
                first, name, tos, size = i, found, mark, lengths[i]
        yield Batch(_peer(family, name), tos, size, first, count)

    def _tos(self, number: int) -> int:
        """The only ancillary data that raw sockets are asked for is the traffic class."""
        if not self._controlled[number]:
            return 0
        start = number * _CONTROL_ROOM + _CONTROL_HEADER
        return int.from_bytes(self._controls[start : start + 4], sys.byteorder)


def _lazy_memory(size: int) -> memoryview:
    """Zeros that take no memory before they are written to, and then by single pages."""
    memory = mmap.mmap(-1, size)
    with contextlib.suppress(OSError):  # a kernel that knows no others
        memory.madvise(mmap.MADV_NOHUGEPAGE)
    return memoryview(memory)


def _is_uniform(octets: bytes | bytearray, size: int) -> bool:
    """Whether these are the same `size` octets again and again."""
    return octets == octets[:size] * (len(octets) // size)


def _peer(family: int, name: bytes) -> Peer:
    """As `recvfrom` of a raw socket would name it."""
    if family == socket.AF_INET:
        return (socket.inet_ntop(family, name[4:8]), 0)
    return (socket.inet_ntop(family, name[8:24]), 0, 0, int.from_bytes(name[24:28], "little"))
