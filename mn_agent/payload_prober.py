"""Probes into the tunnel, and the answers that come out of it.

Performs I/O (a raw ICMPv6 socket at the home address, bound to the TUN device while answers are awaited).
The kernel routes them as any payload of that address, so whatever carries payload carries them.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable

from mn_agent.actions import SendProbe
from mn_agent.events import ProbeAnswered
from wire.probe import ECHO_REPLY, Probe
from wire.reader import DecodeError

OPEN_FOR = 3.0
"""Seconds after the last probe for which the socket waits for answers."""
_BURST = 64
_LARGEST = 65536
_ANCILLARY = 64
# Of linux/in6.h and linux/icmpv6.h; the socket module does not name them.
_IPV6_MTU_DISCOVER, _PMTUDISC_PROBE, _IPV6_DONTFRAG, _IPV6_RECVFRAGSIZE, _ICMP6_FILTER = 23, 3, 62, 77, 1


class PayloadProber:
    """`dispatch` takes the answers."""

    def __init__(self, device: str, dispatch: Callable[[ProbeAnswered], None]) -> None:
        """`device`: the name of the TUN device."""
        self._device = device
        self._dispatch = dispatch
        self._socket: socket.socket | None = None
        self._closing: asyncio.TimerHandle | None = None

    def send(self, action: SendProbe) -> str | None:
        """Send one probe; the reason in words if the kernel does not take it, which is as if it were lost."""
        try:
            opened = self._socket or self._open(action)
            self._wait()
            opened.sendto(action.probe.request(), (str(action.home_agent), 0))
        except OSError as error:
            return error.strerror or str(error)
        return None

    def close(self) -> None:
        """Closing twice does nothing."""
        if self._closing is not None:
            self._closing.cancel()
            self._closing = None
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket)
            self._socket.close()
            self._socket = None

    def _open(self, action: SendProbe) -> socket.socket:
        opened = socket.socket(socket.AF_INET6, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.IPPROTO_ICMPV6)
        try:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, self._device.encode())
            opened.setsockopt(socket.IPPROTO_ICMPV6, _ICMP6_FILTER, _only(ECHO_REPLY))
            # No fragments: a probe that does not fit leaves no doubt about its size.
            opened.setsockopt(socket.IPPROTO_IPV6, _IPV6_MTU_DISCOVER, _PMTUDISC_PROBE)
            opened.setsockopt(socket.IPPROTO_IPV6, _IPV6_DONTFRAG, 1)
            opened.setsockopt(socket.IPPROTO_IPV6, _IPV6_RECVFRAGSIZE, 1)
            opened.bind((str(action.home_address), 0))
        except OSError:
            opened.close()
            raise
        asyncio.get_running_loop().add_reader(opened, self._drain, opened)
        self._socket = opened
        return opened

    def _wait(self) -> None:
        if self._closing is not None:
            self._closing.cancel()
        self._closing = asyncio.get_running_loop().call_later(OPEN_FOR, self.close)

    def _drain(self, opened: socket.socket) -> None:
        for _ in range(_BURST):
            try:
                message, ancillary, _flags, _source = opened.recvmsg(_LARGEST, _ANCILLARY)
            except BlockingIOError:
                return
            except OSError:
                continue  # an error about an earlier probe: silence says as much
            try:
                probe = Probe.of_reply(message)
            except DecodeError:
                continue
            whole = all(kind != _IPV6_RECVFRAGSIZE for _, kind, _ in ancillary)
            self._dispatch(ProbeAnswered(probe, whole))


def _only(kind: int) -> bytes:
    """An ICMP6_FILTER that lets messages of one type through."""
    words = [0xFFFFFFFF] * 8
    words[kind // 32] ^= 1 << kind % 32
    return struct.pack("=8I", *words)
