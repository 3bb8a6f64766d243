"""What is asked of each home agent: the wish of the configuration, less what it refused, plus what is needed.

Pure. Draft section 2.3.1 (an ignored IPv4 home address is not asked for again), section 4.1 (forced UDP).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from ipaddress import IPv4Address

from mn_agent.binding_update_list import HomeAgent, Target
from mn_agent.messages import Wish
from mn_agent.mobile_router import RouterPart


class Demands:
    """`wish` is what the configuration says."""

    def __init__(self, wish: Wish) -> None:
        self.wish = wish
        self.allocated: IPv4Address | None = None
        """The IPv4 home address that was given last."""
        self.needs_udp: Callable[[Target], bool] = lambda target: False
        """Whether UDP has to be asked for, though it is not configured."""
        self._without_ipv4: set[HomeAgent] = set()
        self._without_udp: set[HomeAgent] = set()

    def to(self, target: Target, router: RouterPart) -> Wish:
        """What a Binding Update for `target` asks for; `router` is its part of a mobile router."""
        ipv4 = self.wish.ipv4
        if target.home_agent in self._without_ipv4:
            ipv4, router = None, replace(router, requests=())
        elif ipv4 is not None and ipv4.is_unspecified and self.allocated is not None:
            ipv4 = self.allocated
        wanted = self.wish.force_udp or self.needs_udp(target)
        force_udp = wanted and not self.refuses_udp(target.home_agent)
        return replace(self.wish, ipv4=ipv4, router=router, force_udp=force_udp)

    def refuses_udp(self, home_agent: HomeAgent) -> bool:
        """Whether it has said that it does not force UDP."""
        return home_agent in self._without_udp

    def udp_refused(self, home_agent: HomeAgent) -> None:
        self._without_udp.add(home_agent)

    def ipv4_ignored(self, home_agent: HomeAgent) -> None:
        self._without_ipv4.add(home_agent)
