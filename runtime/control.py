"""What crosses the control socket: JSON-RPC 2.0 in lines of JSON, read strictly and bounded in every way.

Pure. The protocol and every result are described in docs/control.md.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from enum import Enum
from typing import Any, NamedTuple

MAX_LINE = 65536
"""Octets of a request or an event, newline included."""
MAX_REPLY = 1 << 20
"""Octets of a reply, newline included."""
MAX_DEPTH = 16
MAX_ID = 128

Json = dict[str, Any]
RequestId = str | int | None


class ErrorKind(Enum):
    """Why a request did not succeed. Its code is what JSON-RPC carries."""

    code: int

    def __new__(cls, word: str, code: int) -> ErrorKind:
        kind = object.__new__(cls)
        kind._value_ = word
        kind.code = code
        return kind

    MALFORMED = "malformed", -32700
    INVALID_REQUEST = "invalid-request", -32600
    UNKNOWN_METHOD = "unknown-method", -32601
    INVALID_PARAMS = "invalid-params", -32602
    FAILED = "failed", -32603
    PERMISSION = "permission", -32001
    NOT_FOUND = "not-found", -32002
    REFUSED = "refused", -32003
    TIMEOUT = "timeout", -32004
    BUSY = "busy", -32005
    NOT_RUNNING = "not-running", 1
    """The client's own: nobody listens."""
    VERSION_SKEW = "version-skew", 2
    """The client's own: the other end speaks another version."""


_KINDS = {kind.code: kind for kind in ErrorKind if kind.code < 0}


class ControlError(Exception):
    """A request that did not succeed: `message` says what, `fix` what to do, `candidates` what there is."""

    def __init__(
        self, kind: ErrorKind, message: str, *, fix: str = "", candidates: tuple[str, ...] = ()
    ) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message
        self.fix = fix
        self.candidates = candidates


class Request(NamedTuple):
    """One call; `params` is always by name."""

    id: str | int
    method: str
    params: Json


class Reply(NamedTuple):
    """The answer to the request `id`: a result, or an error."""

    id: RequestId
    result: Json | None
    error: ControlError | None


class Notification(NamedTuple):
    """An event, told without being asked again."""

    method: str
    params: Json


class BadLine(NamedTuple):
    """A line that is no request; `id` is what could be saved of it."""

    id: RequestId
    error: ControlError


def decode_request(line: bytes) -> Request | BadLine:
    """Read one line (with or without its newline) as a request. Never raises."""
    try:
        message = _decode_object(line, MAX_LINE)
    except ControlError as error:
        return BadLine(None, error)
    identity = _id_of(message)
    if identity is None:
        return _invalid(None, "id is required: a string of at most 128 characters or an integer")
    if message.get("jsonrpc") != "2.0":
        return _invalid(identity, 'jsonrpc must be "2.0"')
    if extra := message.keys() - {"jsonrpc", "id", "method", "params"}:
        return _invalid(identity, f"unknown member {sorted(extra)[0][:40]!r}")
    method = message.get("method")
    if not isinstance(method, str) or not 0 < len(method) <= 64:
        return _invalid(identity, "method must be a string of 1 to 64 characters")
    params = message.get("params", {})
    if not isinstance(params, dict):
        return _invalid(identity, "params must be an object: parameters go by name")
    return Request(identity, method, params)


def decode_reply(line: bytes) -> Reply | Notification:
    """Read one line from a daemon. Raises ControlError(VERSION_SKEW) when it is neither."""
    try:
        message = _decode_object(line, MAX_REPLY)
    except ControlError as error:
        raise ControlError(ErrorKind.VERSION_SKEW, f"not understood: {error.message}") from None
    match message:
        case {"jsonrpc": "2.0", "method": str(method), "params": dict(params)} if "id" not in message:
            return Notification(method, params)
        case {"jsonrpc": "2.0", "result": dict(result)} if "error" not in message:
            return Reply(_id_of(message), result, None)
        case {"jsonrpc": "2.0", "error": {"code": int(code), "message": str(text), **rest}}:
            return Reply(_id_of(message), None, _error_from(code, text, rest.get("data")))
        case _:
            raise ControlError(ErrorKind.VERSION_SKEW, "neither a reply nor an event")


def encode_request(request: Request) -> bytes:
    """One line. Raises ControlError(INVALID_PARAMS) when it cannot be sent."""
    message: Json = {"jsonrpc": "2.0", "id": request.id, "method": request.method}
    if request.params:
        message["params"] = request.params
    try:
        return _line(message)
    except _Unsendable as error:
        raise ControlError(ErrorKind.INVALID_PARAMS, f"{request.method}: {error}") from None


def encode_result(identity: RequestId, result: Mapping[str, object]) -> bytes:
    """One line; an error instead when the result does not fit a line or is no JSON."""
    try:
        return _line({"jsonrpc": "2.0", "id": identity, "result": result}, MAX_REPLY)
    except _Unsendable as error:
        return encode_error(identity, ControlError(ErrorKind.FAILED, f"the answer {error}"))


