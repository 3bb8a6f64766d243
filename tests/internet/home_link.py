"""The home link: which home agent its neighbours send to, and who answers a probe for duplicates.

Pure. RFC 6275 section 10.4.1, RFC 4862 section 5.4.
"""

from __future__ import annotations

from collections.abc import Callable

from tests.internet.timeline import Timeline
from tests.internet.weather import Address

DETECTION = 1.0
"""Seconds that duplicate address detection takes: one probe, RetransTimer 1 s."""


class HomeLink:
    """Home agents by name. `squatters` are addresses that a host on the link wrongly uses."""

    def __init__(self, timeline: Timeline) -> None:
        self.squatters: set[Address] = set()
        self.hosts: Callable[[], set[Address]] = set
        """The addresses of the hosts that are on the link now: mobile nodes at home among them."""
        self._timeline = timeline
        self._defended: dict[str, frozenset[Address]] = {}
        self._last: dict[Address, str] = {}

    def defend(self, agent: str, addresses: frozenset[Address]) -> None:
        """`agent` answers for exactly these; the new ones are announced, which makes it the one."""
        for address in addresses - self._defended.get(agent, frozenset()):
            self._last[address] = agent
        self._defended[agent] = addresses

    def silence(self, agent: str) -> None:
        """`agent` answers for nothing any more."""
        self._defended.pop(agent, None)

    def neighbour(self, address: Address) -> str | None:
        """The home agent to which the home link sends packets for `address`."""
        holders = [agent for agent, addresses in self._defended.items() if address in addresses]
        last = self._last.get(address)
        return last if last in holders else next(iter(holders), None)

    def holders(self, address: Address) -> list[str]:
        return [agent for agent, addresses in self._defended.items() if address in addresses]

    def probe(
        self, asker: str, addresses: frozenset[Address], answer: Callable[[frozenset[Address]], None]
    ) -> None:
        """`answer` is told which of `addresses` somebody else uses."""

        def conclude() -> None:
            others = [held for agent, held in self._defended.items() if agent != asker]
            answer(addresses & self.squatters.union(self.hosts(), *others))

        self._timeline.after(DETECTION, conclude)
