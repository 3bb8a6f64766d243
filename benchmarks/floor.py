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
from dataclasses import dataclass, field
from pathlib import Path
from struct import Struct

from benchmarks.handover import Talk
from lab.monitor import ends_dump
from lab.rtnetlink import GROUPS, Address, Carrier, Change, DefaultRoute, changes, dump_requests
from lab.streams.journal import Journal, now_ns
from lab.streams.pace import Beat, Finish
from lab.streams.sockets import StampedSocket

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


@dataclass(slots=True)
class _Link:
    """What the kernel says of one of the two network cards: addresses by IP version, and default routes."""

    addresses: dict[int, str] = field(default_factory=dict)
    routes: set[int] = field(default_factory=set)

    def apply(self, change: Change) -> None:
        match change:
            case Carrier(present=False):
                self.addresses.clear()
                self.routes.clear()
            case Address(address=address, present=True):
                self.addresses[address.version] = str(address)
            case Address(address=address):
                self.addresses.pop(address.version, None)
            case DefaultRoute(family=family, present=present):
                self.routes.add(family) if present else self.routes.discard(family)

    @property
    def usable(self) -> set[int]:
        return self.routes & self.addresses.keys()


class _Client:
    def __init__(self, directory: Path, speaks: bool) -> None:
        self._sent = Journal(str(directory / "up.sent"))
        self._received = Journal(str(directory / "down.received"))
        self._speaks = speaks
        self._netlink = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
        self._netlink.bind((0, GROUPS))
        self._links = {socket.if_nametoindex(name): _Link() for name in ("eth0", "wlan0")}
        self._link: _Link | None = None
        self._socket: socket.socket | None = None
        self._ear: StampedSocket | None = None
        self._sequence = 0
        self._heard = False

    def run(self) -> None:
        beat, finish = Beat(INTERVAL_MS), Finish()
        for request in dump_requests():
            self._netlink.send(request)
            done = False
            while not done:
                octets = self._netlink.recv(1 << 16)
                self._look(octets)
                done = ends_dump(octets)
        self._settle()
        while not finish:
            waiting = [self._netlink] if self._socket is None else [self._netlink, self._socket]
            readable, _, _ = select.select(waiting, [], [], beat.wait_s())
            if self._netlink in readable:
                self._look(self._netlink.recv(1 << 16))
                self._settle()
            if self._socket in readable:
                self._hear()
            if beat.due():
                self._speak()

    def _look(self, octets: bytes) -> None:
        for change in changes(octets):
            if change.index in self._links:
                self._links[change.index].apply(change)

    def _settle(self) -> None:
        """Stay where we are as long as that can be used, else go at once to the other link."""
        if self._link is not None and not self._link.usable:
            self._close()
        if self._link is None:
            for link in self._links.values():
                if link.usable:
                    self._open(link)
                    return

    def _open(self, link: _Link) -> None:
        version = max(link.usable)
        opened = socket.socket(socket.AF_INET6 if version == 6 else socket.AF_INET, socket.SOCK_DGRAM)
        with contextlib.suppress(OSError):  # gone again already; the next change tells
            opened.bind((link.addresses[version], 0))
            opened.connect((SERVERS[version], PORT))
            opened.setblocking(False)
            self._link, self._socket, self._heard = link, opened, False
            self._ear = StampedSocket(opened)
            self._speak()

    def _close(self) -> None:
        if self._socket is not None:
            self._socket.close()
        self._link = self._socket = self._ear = None

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
        assert self._ear is not None
        received = None
        with contextlib.suppress(OSError):  # as an ICMP error of a network that is gone
            received = self._ear.receive()
        if received is not None:
            belongs, sequence, sent_at = _DATAGRAM.unpack(received.octets)
            self._heard = True
            if belongs:
                self._received.note(received.at_ns, sent_at, sequence)


def _serve(directory: Path, speaks: bool) -> None:
    sent, received = Journal(str(directory / "down.sent")), Journal(str(directory / "up.received"))
    server = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    server.bind(("::", PORT))
    ear = StampedSocket(server)
    beat, finish, client, sequence = Beat(INTERVAL_MS), Finish(), None, 0
    while not finish:
        if select.select([server], [], [], beat.wait_s())[0] and (heard := ear.receive()) is not None:
            belongs, number, sent_at = _DATAGRAM.unpack(heard.octets)
            if belongs:
                received.note(heard.at_ns, sent_at, number)
            news, client = heard.whence != client, heard.whence
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