def encode_error(identity: RequestId, error: ControlError) -> bytes:
    data: Json = {"kind": error.kind.value}
    if error.candidates:
        data["candidates"] = [candidate[:200] for candidate in error.candidates[:32]]
    if error.fix:
        data["fix"] = error.fix[:1000]
    body = {"code": error.kind.code, "message": error.message[:2000], "data": data}
    return _line({"jsonrpc": "2.0", "id": identity, "error": body})


def encode_event(params: Mapping[str, object]) -> bytes | None:
    """One notification line; None when the event does not fit a line or is no JSON."""
    try:
        return _line({"jsonrpc": "2.0", "method": "event", "params": params})
    except _Unsendable:
        return None


class LineBuffer:
    """Octets as they arrive -> whole lines, of which none is longer than `longest` octets."""

    def __init__(self, longest: int = MAX_LINE) -> None:
        self._longest = longest
        self._pending = bytearray()
        self.overrun = False
        """A line was too long: nothing more is read."""

    def feed(self, data: bytes) -> list[bytes]:
        """The lines that `data` completes, without newlines; blank ones are skipped."""
        if self.overrun:
            return []
        self._pending += data
        if b"\n" not in data and len(self._pending) < self._longest:
            return []
        *lines, rest = bytes(self._pending).split(b"\n")
        self._pending = bytearray(rest)
        for index, line in enumerate(lines):
            if len(line) >= self._longest:
                lines = lines[:index]
                self.overrun = True
                break
        if len(rest) >= self._longest:
            self.overrun = True
        if self.overrun:
            self._pending.clear()
        return [line for line in lines if line.strip()]

    def rest(self) -> list[bytes]:
        """At the end of the stream: a last line without its newline, if there is one."""
        rest, self._pending = bytes(self._pending), bytearray()
        return [rest] if rest.strip() else []


class _Unsendable(Exception):
    """A value that makes no line; the text completes "the answer ..."."""


def _line(message: Json, longest: int = MAX_LINE) -> bytes:
    try:
        line = json.dumps(message, separators=(",", ":"), allow_nan=False).encode() + b"\n"
    except (TypeError, ValueError, RecursionError) as error:
        raise _Unsendable(f"is no JSON ({type(error).__name__}: {str(error)[:80]})") from None
    if len(line) > longest:
        raise _Unsendable(f"has {len(line)} octets, and a line holds {longest}")
    return line


def _decode_object(line: bytes, longest: int) -> Json:
    if len(line) > longest:
        raise ControlError(ErrorKind.MALFORMED, f"a line holds at most {longest} octets")
    try:
        message = json.loads(
            line.decode(),
            object_pairs_hook=_no_duplicates,
            parse_constant=_no_constant,
            parse_float=_finite,
        )
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)[:120]
        raise ControlError(ErrorKind.MALFORMED, f"not JSON: {reason}") from None
    if not isinstance(message, dict):
        what = "a batch: send one request a line" if isinstance(message, list) else "no JSON object"
        raise ControlError(ErrorKind.INVALID_REQUEST, what)
    if _deeper_than(message, MAX_DEPTH):
        raise ControlError(ErrorKind.MALFORMED, f"nested deeper than {MAX_DEPTH}")
    return message


def _no_duplicates(pairs: list[tuple[str, Any]]) -> Json:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a key appears twice")
    return result


def _no_constant(word: str) -> float:
    raise ValueError(f"{word} is no JSON number")


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError("a number is too large")
    return number


def _deeper_than(value: object, limit: int) -> bool:
    """Whether objects and arrays are nested in more than `limit` levels, `value` being the first."""
    level: list[Any] = [value]
    for _ in range(limit):
        inside = [one for outer in level for one in (outer.values() if isinstance(outer, dict) else outer)]
        level = [one for one in inside if isinstance(one, dict | list)]
        if not level:
            return False
    return True


def _id_of(message: Json) -> str | int | None:
    match message.get("id"):
        case str(text) if len(text) <= MAX_ID:
            return text
        case int(number) if not isinstance(number, bool) and abs(number) < 1 << 63:
            return number
        case _:
            return None


def _invalid(identity: RequestId, message: str) -> BadLine:
    return BadLine(identity, ControlError(ErrorKind.INVALID_REQUEST, message))


def _error_from(code: int, message: str, data: object) -> ControlError:
    details = data if isinstance(data, dict) else {}
    fix = details.get("fix")
    candidates = details.get("candidates")
    return ControlError(
        _KINDS.get(code, ErrorKind.FAILED),
        message,
        fix=fix if isinstance(fix, str) else "",
        candidates=tuple(str(one) for one in candidates) if isinstance(candidates, list) else (),
    )
