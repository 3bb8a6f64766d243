"""The control socket of a daemon: who asks, what they may, and an event stream that nobody can clog.

Performs I/O. A unix stream socket in the event loop; the protocol is described in docs/control.md.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from runtime.control import (
    BadLine,
    ControlError,
    ErrorKind,
    Json,
    LineBuffer,
    Request,
    decode_request,
    encode_error,
    encode_event,
    encode_result,
)
from runtime.control_listener import Peer, listen, peer_of, unlink_own

GROUP = "mn-agent"
HISTORY = 256
"""Events kept for those who subscribe later, and the most that wait for one who does not read."""

_PER_USER = 16
_CONNECTIONS = 64
_SUBSCRIBERS = 32
_READ = 16384
_WRITE_HIGH = 65536
_LAST_WORDS = 1.0
"""Seconds that a cancelled method has to end when the daemon stops."""
_IN_ONE_GO = 8
"""Requests of one connection that are answered before the loop turns to others."""


class Method(NamedTuple):
    """What a daemon can be asked.

    `changes`: whether only root, the daemon's own user and the group may call it; a callable decides by the
    parameters. `call` gets parameters that are checked against `params` (name -> type, all optional, null
    allowed) and returns the result or an awaitable of it; it raises ControlError for what does not succeed.
    """

    changes: bool | Callable[[Json], bool]
    call: Callable[[Json], Mapping[str, object] | Awaitable[Mapping[str, object]]]
    params: Mapping[str, type] = {}


class _Event(NamedTuple):
    """What has happened, and when: seconds since 1970."""

    at: float
    name: str
    fields: Mapping[str, object]


class ControlServer:
    """Answers `methods` on the socket `path`, and `subscribe`. All of it runs in the event loop's thread."""

    def __init__(
        self,
        path: Path,
        methods: Mapping[str, Method],
        *,
        daemon: str,
        event_schema: str,
        on_fault: Callable[[str, Exception], None],
        group: str = GROUP,
    ) -> None:
        self.path = path
        self.daemon = daemon
        self._methods = {**methods, "subscribe": Method(False, self._not_called, {"history": int})}
        self._event_schema = event_schema
        self._on_fault = on_fault
        self._group = group
        self._history: deque[_Event] = deque(maxlen=HISTORY)
        self._connections: set[_Connection] = set()
        self._subscribers: set[_Connection] = set()
        self._server: asyncio.Server | None = None
        self._inode = 0

    async def start(self) -> None:
        """Listen. Raises ControlError when another daemon listens there, or the socket cannot be made."""
        sock, self._inode = listen(self.path, self.daemon)
        loop = asyncio.get_running_loop()
        self._server = await loop.create_unix_server(lambda: _Connection(self), sock=sock)

    def publish(self, event: str, **fields: object) -> None:
        """Tell every subscriber, and remember for those to come. Never blocks.

        It becomes a line when there is somebody to read it: a home agent has thousands of events a second.
        """
        happened = _Event(time.time(), event, fields)
        self._history.append(happened)
        if self._subscribers and (line := self._line_of(happened)) is not None:
            for subscriber in self._subscribers:
                subscriber.offer(line)

    async def close(self) -> None:
        """Stop listening, finish what is written, remove the socket. Idempotent."""
        if self._server is None:
            return
        self._server.close()
        self._server = None
        unlink_own(self.path, self._inode)
        answering = [task for c in tuple(self._connections) if (task := c.end()) is not None]
        if answering:
            await asyncio.wait(answering, timeout=_LAST_WORDS)
        for connection in tuple(self._connections):
            connection.close()
        await asyncio.sleep(0)

    # ---- for the connections --------------------------------------------------------------

    def event_line(self, event: str, **fields: object) -> bytes | None:
        """Of an event that happens now."""
        return self._line_of(_Event(time.time(), event, fields))

    def _line_of(self, happened: _Event) -> bytes | None:
        """None if it is no JSON, or too long, which is said."""
        at = rfc3339(datetime.fromtimestamp(happened.at, UTC))
        head = {"schema": self._event_schema, "t": at, "event": happened.name}
        line = encode_event({**head, **happened.fields})
        if line is None:
            self._on_fault("event", ValueError(f"event {happened.name} is no JSON of a line's length"))
        return line

    def admit(self, connection: _Connection) -> ControlError | None:
        """Count a connection in, or say why not. Root always gets in."""
        privileged = self.may_change(connection.peer)
        users = Counter(c.peer.uid for c in self._connections)
        full = len(self._connections) >= _CONNECTIONS or users[connection.peer.uid] >= _PER_USER
        self._connections.add(connection)
        if full and not privileged:
            return ControlError(ErrorKind.BUSY, f"{self.daemon} has too many connections open")
        return None

    def leave(self, connection: _Connection) -> None:
        self._connections.discard(connection)
        self._subscribers.discard(connection)

    def may_change(self, peer: Peer) -> bool:
        return peer.uid in (0, os.geteuid()) or peer.is_in(self._group)

    def answer(self, request: Request, connection: _Connection) -> bytes | Awaitable[Mapping[str, object]]:
        """The reply line, or what it waits for. Raises what the method raises."""
        method = self._methods.get(request.method)
        if method is None:
            message = f"{self.daemon} knows no method {request.method!r}"
            raise ControlError(ErrorKind.UNKNOWN_METHOD, message, candidates=tuple(self._methods))
        _check(request, method.params)
        changes = method.changes(request.params) if callable(method.changes) else method.changes
        if changes and not self.may_change(connection.peer):
            message = f"{request.method} is for root and the group {self._group}"
            raise ControlError(ErrorKind.PERMISSION, message, fix="run it with sudo")
        if request.method == "subscribe":
            return self._subscribe(request, connection)
        result = method.call(request.params)
        return result if inspect.isawaitable(result) else encode_result(request.id, result)

    def failed(self, what: str, error: Exception) -> ControlError:
        """What the caller hears of an exception: the daemon's log has the rest."""
        if isinstance(error, ControlError):
            return error
        self._on_fault(what, error)
        return ControlError(ErrorKind.FAILED, f"{self.daemon} failed in {what}: {type(error).__name__}")

    def _subscribe(self, request: Request, connection: _Connection) -> bytes:
        if len(self._subscribers) >= _SUBSCRIBERS and not self.may_change(connection.peer):
            raise ControlError(ErrorKind.BUSY, f"{self.daemon} has too many subscribers")
        wanted = request.params.get("history") or 0
        if not 0 <= wanted <= HISTORY:
            raise ControlError(ErrorKind.INVALID_PARAMS, f"history must be from 0 to {HISTORY}")
        past = list(self._history)[len(self._history) - min(wanted, len(self._history)) :]
        lines = [line for happened in past if (line := self._line_of(happened)) is not None]
        if connection not in self._subscribers:
            self._subscribers.add(connection)
            for line in lines:
                connection.offer(line, after_reply=True)
        head = {"schema": "control/subscribe/1", "daemon": self.daemon, "history": len(lines)}
        return encode_result(request.id, head)

    def _not_called(self, params: Json) -> Json:
        raise AssertionError("subscribe belongs to the connection")


