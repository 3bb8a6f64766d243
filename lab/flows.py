"""Which programs a scenario's streams are made of, on which end, and which files tell of them.

Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

from lab.scenario import Stream, StreamKind

_FIRST_PORT = 7001
_DATAGRAM, _PING = 100, 56
"""Octets of payload, as lab.streams sends them."""


class End(Enum):
    """Where a program runs: on the mobile node, or on a host behind it if that has the sessions."""

    MOBILE_NODE = "mobile node"
    CORRESPONDENT = "correspondent"


@dataclass(frozen=True, slots=True)
class Flow:
    """One direction that is judged on its own; its name stands in the report."""

    name: str
    interval_ms: float
    received: Path
    sent: Path | None = None
    """Only of streams that can lose packets."""


@dataclass(frozen=True, slots=True)
class Program:
    """One process: the module below lab.streams and its command line."""

    end: End
    module: str
    words: tuple[str, ...]
    concludes: bool = False
    """Told to end first: it finishes what is under way, and its other end with it."""


@dataclass(frozen=True, slots=True)
class Conversation:
    """One session: its programs in the order in which they start."""

    name: str
    programs: tuple[Program, ...]
    flows: tuple[Flow, ...]
    results: tuple[Path, ...] = ()
    """What its ends say about it when they end; none of them for datagrams."""
    octets_each: int = 0
    """The payload of one datagram."""


@dataclass(frozen=True, slots=True)
class _Place:
    """Everything one conversation needs to know."""

    stream: Stream
    version: int
    here: str
    there: str
    port: int
    directory: Path

    @property
    def name(self) -> str:
        return f"{self.stream.kind.value}-v{self.version}"

    def flow(self, name: str, sent: bool = False) -> Flow:
        said = self.directory / f"{name}.sent" if sent else None
        return Flow(name, self.stream.interval_ms, self.directory / f"{name}.received", said)

    def result(self, name: str) -> Path:
        return self.directory / f"{name}.result"


def conversations(
    declared: Sequence[Stream],
    home_addresses: Sequence[IPv4Address | IPv6Address],
    correspondent: Sequence[IPv4Address | IPv6Address],
    directory: Path,
) -> Iterator[Conversation]:
    """Every declared stream, once for each of its families that both ends have."""
    port = _FIRST_PORT
    for stream in declared:
        for family in stream.families:
            version = 6 if family == "ipv6" else 4
            here = next((str(a) for a in home_addresses if a.version == version), None)
            there = next((str(a) for a in correspondent if a.version == version), None)
            if here is not None and there is not None:
                yield _conversation(_Place(stream, version, here, there, port, directory))
                port += 1


def _conversation(place: _Place) -> Conversation:
    match place.stream.kind:
        case StreamKind.BULK:
            return _bulk(place)
        case StreamKind.ECHO:
            return _echo(place)
        case StreamKind.UP:
            return _datagrams(place, End.MOBILE_NODE, End.CORRESPONDENT)
        case StreamKind.DOWN:
            return _datagrams(place, End.CORRESPONDENT, End.MOBILE_NODE)
        case StreamKind.PING:
            return _ping(place)


def _bulk(place: _Place) -> Conversation:
    """Each end journals what it receives, so one connection is two flows."""
    stream = place.stream
    size = max(1, round(stream.rate_mbit * 1e6 / 8 * stream.interval_ms / 1e3))
    up, down = (place.flow(f"bulk-{way}-v{place.version}") for way in ("up", "down"))
    pace = (f"--port={place.port}", f"--interval={stream.interval_ms}", f"--size={size}")
    accept = ("accept", f"--address={place.there}", *pace, *_files(up, place.result(up.name)))
    connect: tuple[str, ...] = ("connect", f"--address={place.here}", f"--to={place.there}", *pace)
    connect += _files(down, place.result(down.name))
    programs = (
        Program(End.CORRESPONDENT, "bulk", accept),
        Program(End.MOBILE_NODE, "bulk", connect, concludes=True),
    )
    return Conversation(place.name, programs, (up, down), (place.result(up.name), place.result(down.name)))


def _echo(place: _Place) -> Conversation:
    flow, port = place.flow(place.name), f"--port={place.port}"
    accept = ("accept", f"--address={place.there}", port)
    connect: tuple[str, ...] = ("connect", f"--address={place.here}", f"--to={place.there}", port)
    connect += (f"--interval={place.stream.interval_ms}", *_files(flow, place.result(place.name)))
    programs = (
        Program(End.CORRESPONDENT, "echo", accept),
        Program(End.MOBILE_NODE, "echo", connect, concludes=True),
    )
    return Conversation(place.name, programs, (flow,), (place.result(place.name),))


def _datagrams(place: _Place, sender: End, receiver: End) -> Conversation:
    flow = place.flow(place.name, sent=True)
    address = {End.MOBILE_NODE: place.here, End.CORRESPONDENT: place.there}
    port = f"--port={place.port}"
    receive = ("receive", f"--address={address[receiver]}", port, f"--journal={flow.received}")
    send: tuple[str, ...] = ("send", f"--address={address[sender]}", f"--to={address[receiver]}", port)
    send += (f"--interval={place.stream.interval_ms}", f"--journal={flow.sent}")
    programs = (Program(receiver, "datagram", receive), Program(sender, "datagram", send))
    return Conversation(place.name, programs, (flow,), octets_each=_DATAGRAM)


def _ping(place: _Place) -> Conversation:
    flow = place.flow(place.name, sent=True)
    words: tuple[str, ...] = (f"--address={place.there}", f"--to={place.here}")
    words += (f"--interval={place.stream.interval_ms}",)
    words += (f"--received={flow.received}", f"--sent={flow.sent}")
    program = Program(End.CORRESPONDENT, "ping", words)
    return Conversation(place.name, (program,), (flow,), octets_each=_PING)


def _files(flow: Flow, result: Path) -> tuple[str, str]:
    return f"--journal={flow.received}", f"--result={result}"
