"""The other side of the control socket: one call, or a stream of events, for command lines and scripts.

Performs I/O. Synchronous and standard library only, since every `mnctl` pays for what it imports.
"""

from __future__ import annotations

import os
import socket
import time
from collections import deque
from collections.abc import Iterator
from types import TracebackType

from runtime.control import (
    MAX_REPLY,
    ControlError,
    ErrorKind,
    Json,
    LineBuffer,
    Notification,
    Reply,
    Request,
    decode_reply,
    encode_request,
)

__all__ = ["ControlClient", "ControlError", "ErrorKind"]

ANSWER_WITHIN = 5.0
"""Seconds that a daemon has for an answer unless a call says otherwise."""
_READ = 65536


class ControlClient:
    """A connection to the daemon named `daemon` at the socket `path`, made at the first call.

    Everything that goes wrong is a ControlError whose kind tells not running, permission, timeout and
    version skew apart, and whose `fix` is a command.
    """

    def __init__(
        self, path: str | os.PathLike[str], *, daemon: str = "mn-agent", timeout: float = ANSWER_WITHIN
    ) -> None:
        self.path = os.fspath(path)
        self.daemon = daemon
        self._timeout = timeout
        self._socket: socket.socket | None = None
        self._lines = LineBuffer(MAX_REPLY)
        self._arrived: deque[Reply | Notification] = deque()
        self._next_id = 1

    def call(self, method: str, params: Json | None = None, *, timeout: float | None = None) -> Json:
        """Ask, and wait at most `timeout` seconds for the result."""
        request = Request(self._next_id, method, params or {})
        self._next_id += 1
        line = encode_request(request)
        until = time.monotonic() + (self._timeout if timeout is None else timeout)
        events: list[Notification] = []
        try:
            self._send(line, until)
            while True:
                match self._receive(until, method):
                    case Reply(identity, result, error) if identity in (request.id, None):
                        return self._result(method, result, error)
                    case Notification() as event:
                        events.append(event)
                    case Reply():
                        continue  # to a call that was given up
        except ControlError:
            if self._lines.overrun:
                self.close()
            raise
        finally:
            self._arrived.extend(events)

    def subscribe(self, history: int = 0) -> None:
        """Ask for the last `history` events and every one from now on."""
        self.call("subscribe", {"history": history} if history else None)

    def next_event(self, within: float | None = None) -> Json | None:
        """The next event after `subscribe`; None when there is none for `within` seconds."""
        until = None if within is None else time.monotonic() + within
        while True:
            try:
                arrived = self._receive(until, "subscribe")
            except ControlError as error:
                if error.kind is ErrorKind.TIMEOUT:
                    return None
                raise
            if isinstance(arrived, Notification):
                return arrived.params

    def events(self, history: int = 0) -> Iterator[Json]:
        """The last `history` events and each new one, for as long as the daemon lives."""
        self.subscribe(history)
        while (event := self.next_event()) is not None:
            yield event

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        self._arrived.clear()
        self._lines = LineBuffer(MAX_REPLY)

    def __enter__(self) -> ControlClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # ---- below the calls ------------------------------------------------------------------

    def _result(self, method: str, result: Json | None, error: ControlError | None) -> Json:
        if error is not None and error.kind is ErrorKind.UNKNOWN_METHOD:
            raise self._skew(f"{self.daemon} does not know {method!r}: it is older than this command")
        if error is not None:
            raise error
        return result if result is not None else {}

    def _connected(self, until: float) -> socket.socket:
        if self._socket is None:
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
            try:
                sock.settimeout(_left(until))
                sock.connect(self.path)
            except OSError as error:
                sock.close()
                raise self._unreachable(error) from None
            self._socket = sock
        return self._socket

    def _send(self, line: bytes, until: float) -> None:
        sock = self._connected(until)
        try:
            sock.settimeout(_left(until))
            sock.sendall(line)
        except TimeoutError:
            raise self._silent("take the request") from None
        except (BrokenPipeError, ConnectionResetError):
            pass  # it may have said why before it closed: the answer is read next
        except OSError as error:
            raise self._gone(error) from None

    def _receive(self, until: float | None, method: str) -> Reply | Notification:
        while not self._arrived:
            assert self._socket is not None
            try:
                self._socket.settimeout(None if until is None else _left(until))
                data = self._socket.recv(_READ)
            except TimeoutError:
                raise self._silent(f"answer {method!r}") from None
            except OSError as error:
                raise self._gone(error) from None
            if not data:
                raise self._gone(None)
            lines = self._lines.feed(data)
            self._arrived += [self._understood(line) for line in lines]
            if self._lines.overrun:
                raise self._skew(f"what answers on {self.path} sends endless lines: it is no {self.daemon}")
        return self._arrived.popleft()

    def _understood(self, line: bytes) -> Reply | Notification:
        try:
            return decode_reply(line)
        except ControlError as error:
            raise self._skew(f"what answers on {self.path} is no {self.daemon} ({error.message})") from None

    def _unreachable(self, error: OSError) -> ControlError:
        start = f"sudo systemctl start {self.daemon}"
        match error:
            case FileNotFoundError() | NotADirectoryError():
                message = f"{self.daemon} is not running (no socket at {self.path})"
                return ControlError(ErrorKind.NOT_RUNNING, message, fix=start)
            case ConnectionRefusedError():
                message = f"{self.daemon} is not running (no listener on {self.path})"
                return ControlError(ErrorKind.NOT_RUNNING, message, fix=start)
            case PermissionError():
                message = f"no permission to reach {self.daemon} at {self.path}"
                return ControlError(ErrorKind.PERMISSION, message, fix=f"namei -l {self.path}")
            case BlockingIOError() | TimeoutError():
                return self._silent("take the connection")
            case _:
                message = f"cannot reach {self.daemon} at {self.path}: {error.strerror or error}"
                return ControlError(ErrorKind.FAILED, message)

    def _silent(self, what: str) -> ControlError:
        return ControlError(
            ErrorKind.TIMEOUT,
            f"{self.daemon} is running but did not {what} in time",
            fix=f"journalctl -u {self.daemon} -n 20",
        )

    def _gone(self, error: OSError | None) -> ControlError:
        self.close()
        why = f": {error.strerror}" if error is not None else ""
        return ControlError(
            ErrorKind.NOT_RUNNING,
            f"{self.daemon} closed the connection{why}",
            fix=f"journalctl -u {self.daemon} -n 20",
        )

    def _skew(self, message: str) -> ControlError:
        return ControlError(ErrorKind.VERSION_SKEW, message, fix=f"sudo systemctl restart {self.daemon}")


def _left(until: float) -> float:
    return max(0.001, until - time.monotonic())
