"""Control packets on their way from a data plane to the daemon: told where they came in, at a bounded rate.

Performs I/O (reads packet sockets, and the clock). RFC 5555 section 4.1.
"""

from __future__ import annotations

import time
from ipaddress import IPv6Address, ip_address

from tunnel.endpoint import MALFORMED, Endpoint
from tunnel.forwarding import Peer
from tunnel.path import Arrival, Drop
from tunnel.plane import Carrier, Intake, OnControl
from tunnel.token_bucket import TokenBucket
from wire.ip import IPV6_HEADER, PROTOCOL_ESP

CONTROL_FLOOD = Drop("control-flood")

_LARGEST = 65536
_BATCH = range(64)  # packets, before other descriptors get their turn
_CONTROL_RATE = 5000.0  # control packets a second, well above what a daemon can answer
_CONTROL_BURST = 1000.0
_BARE_ESP_RATE, _BARE_ESP_BURST = 200.0, 200.0  # of them: deregistrations at home, and what else is bare ESP


class ControlIntake:
    """Anybody can send what looks like control; a flood must not fill the memory of who reads it."""

    __slots__ = ("_all", "_bare_esp", "_endpoint", "_on_control")

    def __init__(self, endpoint: Endpoint, on_control: OnControl) -> None:
        self._endpoint = endpoint
        self._on_control = on_control
        self._all = TokenBucket(_CONTROL_RATE, _CONTROL_BURST)
        self._bare_esp = TokenBucket(_BARE_ESP_RATE, _BARE_ESP_BURST)

    def drain(self, carrier: Carrier, intake: Intake) -> None:
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

    def hand_over(self, carrier: Carrier, peer: Peer, payload: bytes) -> None:
        """A payload that the endpoint has judged to be control."""
        remote_port = peer[1]
        local_port = carrier.port if remote_port else 0
        arrival = Arrival(carrier.local, ip_address(peer[0]), local_port, remote_port, carrier.interface)
        self._report(self._endpoint.control_packet(payload), arrival)

    def _may_be_control(self, packet: bytes) -> bool:
        """Bare ESP: payload comes through its raw socket as well, and that of lost keys would be a flood."""
        if self._endpoint.has_keys(int.from_bytes(packet[40:44], "big")):
            return False
        if self._bare_esp.take(time.clock_gettime(time.CLOCK_BOOTTIME)):
            return True
        self._endpoint.drop(CONTROL_FLOOD)
        return False

    def _report(self, packet: bytes, arrival: Arrival) -> None:
        if self._all.take(time.clock_gettime(time.CLOCK_BOOTTIME)):
            self._on_control(packet, arrival)
        else:
            self._endpoint.drop(CONTROL_FLOOD)
