"""When a Binding Update may leave, and how long its answer is waited for.

Pure. RFC 6275 sections 11.7.1 (rate), 11.8 (retransmission) and 12. Waiting in proportion to measured round
trips instead of a second is ours, see ARCHITECTURE.md: with 30 % loss each way half of all tries are lost,
and the 95th percentile of a registration falls from 15 s to 2.9 s.
"""

from __future__ import annotations

from collections import deque
from typing import TypeVar

from mn_agent.binding_update_list import HomeAgent

ACK_TIMEOUT = 1.0
"""Seconds, INITIAL_BINDACK_TIMEOUT: where there is a binding, and no round trip was measured."""
LEAST_ACK_TIMEOUT = 0.15
"""Seconds. Ours: tries at 0, 0.15, 1, 1.6 and 2.8 s, of which each fails every second time, make 97 of 100
registrations succeed within 2.9 s; 0.2 would put the fifth try beyond three seconds."""
MAX_ACK_TIMEOUT = 32.0
"""Seconds, MAX_BINDACK_TIMEOUT."""
ROUND_TRIPS = 1.5
"""How many measured round trips are waited for at first. Ours."""
MAX_UPDATE_RATE = 3
"""Binding Updates a second to one destination."""
MAX_REPEAT_RATE = 2
"""Of these so many may be repetitions, so that another care-of address need not wait. Ours."""
DUPLICATE_ADDRESS_DETECTION = 1.0
"""Seconds that a home agent takes before it answers a first registration (RetransTimer of RFC 4861)."""
_Value = TypeVar("_Value")
MAX_HOME_AGENTS = 16
"""Home agents of which anything is remembered here."""


class Retransmission:
    """Remembers when updates left for each home agent, and how long it took to answer lately.

    `first_timeout` is how long the answer to a first registration is waited for: the home agent asks on its
    link whether the home address is in use before it answers.
    """

    def __init__(self, first_timeout: float) -> None:
        self._first_timeout = first_timeout
        self._round_trips: dict[HomeAgent, float] = {}
        self._sends: dict[HomeAgent, deque[float]] = {}

    def timeout(self, home_agent: HomeAgent, bound: bool) -> float:
        """Seconds after which the first of some updates is repeated; each later one waits twice as long.

        `bound`: the home agent has a binding, as far as is known.
        """
        measured = self._round_trips.get(home_agent)
        if measured is not None:
            return min(max(LEAST_ACK_TIMEOUT, ROUND_TRIPS * measured), MAX_ACK_TIMEOUT)
        return ACK_TIMEOUT if bound else self._first_timeout

    def answered(self, home_agent: HomeAgent, took: float, bound: bool) -> None:
        """An update was answered after so many seconds. Its sequence number tells which one it was."""
        if not bound and took >= DUPLICATE_ADDRESS_DETECTION:
            took -= DUPLICATE_ADDRESS_DETECTION
        _remember(self._round_trips, home_agent, took)

    def sent(self, home_agent: HomeAgent, now: float) -> None:
        """An update left."""
        past = self._sends.get(home_agent)
        if past is None:
            past = deque(maxlen=MAX_UPDATE_RATE)
            _remember(self._sends, home_agent, past)
        past.append(now)

    def not_before(self, home_agent: HomeAgent, at: float, again: bool = False) -> float:
        """The first instant from `at` on at which an update may leave for there, or do so `again`."""
        past, rate = self._sends.get(home_agent, deque()), MAX_REPEAT_RATE if again else MAX_UPDATE_RATE
        return at if len(past) < rate else max(at, past[-rate] + 1.0)


def _remember(table: dict[HomeAgent, _Value], home_agent: HomeAgent, value: _Value) -> None:
    """The table keeps those that were met last."""
    table.pop(home_agent, None)
    table[home_agent] = value
    if len(table) > MAX_HOME_AGENTS:
        del table[next(iter(table))]
