"""What the service manager hears: ready, what we are doing, still alive, stopping.

Performs I/O. sd_notify(3) by its environment variables alone: no library, and no systemd needed.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Mapping


class Notifier:
    """Datagrams to `NOTIFY_SOCKET`; without that variable every method does nothing.

    A service manager that does not listen is no reason to stop, so nothing here raises.
    """

    def __init__(self, address: str = "", *, watchdog_interval: float | None = None) -> None:
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self.watchdog_interval = watchdog_interval
        """Seconds between signs of life, half of what the service manager allows; None: it wants none."""
        self._last_status = ""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Notifier:
        address = environment.get("NOTIFY_SOCKET", "")
        if not address.startswith(("/", "@")):
            return cls()
        return cls(address, watchdog_interval=_interval(environment))

    def ready(self, status: str = "") -> None:
        """The daemon serves: units that wait for it may start."""
        self._send("READY=1", *_status(status))

    def status(self, status: str) -> None:
        """One line for `systemctl status`; sent only when it changes."""
        if status != self._last_status:
            self._last_status = status
            self._send(*_status(status))

    def alive(self) -> None:
        self._send("WATCHDOG=1")

    def reloading(self, now: float) -> None:
        """Configuration is being read again; `ready` ends it. `now` is CLOCK_MONOTONIC."""
        self._send("RELOADING=1", f"MONOTONIC_USEC={int(now * 1e6)}")

    def stopping(self, status: str = "") -> None:
        self._send("STOPPING=1", *_status(status))

    def _send(self, *assignments: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
                sock.setblocking(False)
                sock.connect(self._address)
                sock.send("\n".join(assignments).encode())
        except OSError:
            return


class Watchdog:
    """Signs of life from the event loop, as long as `healthy()` says that the rest lives too.

    Without a watchdog in the service unit it never wakes the process.
    """

    def __init__(self, notifier: Notifier, healthy: Callable[[], bool] = lambda: True) -> None:
        self._notifier = notifier
        self._healthy = healthy
        self._handle: asyncio.TimerHandle | None = None

    def start(self) -> None:
        if self._notifier.watchdog_interval is not None:
            self._beat()

    def stop(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _beat(self) -> None:
        if self._healthy():
            self._notifier.alive()
        interval = self._notifier.watchdog_interval
        assert interval is not None
        self._handle = asyncio.get_running_loop().call_later(interval, self._beat)


def _status(status: str) -> tuple[str, ...]:
    return (f"STATUS={' '.join(status.split())}",) if status else ()


def _interval(environment: Mapping[str, str]) -> float | None:
    try:
        microseconds = int(environment.get("WATCHDOG_USEC", "0"))
        process = int(environment.get("WATCHDOG_PID", os.getpid()))
    except ValueError:
        return None
    return microseconds / 2e6 if microseconds > 0 and process == os.getpid() else None
