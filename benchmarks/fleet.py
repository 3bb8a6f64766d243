"""A fleet: thousands of mobile nodes behind one socket, with authentic Binding Updates and some traffic.

Performs I/O. Started as `python -m benchmarks.fleet KEYS COUNT`, in a namespace to which all of `CARE_OF` is
local; does what each line of JSON on its standard input says and answers with a line.

Updates are composed and sealed by the product's own code before the clock runs, and their answers are opened
after it has stopped, so what is timed is the home agent. Each node has a care-of address of its own, as the
home agent counts packets by source; at a move it goes to its address in the other network of `CARE_OF`.
"""

from __future__ import annotations

import json
import select
import socket
import struct
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Address
from pathlib import Path

from benchmarks.chain import CN6
from benchmarks.figures import percentile
from tunnel.envelope import ControlPacket, open_control, seal_control
from tunnel.keys import generate_keys, load_keys
from tunnel.path import Drop
from tunnel.replay import ReplayWindow
from tunnel.security import KeyPair, Opener, Sealer
from wire.checksum import internet_checksum, pseudo_header6
from wire.ip import PROTOCOL_ESP, PROTOCOL_UDP, IPv6Header
from wire.mobility import BindingAck, BindingUpdate, UpdateFlag
from wire.options import Ipv4CareOfAddress, Ipv4HomeAddress
from wire.profile import HOME_AGENT_PORT, RFC5555

CARE_OF = (IPv4Network("198.18.0.0/16"), IPv4Network("198.19.0.0/16"))
"""The networks that RFC 2544 sets aside for benchmarks."""
HOME4 = IPv4Network("10.77.0.0/16")
HOME6 = IPv6Address("2001:db8:99::1:0")
AGENT4, AGENT6 = IPv4Address("203.0.113.2"), IPv6Address("2001:db8:99::2")
ECHO_PORT = 7

_LIFETIME = 3600
_PATIENCE = 3.0
"""Seconds to wait for answers after the last update has left."""
_WINDOW = 32
_ATTEMPTS = 10
_BOUND_WITHIN = 60.0
_SETTLED_WITHIN = 20.0
_PKTINFO = struct.Struct("=i4s4s")
_UDP = struct.Struct("!HHHH")
_IP_PKTINFO = 8


def home_addresses(number: int) -> tuple[IPv6Address, IPv4Address]:
    """Those of node `number`, counted from 0."""
    return HOME6 + number, HOME4[number + 1]


def write_key_files(directory: Path, count: int) -> None:
    """One key file a node; SPIs are drawn at random and have to differ."""
    seen: set[int] = set()
    for number in range(count):
        path = directory / f"{number}.toml"
        while True:
            path.write_text(generate_keys())
            path.chmod(0o600)
            spi = _load(path).update.spi
            if spi not in seen:
                break
        seen.add(spi)


@dataclass(slots=True)
class Node:
    """One mobile node: its keys, its numbers, and where it is."""

    home6: IPv6Address
    home4: IPv4Address
    places: tuple[IPv4Address, ...]
    sealer: Sealer
    opener: Opener
    sequence: int = 0
    place: int = 0

    @property
    def care_of(self) -> IPv4Address:
        return self.places[self.place]

    def update(self) -> bytes:
        """The next Binding Update, whole and sealed. F asks for UDP, as there is no NAT."""
        self.sequence += 1
        flags = UpdateFlag.ACKNOWLEDGE | UpdateFlag.HOME | UpdateFlag.FORCE_UDP
        options = (Ipv4HomeAddress(self.home4), Ipv4CareOfAddress(self.care_of))
        message = BindingUpdate(self.sequence, _LIFETIME, flags, options)
        return seal_control(ControlPacket(self.home6, AGENT6, message), self.sealer, RFC5555)

    def accepts(self, answer: bytes) -> bool:
        """Whether `answer` is an authentic acknowledgement of the last update."""
        opened = open_control(answer, {self.opener.association.spi: self.opener}, RFC5555)
        if isinstance(opened, Drop):
            return False
        message = opened.packet.message
        return isinstance(message, BindingAck) and message.accepted and message.sequence == self.sequence

    def datagram(self) -> bytes:
        """A small UDP packet to the correspondent's echo, inside."""
        length = _UDP.size + 16
        body = _UDP.pack(ECHO_PORT, ECHO_PORT, length, 0) + bytes(16)
        total = internet_checksum(pseudo_header6(self.home6, CN6, length, PROTOCOL_UDP) + body)
        body = _UDP.pack(ECHO_PORT, ECHO_PORT, length, total or 0xFFFF) + bytes(16)
        return IPv6Header(self.home6, CN6, PROTOCOL_UDP, length).encode() + body


