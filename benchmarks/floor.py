"""The floor of a handover: a bare UDP socket that is opened anew at each new address, by a script.

Performs I/O. Nothing is authenticated, agreed on or kept: whoever wants less than this outage has to know the
new address before it is there. `python -m benchmarks.floor client|server JOURNALS STREAM`; the client says
which address it has by a datagram at once, and again with each beat until the server is heard; STREAM says
who sends a beat beside that. The server sends to where it last heard the client.
"""

from __future__ import annotations

import contextlib
import select
import socket
import sys
from pathlib import Path
from struct import Struct

from benchmarks.handover import Talk
from lab.rtnetlink import GROUPS, Address, Carrier, DefaultRoute, changes
from lab.streams.journal import Journal, now_ns
from lab.streams.pace import Beat, Finish

PORT = 7900
SERVERS = {4: "192.0.2.20", 6: "2001:db8:cc::20"}
INTERVAL_MS = 2.0
_DATAGRAM = Struct("!?IQ64x")
"""Whether it belongs to the stream, its number, and the instant at which it was sent."""


def main() -> None:
    directory, talk = Path(sys.argv[2]), Talk(sys.argv[3])
    if sys.argv[1] == "client":
        _Client(directory, talk.client_speaks).run()
    else:
        _serve(directory, talk.server_speaks)


class _Client:
    def __init__(self, directory: Path, speaks: bool) -> None:
        self._sent = Journal(str(directory / "up.sent"))
        self._received = Journal(str(directory / "down.received"))
        self._speaks = speaks
        self._netlink = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
        self._netlink.bind((0, GROUPS))
        self._link = socket.if_nametoindex("eth0")
        self._socket: socket.socket | None = None
        self._addresses: dict[int, str] = {}
        """By IP version."""
        self._routes: set[int] = set()
        self._sequence = 0
        self._heard = False

    def run(self) -> None:
        beat, finish = Beat(INTERVAL_MS), Finish()
        while not finish:
            waiting = [self._netlink] if self._socket is None else [self._netlink, self._socket]
            readable, _, _ = select.select(waiting, [], [], beat.wait_s())
            if self._netlink in readable:
                self._look(self._netlink.recv(1 << 16))
            if self._socket in readable:
                self._hear()
            if beat.due():
                self._speak()

    def _look(self, octets: bytes) -> None:
        for change in changes(octets):
            if change.index != self._link:
                continue
            match change:
                case Carrier(present=False):
                    self._addresses.clear()
                    self._routes.clear()
                    self._close()
                case Address(address=address, present=True):
                    self._addresses[address.version] = str(address)
                case Address(address=address):
                    self._addresses.pop(address.version, None)
                case DefaultRoute(family=family, present=present):
                    self._routes.add(family) if present else self._routes.discard(family)
        usable = self._routes & self._addresses.keys()
        if usable and self._socket is None:
            self._open(max(usable))

    def _open(self, version: int) -> None:
        opened = socket.socket(socket.AF_INET6 if version == 6 else socket.AF_INET, socket.SOCK_DGRAM)
        with contextlib.suppress(OSError):  # gone again already; the next change tells
            opened.bind((self._addresses[version], 0))
            opened.connect((SERVERS[version], PORT))
            opened.setblocking(False)
            self._socket, self._heard = opened, False
            self._speak()

    def _close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _speak(self) -> None:
        if self._socket is None or not (self._speaks or not self._heard):
            return
        at = now_ns()
        with contextlib.suppress(OSError):
            self._socket.send(_DATAGRAM.pack(self._speaks, self._sequence, at))
        if self._speaks:
            self._sent.note(at, at, self._sequence)
            self._sequence += 1

    def _hear(self) -> None:
        assert self._socket is not None
        with contextlib.suppress(OSError):
            belongs, sequence, sent_at = _DATAGRAM.unpack(self._socket.recv(2048))
            self._heard = True
            if belongs:
                self._received.note(now_ns(), sent_at, sequence)


def _serve(directory: Path, speaks: bool) -> None:
    sent, received = Journal(str(directory / "down.sent")), Journal(str(directory / "up.received"))
    server = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    server.bind(("::", PORT))
    beat, finish, client, sequence = Beat(INTERVAL_MS), Finish(), None, 0
    while not finish:
        if select.select([server], [], [], beat.wait_s())[0]:
            octets, whence = server.recvfrom(2048)
            belongs, number, sent_at = _DATAGRAM.unpack(octets)
            if belongs:
                received.note(now_ns(), sent_at, number)
            news, client = whence != client, whence
            if news or not speaks:
                server.sendto(_DATAGRAM.pack(False, 0, 0), client)
        if beat.due() and client is not None and speaks:
            at = now_ns()
            with contextlib.suppress(OSError):
                server.sendto(_DATAGRAM.pack(True, sequence, at), client)
            sent.note(at, at, sequence)
            sequence += 1


if __name__ == "__main__":
    main()
