"""ICMPv6 errors about our own messages: hints for people, and never more, since anybody can write them.

Pure. RFC 6275 sections 11.3.5 and 9.2; docs/security.md: forged-message.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv6Address

from mn_agent.binding_update_list import Target
from wire.icmp import ParameterProblem

MARK_LASTS = 300.0
"""Seconds for which a complaint is shown, unless the home agent answers meanwhile. Ours."""
UNRECOGNISED_NEXT_HEADER, UNRECOGNISED_OPTION = 1, 2
_MEANING = {
    UNRECOGNISED_NEXT_HEADER: "it does not know mobility messages",
    UNRECOGNISED_OPTION: "it does not know the home address option",
}


@dataclass(frozen=True, slots=True)
class Complaint:
    """What somebody at the home agent's address said about a packet of ours."""

    home_agent: IPv6Address
    code: int
    since: float
    until: float

    @property
    def text(self) -> str:
        return f"the home agent {self.home_agent} says that {_MEANING[self.code]}"


class Hints:
    """At most one complaint for each code. They change nothing that is sent, and nothing that is bound."""

    def __init__(self) -> None:
        self._complaints: dict[int, Complaint] = {}

    def heard(
        self, problem: ParameterProblem, source: IPv6Address, target: Target | None, now: float
    ) -> Complaint | None:
        """The complaint if it is one about a packet that we may have sent to `target`, and a new one."""
        if problem.code not in _MEANING or target is None or source != target.home_agent.ipv6:
            return None
        quoted = problem.packet
        if quoted[8:24] != target.care_of.packed or quoted[24:40] != source.packed:
            return None
        known = self._complaints.get(problem.code)
        fresh = known is None or known.until <= now or known.home_agent != source
        since = now if known is None or fresh else known.since
        complaint = Complaint(source, problem.code, since, now + MARK_LASTS)
        self._complaints[problem.code] = complaint
        return complaint if fresh else None

    def refuted(self) -> None:
        """The home agent has answered like one that knows all that."""
        self._complaints.clear()

    def standing(self, now: float) -> tuple[Complaint, ...]:
        """The complaints that are recent enough to be shown."""
        return tuple(complaint for complaint in self._complaints.values() if complaint.until > now)
