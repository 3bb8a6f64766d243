"""Snapshots over time -> changes of attachment.

Pure. RFC 6275 section 11.5.1.
"""

from __future__ import annotations

from movement.policy import Attachment, Policy, rank
from movement.snapshot import Snapshot


class Detector:
    """Remembers the ranked attachments, and speaks only when they are no longer the same.

    The best one (`current`) is kept among its equals, see `rank`. Nothing is delayed: a link that went
    down, or a better one that came up, is reported by the snapshot that first shows it.
    """

    __slots__ = ("_changed_at", "_policy", "_ranked", "_snapshot")

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._snapshot = Snapshot()
        self._ranked: tuple[Attachment, ...] = ()
        self._changed_at: float | None = None

    @property
    def policy(self) -> Policy:
        return self._policy

    @property
    def snapshot(self) -> Snapshot:
        """The newest snapshot."""
        return self._snapshot

    @property
    def attachments(self) -> tuple[Attachment, ...]:
        """All attachments, best first."""
        return self._ranked

    @property
    def current(self) -> Attachment | None:
        return self._ranked[0] if self._ranked else None

    @property
    def changed_at(self) -> float | None:
        """When the list last changed, in seconds of CLOCK_BOOTTIME; None before the first time."""
        return self._changed_at

    def handle(self, snapshot: Snapshot, now: float) -> tuple[Attachment, ...] | None:
        """The attachments, best first, if `snapshot` changes anything about them; else None."""
        self._snapshot = snapshot
        ranked = rank(snapshot, self._policy, self.current)
        if ranked == self._ranked:
            return None
        self._ranked = ranked
        self._changed_at = now
        return ranked

    def adopt(self, policy: Policy, now: float) -> tuple[Attachment, ...] | None:
        """Follow another policy from now on; what `handle` returns, for the newest snapshot."""
        self._policy = policy
        return self.handle(self._snapshot, now)
