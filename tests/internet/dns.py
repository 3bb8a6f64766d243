"""DNS as the mobile node sees it: a question goes out, later there is an answer or there is none.

Pure.
"""

from __future__ import annotations

from collections.abc import Callable

from mn_agent.binding_update_list import HomeAgent
from mn_agent.discovery import Query
from mn_agent.events import HomeAgentsFound, HomeAgentsUnknown
from tests.internet.timeline import Timeline

Answer = HomeAgentsFound | HomeAgentsUnknown


class Dns:
    """Answers every question with `home_agents` after `delay`, or with `problem`, or (`silent`) never."""

    def __init__(self, timeline: Timeline, home_agents: tuple[HomeAgent, ...]) -> None:
        self.home_agents = home_agents
        self.problem: str | None = None
        self.silent = False
        self.delay = 0.03
        self.asked: list[float] = []
        self._timeline = timeline

    def ask(self, query: Query, reachable: bool, answer: Callable[[Answer], None]) -> None:
        self.asked.append(self._timeline.now)
        if not self.silent and reachable:
            self._timeline.after(self.delay, lambda: answer(self._answer()))

    def _answer(self) -> Answer:
        if self.problem is not None:
            return HomeAgentsUnknown(self.problem)
        return HomeAgentsFound(self.home_agents)
