"""ReceivingPlane: what arrives at the sockets, in trains or one by one, on its way to the TUN device.

Performs I/O. RFC 5555 section 4.1; protected payload is opened here: RFC 4303, RFC 3948. Of packets that are
alike one is judged.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import sys
from collections.abc import Callable, Iterable
from functools import cached_property, partial
from typing import assert_never

from tunnel.control_intake import ControlIntake
from tunnel.endpoint import Endpoint
from tunnel.forwarding import Peer
from tunnel.lane import Control
from tunnel.likeness import UNLIKE, likeness
from tunnel.loop import Drain, PlaneLoop
from tunnel.path import Drop
from tunnel.plane import Carrier, Device, Intake, IntakeKind, OnControl, OnFault
from tunnel.trains.messages import Inbox
from tunnel.trains.sealed import Opened, OpenedRows, SealedRows

_LARGEST = 65536
_UDP_GRO = 104  # linux/udp.h
_ANCILLARY = 2 * socket.CMSG_SPACE(4)  # octets: room for a TOS and the length of a datagram in a train
_ROOM = 4 * _LARGEST
_TURN = 128
"""Packets received from one socket before the others get their turn; a train is not interrupted."""

_NO_KIND: tuple[Peer, int, int] = (("", 0), 0, 0)
TUN_REFUSED = Drop("tun-refused")
TUN_GONE = Drop("tun-gone")
_GONE = (errno.EBADF, errno.EBADFD)

Judge = Callable[[bytes], bytes | Control | Drop]
HandOver = Callable[[bytes], object]
"""Takes a payload that was judged to be control."""


class ReceivingPlane(PlaneLoop):
    """Half of a DataPlane that reads packets itself: the way in."""

    def __init__(
        self, device: Device, endpoint: Endpoint, on_control: OnControl, on_fault: OnFault
    ) -> None:
        self._control = ControlIntake(endpoint, on_control)
        self._write: Callable[[bytes | memoryview], object] = bytes
        self._received = bytearray(_ROOM)
        self._sealed = SealedRows(endpoint)
        super().__init__(device, endpoint, on_fault)

    def _use(self, device: Device) -> None:
        super()._use(device)
        self._write = self._writer(self._tun)

    def _writer(self, tun: int) -> Callable[[bytes | memoryview], object]:
        """How one packet is written to the TUN device."""
        return partial(os.write, tun)

    def _attach(self, carrier: Carrier) -> None:
        for intake in carrier.intakes:
            if intake.kind in (IntakeKind.UDP, IntakeKind.UDP_ESP):
                with contextlib.suppress(OSError):  # before Linux 5.0 each datagram comes by itself
                    intake.socket.setsockopt(socket.IPPROTO_UDP, _UDP_GRO, 1)
        super()._attach(carrier)

    # ---- the thread: everything below runs in it ---------------------------------------------------------
    @cached_property
    def _inbox(self) -> Inbox:
        """A MiB, which a daemon that carries nothing by raw sockets does without."""
        return Inbox()

    def _drain_of(self, kind: IntakeKind) -> Drain:
        match kind:
            case IntakeKind.UDP:
                return self._drain_udp
            case IntakeKind.RAW_IPV4:
                return self._drain_raw_ipv4
            case IntakeKind.RAW_IPV6:
                return self._drain_raw_ipv6
            case IntakeKind.CONTROL:
                return self._control.drain
            case IntakeKind.UDP_ESP:
                return self._drain_udp_esp
            case IntakeKind.RAW_IPV6_ESP:
                return self._drain_raw_ipv6_esp
            case _:
                assert_never(kind)

    def _drain_udp(self, carrier: Carrier, intake: Intake) -> None:
        """Trains that are alike and wait together arrive as one: super-packets do not end where they do."""
        receive, view = intake.socket.recvmsg_into, memoryview(self._received)
        kind, end, taken = _NO_KIND, 0, 0
        try:
            while taken < _TURN:
                length, ancillary, _flags, peer = receive([view[end : end + _LARGEST]], _ANCILLARY)
                tos, size = _marks_of(ancillary)
                found = (peer, tos, size or length)
                if end and found != kind:
                    self._take_train(carrier, kind, 0, end)
                    self._take_train(carrier, found, end, length)
                    end = 0
                elif end + length > _ROOM - _LARGEST or not size or length % size:
                    self._take_train(carrier, found, 0, end + length)
                    end = 0
                else:
                    kind, end = found, end + length
                taken += length // (size or length or 1)
        finally:
            if end:
                self._take_train(carrier, kind, 0, end)

    def _take_train(self, carrier: Carrier, kind: tuple[Peer, int, int], begin: int, octets: int) -> None:
        """Datagrams in the buffer, of one peer, with one mark and of one size but the last."""
        peer, tos, size = kind
        count, last = divmod(octets, size) if size else (1, 0)
        judge = partial(_judge, self._endpoint.inbound, peer, tos)
        hand_over = partial(self._control.hand_over, carrier, peer)
        end = begin + octets
        tail = bytes(memoryview(self._received)[end - last : end])
        self._arrive(judge, hand_over, self._received, begin, size or 1, size, count, tail)

    def _drain_udp_esp(self, carrier: Carrier, intake: Intake) -> None:
        receive, view, into = intake.socket.recvmsg_into, memoryview(self._received), [self._received]
        taken = 0
        while taken < _TURN:
            length, ancillary, _flags, peer = receive(into, _ANCILLARY)
            tos, size = _marks_of(ancillary)
            step = size or length or 1
            self._opened(self._sealed.open_datagrams(peer, view[:length], step), tos)
            taken += length // step + 1

    def _drain_raw_ipv4(self, carrier: Carrier, intake: Intake) -> None:
        inbox, inbound = self._inbox, self._endpoint.inbound
        for batch in inbox.receive(intake.socket):
            hand_over = partial(self._control.hand_over, carrier, batch.peer)
            for first, last in inbox.alike(batch, 2):  # version, length of the header, TOS
                header = inbox.slot(first, 20)
                length = (header[0] & 0x0F) * 4
                judge = partial(_judge, inbound, batch.peer, header[1])
                begin = first * inbox.stride + length
                size = batch.size - length
                self._arrive(judge, hand_over, inbox.octets, begin, inbox.stride, size, last - first)

    def _drain_raw_ipv6(self, carrier: Carrier, intake: Intake) -> None:
        inbox, inbound = self._inbox, self._endpoint.inbound
        for batch in inbox.receive(intake.socket):
            judge = partial(_judge, inbound, batch.peer, batch.tos)
            hand_over = partial(self._control.hand_over, carrier, batch.peer)
            begin, count = batch.first * inbox.stride, batch.last - batch.first
            self._arrive(judge, hand_over, inbox.octets, begin, inbox.stride, batch.size, count)

    def _drain_raw_ipv6_esp(self, carrier: Carrier, intake: Intake) -> None:
        inbox = self._inbox
        for batch in inbox.receive(intake.socket):
            packets, peer = inbox.slots(batch), (batch.peer[0], 0)
            self._opened(self._sealed.open(peer, packets, inbox.stride, batch.size), batch.tos)

    def _opened(self, opened: Iterable[OpenedRows | Opened], tos: int) -> None:
        endpoint = self._endpoint
        for found in opened:
            if isinstance(found, Opened):
                verdict = endpoint.inbound_opened(*found, tos)
                if isinstance(verdict, bytes):
                    self._deliver(verdict)
                continue
            spi, next_header, begin, stride, size, count = found
            judge = partial(_judge_opened, endpoint.inbound_opened, spi, next_header, tos)
            self._arrive(judge, _nothing, self._sealed.octets, begin, stride, size, count)

    def _arrive(
        self,
        judge: Judge,
        hand_over: HandOver,
        octets: bytearray | memoryview,
        begin: int,
        stride: int,
        size: int,
        count: int,
        tail: bytes = b"",
    ) -> None:
        """Judge and deliver `count` payloads of `size` octets, one every `stride`, and a shorter one."""
        view, number, write = memoryview(octets), int.from_bytes, self._write
        before, (span, mask, key) = 0, UNLIKE
        for start in range(begin, begin + count * stride, stride):
            if number(view[start : start + span], "big") & mask == key:
                try:
                    write(view[start + before : start + size])
                except OSError as error:
                    self._not_delivered(error)
                else:
                    self._rx_packets += 1
                    self._rx_bytes += size - before
                continue
            payload = bytes(view[start : start + size])
            verdict = judge(payload)
            self._settle(verdict, payload, hand_over)
            if isinstance(verdict, bytes) and payload.endswith(verdict):  # taken as it is
                before = size - len(verdict)
                span, mask, key = likeness(payload, before)
            else:
                span, mask, key = UNLIKE
        if tail:
            self._settle(judge(tail), tail, hand_over)

    def _settle(self, verdict: bytes | Control | Drop, payload: bytes, hand_over: HandOver) -> None:
        if isinstance(verdict, bytes):
            self._deliver(verdict)
        elif isinstance(verdict, Control):
            hand_over(payload)

    def _deliver(self, packet: bytes) -> None:
        try:
            self._write(packet)
        except OSError as error:
            self._not_delivered(error)
            return
        self._rx_packets += 1
        self._rx_bytes += len(packet)

    def _not_delivered(self, error: OSError, packets: int = 1) -> None:
        # A device that is gone is reported by its own drain, which the kernel wakes for that.
        self._endpoint.drop(TUN_GONE if error.errno in _GONE else TUN_REFUSED, packets)


def _judge(
    inbound: Callable[[Peer, bytes, int], bytes | Control | Drop], peer: Peer, tos: int, payload: bytes
) -> bytes | Control | Drop:
    return inbound(peer, payload, tos)


def _judge_opened(
    inbound: Callable[[int, int, bytes, int], bytes | Drop],
    spi: int,
    next_header: int,
    tos: int,
    packet: bytes,
) -> bytes | Drop:
    return inbound(spi, next_header, packet, tos)


def _marks_of(ancillary: list[tuple[int, int, bytes]]) -> tuple[int, int]:
    """The TOS, and the length of each datagram of a train; 0 for what is not there."""
    tos = size = 0
    for level, _kind, data in ancillary:
        if level == socket.IPPROTO_UDP:
            size = int.from_bytes(data, sys.byteorder)
        else:
            tos = data[0]
    return tos, size


def _nothing(payload: bytes) -> None:
    """Signalling has a path of its own; where payload is protected the endpoint has refused it already."""
