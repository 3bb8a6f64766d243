"""Echo requests from single links, and the answers to them.

Performs I/O. Each socket carries the agent's mark and is bound to its link and its care-of address, so that
an answer says something about that link alone.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address, ip_address

from mn_agent.actions import SendEcho
from mn_agent.events import EchoHeard
from movement.policy import Attachment
from wire.echo import ECHO_REPLY4, ECHO_REPLY6, MAX_DATA, Echo, decode_reply
from wire.ip import IPv4Header
from wire.nat64 import embedded, synthesise
from wire.reader import DecodeError

OPEN_FOR = 3.0
"""Seconds after the last question for which a socket waits for answers."""
MOST = 16
"""Sockets open at once."""
_ICMP_FILTER, _ICMP6_FILTER = 1, 1  # of linux/icmp.h and linux/icmpv6.h; the socket module names neither
_SOL_RAW = 255
_BURST = 32
_LONGEST = 60 + 8 + MAX_DATA + 1

Place = tuple[str, IPv4Address | IPv6Address]


class Echoes:
    """Opens a socket for each place that asks and closes it a little later; answers go to `heard`."""

    def __init__(self, mark: int, heard: Callable[[EchoHeard], None]) -> None:
        self._mark = mark
        self._heard = heard
        self._open: dict[Place, tuple[socket.socket, asyncio.TimerHandle]] = {}

    def send(self, action: SendEcho) -> str | None:
        """Ask; the reason in words if the kernel does not let us. Nothing depends on it."""
        remote, through = action.remote, action.attachment.through
        if through is not None and isinstance(remote, IPv4Address):
            remote = synthesise(through.prefix, remote)
        request = Echo(action.identifier, action.sequence, action.data).request(remote.version)
        try:
            self._socket(action.attachment).sendto(request, (str(remote), 0))
        except OSError as error:
            return error.strerror or str(error)
        return None

    def close(self) -> None:
        """Close every socket."""
        for place in list(self._open):
            self._close(place)

    def _socket(self, attachment: Attachment) -> socket.socket:
        place = (attachment.interface, attachment.care_of)
        loop = asyncio.get_running_loop()
        if place in self._open:
            opened, timer = self._open[place]
            timer.cancel()
        else:
            if len(self._open) >= MOST:
                self._close(next(iter(self._open)))
            through = attachment.through
            source = attachment.care_of if through is None else through.source
            opened = _opened(attachment.interface, source, self._mark)
            loop.add_reader(opened, self._drain, attachment, opened)
        self._open[place] = (opened, loop.call_later(OPEN_FOR, self._close, place))
        return opened

    def _close(self, place: Place) -> None:
        opened, timer = self._open.pop(place)
        timer.cancel()
        asyncio.get_running_loop().remove_reader(opened)
        opened.close()

    def _drain(self, attachment: Attachment, opened: socket.socket) -> None:
        for _ in range(_BURST):
            try:
                packet, address = opened.recvfrom(_LONGEST)
            except BlockingIOError:
                return
            except OSError:
                continue  # an ICMP error about an earlier request: silence says as much
            heard = _read(attachment, packet, address[0])
            if heard is not None:
                self._heard(heard)


def _read(attachment: Attachment, packet: bytes, source: str) -> EchoHeard | None:
    remote: IPv4Address | IPv6Address | None = ip_address(source.partition("%")[0])
    assert remote is not None
    try:
        if remote.version == 4:
            header = IPv4Header.decode(packet)
            packet = packet[header.header_length :]
        echo = decode_reply(packet, remote.version)
    except DecodeError:
        return None
    if attachment.through is not None and isinstance(remote, IPv6Address):
        remote = embedded(attachment.through.prefix, remote)
    if remote is None:
        return None
    place = attachment.interface, attachment.care_of
    return EchoHeard(*place, remote, echo.identifier, echo.sequence, echo.data)


def _opened(interface: str, care_of: IPv4Address | IPv6Address, mark: int) -> socket.socket:
    version4 = care_of.version == 4
    family, protocol = (
        (socket.AF_INET, socket.IPPROTO_ICMP) if version4 else (socket.AF_INET6, socket.IPPROTO_ICMPV6)
    )
    opened = socket.socket(family, socket.SOCK_RAW | socket.SOCK_NONBLOCK, protocol)
    try:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode())
        if version4:
            opened.setsockopt(_SOL_RAW, _ICMP_FILTER, struct.pack("=I", 0xFFFFFFFF ^ 1 << ECHO_REPLY4))
        else:
            blocked = bytearray(b"\xff" * 32)
            word, bit = divmod(ECHO_REPLY6, 32)
            struct.pack_into("=I", blocked, 4 * word, 0xFFFFFFFF ^ 1 << bit)
            opened.setsockopt(socket.IPPROTO_ICMPV6, _ICMP6_FILTER, bytes(blocked))
        opened.bind((str(care_of), 0))
    except OSError:
        opened.close()
        raise
    return opened