class Fleet:
    """All nodes, and the socket that they share."""

    def __init__(self, nodes: Sequence[Node]) -> None:
        self._nodes = nodes
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
            self._socket.setsockopt(socket.SOL_SOCKET, option, 8 << 20)
        self._socket.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
        self._socket.bind(("0.0.0.0", HOME_AGENT_PORT))
        self._socket.setblocking(False)

    def bind(self, count: int, move: bool) -> Mapping[str, object]:
        """The first `count` nodes register as fast as answers come, and again those that got none.

        After a minute those that have not been accepted are given up.
        """
        missing = self._nodes[:count]
        for node in missing:
            node.place ^= move
        sent, began = 0, time.perf_counter()
        for _ in range(_ATTEMPTS):
            packets = [(node.care_of.packed, node.update()) for node in missing]
            trip = _Trip(self._socket, packets, PROTOCOL_ESP)
            trip.run_answered(_WINDOW, began + _BOUND_WITHIN)
            sent += len(packets)
            answered = self._answered(trip, missing)
            missing = [node for node in missing if node.care_of.packed not in answered]
            if not missing or time.perf_counter() > began + _BOUND_WITHIN:
                break
        took = time.perf_counter() - began
        bound = count - len(missing)
        return {"sent": sent, "accepted": bound, "accepted_per_s": round(bound / took), "window": _WINDOW}

    def _answered(self, trip: _Trip, nodes: Sequence[Node]) -> Mapping[bytes, float]:
        """Care-of address of each of `nodes` whose last update was accepted, and when the answer came."""
        of = {node.care_of.packed: node for node in nodes}
        return {local: at for local, at, packet in trip.answers if local in of and of[local].accepts(packet)}

    def updates(self, count: int, rate: float, move: bool) -> Mapping[str, object]:
        """The first `count` nodes send one update each, `rate` a second in all, after a move or not."""
        for node in self._nodes[:count]:
            node.place ^= move
        packets = [(node.care_of.packed, node.update()) for node in self._nodes[:count]]
        trip = _Trip(self._socket, packets, PROTOCOL_ESP)
        trip.settle()
        trip.run(rate, wait_for_all=True)
        answered = self._answered(trip, self._nodes[:count])
        delays = sorted((at - trip.left[local]) * 1000 for local, at in answered.items())
        return {
            "sent": count,
            "accepted": len(answered),
            "lost": count - len(answered),
            "sent_per_s": round(count / trip.sending_took),
            "accepted_per_s": round(len(answered) / (max(answered.values()) - trip.began)) if answered else 0,
            **{f"p{at}_ms": round(percentile(delays, at), 2) for at in (50, 99) if delays},
            **({"max_ms": round(delays[-1], 2)} if delays else {}),
        }

    def traffic(self, count: int, rate: float, seconds: float) -> Mapping[str, object]:
        """A datagram of each of the first `count` nodes in turn, `rate` a second in all; and the echoes."""
        nodes = self._nodes[:count]
        ready = [(node.care_of.packed, node.datagram()) for node in nodes]
        total = int(rate * seconds)
        trip = _Trip(self._socket, [ready[at % count] for at in range(total)], PROTOCOL_UDP)
        trip.run(rate, wait_for_all=False)
        return {"sent": total, "echoed": len(trip.answers)}


