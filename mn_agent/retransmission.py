"""When a Binding Update may leave, and how long its answer is waited for.

Pure. RFC 6275 sections 11.7.1 (rate), 11.8 (retransmission) and 12. Waiting in proportion to measured round
trips instead of a second is ours, see ARCHITECTURE.md: with 30 % loss each way half of all tries are lost,
and the 95th percentile of a registration falls from 15 s to less than 3 s.
"""

from __future__ import annotations

from collections import deque
from ipaddress import IPv4Address, IPv6Address
from typing import TypeVar

from mn_agent.binding_update_list import HomeAgent, Target

ACK_TIMEOUT = 1.0
"""Seconds, INITIAL_BINDACK_TIMEOUT: where there is a binding, and no round trip was measured."""
LEAST_ACK_TIMEOUT = 0.15
"""Seconds. Ours: tries at 0, 0.15, 1.1, 1.7 and 2.9 s, of which each fails every second time, make 97 of 100
registrations succeed within 3 s; 0.2 would put the fifth try beyond three seconds."""
MAX_ACK_TIMEOUT = 32.0
"""Seconds, MAX_BINDACK_TIMEOUT."""
ROUND_TRIPS = 1.5
"""How many measured round trips are waited for at first. Ours."""
MAX_UPDATE_RATE = 3
"""Binding Updates a second to one destination."""
RATE_PERIOD = 1.1
"""That second, and a tenth: a packet may have to wait for its neighbour, and the third after it not."""
BREATH = 0.25
"""Seconds before a third one from the same care-of address. Ours: where a link flaps, the update that counts
waits less than a second then."""
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
        self._sends: dict[HomeAgent, deque[tuple[float, IPv4Address | IPv6Address]]] = {}

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

    def sent(self, target: Target, now: float) -> None:
        """An update left."""
        past = self._sends.get(target.home_agent)
        if past is None:
            past = deque(maxlen=MAX_UPDATE_RATE)
            _remember(self._sends, target.home_agent, past)
        past.append((now, target.care_of))

    def not_before(self, target: Target, at: float, again: bool = False) -> float:
        """The first instant from `at` on at which an update may leave for `target`, or do so `again`."""
        past = self._sends.get(target.home_agent, deque())
        rate = MAX_REPEAT_RATE if again else MAX_UPDATE_RATE
        if len(past) >= rate:
            at = max(at, past[-rate][0] + RATE_PERIOD)
        here = [sent_at for sent_at, care_of in past if care_of == target.care_of]
        lately = [sent_at for sent_at in here if sent_at + RATE_PERIOD > at]
        return max(at, lately[-1] + BREATH) if len(lately) >= 2 else at


def _remember(table: dict[HomeAgent, _Value], home_agent: HomeAgent, value: _Value) -> None:
    """The table keeps those that were met last."""
    table.pop(home_agent, None)
    table[home_agent] = value
    if len(table) > MAX_HOME_AGENTS:
        del table[next(iter(table))]
