"""A bulk TCP transfer in both directions at once, paced, with a checksum over everything at the end.

Performs I/O. `accept` on the correspondent, `connect` on the mobile node. Frames are length, sequence number
and the instant of sending (big-endian, 4 + 4 + 8 octets), then the payload; length 0 announces the SHA-256 of
all payload before it.
"""

from __future__ import annotations

import hashlib
import random
import select
import socket
import time
from argparse import ArgumentParser
from struct import Struct

from lab.streams.journal import Journal, now_ns, write_result
from lab.streams.pace import Beat, Finish
from lab.streams.sockets import connection, listener

_FRAME = Struct("!IIQ")
_DIGEST = 32
_QUEUE = 65536
_END_WITHIN = 15.0


class Transfer:
    """One end of the transfer: what it sends and what it has received."""

    def __init__(self, stream: socket.socket, journal: Journal, seed: str) -> None:
        stream.setblocking(False)
        self._stream = stream
        self._journal = journal
        self._random = random.Random(seed)
        self._outgoing = bytearray()
        self._incoming = bytearray()
        self._sent_hash = hashlib.sha256()
        self._received_hash = hashlib.sha256()
        self._frames = 0
        self.sent = 0
        self.received = 0
        self.said_end = False
        self.heard_end = False
        self.whole: bool | None = None
        """Whether the received checksum fits; None before it came."""

    def offer(self, size: int) -> None:
        """Send a frame of random octets unless too much waits already."""
        if len(self._outgoing) < _QUEUE:
            payload = self._random.randbytes(size)
            self._sent_hash.update(payload)
            self.sent += size
            self._outgoing += _FRAME.pack(size, self._frames, now_ns()) + payload
            self._frames += 1

    def end(self) -> None:
        """Announce the end, with the checksum of what was sent."""
        if not self.said_end:
            self.said_end = True
            self._outgoing += _FRAME.pack(0, self._frames, now_ns()) + self._sent_hash.digest()

    @property
    def done(self) -> bool:
        return self.said_end and self.heard_end and not self._outgoing

    def turn(self, timeout: float) -> None:
        """Move octets for at most `timeout` seconds; raises OSError when the connection breaks."""
        writing = [self._stream] if self._outgoing else []
        readable, writable, _ = select.select([self._stream], writing, [], timeout)
        if writable:
            del self._outgoing[: self._stream.send(self._outgoing[:_QUEUE])]
        if readable:
            octets = self._stream.recv(_QUEUE)
            if not octets:
                raise ConnectionResetError("the other end closed early")
            self._incoming += octets
            self._take_frames(now_ns())

    def _take_frames(self, at_ns: int) -> None:
        while len(self._incoming) >= _FRAME.size:
            length, sequence, sent_ns = _FRAME.unpack_from(self._incoming)
            size = _FRAME.size + (length or _DIGEST)
            if len(self._incoming) < size:
                return
            payload = bytes(self._incoming[_FRAME.size : size])
            del self._incoming[:size]
            if length:
                self._received_hash.update(payload)
                self.received += length
                self._journal.note(at_ns, sent_ns, sequence)
            else:
                self.heard_end = True
                self.whole = payload == self._received_hash.digest()


def main() -> None:
    options = _options()
    finish = Finish()
    transfer: Transfer | None = None
    error: str | None = None
    try:
        if options.role == "accept":
            stream, _ = listener(options.address, options.port).accept()
        else:
            stream = connection(options.address, options.to, options.port)
        transfer = Transfer(stream, Journal(options.journal), f"{options.role} {options.port}")
        _run(transfer, options.role == "accept", options.interval, options.size, finish)
    except OSError as problem:
        error = str(problem)
    write_result(
        options.result,
        sent=transfer.sent if transfer else 0,
        received=transfer.received if transfer else 0,
        whole=bool(transfer and transfer.whole),
        error=error,
    )


def _run(transfer: Transfer, accepted: bool, interval: float, size: int, finish: Finish) -> None:
    beat = Beat(interval)
    ending_since: float | None = None
    while not transfer.done:
        if beat.due() and not transfer.said_end:
            transfer.offer(size)
        if finish and ending_since is None:
            ending_since = time.monotonic()
        if (finish and not accepted) or transfer.heard_end:
            transfer.end()
        if ending_since is not None and time.monotonic() - ending_since > _END_WITHIN:
            raise TimeoutError("the transfer did not end in time")
        transfer.turn(beat.wait_s())


def _options() -> _Options:
    parser = ArgumentParser(prog="lab.streams.bulk")
    parser.add_argument("role", choices=("accept", "connect"))
    parser.add_argument("--address", required=True)
    parser.add_argument("--to", default="")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--interval", type=float, required=True)
    parser.add_argument("--size", type=int, required=True)
    parser.add_argument("--journal", required=True)
    parser.add_argument("--result", required=True)
    return parser.parse_args(namespace=_Options())


class _Options:
    role: str
    address: str
    to: str
    port: int
    interval: float
    size: int
    journal: str
    result: str


if __name__ == "__main__":
    main()
