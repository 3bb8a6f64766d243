"""The daemon's log on standard error: one line an event, named fields, and no more lines than help.

Performs I/O. Understood by journald (sd-daemon(3) priority prefixes) and by people; JSON when asked for.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import IntEnum
from typing import TextIO

from runtime.clock import boottime

BURST = 10
"""Lines that one message id may have at once."""
REFILL = 5.0
"""Seconds after which a message id has earned one more line."""
_IDS = 256
"""Message ids counted apart; the program's text has far fewer."""


class Level(IntEnum):
    """syslog(3) priorities."""

    ERROR = 3
    WARNING = 4
    INFO = 6
    DEBUG = 7


class Shape(IntEnum):
    """How a line looks."""

    TEXT = 0
    JOURNAL = 1
    JSON = 2


@dataclass(slots=True)
class _Bucket:
    tokens: float
    filled_at: float
    suppressed: int = 0


class Log:
    """`log.info("ba-accepted", "binding accepted", sequence=5)`.

    The first argument is the message id: stable, for machines, and what the rate limit goes by. Fields are
    shown with `str`; never pass a key.
    """

    def __init__(
        self,
        stream: TextIO | None = None,
        *,
        level: Level = Level.INFO,
        shape: Shape = Shape.TEXT,
        clock: Callable[[], float] = boottime,
    ) -> None:
        self._stream = stream if stream is not None else sys.stderr
        self._level = level
        self._shape = shape
        self._clock = clock
        self._buckets: dict[str, _Bucket] = {}

    def debug(self, message_id: str, message: str, **fields: object) -> None:
        self._event(Level.DEBUG, message_id, message, fields)

    def info(self, message_id: str, message: str, **fields: object) -> None:
        self._event(Level.INFO, message_id, message, fields)

    def warning(self, message_id: str, message: str, **fields: object) -> None:
        self._event(Level.WARNING, message_id, message, fields)

    def error(self, message_id: str, message: str, **fields: object) -> None:
        self._event(Level.ERROR, message_id, message, fields)

    def _event(self, level: Level, message_id: str, message: str, fields: Mapping[str, object]) -> None:
        if level > self._level or (suppressed := self._admit(message_id)) is None:
            return
        if suppressed:
            fields = {**fields, "suppressed": suppressed}
        line = self._line(level, message_id, message, fields)
        try:
            self._stream.write(line + "\n")
            self._stream.flush()
        except (OSError, ValueError):
            return  # nobody reads; the daemon goes on

    def _admit(self, message_id: str) -> int | None:
        """How many lines of this id were kept back since the last one; None keeps this one back too."""
        now = self._clock()
        bucket = self._buckets.get(message_id)
        if bucket is None:
            if len(self._buckets) >= _IDS:
                self._buckets.clear()
            bucket = self._buckets[message_id] = _Bucket(BURST, now)
        bucket.tokens = min(BURST, bucket.tokens + (now - bucket.filled_at) / REFILL)
        bucket.filled_at = now
        if bucket.tokens < 1:
            bucket.suppressed += 1
            return None
        bucket.tokens -= 1
        suppressed, bucket.suppressed = bucket.suppressed, 0
        return suppressed

    def _line(self, level: Level, message_id: str, message: str, fields: Mapping[str, object]) -> str:
        time = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        if self._shape is Shape.JSON:
            head = {"t": time, "level": level.name.lower(), "event": message_id, "message": message}
            return json.dumps({**head, **{name: _plain(value) for name, value in fields.items()}})
        words = "".join(f" {name}={_word(value)}" for name, value in fields.items())
        text = f"{_printable(message)} [{message_id}]{words}"
        if self._shape is Shape.JOURNAL:
            return f"<{level.value}>{text}"
        return f"{time} {level.name:7} {text}"


def log_to_stderr(level: str = "info", environment: Mapping[str, str] = os.environ) -> Log:
    """A log in the shape that suits where standard error goes: the journal, or a person.

    `MN_AGENT_LOG=json` asks for JSON lines.
    """
    if environment.get("MN_AGENT_LOG") == "json":
        shape = Shape.JSON
    elif _is_journal(environment.get("JOURNAL_STREAM", "")):
        shape = Shape.JOURNAL
    else:
        shape = Shape.TEXT
    return Log(level=Level[level.upper()], shape=shape)


def _is_journal(stream: str) -> bool:
    try:
        status = os.fstat(2)
    except OSError:
        return False
    return stream == f"{status.st_dev}:{status.st_ino}"


def _plain(value: object) -> object:
    return value if value is None or isinstance(value, bool | int | str) else _printable(str(value))


def _word(value: object) -> str:
    text = _printable(f"{value:.3f}" if isinstance(value, float) else str(value))
    return json.dumps(text, ensure_ascii=False) if not text or set(text) & set(' "=') else text


def _printable(text: str) -> str:
    """A line stays one line, whatever a peer put into a name."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
