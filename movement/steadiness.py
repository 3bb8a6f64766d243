"""Steadiness: a link that comes and goes is not worth leaving a path that works.

Pure. Ours; the RFCs leave it to the mobile node when to move (RFC 6275 section 11.5.1).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from movement.opinion import Opinion, Verdict
from movement.policy import Attachment

WINDOW = 30.0
"""Seconds for which a loss is held against a link."""
FORGIVEN = 1
"""Losses within the window that say nothing: whoever changes the network at an interface causes one."""
MOST_DOUBLINGS = 5
MOST = 32

Place = tuple[str, int]


@dataclass(slots=True)
class _Record:
    """One family of one link. `since` is None while it is not there."""

    attachment: Attachment
    since: float | None
    losses: deque[float] = field(default_factory=lambda: deque(maxlen=FORGIVEN + 1 + MOST_DOUBLINGS))


class Steadiness:
    """Remembers what was lost lately. `wait` seconds are what the first loss too many costs; 0: nothing."""

    def __init__(self, wait: float) -> None:
        self._wait = wait
        self._records: dict[Place, _Record] = {}

    def seen(self, attachments: Iterable[Attachment], now: float) -> None:
        """These are there now, and no others."""
        present: dict[Place, Attachment] = {(a.interface, a.care_of.version): a for a in attachments}
        for place, record in self._records.items():
            still = present.get(place)
            gone = still is None or still.carrier_losses != record.attachment.carrier_losses
            if record.since is not None and gone:
                record.since = None
                record.losses.append(now)
        for place, attachment in present.items():
            record = self._records.setdefault(place, _Record(attachment, None))
            record.attachment = attachment
            if record.since is None:
                record.since = now
        self._forget(now)

    def opinions(self, now: float) -> Iterator[Opinion]:
        """About those that have not been there for long enough."""
        for record in self._records.values():
            left = self._steady_at(record, now) - now
            if record.since is not None and left > 0:
                why = f"lost {len(record.losses)} times lately; to be trusted in {left:.1f} s"
                place = record.attachment
                yield Opinion(place.interface, place.care_of, Verdict.UNSTEADY, "steadiness", why)

    def steady_at(self, now: float) -> float | None:
        """When the next of them has been there for long enough."""
        awaited = (self._steady_at(r, now) for r in self._records.values() if r.since is not None)
        return min((at for at in awaited if at > now), default=None)

    def _steady_at(self, record: _Record, now: float) -> float:
        while record.losses and record.losses[0] <= now - WINDOW - self._wait * 2**MOST_DOUBLINGS:
            record.losses.popleft()
        recent = [at for at in record.losses if record.since is None or at > record.since - WINDOW]
        counted = len(recent) - FORGIVEN
        if counted <= 0 or record.since is None:
            return now
        return record.since + self._wait * float(1 << min(counted - 1, MOST_DOUBLINGS))

    def _forget(self, now: float) -> None:
        """Links of the past, the longest absent first, so that names that never return cost nothing."""
        if len(self._records) > MOST:
            absent = [place for place, record in self._records.items() if record.since is None]
            for place in absent[: len(self._records) - MOST]:
                del self._records[place]
