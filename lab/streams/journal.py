"""The journal of a stream: one fixed record for each packet, written the moment it is sent or received.

Performs I/O. A record is 20 octets, little-endian: nanoseconds of CLOCK_BOOTTIME when it was received, the
same when it was sent (one kernel, so one clock), and its sequence number.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from struct import Struct

RECORD = Struct("<QQI")


def now_ns() -> int:
    """Nanoseconds of CLOCK_BOOTTIME."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def realtime_minus_boottime_ns() -> int:
    """What CLOCK_REALTIME (of the kernel's stamps) is ahead of CLOCK_BOOTTIME (of everything else)."""
    return time.clock_gettime_ns(time.CLOCK_REALTIME) - now_ns()


class Journal:
    """Appends records to a file without buffering, so that a running stream can be judged."""

    def __init__(self, path: str) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)

    def note(self, at_ns: int, sent_ns: int, sequence: int) -> None:
        os.write(self._descriptor, RECORD.pack(at_ns, sent_ns, sequence))


def write_result(path: str, **facts: object) -> None:
    """What a stream says about itself when it ends; appears whole or not at all."""
    fresh = Path(f"{path}.new")
    fresh.write_text(json.dumps(facts) + "\n")
    fresh.rename(path)
