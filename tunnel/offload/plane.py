"""OffloadPlane: the portable plane with many packets a system call, wherever packets come in numbers.

Performs I/O. The TUN device hands over super-packets of TCP and UDP whole; they are cut here and leave as
trains. Trains that arrive are joined before they are written. Every packet in them is judged as the portable
tier would judge it, and what cannot go by train goes the portable tier's way.
"""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING

from tunnel.carriers import reason_not_sent
from tunnel.encapsulation import tos_of
from tunnel.endpoint import MALFORMED, Endpoint
from tunnel.lane import Lane
from tunnel.likeness import UNLIKE, likeness
from tunnel.loop import BATCH
from tunnel.offload.shape import shape_of
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
from tunnel.path import TLV_HEADER, Drop
from tunnel.plane import Device, OnControl, OnFault, OnSilence
from tunnel.portable import NO_TRAINS, PortablePlane
from tunnel.receiving import HandOver, Judge

if TYPE_CHECKING:
    from tunnel.offload.bulk import Joiner, Run

AT_WORK = 64
"""Packets after which NumPy is loaded aside, so that no super-packet has to wait for it."""
_HEAD = 512  # octets: no headers of a super-packet are longer


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
        self._joiner: Joiner | None = None
        self._prepared = False
        super().__init__(device, endpoint, on_control, on_fault, on_silence)

    def _use(self, device: Device) -> None:
        if not device.vnet_header:
            raise ValueError(f"{device.name} was opened without offloads")
        super()._use(device)

    def _writer(self, tun: int) -> Callable[[bytes | memoryview], object]:
        return lambda packet: os.write(tun, ONE_PACKET + packet)

    def _have_sent(self, packets: int, octets: int, now: float) -> None:
        super()._have_sent(packets, octets, now)
        if not self._prepared and self._tx_packets + self._rx_packets >= AT_WORK:
            self._prepared = True
            threading.Thread(
                target=import_module, args=("tunnel.offload.bulk",), name="numpy", daemon=True
            ).start()

    # ---- from the TUN device -----------------------------------------------------------------------------
    def _drain_tun(self) -> None:
        tun, slots, outbound = self._tun, self._slots, self._endpoint.outbound
        readv, unpack, remember = os.readv, VNET.unpack_from, self._recent.remember
        now = time.clock_gettime(time.CLOCK_BOOTTIME)
        self._departed = self._departed_octets = 0
        waiting, number = self._waiting, int.from_bytes
        alike, (span, mask, key) = 0, UNLIKE
        try:
            for _ in BATCH:
                slot = slots.current
                end = HEADER + readv(tun, slot.readable)
                flags, kind, _, size, start, offset = unpack(slot.octets, HEADER)
                if kind:
                    self._board(now)
                    alike = 0
                    self._super_packet(slot, end - PACKET, kind & KIND, size, start, now)
                    continue
                if flags & NEEDS_CHECKSUM:
                    complete_checksum(slot.view[PACKET:end], start, offset)
                packet = bytes(slot.view[PACKET:end])
                remember((now, packet))
                if len(packet) == alike and number(packet[:span], "big") & mask == key:
                    waiting.append(packet)
                    continue
                self._board(now)
                alike, (span, mask, key) = 0, UNLIKE
                lane = outbound(packet, now)
                if isinstance(lane, Lane):
                    waiting.append(packet)
                    self._waiting_lane = lane
                    alike, (span, mask, key) = len(packet), likeness(packet)
                else:
                    self._depart(now)
                    self._unusual(lane, now)
        except BlockingIOError:
            pass
        except OSError as error:
            self._tun_failed(error)
        self._board(now)
        self._depart(now)
        self._have_sent(self._departed, self._departed_octets, now)

    def _super_packet(self, slot: Slot, length: int, kind: int, size: int, start: int, now: float) -> None:
        head = bytes(slot.view[PACKET : PACKET + min(length, _HEAD)])
        packet = SuperPacket.of(kind, size, start, head, length)
        if packet is None:
            self._endpoint.drop(MALFORMED)
            return
        lane = self._endpoint.outbound_super(head, length, packet.headers + size, packet.segments)
        if isinstance(lane, Lane) and self._passes_on(slot, head, packet, lane):
            return
        from tunnel.offload import bulk

        self._recent.remember((now, self._slots.keep(head, packet, bulk.segments)))
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

    def _passes_on(self, slot: Slot, head: bytes, packet: SuperPacket, lane: Lane) -> bool:
        """Whether a super-packet that may leave does so by somebody else."""
        return False

    def _board(self, now: float) -> None:
        if self._waiting:
            self._depart(now)
            super()._board(now)

    def _send_one(self, packet: bytes, now: float) -> None:
        """What the portable tier does with a packet from the TUN device."""
        lane = self._endpoint.outbound(packet, now)
        if isinstance(lane, Lane):
            self._send_by(lane, packet, now)
        else:
            self._unusual(lane, now)

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
        if error.errno in NO_TRAINS:
            lane.train = None  # until the lane is connected again, perhaps through another link
        if error.errno in NO_TRAINS or error.errno == errno.EMSGSIZE:
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
        if count + bool(tail) <= 1 or not _may_be_joined(memoryview(octets)[begin : begin + size]):
            super()._arrive(judge, hand_over, octets, begin, stride, size, count, tail)
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


def _may_be_joined(first: memoryview) -> bool:
    """Whether a train that begins like this has segments of a stream; all others are spared the arrays."""
    inner = first if first and first[0] >> 4 else first[TLV_HEADER:]
    return shape_of(inner) is not None
