"""Paths that were left a moment ago, through which packets that are under way may still arrive.

Pure. RFC 6275 section 11.5.1 (packets to the previous care-of address).
"""

from __future__ import annotations

from runtime.node import Deadline, earliest
from tunnel.path import TunnelPath

GRACE = 2.0
"""Seconds for which packets are still accepted through the path that was left. Ours."""
MOST = 4


class OldPaths:
    """The last few, newest first, each with the instant at which it closes."""

    def __init__(self) -> None:
        self._until: tuple[tuple[TunnelPath, float], ...] = ()

    @property
    def paths(self) -> tuple[TunnelPath, ...]:
        return tuple(path for path, _ in self._until)

    def leave(self, path: TunnelPath, now: float) -> None:
        """Payload goes another way from now on."""
        self._until = ((path, now + GRACE), *self._until[: MOST - 1])

    def expire(self, now: float) -> None:
        """Close what has been open long enough."""
        self._until = tuple(entry for entry in self._until if entry[1] > now)

    def deadline(self) -> Deadline | None:
        return earliest(Deadline(until, "old path closes") for _, until in self._until)
