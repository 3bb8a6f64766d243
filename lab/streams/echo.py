"""A TCP echo: the mobile node says something every few milliseconds and the correspondent says it back.

Performs I/O. `accept` on the correspondent, `connect` on the mobile node, which journals what comes back. A
message is its sequence number and the instant of sending (big-endian), filled up to 64 octets.
"""

from __future__ import annotations

import hashlib
import select
import socket
import time
from argparse import ArgumentParser
from struct import Struct

from lab.streams.journal import Journal, now_ns, write_result
from lab.streams.pace import Beat, Finish
from lab.streams.sockets import connection, listener

_MESSAGE = Struct("!IQ52x")
_END_WITHIN = 15.0


class Conversation:
    """The talking end: what was said, and what of it came back."""

    def __init__(self, stream: socket.socket, journal: Journal) -> None:
        self._stream = stream
        self._journal = journal
        self._said_hash = hashlib.sha256()
        self._heard_hash = hashlib.sha256()
        self._incoming = bytearray()
        self.said = 0
        self.heard = 0

    @property
    def whole(self) -> bool:
        return self.said == self.heard and self._said_hash.digest() == self._heard_hash.digest()

    def say(self) -> None:
        """One message. A full send buffer skips the beat, as a person would wait."""
        _, writable, _ = select.select([], [self._stream], [], 0)
        if writable:
            message = _MESSAGE.pack(self.said, now_ns())
            self._stream.sendall(message)
            self._said_hash.update(message)
            self.said += 1

    def listen(self, timeout: float) -> None:
        """Take what comes back within `timeout` seconds."""
        readable, _, _ = select.select([self._stream], [], [], timeout)
        if not readable:
            return
        octets = self._stream.recv(65536)
        if not octets:
            raise ConnectionResetError("the other end closed early")
        at_ns = now_ns()
        self._incoming += octets
        while len(self._incoming) >= _MESSAGE.size:
            message = bytes(self._incoming[: _MESSAGE.size])
            del self._incoming[: _MESSAGE.size]
            self._heard_hash.update(message)
            self.heard += 1
            sequence, sent_ns = _MESSAGE.unpack(message)
            self._journal.note(at_ns, sent_ns, sequence)


def main() -> None:
    options = _options()
    if options.role == "accept":
        _say_back(options.address, options.port)
        return
    finish = Finish()
    conversation: Conversation | None = None
    error: str | None = None
    try:
        stream = connection(options.address, options.to, options.port)
        conversation = Conversation(stream, Journal(options.journal))
        _run(conversation, options.interval, finish)
    except OSError as problem:
        error = str(problem)
    octets = conversation.heard * _MESSAGE.size if conversation else 0
    whole = bool(conversation and conversation.whole)
    write_result(options.result, received=octets, whole=whole, error=error)


def _run(conversation: Conversation, interval: float, finish: Finish) -> None:
    beat = Beat(interval)
    while not finish:
        if beat.due():
            conversation.say()
        conversation.listen(beat.wait_s())
    deadline = time.monotonic() + _END_WITHIN
    while conversation.heard < conversation.said and time.monotonic() < deadline:
        conversation.listen(0.05)


def _say_back(address: str, port: int) -> None:
    stream, _ = listener(address, port).accept()
    stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    while octets := stream.recv(65536):
        stream.sendall(octets)


def _options() -> _Options:
    parser = ArgumentParser(prog="lab.streams.echo")
    parser.add_argument("role", choices=("accept", "connect"))
    parser.add_argument("--address", required=True)
    parser.add_argument("--to", default="")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--interval", type=float, default=10.0)
    parser.add_argument("--journal", default="")
    parser.add_argument("--result", default="")
    return parser.parse_args(namespace=_Options())


class _Options:
    role: str
    address: str
    to: str
    port: int
    interval: float
    journal: str
    result: str


if __name__ == "__main__":
    main()
