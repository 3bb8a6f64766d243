"""What this mobile node knows of networks, kept up to date and written down when it changed.

Pure. RFC 4436 section 2.1.
"""

from __future__ import annotations

from typing import Any

from mn_agent.actions import Action, RememberNetworks
from movement.known_networks import KnownNetworks, Learnt, NetworkFacts
from movement.learning import learn
from movement.network import NetworkId
from movement.snapshot import Snapshot
from tunnel.kernel import PROTOCOL


class NetworkMemory:
    """`known` is what has been learnt, here and in earlier runs."""

    def __init__(self, known: KnownNetworks, wall_offset: float) -> None:
        """`wall_offset` is the wall clock less CLOCK_BOOTTIME, in seconds."""
        self.known = self._written = known
        self._wall_offset = wall_offset

    def about(self, network: NetworkId | None, now: float) -> NetworkFacts:
        """What still holds of what was learnt in `network`."""
        return self.known.about(network).at(now)

    def learn(self, network: NetworkId, **facts: Learnt[Any] | None) -> None:
        """Fields of its NetworkFacts; None for what was believed wrongly."""
        self.known = self.known.learn(network, **facts)

    def seen(self, snapshot: Snapshot, now: float) -> None:
        """The links are now like this."""
        self.known = learn(self.known, snapshot, now, PROTOCOL)

    def due(self, now: float) -> list[Action]:
        """What has to be written down, if anything."""
        if self.known == self._written:
            return []
        self.known = self._written = self.known.at(now)
        return [RememberNetworks(self.known.as_json(self._wall_offset))]
