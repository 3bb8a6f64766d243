"""The event-loop shell around a node: tells it what happens, does what it decides, wakes it when it is due.

Performs I/O (through `perform` and the timer only).
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeVar

from runtime.clock import Timer, asleep, boot_timer, boottime
from runtime.flight import KEPT, FlightRecorder, Record, Tick
from runtime.node import Deadline, Node

EventT = TypeVar("EventT")
ActionT = TypeVar("ActionT")

SLEPT = 0.5
"""Seconds by which the time asleep must grow to be called a sleep: two clocks are never read at once."""

_CHAIN = 64
"""Events handled in one go when actions cause events; the loop breathes before the next ones."""
_STUCK_TICKS = 16
_STUCK_PAUSE = 1.0


@dataclass(frozen=True, slots=True)
class Fault:
    """An exception that ended in the driver: from performing `action`, or from the node (`action` None)."""

    what: str
    error: Exception
    action: object = None

    @property
    def text(self) -> str:
        return f"{self.what}: {type(self.error).__name__}: {self.error}"


class Driver(Generic[EventT, ActionT]):
    """Runs one node in one thread. `dispatch` may be called from inside `perform`: events queue up in order.

    `perform` does one action. What it raises goes to `on_fault` and ends nothing else. `on_slept` is called
    with the seconds slept, before the event or tick that noticed it. Without a `timer` one is made on the
    running event loop, so the driver must then be made inside it.
    """

    def __init__(
        self,
        node: Node[EventT, ActionT],
        perform: Callable[[ActionT], None],
        *,
        clock: Callable[[], float] = boottime,
        on_fault: Callable[[Fault], None],
        on_slept: Callable[[float], None] | None = None,
        timer: Timer | None = None,
        time_asleep: Callable[[], float] = asleep,
        kept: int = KEPT,
    ) -> None:
        self.node = node
        self.flight: FlightRecorder[EventT, ActionT] = FlightRecorder(kept)
        self._perform = perform
        self._clock = clock
        self._on_fault = on_fault
        self._on_slept = on_slept
        self._time_asleep = time_asleep
        self._asleep = time_asleep()
        self._timer = timer if timer is not None else boot_timer(asyncio.get_running_loop(), self.wake)
        self._armed: float | None = None
        self._queue: deque[EventT] = deque()
        self._running = False
        self._stopped = False
        self._stuck = 0

    def start(self) -> None:
        """Arm the timer for whatever the node already waits for."""
        self._rearm()

    def dispatch(self, *events: EventT) -> None:
        """Tell the node `events`, in order, now or right after the event that is being handled."""
        if self._stopped:
            return
        if self._running:
            self._queue.extend(events)
        else:
            self._run(partial(self._queue.extend, events))

    def wake(self) -> None:
        """The timer's callback: run what is due."""
        self._armed = None
        if not self._stopped and not self._running:
            self._run(self._tick_when_due)

    def stop(self) -> None:
        """Handle nothing any more; the timer is closed. Idempotent."""
        self._stopped = True
        self._queue.clear()
        self._timer.close()

    @property
    def deadline(self) -> Deadline | None:
        """What the node waits for: it explains an idle daemon."""
        return self.node.deadline()

    def _run(self, work: Callable[[], None]) -> None:
        self._running = True
        try:
            self._notice_sleep()
            self._drain()
            work()
            self._drain()
        finally:
            self._running = False
        self._rearm()

    def _drain(self) -> None:
        for _ in range(_CHAIN):
            if not self._queue:
                return
            event = self._queue.popleft()
            now = self._clock()
            self._stuck = 0
            self._decide(now, event, partial(self.node.handle, event, now))

    def _tick_when_due(self) -> None:
        deadline = self.node.deadline()
        now = self._clock()
        if deadline is not None and deadline.at <= now:
            self._decide(now, Tick(deadline.reason), partial(self.node.tick, now))
            after = self.node.deadline()
            self._stuck = self._stuck + 1 if after is not None and after.at <= now else 0

    def _decide(self, now: float, event: EventT | Tick, decide: Callable[[], list[ActionT]]) -> None:
        try:
            actions = tuple(decide())
        except Exception as error:
            self.flight.add(Record(now, event, (), repr(error)))
            self._report(Fault(f"node failed at {type(event).__name__}", error))
            return
        self.flight.add(Record(now, event, actions))
        for action in actions:
            try:
                self._perform(action)
            except Exception as error:
                self._report(Fault(f"{type(action).__name__} failed", error, action))

    def _report(self, fault: Fault) -> None:
        try:
            self._on_fault(fault)
        except Exception:
            return  # nobody is left to tell; the node goes on

    def _notice_sleep(self) -> None:
        asleep_now = self._time_asleep()
        slept, self._asleep = asleep_now - self._asleep, asleep_now
        if slept > SLEPT and self._on_slept is not None:
            try:
                self._on_slept(slept)
            except Exception as error:
                self._report(Fault("on_slept failed", error))

    def _rearm(self) -> None:
        """One timer, armed only when its instant changes; none while nothing is pending."""
        if self._stopped:
            return
        at = self._next_wake()
        if at != self._armed:
            self._armed = at
            self._timer.arm(at)

    def _next_wake(self) -> float | None:
        if self._queue:
            return self._clock()
        deadline = self.node.deadline()
        if deadline is None or deadline.at == math.inf:
            return None
        if self._stuck > _STUCK_TICKS:
            return self._clock() + _STUCK_PAUSE
        return deadline.at
