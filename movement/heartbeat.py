"""A router that has promised when its next advertisement comes, and whether it keeps its word.

Pure. RFC 6275 sections 7.3 (advertisement interval option) and 11.5.1: how many may be missed is policy.
"""

from __future__ import annotations

from collections.abc import Collection
from ipaddress import IPv6Address

from wire.router_probes import RouterAdvertisement

MISSED = 3
"""Intervals without an advertisement that are a sign of movement: single ones get lost."""
LEAST, MOST = 1.0, 60.0
"""Seconds of an interval that is watched: shorter ones would wake us often, longer ones say nothing."""


class Heartbeat:
    """At most one router: the first that promises something, and of whose prefixes we have an address."""

    __slots__ = ("_heard_at", "_interval", "_router")

    def __init__(self) -> None:
        self._router: tuple[IPv6Address, bytes] | None = None
        self._interval = 0.0
        self._heard_at = 0.0

    @property
    def watched(self) -> bool:
        return self._router is not None

    def heard(self, said: RouterAdvertisement, ours: Collection[IPv6Address], now: float) -> None:
        """An advertisement; `ours` are the addresses of the link."""
        router = said.source, said.hardware
        if self._router not in (None, router) or said.interval is None:
            return
        if LEAST <= said.interval <= MOST and any(a in prefix for a in ours for prefix in said.prefixes):
            self._router, self._interval, self._heard_at = router, said.interval, now

    def missed(self, now: float) -> bool:
        """Whether the router has been silent for too long; then it is watched no longer."""
        if self._router is None or now < self._heard_at + MISSED * self._interval:
            return False
        self.end()
        return True

    def end(self) -> None:
        """The link went down."""
        self._router = None

    def deadline(self) -> float | None:
        return None if self._router is None else self._heard_at + MISSED * self._interval
