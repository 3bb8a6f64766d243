"""OffloadPlane: the portable plane with many packets a system call, wherever packets come in numbers.

Performs I/O. The TUN device hands over super-packets of TCP and UDP whole; they are cut here and leave as
trains. Trains that arrive are joined before they are written. Every packet in them is judged as the portable
tier would judge it, and what cannot go by train goes the portable tier's way.
"""

from __future__ import annotations

import errno
import os
import socket
import sys
import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING

from tunnel.carriers import Carriers, reason_not_sent
from tunnel.encapsulation import tos_of
from tunnel.endpoint import MALFORMED, Endpoint
from tunnel.forwarding import Peer
from tunnel.lane import Control, Lane
from tunnel.loop import BATCH
from tunnel.offload.messages import Inbox
from tunnel.offload.sealed import Opened, OpenedRows, SealedRows
from tunnel.offload.slots import HEADER, PACKET, Slot, Slots
from tunnel.offload.train import Train
from tunnel.offload.vnet import (
    KIND,
    NEEDS_CHECKSUM,
    ONE_PACKET,
    VNET,
    SuperPacket,
    complete_checksum,
)
from tunnel.path import Drop
from tunnel.plane import (
    Carrier,
    Device,
    Intake,
    IntakeKind,
    OnControl,
    OnFault,
    OnSilence,
    TrainSender,
)
from tunnel.portable import PortablePlane

if TYPE_CHECKING:
    from tunnel.offload.bulk import Joiner, Run

_Judge = Callable[[bytes], bytes | Control | Drop]
_HandOver = Callable[[bytes], object]

_UDP_GRO = 104  # linux/udp.h
_ANCILLARY = 2 * socket.CMSG_SPACE(4)  # octets: room for a TOS and the length of a datagram in a train
_HEAD = 512  # octets: no headers of a super-packet are longer
_NO_TRAINS = (errno.EINVAL, errno.EIO, errno.EOPNOTSUPP)
_RECEIVED = 65536


