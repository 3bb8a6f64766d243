"""Asks routers on a link whether they are there, and hears what they answer.

Performs I/O (packet sockets). RFC 4436, RFC 6059. A socket is open only as long as somebody listens.
"""

from __future__ import annotations

import asyncio
import ctypes
import socket
import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address

from movement.visit import Ask
from wire.classic_bpf import assembled
from wire.router_probes import (
    HARDWARE_SIZE,
    NeighbourAnswer,
    answer_in,
    arp_request,
    neighbour_solicitation,
    router_solicitation,
)

HEARD_AT_MOST = 64
PAUSE = 10.0
"""Answers that are heard in this many seconds: nobody has so many routers, and anybody can send them."""

_SO_ATTACH_FILTER = 26
_SOL_PACKET, _PACKET_IGNORE_OUTGOING = 263, 23
_ETH_P_ALL = 3
_MAX_FRAME = 2048
_BURST = 32

# Classic BPF: ARP replies, and ICMPv6 router and neighbour advertisements right after the IPv6 header.
_ANSWERS_ONLY = assembled(
    (
        (0x28, 0, 0, 12),  # ldh [12]                 EtherType
        (0x15, 0, 2, 0x0806),  # jeq ARP       else IPv6?
        (0x28, 0, 0, 20),  # ldh [20]                 operation
        (0x15, 6, 7, 2),  # jeq reply     -> accept, else drop
        (0x15, 0, 6, 0x86DD),  # jeq IPv6      else drop
        (0x30, 0, 0, 20),  # ldb [20]                 next header
        (0x15, 0, 4, 58),  # jeq ICMPv6    else drop
        (0x30, 0, 0, 54),  # ldb [54]                 type
        (0x15, 1, 0, 134),  # jeq router advertisement -> accept
        (0x15, 0, 1, 136),  # jeq neighbour advertisement else drop
        (0x06, 0, 0, 0x40000),  # accept
        (0x06, 0, 0, 0),  # drop
    )
)


@dataclass(slots=True)
class _Listening:
    socket: socket.socket
    hardware: bytes
    left: int = HEARD_AT_MOST
    refill: asyncio.TimerHandle | None = None


class Prober:
    """`on_answer(interface, answer)` gets what was heard, `on_problem(text)` what the kernel refused."""

    def __init__(
        self, on_answer: Callable[[str, NeighbourAnswer], None], on_problem: Callable[[str], None]
    ) -> None:
        self._on_answer = on_answer
        self._on_problem = on_problem
        self._listening: dict[str, _Listening] = {}

    def listen(self, interfaces: Iterable[str]) -> None:
        """On exactly these, from now on."""
        wanted = set(interfaces)
        for name in self._listening.keys() - wanted:
            self._close(name)
        for name in wanted - self._listening.keys():
            try:
                self._listening[name] = self._open(name)
            except OSError as error:
                self._on_problem(f"cannot listen to routers on {name}: {error.strerror}")

    def ask(self, interface: str, ask: Ask) -> None:
        """Send the questions, if somebody listens there, and the link has link-layer addresses."""
        listening = self._listening.get(interface)
        if listening is None or len(listening.hardware) != HARDWARE_SIZE:
            return
        try:
            for frame in _frames(ask, listening.hardware):
                listening.socket.send(frame)
        except OSError as error:
            self._on_problem(f"cannot ask routers on {interface}: {error.strerror}")

    def close(self) -> None:
        self.listen(())

    def _open(self, name: str) -> _Listening:
        kind = socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
        opened = socket.socket(socket.AF_PACKET, kind, 0)
        try:
            program = ctypes.create_string_buffer(_ANSWERS_ONLY, len(_ANSWERS_ONLY))
            described = struct.pack("HP", len(_ANSWERS_ONLY) // 8, ctypes.addressof(program))
            opened.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, described)
            opened.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, 1)
            opened.bind((name, _ETH_P_ALL))
            hardware: bytes = opened.getsockname()[4]
            asyncio.get_running_loop().add_reader(opened, self._drain, name)
        except OSError:
            opened.close()
            raise
        return _Listening(opened, hardware)

    def _close(self, name: str) -> None:
        listening = self._listening.pop(name)
        if listening.refill is not None:
            listening.refill.cancel()
        loop = asyncio.get_running_loop()
        loop.remove_reader(listening.socket)
        # Elsewhere: the kernel waits until no packet can still be on its way to it (RCU), often 20 ms.
        loop.run_in_executor(None, listening.socket.close)

    def _drain(self, name: str) -> None:
        for _ in range(_BURST):
            listening = self._listening.get(name)  # an answer may end the listening
            if listening is None:
                return
            try:
                frame = listening.socket.recv(_MAX_FRAME)
            except OSError:  # nothing more, or the link went down: that has an event of its own
                return
            answer = answer_in(frame)
            if answer is None:
                continue
            loop = asyncio.get_running_loop()
            if listening.refill is None:
                listening.refill = loop.call_later(PAUSE, self._refill, name)
            listening.left -= 1
            if listening.left < 0:
                loop.remove_reader(listening.socket)
                return
            self._on_answer(name, answer)

    def _refill(self, name: str) -> None:
        listening = self._listening[name]
        if listening.left < 0:
            asyncio.get_running_loop().add_reader(listening.socket, self._drain, name)
        listening.left, listening.refill = HEARD_AT_MOST, None


def _frames(ask: Ask, own: bytes) -> Iterator[bytes]:
    for candidate in ask.gateways:
        if isinstance(candidate.network.router, IPv4Address):
            yield arp_request(candidate.network.router, candidate.network.hardware, candidate.address, own)
    if ask.source is None:
        return
    if ask.solicit:
        yield router_solicitation(ask.source, own)
    for router in ask.routers:
        yield neighbour_solicitation(router.address, router.hardware, ask.source, own)
