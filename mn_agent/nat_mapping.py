"""How long NATs remember an idle mapping: learnt from what the home agent sees, so that keepalives are few.

Pure. Draft section 4.3 (the home agent's suggestion is the upper bound), RFC 4787 section 4.3 (mappings
should live for two minutes at least), RFC 3519 section 4.9. Only a keepalive teaches: it knows for how long
nothing had left, and its answer says whether the NAT still had the same address and port for us. The period
is lengthened only when a network is met again after a day: to be reachable matters more than a battery.
"""

from __future__ import annotations

from dataclasses import replace

from mn_agent.binding_update_list import Binding
from mn_agent.network_memory import NetworkMemory
from mn_agent.path_limits import PathLimits, Place, place_of
from movement.known_networks import Learnt

KEPT = 86400.0
"""Seconds for which a short period is believed to be needed. Ours."""
LEAST = 1.5
"""Seconds: no NAT is asked to remember less. Ours."""
MOST_LOSSES = 5
"""Mappings lost one after the other, after which this NAT is believed to give a new port at any time."""
CLEAR = 0.5
"""A mapping that is lost sooner than this part of the period was not forgotten, but flushed."""


class NatMappings:
    """`configured`: seconds in place of what the home agent suggests, None to follow it."""

    def __init__(
        self, networks: NetworkMemory, limits: PathLimits, configured: float | None = None
    ) -> None:
        self._networks = networks
        self._limits = limits
        self._configured = configured
        self._here: Place | None = None
        self._losses = 0
        self._period: Learnt[float] | None = None
        """What was learnt in this place, whether the network has an identity or not."""
        self._idle: float | None = None

    def idle(self, seconds: float) -> None:
        """A keepalive leaves, after nothing had left for that long."""
        self._idle = seconds

    def kept(self, binding: Binding, previous: Binding | None, now: float) -> Binding:
        """`binding` with the period of keepalives that this NAT needs; its answer has just come."""
        idle, self._idle = self._idle, None
        place = place_of(binding.target.attachment)
        if place != self._here:
            self._here, self._period, self._losses = place, None, 0
        if binding.keepalive is None:
            return binding
        same = previous is not None and previous.target.same_as(binding.target)
        if idle is not None and same and previous is not None and previous.keepalive is not None:
            self._learn(idle, previous, binding, now)
        suggested = binding.keepalive if self._configured is None else self._configured
        learnt = self.learnt(binding, now)
        return replace(binding, keepalive=suggested if learnt is None else min(suggested, learnt))

    def learnt(self, binding: Binding, now: float) -> float | None:
        """Seconds between keepalives that this NAT needs, if that was ever less than suggested."""
        fact = self._period if place_of(binding.target.attachment) == self._here else None
        if fact is None or fact.until <= now:
            network = self._limits.present(binding.target.attachment).network
            fact = self._networks.about(network, now).keepalive
        return None if fact is None else fact.value

    def _learn(self, idle: float, previous: Binding, binding: Binding, now: float) -> None:
        assert previous.keepalive is not None, "there was a period to keep"
        if previous.observed == binding.observed:
            self._losses = 0
            return
        if idle < CLEAR * previous.keepalive:
            return
        self._losses += 1
        network = self._limits.present(binding.target.attachment).network
        # 110 s, 55 s, 18 s, 5 s: a few steps, and not much shorter than needed where it is the first one.
        period = max(LEAST, min(idle, previous.keepalive) / (self._losses + 1))
        self._period = None if self._losses > MOST_LOSSES else Learnt(period, now + KEPT)
        if network is not None:
            self._networks.learn(network, keepalive=self._period)
