"""Snapshots over time -> changes of attachment.

Pure. RFC 6275 section 11.5.1.
"""

from __future__ import annotations

from dataclasses import replace

from movement.policy import Attachment, Policy, rank
from movement.snapshot import Link, Snapshot


class Detector:
    """Remembers the ranked attachments, and speaks only when they are no longer the same.

    The best one (`current`) is kept among its equals, see `rank`. Nothing is delayed: a link that went
    down, or a better one that came up, is reported by the snapshot that first shows it.
    """

    __slots__ = ("_policy", "_ranked", "_snapshot")

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._snapshot = Snapshot()
        self._ranked: tuple[Attachment, ...] = ()

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

    def handle(self, snapshot: Snapshot) -> tuple[Attachment, ...] | None:
        """The attachments, best first, if `snapshot` changes anything about them; else None."""
        found = rank(snapshot, self._policy, self.current)
        ranked = tuple(self._recognised(attachment, snapshot) for attachment in found)
        self._snapshot = snapshot
        if ranked == self._ranked:
            return None
        self._ranked = ranked
        return ranked

    def _recognised(self, attachment: Attachment, snapshot: Snapshot) -> Attachment:
        """With the network that was there before, while the kernel has forgotten the router's hardware.

        It does so when the router is silent, or was not needed for long. A carrier that went ends it.
        """
        links = (at.link(attachment.interface) for at in (self._snapshot, snapshot))
        if attachment.network is not None or not _same_carrier(*links):
            return attachment
        before = (a for a in self._ranked if a.index == attachment.index and a.care_of == attachment.care_of)
        known = next((a.network for a in before if a.router == attachment.router), None)
        return replace(attachment, network=known)


def _same_carrier(before: Link | None, after: Link | None) -> bool:
    return before is not None and after is not None and before.carrier_losses == after.carrier_losses
