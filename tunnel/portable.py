"""PortablePlane: the data plane that works everywhere, and that the faster ones must equal.

Performs I/O. The TUN device gives and takes one packet a system call. Sockets take packets of one length as a
train, or as many messages, where this kernel has that, and else one by one. Of packets that are alike one is
judged. RFC 5555 section 4.1; protected payload is sealed on its way out: RFC 4303, RFC 3948.
"""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from ipaddress import IPv4Network, IPv6Network
from typing import assert_never

from tunnel.carriers import Carriers, reason_not_sent
from tunnel.encapsulation import tos_of
from tunnel.endpoint import Endpoint, Role
from tunnel.lane import Lane, Pieces, Reply
from tunnel.likeness import UNLIKE, likeness
from tunnel.link_sender import send_on_link
from tunnel.loop import BATCH
from tunnel.path import HELD, Drop, TunnelPath
from tunnel.plane import Device, OnControl, OnFault, OnSilence, TrainSender
from tunnel.receiving import ReceivingPlane
from tunnel.recent import RecentPackets
from tunnel.silence import Silence

_LARGEST = 65536
_ROWS = 98_304  # octets to begin with; more than one train has
NO_TRAINS = (errno.EINVAL, errno.EIO, errno.EOPNOTSUPP)


class PortablePlane(ReceivingPlane):
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
        self._recent = RecentPackets(by_source=endpoint.role is Role.MOBILE_NODE)
        self._waiting: list[bytes] = []
        self._waiting_lane: Lane | None = None
        self._rows = memoryview(bytearray(_ROWS))
        self._departed = self._departed_octets = 0
        super().__init__(device, endpoint, on_control, on_fault)
        self._carriers = Carriers(trains=True)

    def send_again(self, homes: Iterable[IPv4Network | IPv6Network], since: float) -> None:
        self._post(partial(self._send_again, tuple(homes), since))

    def send_on_link(
        self, homes: Iterable[IPv4Network | IPv6Network], since: float, interface: str
    ) -> None:
        self._post(partial(self._send_on_link, tuple(homes), since, interface))

    def carry(self, packets: Sequence[bytes]) -> None:
        self._post(partial(self._carry, packets))

    def deliver(self, packets: Sequence[bytes]) -> None:
        self._post(partial(self._deliver_all, packets))

    def announce(self, path: TunnelPath, idle: float) -> None:
        self._order(partial(self._announce, path, idle))

    # ---- the thread: everything below runs in it ---------------------------------------------------------
    def _drain_tun(self) -> None:
        tun, read, outbound = self._tun, os.read, self._endpoint.outbound
        remember, number, waiting = self._recent.remember, int.from_bytes, self._waiting
        now = time.clock_gettime(time.CLOCK_BOOTTIME)
        self._departed = self._departed_octets = 0
        size, (span, mask, key) = 0, UNLIKE
        try:
            for _ in BATCH:
                packet = read(tun, _LARGEST)
                remember((now, packet))
                if len(packet) == size and number(packet[:span], "big") & mask == key:
                    waiting.append(packet)
                    continue
                self._board(now)
                size, (span, mask, key) = 0, UNLIKE
                lane = outbound(packet, now)
                if isinstance(lane, Lane):
                    waiting.append(packet)
                    self._waiting_lane = lane
                    size, (span, mask, key) = len(packet), likeness(packet)
                else:
                    self._unusual(lane, now)
        except BlockingIOError:
            pass
        except OSError as error:
            self._tun_failed(error)
        self._board(now)
        self._have_sent(self._departed, self._departed_octets, now)

    def _board(self, now: float) -> None:
        """Let the packets that wait leave: one as it is, more of them, which are alike, as trains."""
        waiting, lane = self._waiting, self._waiting_lane
        if not waiting or lane is None:
            return
        sender = self._train_sender(lane) if len(waiting) > 1 else None
        while sender is not None and waiting:
            try:
                sent = self._send_train(sender, waiting)
            except OSError as error:
                if error.errno in NO_TRAINS:
                    lane.train = None  # until the lane is connected again, perhaps through another link
                elif error.errno != errno.EMSGSIZE:
                    self._endpoint.drop(reason_not_sent(error), len(waiting))
                    waiting.clear()
                break
            lane.sent_at = now
            self._departed += sent
            self._departed_octets += sent * len(waiting[0])
            del waiting[:sent]
        for packet in waiting:
            self._send_by(lane, packet, now)
        waiting.clear()

    def _send_train(self, sender: TrainSender, packets: list[bytes]) -> int:
        """Send some of these packets, which are alike; how many have left."""
        first = packets[0]
        before, after = sender.framing(first[0] >> 4, len(first))
        width = len(before) + len(first) + len(after)
        rows = before + (after + before).join(packets[: sender.most(width)]) + after
        if len(rows) > len(self._rows):
            self._rows = memoryview(bytearray(len(rows)))
        self._rows[: len(rows)] = rows  # always in the same place, so that vectors to them need no change
        return sender.send(self._rows[: len(rows)], width, tos_of(first))

    def _train_sender(self, lane: Lane) -> TrainSender | None:
        """None where no trains go; then packets leave one by one, and are refused one by one."""
        if lane.send is None:
            self._carriers.connect(lane, self._endpoint)
        return lane.train if lane.send is not None else None

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

    def _have_sent(self, packets: int, octets: int, now: float) -> None:
        """Count a turn of the TUN device."""
        self._tx_packets += packets
        self._tx_bytes += octets
        if packets and self._on_silence is not None and self._silence.sent(now, self._received_at):
            self._on_silence()

    def _send_again(self, homes: tuple[IPv4Network | IPv6Network, ...], since: float) -> None:
        now = time.clock_gettime(time.CLOCK_BOOTTIME)
        for packet in self._recent.take(homes, since, now):
            lane = self._endpoint.outbound(packet, now)
            if isinstance(lane, Lane):
                self._send_pieces(Pieces(lane, (packet,)), now)

    def _send_on_link(
        self, homes: tuple[IPv4Network | IPv6Network, ...], since: float, interface: str
    ) -> None:
        now = time.clock_gettime(time.CLOCK_BOOTTIME)
        for refusal in send_on_link(self._recent.take(homes, since, now), interface):
            self._endpoint.drop(refusal)

    def _carry(self, packets: Sequence[bytes]) -> None:
        now = time.clock_gettime(time.CLOCK_BOOTTIME)
        for packet in self._payload(packets):
            verdict = self._endpoint.outbound(packet, now)
            self._unusual(Pieces(verdict, (packet,)) if isinstance(verdict, Lane) else verdict, now)

    def _deliver_all(self, packets: Sequence[bytes]) -> None:
        for packet in self._payload(packets):
            self._deliver(packet)

    def _payload(self, packets: Sequence[bytes]) -> Iterator[bytes]:
        """Signalling at home has had its reader."""
        return (packet for packet in packets if not self._endpoint.is_signalling(packet))

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
