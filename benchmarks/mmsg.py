"""Many small datagrams by one system call, sendmmsg or recvmmsg: a generator is not what should be measured.

Performs I/O.
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
from typing import Any

_libc = ctypes.CDLL(None, use_errno=True)
_MSG_DONTWAIT = 0x40
_MSG_TRUNC = 0x20


class _Iovec(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


class _Header(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_void_p),
        ("name_length", ctypes.c_uint32),
        ("iov", ctypes.POINTER(_Iovec)),
        ("iov_count", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("control_length", ctypes.c_size_t),
        ("flags", ctypes.c_int),
    )


class _Message(ctypes.Structure):
    _fields_ = (("header", _Header), ("length", ctypes.c_uint32))


class Batch:
    """Up to `count` datagrams of `size` octets, all zeros when they are sent."""

    def __init__(self, count: int, size: int) -> None:
        self._buffer = ctypes.create_string_buffer(size)
        # All messages share the buffer: what arrives is counted and not looked at.
        self._iovec = _Iovec(ctypes.addressof(self._buffer), size)
        self._messages: Any = (_Message * count)()
        for message in self._messages:
            message.header.iov = ctypes.pointer(self._iovec)
            message.header.iov_count = 1

    def send(self, to: socket.socket, count: int) -> int:
        """How many of `count` datagrams the kernel took."""
        return self._call(_libc.sendmmsg(to.fileno(), self._messages, count, _MSG_DONTWAIT))

    def receive(self, source: socket.socket) -> int:
        """How many datagrams there were."""
        count = len(self._messages)
        return self._call(
            _libc.recvmmsg(source.fileno(), self._messages, count, _MSG_DONTWAIT | _MSG_TRUNC, None)
        )

    @staticmethod
    def _call(result: int) -> int:
        if result >= 0:
            return result
        number = ctypes.get_errno()
        if number in (errno.EAGAIN, errno.ENOBUFS, errno.EINTR):
            return 0
        raise OSError(number, os.strerror(number))
