"""What `mnctl` may ask of a running mn-agent; the shapes are in docs/control.md.

Performs I/O (waits in the event loop for what was asked to happen).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Any

from mn_agent.binding_update_list import Target
from mn_agent.choice import Wanted
from mn_agent.events import Check, Event, Refresh, Roam, Stop
from mn_agent.explanation import explained, why
from mn_agent.netcheck import netcheck, places_to_go
from mn_agent.node import MobileNode
from mn_agent.registration_states import AtHome, Registered
from mn_agent.status import Clocks, plan, status
from runtime.clock import boottime
from runtime.control import ControlError, ErrorKind, Json
from runtime.control_server import Method
from runtime.flight import FlightRecorder
from tunnel.kernel import KernelError
from tunnel.plane import Counters, TierReport
from wire.mobility import status_text

ROAM_TIMEOUT = 30.0
REFRESH_TIMEOUT = 10.0
DOWN_TIMEOUT = 9.0
CHECK_TAKES = 0.9
"""Seconds for answers to come in: an echo is asked for three times within 0.6 s."""
CHECK_PATIENCE, CHECK_STEP = 10.0, 0.1
"""Seconds: ways are asked about two a second, the silent ones once more, and NATs by another question."""


class Control:
    """Answers questions from the node's state; turns requests into events and waits for their outcome."""

    def __init__(
        self,
        node: MobileNode,
        dispatch: Callable[[Event], None],
        counters: Callable[[], Counters],
        data_plane: Callable[[], TierReport],
        kernel_problem: Callable[[], KernelError | None],
        flight: Callable[[], FlightRecorder[Any, Any]],
        protection: str,
        version: str,
    ) -> None:
        self._node = node
        self._dispatch = dispatch
        self._counters = counters
        self._data_plane = data_plane
        self._kernel_problem = kernel_problem
        self._flight = flight
        self._protection = protection
        self._version = version
        self._waiting: list[tuple[str, asyncio.Future[Mapping[str, object]]]] = []

    def methods(self) -> dict[str, Method]:
        """For the control server."""
        roam_parameters = {"to": str, "family": int, "dry_run": bool}
        return {
            "status": Method(False, self._status),
            "netcheck": Method(False, self._netcheck),
            "why": Method(False, lambda params: why(self._node, _clocks())),
            "roam": Method(lambda params: not params.get("dry_run"), self._roam, roam_parameters),
            "refresh": Method(True, self._refresh),
            "down": Method(True, self._down),
            "flight": Method(True, lambda params: self._flight().as_json(boottime())),
        }

    def reported(self, event: str, fields: Mapping[str, object]) -> None:
        """Something happened that a request may wait for."""
        for waiting in [entry for entry in self._waiting if entry[0] == event]:
            self._waiting.remove(waiting)
            if not waiting[1].done():
                waiting[1].set_result(fields)

    def _status(self, params: Json) -> Mapping[str, object]:
        shown = status(self._node, self._counters(), self._protection, self._version, _clocks())
        shown["data_plane"] = self._data_plane().describe()
        problem = self._kernel_problem()
        health = shown["health"]
        if problem is not None and isinstance(health, list):
            item = {
                "code": "kernel",
                "severity": "high",
                "impacts_connectivity": True,
                "since": shown["time"],
                "text": str(problem),
                "fix": "journalctl -u mn-agent -n 20",
            }
            health.append(item)
        return shown

    async def _roam(self, params: Json) -> Mapping[str, object]:
        to, family = params.get("to"), params.get("family")
        if family not in (None, 4, 6):
            raise ControlError(ErrorKind.INVALID_PARAMS, "family must be 4 or 6")
        wanted = Wanted.named(to, family)
        target = self._find(wanted)
        used = self._node.target
        origin = None if used is None else used.attachment.interface
        destination = target.attachment.interface
        if params.get("dry_run"):
            wished = self._node.ranking(boottime(), wanted)
            return {
                **_unchanged(origin, destination, None, plan(self._node, target)),
                "explained": explained(wished),
            }
        if used is not None and _place(used) == _place(target):
            self._dispatch(Roam(to, family))
            return _unchanged(origin, destination, f"{destination} is in use already", None)
        if self._node.journal.current is not None:
            raise ControlError(ErrorKind.REFUSED, "a handover is under way", fix="mnctl wait --for bound")
        done = await self._outcome("handover", Roam(to, family), ROAM_TIMEOUT)
        decision = self._node.decisions.about(done["id"])
        return {
            "schema": "mnctl/roam/1",
            "handover": done["id"],
            "result": done["result"],
            "from": origin,
            "to": destination,
            "from_attachment": done["from"],
            "to_attachment": done["to"],
            "mode": done["mode"],
            "phases_ms": done["phases_ms"],
            "total_ms": done["total_ms"],
            "outage_ms": done["outage_ms"],
            "lost_packets": done["lost_packets"],
            "message": done["message"],
            "dry_run": None,
            "explained": None if decision is None else explained(decision.ranking),
        }

    def _find(self, wanted: Wanted) -> Target:
        """The best target that is wanted. ControlError not-found when there is none."""
        node = self._node
        candidates = node.choice.candidates(node.attachments, node.discovery.home_agents)
        target = next((t for t in candidates if wanted.matches(t.attachment)), None)
        if target is not None:
            return target
        raise ControlError(
            ErrorKind.NOT_FOUND, self._missing(wanted), candidates=places_to_go(node), fix="mnctl status"
        )

    def _missing(self, wanted: Wanted) -> str:
        links = {link.name for link in self._node.surroundings().snapshot.links}
        if wanted.interface is not None and wanted.interface not in links:
            return f"no interface {wanted.interface}"
        family = "" if wanted.family is None else f"IPv{wanted.family} "
        where = "on any interface" if wanted.interface is None else f"on interface {wanted.interface}"
        if wanted.care_of is not None:
            where = f"with the care-of address {wanted.care_of}"
        return f"no usable {family}attachment {where}"

    async def _netcheck(self, params: Json) -> Mapping[str, object]:
        self._dispatch(Check())
        await asyncio.sleep(CHECK_TAKES)
        patience = boottime() + CHECK_PATIENCE
        while self._node.ways.is_on and boottime() < patience:
            await asyncio.sleep(CHECK_STEP)
        return netcheck(self._node, _clocks())

    async def _refresh(self, params: Json) -> Mapping[str, object]:
        if self._node.target is None:
            raise ControlError(ErrorKind.REFUSED, f"nothing to refresh: {self._node.summary()[1]}")
        if isinstance(self._node.registration.state, AtHome):
            raise ControlError(ErrorKind.REFUSED, "nothing to refresh: at home there is no binding")
        answer = await self._outcome("ba", Refresh(), REFRESH_TIMEOUT)
        state = self._node.registration.state
        binding = state.binding if isinstance(state, Registered) else None
        code = answer["status"]
        assert isinstance(code, int)
        return {
            "schema": "mnctl/refresh/1",
            "result": "failed" if binding is None else "ok",
            "sequence": answer["seq"],
            "ba_status": code,
            "rtt_ms": None if binding is None else round((binding.accepted_at - binding.sent_at) * 1000, 1),
            "lifetime_s": answer["lifetime_s"],
            "message": status_text(code) if binding is None else None,
        }

    async def _down(self, params: Json) -> Mapping[str, object]:
        outcome = await self._outcome("deregistered", Stop(), DOWN_TIMEOUT)
        message = (
            None if outcome["confirmed"] else "the home agent did not answer; the binding expires by itself"
        )
        return {"schema": "mnctl/down/1", "result": "ok", "message": message}

    async def _outcome(self, event: str, request: Event, timeout: float) -> Mapping[str, object]:
        """Dispatch `request` and wait for the next report of `event`."""
        future: asyncio.Future[Mapping[str, object]] = asyncio.get_running_loop().create_future()
        entry = (event, future)
        self._waiting.append(entry)
        try:
            self._dispatch(request)
            return await asyncio.wait_for(future, timeout)
        except TimeoutError:
            message = f"no outcome within {timeout:.0f} s"
            raise ControlError(ErrorKind.TIMEOUT, message, fix="mnctl status") from None
        finally:
            if entry in self._waiting:
                self._waiting.remove(entry)


def _unchanged(
    origin: str | None, destination: str, message: str | None, dry_run: dict[str, object] | None
) -> dict[str, object]:
    return {
        "schema": "mnctl/roam/1",
        "handover": None,
        "result": "unchanged",
        "from": origin,
        "to": destination,
        "mode": None,
        "phases_ms": {},
        "total_ms": None,
        "outage_ms": None,
        "lost_packets": None,
        "message": message,
        "dry_run": dry_run,
        "explained": None,
    }


def _place(target: Target) -> tuple[str, object]:
    return target.attachment.interface, target.care_of


def _clocks() -> Clocks:
    return Clocks(boottime(), time.time())