class _Connection(asyncio.BufferedProtocol):
    """One client: its requests in order, one at a time; its events when it reads."""

    def __init__(self, server: ControlServer) -> None:
        self.peer = Peer(0, 0xFFFFFFFF, frozenset())
        self._server = server
        self._lines = LineBuffer()
        self._buffer = bytearray(_READ)
        self._requests: deque[bytes] = deque()
        self._events: deque[bytes] = deque(maxlen=HISTORY)
        self._lost = 0
        self._task: asyncio.Future[Mapping[str, object]] | None = None
        self._again: asyncio.Handle | None = None
        self._clogged = False
        self._ended = False
        self._transport: asyncio.Transport | None = None

    # ---- asyncio's callbacks --------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.set_write_buffer_limits(high=_WRITE_HIGH)
        self.peer = peer_of(transport.get_extra_info("socket"))
        if refusal := self._server.admit(self):
            self._write(encode_error(None, refusal))
            self.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._requests.clear()
        self._events.clear()
        if self._again is not None:
            self._again.cancel()
        self._server.leave(self)

    def get_buffer(self, sizehint: int) -> bytearray:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        self._requests += self._lines.feed(bytes(self._buffer[:nbytes]))
        self._go_on()

    def eof_received(self) -> bool:
        self._ended = True
        self._requests += self._lines.rest()
        self._go_on()
        return self._transport is not None

    def pause_writing(self) -> None:
        self._clogged = True

    def resume_writing(self) -> None:
        self._clogged = False
        self._flush()
        self._go_on()

    # ---- events ---------------------------------------------------------------------------

    def offer(self, line: bytes, after_reply: bool = False) -> None:
        """Send an event line, or keep it until the client reads: the newest of them."""
        if len(self._events) == HISTORY:
            self._lost += 1
        self._events.append(line)
        if not after_reply:
            self._flush()

    def _flush(self) -> None:
        while self._events and not self._clogged and self._transport is not None:
            if self._lost:
                notice = self._server.event_line("lost", count=self._lost)
                self._lost = 0
                self._write(notice or b"")
            self._write(self._events.popleft())

    # ---- requests -------------------------------------------------------------------------

    def end(self) -> asyncio.Future[Mapping[str, object]] | None:
        """Take no more requests; what is still being answered is cancelled and returned."""
        self._requests.clear()
        self._ended = True
        if self._task is not None:
            self._task.cancel()
        return self._task

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def _go_on(self) -> None:
        """Answer what has come, in order, as far as the client reads the answers."""
        if self._again is not None:
            self._again.cancel()
            self._again = None
        for _ in range(_IN_ONE_GO):
            if not self._requests or not self._free:
                break
            self._answer(self._requests.popleft())
        if self._transport is None or self._transport.is_closing():
            return
        if self._requests and self._free:
            self._again = asyncio.get_running_loop().call_soon(self._go_on)
        elif not self._requests and self._free:
            self._when_answered()
        if not self._ended:
            self._read_on(not self._requests and self._free)

    @property
    def _free(self) -> bool:
        return self._task is None and not self._clogged and self._transport is not None

    def _when_answered(self) -> None:
        if self._lines.overrun:
            error = ControlError(ErrorKind.MALFORMED, "the line is too long")
            self._write(encode_error(None, error))
        if self._lines.overrun or self._ended:
            self.close()

    def _read_on(self, on: bool) -> None:
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        if on:
            transport.resume_reading()
        else:
            transport.pause_reading()

    def _answer(self, line: bytes) -> None:
        match decode_request(line):
            case BadLine(identity, error):
                self._write(encode_error(identity, error))
            case Request() as request:
                try:
                    reply = self._server.answer(request, self)
                except Exception as error:
                    self._write(encode_error(request.id, self._server.failed(request.method, error)))
                else:
                    self._deliver(request, reply)

    def _deliver(self, request: Request, reply: bytes | Awaitable[Mapping[str, object]]) -> None:
        if isinstance(reply, bytes):
            self._write(reply)
            self._flush()
        else:
            self._task = asyncio.ensure_future(reply)
            self._task.add_done_callback(lambda task: self._answered(request, task))

    def _answered(self, request: Request, task: asyncio.Future[Mapping[str, object]]) -> None:
        self._task = None
        if task.cancelled():
            line = encode_error(request.id, ControlError(ErrorKind.REFUSED, "the daemon is stopping"))
        elif error := task.exception():
            failure = error if isinstance(error, Exception) else RuntimeError(repr(error))
            line = encode_error(request.id, self._server.failed(request.method, failure))
        else:
            line = encode_result(request.id, task.result())
        self._write(line)
        self._go_on()

    def _write(self, line: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(line)


def rfc3339(moment: datetime) -> str:
    """`moment` in UTC with milliseconds: 2026-11-23T14:25:22.114Z."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _check(request: Request, known: Mapping[str, type]) -> None:
    for name, value in request.params.items():
        if name not in known:
            message = f"{request.method} has no parameter {name[:40]!r}"
            raise ControlError(ErrorKind.INVALID_PARAMS, message, candidates=tuple(known))
        wanted = known[name]
        fits = isinstance(value, wanted) and not (wanted is int and isinstance(value, bool))
        if value is not None and not fits:
            message = f"{name} of {request.method} must be {_TYPES.get(wanted, wanted.__name__)} or null"
            raise ControlError(ErrorKind.INVALID_PARAMS, message)


_TYPES: Mapping[type, str] = {str: "text", int: "a whole number", bool: "true or false", float: "a number"}
