"""Ways to send many packets of one length by few system calls.

Performs I/O. UDP is cut into datagrams by the kernel, as late as the network card if that can do it
(UDP_SEGMENT, udp(7)). Raw sockets have nothing of the kind; there one system call takes many messages
(sendmmsg(2)), which saves the calls and not the work of the kernel.
"""

from __future__ import annotations

import socket
import struct

from tunnel.framing import Framing
from tunnel.payload_esp import SEALED_AFTER, SEALED_BEFORE
from tunnel.plane import Seal, TrainSender
from tunnel.trains.messages import Outbox
from tunnel.underlay_sockets import SO_NO_CHECK

Marks = tuple[list[tuple[int, int, bytes]], ...]
"""Ancillary data that sets TOS or traffic class, by its value."""
Address = tuple[str, int] | tuple[str, int, int, int]

_UDP_SEGMENT = 103  # linux/udp.h
_SIZE = struct.Struct("=H")
_MOST_SEGMENTS = 64  # UDP_MAX_SEGMENTS of Linux before 6.9
_LARGEST_DATAGRAM = 65507
_MOST_MESSAGES, _MOST_OCTETS = 64, 98_304


def takes_trains(opened: socket.socket) -> bool:
    """Whether a socket knows UDP_SEGMENT. Before Linux 4.18 it would send all rows as one datagram."""
    try:
        opened.getsockopt(socket.IPPROTO_UDP, _UDP_SEGMENT)
    except OSError:
        return False
    return True


class UdpTrain(TrainSender):
    """The datagrams of one system call go through routing, netfilter and queues as one."""

    def __init__(self, opened: socket.socket, address: Address, marks: Marks, framing: Framing) -> None:
        self.framing = framing
        self._sendmsg = opened.sendmsg
        self._address = address
        self._marks = marks

    def most(self, width: int) -> int:
        return min(_LARGEST_DATAGRAM // width, _MOST_SEGMENTS)

    def send(self, rows: memoryview, width: int, tos: int) -> int:
        ancillary = self._marks[tos] if tos else []
        if len(rows) > width:
            ancillary = [*ancillary, (socket.IPPROTO_UDP, _UDP_SEGMENT, _SIZE.pack(width))]
        self._sendmsg((rows,), ancillary, 0, self._address)
        return -(-len(rows) // width)


class CheckedUdpTrain(UdpTrain):
    """By a socket that else sends without checksums (RFC 3948 section 2.1): no train is cut without them."""

    def __init__(self, opened: socket.socket, address: Address, marks: Marks, framing: Framing) -> None:
        super().__init__(opened, address, marks, framing)
        self._setsockopt = opened.setsockopt

    def send(self, rows: memoryview, width: int, tos: int) -> int:
        self._setsockopt(socket.SOL_SOCKET, SO_NO_CHECK, 0)
        try:
            return super().send(rows, width, tos)
        finally:
            self._setsockopt(socket.SOL_SOCKET, SO_NO_CHECK, 1)


class RawTrain(TrainSender):
    """A message of its own for each packet; a protocol number, hence a socket, for each inner family."""

    def __init__(
        self,
        ipv4: socket.socket,
        ipv6: socket.socket,
        address: Address,
        marks: Marks,
        framing: Framing,
    ) -> None:
        self.framing = framing
        self._outbox4 = Outbox(ipv4, address, marks)
        self._outbox6 = self._outbox4 if ipv6 is ipv4 else Outbox(ipv6, address, marks)

    def most(self, width: int) -> int:
        return max(min(_MOST_OCTETS // width, _MOST_MESSAGES), 1)

    def send(self, rows: memoryview, width: int, tos: int) -> int:
        return (self._outbox6 if rows[0] & 0x20 else self._outbox4).send(rows, width, tos)


class SealedTrain(TrainSender):
    """Seals each row, and sends what came of it by another way."""

    def __init__(self, sender: TrainSender, seal: Seal) -> None:
        self.framing = sender.framing
        self._sender = sender
        self._seal_rows = seal.seal_rows
        self._sealed = memoryview(bytearray(_MOST_MESSAGES * 2048))

    def most(self, width: int) -> int:
        return self._sender.most(width + SEALED_BEFORE + SEALED_AFTER)

    def send(self, rows: memoryview, width: int, tos: int) -> int:
        more = SEALED_BEFORE + SEALED_AFTER
        needed = len(rows) + -(-len(rows) // width) * more
        if needed > len(self._sealed):
            self._sealed = memoryview(bytearray(needed))
        end = self._seal_rows(rows, width, self._sealed)
        return self._sender.send(self._sealed[:end], width + more, tos)
