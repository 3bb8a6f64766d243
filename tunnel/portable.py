"""PortablePlane: the data plane that works everywhere, and that the faster ones must equal.

Performs I/O. One read, one verdict, one send a packet. RFC 5555 section 4.1; protected payload is sealed and
opened here: RFC 4303, RFC 3948.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import time
from collections.abc import Callable, Iterable
from functools import partial
from ipaddress import IPv4Network, IPv6Network
from typing import assert_never

from tunnel.carriers import reason_not_sent
from tunnel.control_intake import ControlIntake
from tunnel.endpoint import Endpoint, Role
from tunnel.lane import Control, Lane, Pieces, Reply
from tunnel.loop import BATCH, Drain, PlaneLoop
from tunnel.path import HELD, Drop, TunnelPath
from tunnel.plane import (
    Carrier,
    Device,
    Intake,
    IntakeKind,
    OnControl,
    OnFault,
    OnSilence,
)
from tunnel.recent import RecentPackets
from tunnel.silence import Silence

_LARGEST = 65536
_ANCILLARY = 32  # octets: room for one TOS or traffic class

TUN_REFUSED = Drop("tun-refused")
TUN_GONE = Drop("tun-gone")
_GONE = (errno.EBADF, errno.EBADFD)


class PortablePlane(PlaneLoop):
    """A DataPlane of system calls and Python. See `tunnel.plane.DataPlane` for what each method means."""

    def __init__(
        self,
        device: Device,
        endpoint: Endpoint,
        on_control: OnControl,
        on_fault: OnFault,
        on_silence: OnSilence | None = None,
    ) -> None:
        self._on_silence = on_silence
        self._silence = Silence()
        self._control = ControlIntake(endpoint, on_control)
        self._recent = RecentPackets(by_source=endpoint.role is Role.MOBILE_NODE)
        self._write: Callable[[bytes], object] = bytes
        super().__init__(device, endpoint, on_fault)

    def send_again(self, homes: Iterable[IPv4Network | IPv6Network], since: float) -> None:
        self._post(partial(self._send_again, tuple(homes), since))

    def announce(self, path: TunnelPath, idle: float) -> None:
        self._order(partial(self._announce, path, idle))

    def _use(self, device: Device) -> None:
        super()._use(device)
        self._write = self._writer(self._tun)

    def _writer(self, tun: int) -> Callable[[bytes], object]:
        """How one packet is written to the TUN device."""
        return partial(os.write, tun)

    # ---- the thread: everything below runs in it ---------------------------------------------------------
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

    def _drain_tun(self) -> None:
        tun, read, outbound = self._tun, os.read, self._endpoint.outbound
        now = time.clock_gettime(time.CLOCK_BOOTTIME)
        packets = octets = 0
        remember = self._recent.remember
        try:
            for _ in BATCH:
                packet = read(tun, _LARGEST)
                remember((now, packet))
                lane = outbound(packet, now)
                if not isinstance(lane, Lane):
                    self._unusual(lane, now)
                    continue
                send = lane.send or self._carriers.connect(lane, self._endpoint)
                try:
                    send(packet)
                except OSError as error:
                    self._send_failed(lane, packet, error, now)
                    continue
                lane.sent_at = now
                packets += 1
                octets += len(packet)
        except BlockingIOError:
            pass
        except OSError as error:
            self._tun_failed(error)
        self._have_sent(packets, octets, now)

    def _have_sent(self, packets: int, octets: int, now: float) -> None:
        """Count a turn of the TUN device."""
        self._tx_packets += packets
        self._tx_bytes += octets
        if packets and self._on_silence is not None and self._silence.sent(now, self._received_at):
            self._on_silence()

    def _drain_udp(self, carrier: Carrier, intake: Intake) -> None:
        receive, inbound = intake.socket.recvmsg, self._endpoint.inbound
        for _ in BATCH:
            payload, ancillary, _flags, peer = receive(_LARGEST, _ANCILLARY)
            verdict = inbound(peer, payload, ancillary[0][2][0] if ancillary else 0)
            if isinstance(verdict, bytes):
                self._deliver(verdict)
            elif isinstance(verdict, Control):
                self._control.hand_over(carrier, peer, payload)

    def _drain_raw_ipv4(self, carrier: Carrier, intake: Intake) -> None:
        receive, inbound = intake.socket.recvfrom, self._endpoint.inbound
        for _ in BATCH:
            outer, peer = receive(_LARGEST)
            payload = outer[(outer[0] & 0x0F) * 4 :]
            verdict = inbound(peer, payload, outer[1])
            if isinstance(verdict, bytes):
                self._deliver(verdict)
            elif isinstance(verdict, Control):
                self._control.hand_over(carrier, peer, payload)

    def _drain_raw_ipv6(self, carrier: Carrier, intake: Intake) -> None:
        receive, inbound = intake.socket.recvmsg, self._endpoint.inbound
        for _ in BATCH:
            payload, ancillary, _flags, peer = receive(_LARGEST, _ANCILLARY)
            traffic_class = int.from_bytes(ancillary[0][2], sys.byteorder) if ancillary else 0
            verdict = inbound(peer, payload, traffic_class)
            if isinstance(verdict, bytes):
                self._deliver(verdict)
            elif isinstance(verdict, Control):
                self._control.hand_over(carrier, peer, payload)

    def _drain_udp_esp(self, carrier: Carrier, intake: Intake) -> None:
        receive, inbound = intake.socket.recvmsg, self._endpoint.inbound_4500
        for _ in BATCH:
            datagram, ancillary, _flags, peer = receive(_LARGEST, _ANCILLARY)
            verdict = inbound(peer, datagram, ancillary[0][2][0] if ancillary else 0)
            if isinstance(verdict, bytes):
                self._deliver(verdict)

    def _drain_raw_ipv6_esp(self, carrier: Carrier, intake: Intake) -> None:
        receive, endpoint = intake.socket.recvmsg, self._endpoint
        for _ in BATCH:
            esp, ancillary, _flags, peer = receive(_LARGEST, _ANCILLARY)
            if not endpoint.has_keys(int.from_bytes(esp[:4], "big")):
                continue  # signalling at home, which comes through the packet socket as well
            traffic_class = int.from_bytes(ancillary[0][2], sys.byteorder) if ancillary else 0
            verdict = endpoint.inbound_protected((peer[0], 0), esp, traffic_class)
            if isinstance(verdict, bytes):
                self._deliver(verdict)

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

    def _send_again(self, homes: tuple[IPv4Network | IPv6Network, ...], since: float) -> None:
        now = time.clock_gettime(time.CLOCK_BOOTTIME)
        for packet in self._recent.take(homes, since, now):
            lane = self._endpoint.outbound(packet, now)
            if isinstance(lane, Lane):
                self._send_pieces(Pieces(lane, (packet,)), now)

    def _announce(self, path: TunnelPath, idle: float) -> None:
        now = time.clock_gettime(time.CLOCK_BOOTTIME)
        lane = self._endpoint.lane(path)
        if self._endpoint.session(path) is None or now - lane.sent_at < idle:
            return
        try:
            (lane.send or self._carriers.connect(lane, self._endpoint))(b"")
        except OSError as error:
            self._endpoint.drop(reason_not_sent(error))
        else:
            lane.sent_at = now

    # ---- the uncommon -------------------------------------------------------------------------------------
    def _unusual(self, verdict: Drop | Reply | Pieces, now: float) -> None:
        match verdict:
            case Drop():
                pass  # counted where it was judged
            case Reply():
                with contextlib.suppress(OSError):
                    self._write(verdict.packet)
            case Pieces():
                self._send_pieces(verdict, now)
            case _:
                assert_never(verdict)

    def _send_pieces(self, pieces: Pieces, now: float) -> None:
        lane = pieces.lane
        whole = lane.send or self._carriers.connect(lane, self._endpoint)
        send = (lane.send_fragmented or whole) if pieces.fragment_outer else whole
        for packet in pieces.packets:
            try:
                send(packet)
            except OSError as error:
                self._endpoint.drop(reason_not_sent(error))
                return
        lane.sent_at = now
        self._tx_packets += 1
        self._tx_bytes += sum(map(len, pieces.packets))

    def _send_failed(self, lane: Lane, packet: bytes, error: OSError, now: float) -> None:
        carrier = self._carriers.of(lane.path)
        if error.errno != errno.EMSGSIZE or carrier is None:
            self._endpoint.drop(reason_not_sent(error))
            if lane.path.interface == HELD and not self._held_told and self._on_silence is not None:
                self._held_told = True
                self._on_silence()
            return
        lane.reduce(carrier.path_mtu(lane.path), now)
        verdict = self._endpoint.outbound(packet, now)
        # Still a lane: no smaller inner packet can be asked for, so the outer one is fragmented.
        pieces = Pieces(verdict, (packet,), fragment_outer=True) if isinstance(verdict, Lane) else verdict
        self._unusual(pieces, now)