class OffloadPlane(PortablePlane):
    """A DataPlane on a TUN device with offloads."""

    def __init__(
        self,
        device: Device,
        endpoint: Endpoint,
        on_control: OnControl,
        on_fault: OnFault,
        on_silence: OnSilence | None = None,
    ) -> None:
        self._slots = Slots()
        self._train = Train()
        self._received = bytearray(_RECEIVED)
        self._inbox = Inbox()
        self._sealed = SealedRows(endpoint)
        self._joiner: Joiner | None = None
        self._departed = self._departed_octets = 0
        self._waiting: list[bytes] = []
        self._waiting_lane: Lane | None = None
        super().__init__(device, endpoint, on_control, on_fault, on_silence)
        self._carriers = Carriers(trains=True)

    def _use(self, device: Device) -> None:
        if not device.vnet_header:
            raise ValueError(f"{device.name} was opened without offloads")
        super()._use(device)

    def _writer(self, tun: int) -> Callable[[bytes], object]:
        return lambda packet: os.writev(tun, (ONE_PACKET, packet))

    def _attach(self, carrier: Carrier) -> None:
        for intake in carrier.intakes:
            if intake.kind in (IntakeKind.UDP, IntakeKind.UDP_ESP):
                intake.socket.setsockopt(socket.IPPROTO_UDP, _UDP_GRO, 1)
        super()._attach(carrier)

    # ---- from the TUN device -----------------------------------------------------------------------------
    def _drain_tun(self) -> None:
        tun, slots, outbound = self._tun, self._slots, self._endpoint.outbound
        readv, unpack, remember = os.readv, VNET.unpack_from, self._recent.remember
        now = time.clock_gettime(time.CLOCK_BOOTTIME)
        self._departed = self._departed_octets = 0
        waiting = self._waiting
        try:
            for _ in BATCH:
                slot = slots.current
                end = HEADER + readv(tun, slot.readable)
                flags, kind, _, size, start, offset = unpack(slot.octets, HEADER)
                if kind:
                    self._board(now)
                    self._super_packet(slot, end - PACKET, kind & KIND, size, start, now)
                    continue
                if flags & NEEDS_CHECKSUM:
                    complete_checksum(slot.view[PACKET:end], start, offset)
                packet = bytes(slot.view[PACKET:end])
                remember((now, packet))
                lane = outbound(packet, now)
                if not isinstance(lane, Lane):
                    self._board(now)
                    self._depart(now)
                    self._unusual(lane, now)
                    continue
                if waiting and (lane is not self._waiting_lane or not _alike(waiting[-1], packet)):
                    self._board(now)
                waiting.append(packet)
                self._waiting_lane = lane
        except BlockingIOError:
            pass
        except OSError as error:
            self._tun_failed(error)
        self._board(now)
        self._depart(now)
        self._have_sent(self._departed, self._departed_octets, now)

    def _super_packet(self, slot: Slot, length: int, kind: int, size: int, start: int, now: float) -> None:
        from tunnel.offload import bulk

        head = bytes(slot.view[PACKET : PACKET + min(length, _HEAD)])
        packet = SuperPacket.of(kind, size, start, head, length)
        if packet is None:
            self._endpoint.drop(MALFORMED)
            return
        self._recent.remember((now, self._slots.keep(head, packet, bulk.segments)))
        lane = self._endpoint.outbound_super(head, length, packet.headers + size, packet.segments)
        if isinstance(lane, Drop):
            return
        sender = None if lane is None else self._train_sender(lane)
        if lane is None or sender is None:
            self._depart(now)
            for segment in bulk.segments(slot, head, packet):
                self._send_one(segment, now)
            return
        train, tos, version = self._train, tos_of(head), head[0] >> 4
        width = bulk.row_width(packet, sender.framing, version)
        first = 0
        while first < packet.segments:
            if not train.fits(lane, version, tos, width):
                self._depart(now)
                train.start(lane, sender.framing, head, packet.headers + size)
            count = min(packet.segments - first, train.room())
            bulk.add_segments(train, slot, head, packet, first, count)
            first += count
            self._depart(now, sender.most(width))

    def _board(self, now: float) -> None:
        """Let the single packets that wait leave: one as it is, more as a train."""
        waiting, lane = self._waiting, self._waiting_lane
        if not waiting or lane is None:
            return
        self._depart(now)
        sender = self._train_sender(lane) if len(waiting) > 1 else None
        if sender is None:
            for packet in waiting:
                self._send_by(lane, packet, now)
        else:
            train, first = self._train, waiting[0]
            train.start(lane, sender.framing, first, len(first))
            frame = sender.framing(train.version, train.inner)
            for packet in waiting:
                train.add(packet, frame)
            self._depart(now)
        waiting.clear()

    def _train_sender(self, lane: Lane) -> TrainSender | None:
        """None where no trains go; then packets leave one by one, and are refused one by one."""
        if lane.send is None:
            self._carriers.connect(lane, self._endpoint)
        return lane.train if lane.send is not None else None

    def _send_one(self, packet: bytes, now: float) -> None:
        """What the portable tier does with a packet from the TUN device."""
        lane = self._endpoint.outbound(packet, now)
        if isinstance(lane, Lane):
            self._send_by(lane, packet, now)
        else:
            self._unusual(lane, now)

    def _send_by(self, lane: Lane, packet: bytes, now: float) -> None:
        send = lane.send or self._carriers.connect(lane, self._endpoint)
        try:
            send(packet)
        except OSError as error:
            self._send_failed(lane, packet, error, now)
            return
        lane.sent_at = now
        self._departed += 1
        self._departed_octets += len(packet)

    def _depart(self, now: float, whole: int = 1) -> None:
        """Let rows that wait leave, as long as there are `whole` of them for a system call."""
        train = self._train
        lane = train.lane
        while lane is not None and train.rows >= whole:
            sender, width = lane.train, train.width
            if lane.send is None or sender is None:  # its underlay has just gone
                self._one_by_one(now)
                return
            rows = min(sender.most(width), train.rows)
            end = train.end if rows == train.rows else train.begin + rows * width
            try:
                sent = sender.send(train.view[train.begin : end], width, train.tos)
            except OSError as error:
                self._not_departed(lane, error, now)
                return
            lane.sent_at = now
            self._departed += sent
            self._departed_octets += train.take(sent)
            lane = train.lane

    def _not_departed(self, lane: Lane, error: OSError, now: float) -> None:
        if error.errno in _NO_TRAINS:
            lane.train = None  # until the lane is connected again, perhaps through another link
        if error.errno in _NO_TRAINS or error.errno == errno.EMSGSIZE:
            self._one_by_one(now)
        else:
            self._endpoint.drop(reason_not_sent(error), self._train.rows)
            self._train.clear()

    def _one_by_one(self, now: float) -> None:
        packets = self._train.packets()
        self._train.clear()
        for packet in packets:
            self._send_one(packet, now)

    # ---- from the underlays ------------------------------------------------------------------------------
    def _drain_udp(self, carrier: Carrier, intake: Intake) -> None:
        receive, inbound, octets = intake.socket.recvmsg_into, self._endpoint.inbound, self._received
        view, into = memoryview(octets), [octets]
        for _ in BATCH:
            length, ancillary, _flags, peer = receive(into, _ANCILLARY)
            tos, size = _marks_of(ancillary)
            if size and length > size:
                count, last = divmod(length, size)
                judge = partial(self._judge, inbound, peer, tos)
                hand_over = partial(self._control.hand_over, carrier, peer)
                tail = bytes(view[length - last : length])
                self._arrive(judge, hand_over, octets, 0, size, size, count, tail)
                continue
            payload = bytes(view[:length])
            verdict = inbound(peer, payload, tos)
            if isinstance(verdict, bytes):
                self._deliver(verdict)
            elif isinstance(verdict, Control):
                self._control.hand_over(carrier, peer, payload)

    def _drain_udp_esp(self, carrier: Carrier, intake: Intake) -> None:
        receive, view, into = intake.socket.recvmsg_into, memoryview(self._received), [self._received]
        for _ in BATCH:
            length, ancillary, _flags, peer = receive(into, _ANCILLARY)
            tos, size = _marks_of(ancillary)
            step = size or length or 1
            datagrams = (view[start : min(start + step, length)] for start in range(0, length or 1, step))
            self._opened(self._sealed.open_datagrams(peer, datagrams), tos)

    def _drain_raw_ipv4(self, carrier: Carrier, intake: Intake) -> None:
        inbox, inbound = self._inbox, self._endpoint.inbound
        for batch in inbox.receive(intake.socket):
            hand_over = partial(self._control.hand_over, carrier, batch.peer)
            for first, last in inbox.alike(batch, 2):  # version, length of the header, TOS
                header = inbox.slot(first, 20)
                length = (header[0] & 0x0F) * 4
                judge = partial(self._judge, inbound, batch.peer, header[1])
                begin = first * inbox.stride + length
                size = batch.size - length
                self._arrive(judge, hand_over, inbox.octets, begin, inbox.stride, size, last - first)

    def _drain_raw_ipv6(self, carrier: Carrier, intake: Intake) -> None:
        inbox, inbound = self._inbox, self._endpoint.inbound
        for batch in inbox.receive(intake.socket):
            judge = partial(self._judge, inbound, batch.peer, batch.tos)
            hand_over = partial(self._control.hand_over, carrier, batch.peer)
            begin, count = batch.first * inbox.stride, batch.last - batch.first
            self._arrive(judge, hand_over, inbox.octets, begin, inbox.stride, batch.size, count)

    def _drain_raw_ipv6_esp(self, carrier: Carrier, intake: Intake) -> None:
        inbox, endpoint = self._inbox, self._endpoint
        for batch in inbox.receive(intake.socket):
            slots = (inbox.slot(number, batch.size) for number in range(batch.first, batch.last))
            # What has no keys here is signalling at home, which comes through the packet socket as well.
            packets = (slot for slot in slots if endpoint.has_keys(int.from_bytes(slot[:4], "big")))
            self._opened(self._sealed.open((batch.peer[0], 0), packets), batch.tos)

    def _opened(self, opened: Iterable[OpenedRows | Opened], tos: int) -> None:
        endpoint = self._endpoint
        for found in opened:
            if isinstance(found, Opened):
                verdict = endpoint.inbound_opened(*found, tos)
                if isinstance(verdict, bytes):
                    self._deliver(verdict)
                continue
            spi, next_header, begin, stride, size, count = found
            judge = partial(self._judge_opened, endpoint.inbound_opened, spi, next_header, tos)
            self._arrive(judge, _nothing, self._sealed.octets, begin, stride, size, count)

    @staticmethod
    def _judge(
        inbound: Callable[[Peer, bytes, int], bytes | Control | Drop], peer: Peer, tos: int, payload: bytes
    ) -> bytes | Control | Drop:
        return inbound(peer, payload, tos)

    @staticmethod
    def _judge_opened(
        inbound: Callable[[int, int, bytes, int], bytes | Drop],
        spi: int,
        next_header: int,
        tos: int,
        packet: bytes,
    ) -> bytes | Drop:
        return inbound(spi, next_header, packet, tos)

    def _arrive(
        self,
        judge: _Judge,
        hand_over: _HandOver,
        octets: bytearray,
        begin: int,
        stride: int,
        size: int,
        count: int,
        tail: bytes = b"",
    ) -> None:
        """Judge and deliver `count` payloads of `size` octets, one every `stride`, and a shorter one."""
        if count == 1 and not tail:
            payload = bytes(memoryview(octets)[begin : begin + size])
            self._settle(judge(payload), payload, hand_over)
            return
        from tunnel.offload import bulk

        for run in bulk.runs(octets, begin, stride, size, count, tail):
            verdict = judge(run.first)
            if run.count == 1:
                self._settle(verdict, run.first, hand_over)
            elif isinstance(verdict, Drop):
                self._endpoint.drop(verdict, run.count - 1)
            elif verdict == run.first[run.before :]:
                self._deliver_run(run)
            else:  # a mark from outside changes each packet
                self._settle(verdict, run.first, hand_over)
                for payload in run.others():
                    self._settle(judge(payload), payload, hand_over)

    def _settle(self, verdict: bytes | Control | Drop, payload: bytes, hand_over: _HandOver) -> None:
        if isinstance(verdict, bytes):
            self._deliver(verdict)
        elif isinstance(verdict, Control):
            hand_over(payload)

    def _deliver_run(self, run: Run) -> None:
        if self._joiner is None:
            from tunnel.offload.bulk import Joiner

            self._joiner = Joiner()
        whole = self._joiner.join(run)
        try:
            os.write(self._tun, whole)
        except OSError as error:
            self._not_delivered(error, run.count)
            return
        self._rx_packets += run.count
        self._rx_bytes += run.octets


def _alike(packet: bytes, following: bytes) -> bool:
    """Whether one may follow the other in a train: version, length and TOS are the same."""
    return len(following) == len(packet) and following[:2] == packet[:2]


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
