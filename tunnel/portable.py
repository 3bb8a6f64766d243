"""PortablePlane: the data plane that works everywhere, and that the faster ones must equal.

Performs I/O. One thread, one epoll: one read, one verdict, one send a packet. RFC 5555 section 4.1; protected
payload is sealed and opened here: RFC 4303, RFC 3948.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import sys
import threading
import time
from collections.abc import Callable, Iterable
from functools import partial
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import assert_never

from tunnel.carriers import Carriers, error_name, reason_not_sent
from tunnel.endpoint import MALFORMED, Control, Endpoint, EndpointConfig, Lane, Pieces, Reply, Role
from tunnel.forwarding import ForwardingTable, Peer
from tunnel.orders import HANDSHAKE, Orders
from tunnel.path import HELD, Arrival, Drop, TunnelPath
from tunnel.plane import (
    Carrier,
    Counters,
    DataPlane,
    Device,
    Intake,
    IntakeKind,
    OnControl,
    OnFault,
    OnSilence,
)
from tunnel.recent import RecentPackets
from tunnel.silence import Silence
from tunnel.token_bucket import TokenBucket
from wire.ip import IPV6_HEADER, PROTOCOL_ESP

_BATCH = range(64)
"""Packets taken from one descriptor before the others get their turn."""
_LARGEST = 65536
_ANCILLARY = 32  # octets: room for one TOS or traffic class
_SWITCH_INTERVAL = 0.0001
_CONTROL_RATE = 5000.0  # control packets a second, well above what a daemon can answer
_CONTROL_BURST = 1000.0
_BARE_ESP_RATE, _BARE_ESP_BURST = 200.0, 200.0  # of them: deregistrations at home, and what else is bare ESP

CONTROL_FLOOD = Drop("control-flood")
TUN_REFUSED = Drop("tun-refused")
TUN_GONE = Drop("tun-gone")
_GONE = (errno.EBADF, errno.EBADFD)


class PortablePlane(DataPlane):
    """A DataPlane of system calls and Python. See `tunnel.plane.DataPlane` for what each method means."""

    def __init__(
        self,
        device: Device,
        endpoint: Endpoint,
        on_control: OnControl,
        on_fault: OnFault,
        on_silence: OnSilence | None = None,
    ) -> None:
        self._endpoint = endpoint
        self._on_silence = on_silence
        self._silence = Silence()
        self._held_told = False
        self._on_control = on_control
        self._on_fault = on_fault
        self._tun = -1
        self._tun_name = ""
        self._carriers = Carriers()
        self._drains: dict[int, Callable[[], None]] = {}
        self._epoll = select.epoll()
        self._orders = Orders()
        self._epoll.register(self._orders.descriptor, select.EPOLLIN)
        self._drains[self._orders.descriptor] = self._orders.obey
        self._thread: threading.Thread | None = None
        self._running = False
        self._control = TokenBucket(_CONTROL_RATE, _CONTROL_BURST)
        self._bare_esp = TokenBucket(_BARE_ESP_RATE, _BARE_ESP_BURST)
        self._rx_packets = self._rx_bytes = self._tx_packets = self._tx_bytes = 0
        self._received_at = 0.0
        self._recent = RecentPackets(by_source=endpoint.role is Role.MOBILE_NODE)
        self._use(device)

    def start(self) -> None:
        # While one thread computes, the other gets the interpreter only once an interval, and this one asks
        # for it after every system call: with the default of 5 ms a busy daemon adds 7 ms to a round trip.
        sys.setswitchinterval(min(sys.getswitchinterval(), _SWITCH_INTERVAL))
        self._running = True
        self._thread = threading.Thread(target=self._run, name="data-plane", daemon=True)
        self._thread.start()

    def configure(self, config: EndpointConfig) -> None:
        same = config.keyring is self._endpoint.config.keyring
        self._endpoint.config = config
        if not same:
            self._order(self._endpoint.disconnect_lanes)

    def install(self, table: ForwardingTable) -> None:
        self._endpoint.table = table
        self._held_told = False

    def send_again(self, homes: Iterable[IPv4Network | IPv6Network], since: float) -> None:
        self._order(partial(self._send_again, tuple(homes), since))

    def announce(self, path: TunnelPath, idle: float) -> None:
        self._order(partial(self._announce, path, idle))

    def attach(self, carrier: Carrier) -> None:
        self._order(partial(self._attach, carrier))

    def detach(self, carrier: Carrier) -> None:
        self._order(partial(self._detach, carrier))

    def renew(self, device: Device) -> None:
        self._order(partial(self._use, device))

    def counters(self) -> Counters:
        return Counters(
            self._rx_packets,
            self._rx_bytes,
            self._tx_packets,
            self._tx_bytes,
            self._endpoint.drops.copy(),
        )

    def last_sent(self, path: TunnelPath) -> float:
        return self._endpoint.last_sent(path)

    def last_received(self) -> float:
        return self._received_at

    def close(self) -> None:
        if self._thread is not None and self._running:
            self._order(self._stop)
            self._thread.join(HANDSHAKE)
            self._thread = None
        if not self._epoll.closed:
            self._drop_tun()
            self._epoll.close()
            self._orders.close()

    def _order(self, order: Callable[[], None]) -> None:
        self._orders.give(order, self._thread)

    def _attach(self, carrier: Carrier) -> None:
        if carrier in self._carriers:
            return
        for intake in carrier.intakes:
            descriptor = intake.socket.fileno()
            self._drains[descriptor] = partial(self._drain, self._drain_kind(intake.kind), carrier, intake)
            self._epoll.register(descriptor, select.EPOLLIN)
        self._carriers.append(carrier)
        self._endpoint.disconnect_lanes()

    def _detach(self, carrier: Carrier) -> None:
        if carrier not in self._carriers:
            return
        self._carriers.remove(carrier)
        for intake in carrier.intakes:
            self._forget(intake.socket.fileno())
        self._endpoint.disconnect_lanes()

    def _use(self, device: Device) -> None:
        self._drop_tun()
        # A descriptor of our own: nobody can close it under a drain and have the number mean another file.
        self._tun = os.dup(device.fileno())
        self._tun_name = device.name
        self._drains[self._tun] = self._drain_tun
        self._epoll.register(self._tun, select.EPOLLIN)

    def _drop_tun(self) -> None:
        if self._tun >= 0:
            self._forget(self._tun)
            os.close(self._tun)
            self._tun = -1

    def _forget(self, descriptor: int) -> None:
        if self._drains.pop(descriptor, None) is not None:
            with contextlib.suppress(OSError):  # closed by its owner already, which took it out of the set
                self._epoll.unregister(descriptor)

    def _stop(self) -> None:
        self._running = False

    # ---- the thread: everything below runs in it ---------------------------------------------------------
    def _run(self) -> None:
        poll, drains = self._epoll.poll, self._drains
        try:
            while self._running:
                received = self._rx_packets
                for descriptor, _ in poll():
                    drain = drains.get(descriptor)
                    if drain is not None:  # else an order of this very round has removed it
                        drain()
                if self._rx_packets != received:
                    self._received_at = time.clock_gettime(time.CLOCK_BOOTTIME)
        except Exception as error:  # a mistake of ours: say so, rather than be silent and deaf for ever
            self._running = False
            self._on_fault(f"the data plane has stopped: {error!r}")

    def _drain_kind(self, kind: IntakeKind) -> Callable[[Carrier, Intake], None]:
        match kind:
            case IntakeKind.UDP:
                return self._drain_udp
            case IntakeKind.RAW_IPV4:
                return self._drain_raw_ipv4
            case IntakeKind.RAW_IPV6:
                return self._drain_raw_ipv6
            case IntakeKind.CONTROL:
                return self._drain_control
            case IntakeKind.UDP_ESP:
                return self._drain_udp_esp
            case IntakeKind.RAW_IPV6_ESP:
                return self._drain_raw_ipv6_esp
            case _:
                assert_never(kind)

    def _drain(self, drain: Callable[[Carrier, Intake], None], carrier: Carrier, intake: Intake) -> None:
        """One turn of a socket: until its batch is over or nothing is left to read."""
        try:
            drain(carrier, intake)
        except BlockingIOError:
            pass
        except OSError as error:
            self._receive_failed(error)

    def _drain_tun(self) -> None:
        tun, read, outbound = self._tun, os.read, self._endpoint.outbound
        now = time.clock_gettime(time.CLOCK_BOOTTIME)
        packets = octets = 0
        remember = self._recent.remember
        try:
            for _ in _BATCH:
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
        self._tx_packets += packets
        self._tx_bytes += octets
        if packets and self._on_silence is not None and self._silence.sent(now, self._received_at):
            self._on_silence()

    def _drain_udp(self, carrier: Carrier, intake: Intake) -> None:
        receive, inbound = intake.socket.recvmsg, self._endpoint.inbound
        for _ in _BATCH:
            payload, ancillary, _flags, peer = receive(_LARGEST, _ANCILLARY)
            verdict = inbound(peer, payload, ancillary[0][2][0] if ancillary else 0)
            if isinstance(verdict, bytes):
                self._deliver(verdict)
            elif isinstance(verdict, Control):
                self._hand_over(carrier, peer, payload)

    def _drain_raw_ipv4(self, carrier: Carrier, intake: Intake) -> None:
        receive, inbound = intake.socket.recvfrom, self._endpoint.inbound
        for _ in _BATCH:
            outer, peer = receive(_LARGEST)
            payload = outer[(outer[0] & 0x0F) * 4 :]
            verdict = inbound(peer, payload, outer[1])
            if isinstance(verdict, bytes):
                self._deliver(verdict)
            elif isinstance(verdict, Control):
                self._hand_over(carrier, peer, payload)

    def _drain_raw_ipv6(self, carrier: Carrier, intake: Intake) -> None:
        receive, inbound = intake.socket.recvmsg, self._endpoint.inbound
        for _ in _BATCH:
            payload, ancillary, _flags, peer = receive(_LARGEST, _ANCILLARY)
            traffic_class = int.from_bytes(ancillary[0][2], sys.byteorder) if ancillary else 0
            verdict = inbound(peer, payload, traffic_class)
            if isinstance(verdict, bytes):
                self._deliver(verdict)
            elif isinstance(verdict, Control):
                self._hand_over(carrier, peer, payload)

    def _drain_control(self, carrier: Carrier, intake: Intake) -> None:
        """Control as it arrives on an IPv6 link; the filter of the socket has chosen it."""
        for _ in _BATCH:
            packet, address = intake.socket.recvfrom(_LARGEST)
            if len(packet) < IPV6_HEADER:
                self._endpoint.drop(MALFORMED)
                continue
            if packet[6] == PROTOCOL_ESP and not self._may_be_control(packet):
                continue
            end = IPV6_HEADER + int.from_bytes(packet[4:6], "big")  # the link may have padded it
            source = IPv6Address(packet[8:24])
            self._report(packet[:end], Arrival(carrier.local, source, interface=address[0]))

    def _may_be_control(self, packet: bytes) -> bool:
        """Bare ESP: payload comes through its raw socket as well, and that of lost keys would be a flood."""
        if self._endpoint.has_keys(int.from_bytes(packet[40:44], "big")):
            return False
        if self._bare_esp.take(time.clock_gettime(time.CLOCK_BOOTTIME)):
            return True
        self._endpoint.drop(CONTROL_FLOOD)
        return False

    def _drain_udp_esp(self, carrier: Carrier, intake: Intake) -> None:
        receive, inbound = intake.socket.recvmsg, self._endpoint.inbound_4500
        for _ in _BATCH:
            datagram, ancillary, _flags, peer = receive(_LARGEST, _ANCILLARY)
            verdict = inbound(peer, datagram, ancillary[0][2][0] if ancillary else 0)
            if isinstance(verdict, bytes):
                self._deliver(verdict)

    def _drain_raw_ipv6_esp(self, carrier: Carrier, intake: Intake) -> None:
        receive, endpoint = intake.socket.recvmsg, self._endpoint
        for _ in _BATCH:
            esp, ancillary, _flags, peer = receive(_LARGEST, _ANCILLARY)
            if not endpoint.has_keys(int.from_bytes(esp[:4], "big")):
                continue  # signalling at home, which comes through the packet socket as well
            traffic_class = int.from_bytes(ancillary[0][2], sys.byteorder) if ancillary else 0
            verdict = endpoint.inbound_protected((peer[0], 0), esp, traffic_class)
            if isinstance(verdict, bytes):
                self._deliver(verdict)

    def _deliver(self, packet: bytes) -> None:
        try:
            os.write(self._tun, packet)
        except OSError as error:
            # A device that is gone is reported by its own drain, which the kernel wakes for that.
            self._endpoint.drop(TUN_GONE if error.errno in _GONE else TUN_REFUSED)
            return
        self._rx_packets += 1
        self._rx_bytes += len(packet)

    def _hand_over(self, carrier: Carrier, peer: Peer, payload: bytes) -> None:
        remote_port = peer[1]
        local_port = carrier.port if remote_port else 0
        arrival = Arrival(carrier.local, ip_address(peer[0]), local_port, remote_port, carrier.interface)
        self._report(self._endpoint.control_packet(payload), arrival)

    def _report(self, packet: bytes, arrival: Arrival) -> None:
        """Anybody can send what looks like control; a flood must not fill the memory of who reads it."""
        if self._control.take(time.clock_gettime(time.CLOCK_BOOTTIME)):
            self._on_control(packet, arrival)
        else:
            self._endpoint.drop(CONTROL_FLOOD)

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
                    os.write(self._tun, verdict.packet)
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

    def _tun_failed(self, error: OSError) -> None:
        """Say it once and stop listening: the descriptor would report the same for ever."""
        self._drop_tun()
        self._on_fault(f"TUN device {self._tun_name} is gone: {error.strerror}")

    def _receive_failed(self, error: OSError) -> None:
        """The kernel reports an asynchronous error (link down, say) by the next read; then it is cleared."""
        self._endpoint.drop(Drop(f"receive-{error_name(error)}"))
