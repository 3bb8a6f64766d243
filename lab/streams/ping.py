"""A ping in either family, a hundred times a second if asked to, with a journal of both ways.

Performs I/O. The echo request carries its full sequence number and the instant of sending.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
from argparse import ArgumentParser
from struct import Struct

from lab.streams.journal import Journal, now_ns
from lab.streams.pace import Beat, Finish
from lab.streams.sockets import family_of
from wire.checksum import internet_checksum

_ECHO = Struct("!BBHHHIQ44x")
"""The ICMP header and 56 octets of payload."""
_REQUEST = {socket.AF_INET: 8, socket.AF_INET6: 128}
_REPLY = {socket.AF_INET: 0, socket.AF_INET6: 129}


def main() -> None:
    options = _options()
    family = family_of(options.to)
    protocol = socket.IPPROTO_ICMP if family == socket.AF_INET else socket.IPPROTO_ICMPV6
    raw = socket.socket(family, socket.SOCK_RAW, protocol)
    raw.bind((options.address, 0))
    sent, received = Journal(options.sent), Journal(options.received)
    finish = Finish()
    beat = Beat(options.interval)
    sequence = 0
    while not finish:
        if beat.due():
            at_ns = now_ns()
            with contextlib.suppress(OSError):
                raw.sendto(echo_request(family, os.getpid() & 0xFFFF, sequence, at_ns), (options.to, 0))
            sent.note(at_ns, at_ns, sequence)
            sequence += 1
        readable, _, _ = select.select([raw], [], [], beat.wait_s())
        if readable:
            at_ns = now_ns()
            if (reply := echo_reply(family, os.getpid() & 0xFFFF, raw.recv(2048))) is not None:
                received.note(at_ns, reply[1], reply[0])


def echo_request(family: int, identifier: int, sequence: int, at_ns: int) -> bytes:
    """An ICMP or ICMPv6 echo request; the kernel fills in the ICMPv6 checksum."""
    fields = (_REQUEST[socket.AddressFamily(family)], 0, identifier, sequence & 0xFFFF, sequence, at_ns)
    kind, code, *rest = fields
    plain = _ECHO.pack(kind, code, 0, *rest)
    checksum = internet_checksum(plain) if family == socket.AF_INET else 0
    return _ECHO.pack(kind, code, checksum, *rest)


def echo_reply(family: int, identifier: int, octets: bytes) -> tuple[int, int] | None:
    """Sequence number and instant of sending, if this is a reply to us."""
    start = (octets[0] & 0x0F) * 4 if family == socket.AF_INET else 0
    if len(octets) != start + _ECHO.size:
        return None
    kind, _, _, whose, _, sequence, at_ns = _ECHO.unpack_from(octets, start)
    return (sequence, at_ns) if (kind, whose) == (_REPLY[socket.AddressFamily(family)], identifier) else None


def _options() -> _Options:
    parser = ArgumentParser(prog="lab.streams.ping")
    parser.add_argument("--address", required=True)
    parser.add_argument("--to", required=True)
    parser.add_argument("--interval", type=float, default=10.0)
    parser.add_argument("--sent", required=True)
    parser.add_argument("--received", required=True)
    return parser.parse_args(namespace=_Options())


class _Options:
    address: str
    to: str
    interval: float
    sent: str
    received: str


if __name__ == "__main__":
    main()
