"""Asks the DHCP servers of one link what they say of a captive portal, and listens for a moment.

Performs I/O. RFC 2131 section 4.4.3. Nothing is leased, and no port is taken from the host's DHCP client: a
packet socket copies what comes to port 68, or, since some servers answer there, to the port of the question.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import socket
from collections.abc import Callable
from ipaddress import IPv4Address

from mn_agent.actions import AskDhcp
from mn_agent.events import DhcpSaid
from tunnel.closing import close_aside
from tunnel.underlay_sockets import attach_filter
from wire.classic_bpf import assembled
from wire.dhcp import CLIENT_PORT, LONGEST, SERVER_PORT, decode_portal, encode_inform
from wire.ip import PROTOCOL_UDP, IPv4Header
from wire.reader import DecodeError
from wire.udp import UDP_HEADER

LISTENS_FOR = 4.0
MOST = 8
MOST_HEARD = 32
"""Answers that are looked at: anybody on the link can send them."""
_ETH_P_IP = 0x0800


class DhcpInquirer:
    """One question for each interface at a time; answers go to `heard`."""

    def __init__(self, mark: int, heard: Callable[[DhcpSaid], None]) -> None:
        self._mark = mark
        self._heard = heard
        self._open: dict[str, tuple[socket.socket, socket.socket, asyncio.TimerHandle]] = {}
        self._left: dict[str, int] = {}

    def ask(self, action: AskDhcp) -> str | None:
        """The reason in words if it cannot be asked now. It will be asked again."""
        interface, address = action.interface, action.address
        if interface in self._open:
            self._close(interface)
        elif len(self._open) >= MOST:
            self._close(next(iter(self._open)))
        loop, number = asyncio.get_running_loop(), secrets.randbits(32)
        with contextlib.ExitStack() as stack:
            try:
                asking = stack.enter_context(_asking(interface, address, self._mark))
                listening = stack.enter_context(_listening(interface, asking.getsockname()[1]))
                hardware: bytes = listening.getsockname()[4]
                question = encode_inform(address, hardware[:16], number)
                asking.sendto(question, ("255.255.255.255", SERVER_PORT))
            except OSError as error:
                return error.strerror or str(error)
            stack.pop_all()
        loop.add_reader(listening, self._drain, interface, listening, address, number)
        closing = loop.call_later(LISTENS_FOR, self._close, interface)
        self._open[interface] = (listening, asking, closing)
        self._left[interface] = MOST_HEARD
        return None

    def close(self) -> None:
        for interface in list(self._open):
            self._close(interface)

    def _close(self, interface: str) -> None:
        listening, asking, timer = self._open.pop(interface)
        timer.cancel()
        asyncio.get_running_loop().remove_reader(listening)
        close_aside(listening)
        asking.close()

    def _drain(self, interface: str, opened: socket.socket, address: IPv4Address, number: int) -> None:
        while self._left[interface] > 0:
            try:
                packet = opened.recv(LONGEST)
            except OSError:
                return
            self._left[interface] -= 1
            try:
                content = packet[IPv4Header.decode(packet).header_length + UDP_HEADER :]
                portal = decode_portal(content, address, number)
            except DecodeError:
                continue
            self._heard(DhcpSaid(interface, portal))
        self._close(interface)


def _asking(interface: str, address: IPv4Address, mark: int) -> socket.socket:
    opened = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    try:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode())
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        opened.bind((str(address), 0))
    except OSError:
        opened.close()
        raise
    return opened


def _listening(interface: str, port: int) -> socket.socket:
    opened = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK, 0)
    try:
        attach_filter(opened, _answers_to(port))
        opened.bind((interface, _ETH_P_IP))
    except OSError:
        opened.close()
        raise
    return opened


def _answers_to(port: int) -> bytes:
    """Classic BPF: UDP to port 68, or to `port`, that is no later fragment."""
    program = (
        (0x30, 0, 0, 9),  # ldb [9]                   protocol
        (0x15, 0, 7, PROTOCOL_UDP),
        (0x28, 0, 0, 6),  # ldh [6]                   fragment offset
        (0x45, 5, 0, 0x1FFF),
        (0xB1, 0, 0, 0),  # ldxb 4*([0]&0xf)          length of the header
        (0x48, 0, 0, 2),  # ldh [x+2]                 destination port
        (0x15, 1, 0, CLIENT_PORT),
        (0x15, 0, 1, port),
        (0x06, 0, 0, LONGEST),  # accept
        (0x06, 0, 0, 0),  # drop
    )
    return assembled(program)