@dataclass(slots=True)
class _Trip:
    """Packets that leave at a steady rate, each from an address of its own, and what comes back there."""

    socket: socket.socket
    packets: Sequence[tuple[bytes, bytes]]
    expected: int
    """The next header of the IPv6 packets that count as answers; others are late ones of another trip."""
    left: dict[bytes, float] = field(default_factory=dict)
    answers: list[tuple[bytes, float, bytes]] = field(default_factory=list)
    """Address, time and packet; also what only now answers an earlier trip."""
    began: float = 0.0
    sending_took: float = 0.0

    def settle(self) -> None:
        """Wait until nothing arrives any more, for it would have to do with an earlier trip."""
        clock = time.perf_counter
        until = clock() + _SETTLED_WITHIN
        seen = -1
        while clock() < until and len(self.answers) > seen:
            seen = len(self.answers)
            self._receive_until(clock() + 0.5, clock)
        self.answers.clear()

    def run(self, rate: float, wait_for_all: bool) -> None:
        clock = time.perf_counter
        self.began, sent, total = clock(), 0, len(self.packets)
        while sent < total:
            due = min(total, int((clock() - self.began) * rate) + 1)
            for at in range(sent, due):
                self._send(*self.packets[at], clock)
            sent = due
            self._receive_until(self.began + sent / rate, clock)
        self.sending_took = clock() - self.began
        until = clock() + (_PATIENCE if wait_for_all else _PATIENCE / 3)
        while clock() < until and len(self.answers) < total:
            self._receive_until(clock() + 0.01, clock)

    def run_answered(self, window: int, until: float) -> None:
        """At most `window` updates wait for an answer; one that has waited for a second is given up.

        None is sent after `until`.
        """
        clock = time.perf_counter
        waiting: dict[bytes, float] = {}
        todo, seen = iter(self.packets), 0
        while True:
            while len(waiting) < window and clock() < until and (packet := next(todo, None)) is not None:
                self._send(*packet, clock)
                waiting[packet[0]] = self.left[packet[0]]
            if not waiting:
                return
            self._receive_until(clock() + 0.001, clock)
            for local, _, _ in self.answers[seen:]:
                waiting.pop(local, None)
            seen = len(self.answers)
            oldest = next(iter(waiting), None)
            if oldest is not None and clock() > waiting[oldest] + 1:
                del waiting[oldest]

    def _send(self, local: bytes, packet: bytes, clock: Callable[[], float]) -> None:
        source = [(socket.IPPROTO_IP, _IP_PKTINFO, _PKTINFO.pack(0, local, bytes(4)))]
        self.left[local] = clock()
        while True:
            try:
                self.socket.sendmsg([packet], source, 0, (str(AGENT4), HOME_AGENT_PORT))
                return
            except BlockingIOError:
                select.select([], [self.socket], [], 0.01)

    def _receive_until(self, at: float, clock: Callable[[], float]) -> None:
        while select.select([self.socket], [], [], max(0.0, at - clock()))[0]:
            try:
                packet, ancillary, _, _ = self.socket.recvmsg(2048, 64)
            except BlockingIOError:
                continue
            now = clock()
            if packet[6] != self.expected:
                continue
            for _, kind, value in ancillary:
                if kind == _IP_PKTINFO:
                    self.answers.append((_PKTINFO.unpack(value)[2], now, packet))
            if now > at:
                return


def _load(path: Path) -> KeyPair:
    keys = load_keys(path)
    assert isinstance(keys, KeyPair)
    return keys


def _node(directory: Path, number: int) -> Node:
    keys = _load(directory / f"{number}.toml")
    places = tuple(network[number + 1] for network in CARE_OF)
    home6, home4 = home_addresses(number)
    return Node(home6, home4, places, Sealer(keys.update), Opener(keys.ack, ReplayWindow()))


def main() -> None:
    directory, count = Path(sys.argv[1]), int(sys.argv[2])
    fleet = Fleet([_node(directory, number) for number in range(count)])
    abilities: dict[str, Callable[..., Mapping[str, object]]] = {
        "bind": fleet.bind,
        "updates": fleet.updates,
        "traffic": fleet.traffic,
    }
    print("{}", flush=True)
    for line in sys.stdin:
        wish = json.loads(line)
        print(json.dumps(abilities[wish.pop("do")](**wish)), flush=True)


if __name__ == "__main__":
    main()
