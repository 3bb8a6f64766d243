"""What `hactl` may ask of a running home-agent; the shapes are in docs/control.md.

Performs I/O (reads the clocks).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from home_agent import status
from home_agent.config import MobileNode
from home_agent.events import Revoke
from home_agent.health import findings
from home_agent.node import HomeAgent
from home_agent.status import Moment
from runtime.clock import boottime
from runtime.control import ControlError, ErrorKind, Json
from runtime.control_server import Method
from runtime.flight import FlightRecorder
from tunnel.plane import Counters, TierReport


class Control:
    """Answers questions from the node's state, and turns `drop` into an event."""

    def __init__(
        self,
        agent: HomeAgent,
        dispatch: Callable[[Revoke], None],
        counters: Callable[[], Counters],
        data_plane: Callable[[], TierReport],
        turned_away: Callable[[], Mapping[str, int]],
        problems: Callable[[], Mapping[str, str]],
        flight: Callable[[], FlightRecorder[Any, Any]],
        version: str,
    ) -> None:
        self._agent = agent
        self._dispatch = dispatch
        self._counters = counters
        self._data_plane = data_plane
        self._turned_away = turned_away
        self._problems = problems
        self._flight = flight
        self._version = version
        self.state = "starting"

    def methods(self) -> dict[str, Method]:
        """For the control server."""
        return {
            "status": Method(False, self._status),
            "bindings": Method(False, self._bindings, {"after": str}),
            "leases": Method(False, self._leases, {"after": str}),
            "show": Method(False, self._show, {"node": str}),
            "drop": Method(True, self._drop, {"home_address": str}),
            "flight": Method(True, lambda params: self._flight().as_json(boottime())),
        }

    def _status(self, params: Json) -> Json:
        now = _now()
        health: list[Json] = [
            {
                "code": code,
                "severity": "high",
                "impacts_connectivity": code == "kernel",
                "since": None,
                "text": text,
                "fix": "journalctl -u home-agent -n 20",
            }
            for code, text in self._problems().items()
        ]
        counters = self._counters()
        health += findings(self._agent, counters.drops, now)
        told = status.status(self._agent, now, self.state, self._version, counters, health)
        told["data_plane"] = self._data_plane().describe()
        ignored = told["totals"]["updates_ignored"]
        ignored |= {reason: number for reason, number in self._turned_away().items() if number}
        return told

    def _bindings(self, params: Json) -> Json:
        return status.bindings(self._agent, _now(), params.get("after"))

    def _leases(self, params: Json) -> Json:
        return status.leases(self._agent, _now(), params.get("after"))

    def _show(self, params: Json) -> Json:
        return status.show(self._agent, self._find(params.get("node"), "node"), _now())

    def _drop(self, params: Json) -> Json:
        node = self._find(params.get("home_address"), "home_address")
        if self._agent.books.cache.get(node.home_address) is None:
            bound = tuple(
                self._agent.nodes[binding.home_address].label for binding in self._agent.books.cache
            )
            raise ControlError(ErrorKind.NOT_FOUND, f"{node.label} has no binding", candidates=bound[:20])
        self._dispatch(Revoke(node.home_address))
        dropped = self._agent.books.cache.get(node.home_address) is None
        message = None if dropped else "it will be dropped in a moment"
        head = {"schema": "hactl/drop/1", "home_address": str(node.home_address)}
        return {**head, "dropped": dropped, "message": message}

    def _find(self, name: str | None, parameter: str) -> MobileNode:
        if not name:
            raise ControlError(ErrorKind.INVALID_PARAMS, f"{parameter} is missing: a name or a home address")
        node = status.find_node(self._agent, name)
        if node is None:
            known = tuple(node.label for node in self._agent.nodes.values())
            raise ControlError(
                ErrorKind.NOT_FOUND, f"no mobile node {name[:80]!r} is configured", candidates=known[:20]
            )
        return node


def _now() -> Moment:
    return Moment(boottime(), time.time())
