"""A path under test: does payload pass in both directions, and how large may its packets be?

Pure. RFC 8899 (path MTU discovery by padded packets, of which only the answers are believed): no router has
to complain, and none can lie. Echo requests go to the home agent as payload, so that whatever carries payload
is what is tested; the answers are as long as the questions, and test the way back.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from runtime.node import Deadline
from tunnel.path import TunnelPath
from wire.probe import NONCE_SIZE, Probe

LEAST_MTU = 1280
"""Smaller outer packets are not tried: every IPv6 link carries this (RFC 8200), and most IPv4 paths do."""
USUAL_MTUS = (
    *(1500, 1492, 1480, 1472, 1460, 1452, 1440, 1420, 1400, 1380, 1360, 1340, 1320, 1300),
    LEAST_MTU,
)
"""Octets of outer packets: Ethernet, PPPoE, and what tunnels of all kinds leave of them."""
SMALL = 128
"""Octets of a packet that passes wherever anything does."""
GAPS = (0.1, 0.1, 0.15, 0.2, 0.25, 0.3)
"""Seconds between the rounds of questions. Ours: with three of ten packets lost each way, one of a hundred
sound paths fails all of them."""
HURRIED_GAPS = 3
"""How many of these where silence was noticed before: one of a dozen sound paths that lose as much fails."""
SIZE_ROUNDS = 3
"""Rounds in which no answer came for a size before it is believed to be too large."""
LAST_WAIT = 0.4
LAST_SIZE_WAIT = 0.1
"""Seconds for answers to the last round, of all and of sizes; twice a round trip if that is longer."""
MAX_ROUND_TRIP = 0.5
"""Seconds: the first answer of a home agent may include its duplicate address detection."""


@dataclass(frozen=True, slots=True)
class Passes:
    """Payload passes, in outer packets of up to `mtu` octets; `round_trip` in seconds.

    `cramped`: not even outer packets of LEAST_MTU octets were answered, which is what `mtu` then says.
    """

    mtu: int
    round_trip: float
    cramped: bool = False


@dataclass(frozen=True, slots=True)
class Blocked:
    """Nothing came back."""


Outcome = Passes | Blocked


class PathProbe:
    """One test of `path`. Ask `tick` for what to send, tell `answered`; over when `outcome` is there."""

    def __init__(
        self, path: TunnelPath, round_trip: float, rng: Random, now: float, *, hurried: bool = False
    ) -> None:
        """`round_trip`: what it took to register, in seconds; a first guess.

        `hurried`: there is a suspicion already, and fewer rounds have to confirm it.
        """
        self.path = path
        self.started_at = now
        self.outcome: Outcome | None = None
        self._rng = rng
        self._identifier = rng.getrandbits(16)
        self._round_trip = min(round_trip, MAX_ROUND_TRIP)
        self._gaps = GAPS[:HURRIED_GAPS] if hurried else GAPS
        self._sent: dict[int, tuple[Probe, int, float]] = {}
        """By sequence number: the question, the octets of its outer packet (0: small), and when it left."""
        largest = path.link_mtu
        self._mtus = (largest, *(mtu for mtu in USUAL_MTUS if mtu < largest))
        self._best: int | None = None
        """The largest outer packet that came back; 0 if only small ones did."""
        self._tries: dict[int, int] = dict.fromkeys(self._mtus, 0)
        self._rounds = 0
        self._next_at = now

    def answered(self, probe: Probe, whole: bool, now: float) -> bool:
        """Whether `probe` answers a question of this test. If not `whole`, it says nothing of its size."""
        question, mtu, sent_at = self._sent.get(probe.sequence, (None, 0, 0.0))
        if question != probe or self.outcome is not None:
            return False
        if self._best is None:
            self._round_trip = now - sent_at
        best = mtu if whole else 0
        self._best = best if self._best is None else max(self._best, best)
        if self._best == self._mtus[0]:
            self.outcome = Passes(self._best, self._round_trip)
        return True

    @property
    def rounds_in_vain(self) -> int:
        """How often it has been asked, if nothing has come back yet."""
        return self._rounds if self._best is None else 0

    def tick(self, now: float) -> list[Probe]:
        """The questions to send now."""
        if self.outcome is not None or now < self._next_at:
            return []
        if self._best is None and self._rounds > len(self._gaps):
            self.outcome = Blocked()
            return []
        sizes = self._sizes()
        if not sizes:
            best = self._best or 0
            self.outcome = Passes(max(best, LEAST_MTU), self._round_trip, cramped=best < LEAST_MTU)
            return []
        self._next_at = now + self._wait(sizes)
        self._rounds += 1
        return [self._question(mtu, now) for mtu in sizes]

    def deadline(self) -> Deadline | None:
        return None if self.outcome is not None else Deadline(self._next_at, "path probe")

    def _sizes(self) -> list[int]:
        """The outer sizes to ask for: a small one and the largest until anything comes back, then all."""
        if self._best is None:
            return [0, self._mtus[0]]
        return [mtu for mtu in self._mtus if mtu > self._best and self._tries[mtu] < SIZE_ROUNDS]

    def _wait(self, sizes: list[int]) -> float:
        if self._best is not None:
            # The largest has been asked for already. Whatever is asked for last gets the time of an answer.
            last = all(self._tries[mtu] + 1 >= SIZE_ROUNDS for mtu in sizes)
            return max(LAST_SIZE_WAIT, 2 * self._round_trip) if last else GAPS[0]
        if self._rounds < len(self._gaps):
            return self._gaps[self._rounds]
        return max(LAST_WAIT, 2 * self._round_trip)

    def _question(self, mtu: int, now: float) -> Probe:
        if mtu and self._best is not None:
            self._tries[mtu] += 1
        sequence = len(self._sent)
        size = self.path.room_in(mtu) if mtu else SMALL
        probe = Probe(self._identifier, sequence, self._rng.randbytes(NONCE_SIZE), size)
        self._sent[sequence] = (probe, mtu, now)
        return probe
