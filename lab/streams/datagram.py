"""A UDP sequence stream in one direction: the receiver never says a word.

Performs I/O. `send` on one host and `receive` on another. A datagram is its sequence number and the instant
of sending (big-endian), filled up to 100 octets.
"""

from __future__ import annotations

import contextlib
import select
import time
from argparse import ArgumentParser
from struct import Struct

from lab.streams.journal import Journal, now_ns
from lab.streams.pace import Beat, Finish
from lab.streams.sockets import StampedSocket, datagram_socket

_LOOK_EVERY_S = 0.02
_DATAGRAM = Struct("!IQ88x")


def main() -> None:
    options = _options()
    finish = Finish()
    journal = Journal(options.journal)
    if options.role == "send":
        _send(options, journal, finish)
    else:
        _receive(options, journal, finish)


def _send(options: _Options, journal: Journal, finish: Finish) -> None:
    sending = datagram_socket(options.address, 0)
    beat = Beat(options.interval)
    sequence = 0
    while not finish:
        select.select([], [], [], beat.wait_s())
        if not beat.due():
            continue
        at_ns = now_ns()
        # Without a route the datagram is lost, as it would be on its way.
        with contextlib.suppress(OSError):
            sending.sendto(_DATAGRAM.pack(sequence, at_ns), (options.to, options.port))
        journal.note(at_ns, at_ns, sequence)
        sequence += 1


def _receive(options: _Options, journal: Journal, finish: Finish) -> None:
    receiving = StampedSocket(datagram_socket(options.address, options.port))
    while not finish:
        time.sleep(_LOOK_EVERY_S)
        while (received := receiving.receive()) is not None:
            if len(received.octets) == _DATAGRAM.size:
                sequence, sent_ns = _DATAGRAM.unpack(received.octets)
                journal.note(received.at_ns, sent_ns, sequence)


def _options() -> _Options:
    parser = ArgumentParser(prog="lab.streams.datagram")
    parser.add_argument("role", choices=("send", "receive"))
    parser.add_argument("--address", required=True)
    parser.add_argument("--to", default="")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--interval", type=float, default=10.0)
    parser.add_argument("--journal", required=True)
    return parser.parse_args(namespace=_Options())


class _Options:
    role: str
    address: str
    to: str
    port: int
    interval: float
    journal: str


if __name__ == "__main__":
    main()
