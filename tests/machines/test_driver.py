"""The shell around a node: order, time, sleep, faults, and the flight recorder."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import IPv4Address

import pytest

from runtime.clock import KernelTimer, LoopTimer, boot_timer, boottime
from runtime.driver import Driver, Fault
from runtime.flight import FlightRecorder, Record, Tick, plain, replay
from runtime.node import Deadline


@dataclass(frozen=True, slots=True)
class Said:
    word: str


@dataclass
class Echo:
    """A node that repeats each event, and wants a tick at `due`, which it then moves by `period`."""

    due: float | None = None
    period: float | None = None
    broken: bool = False
    ticks: list[float] = field(default_factory=list)

    def handle(self, event: str, now: float) -> list[Said]:
        if event == "break":
            raise RuntimeError("a bug")
        return [Said(part) for part in event.split("+")]

    def tick(self, now: float) -> list[Said]:
        self.ticks.append(now)
        if not self.broken:
            self.due = None if self.period is None or self.due is None else self.due + self.period
        return [Said("tick")]

    def deadline(self) -> Deadline | None:
        return None if self.due is None else Deadline(self.due, "due")


class Bench:
    """A driver with a clock, a timer and a sleep counter that the test sets."""

    def __init__(self, node: Echo, kept: int = 256) -> None:
        self.now = 100.0
        self.asleep = 0.0
        self.arms: list[float | None] = []
        self.closed = False
        self.said: list[str] = []
        self.faults: list[Fault] = []
        self.slept: list[float] = []
        self.on_say: Callable[[str], None] = lambda word: None
        self.driver: Driver[str, Said] = Driver(
            node,
            self.perform,
            clock=lambda: self.now,
            on_fault=self.faults.append,
            on_slept=self.slept.append,
            timer=self,
            time_asleep=lambda: self.asleep,
            kept=kept,
        )

    def arm(self, at: float | None) -> None:
        self.arms.append(at)

    def close(self) -> None:
        self.closed = True

    def perform(self, action: Said) -> None:
        self.said.append(action.word)
        self.on_say(action.word)


def test_actions_are_done_in_order_and_recorded_with_their_event() -> None:
    bench = Bench(Echo())
    bench.driver.dispatch("a+b")
    bench.now = 101.0
    bench.driver.dispatch("c")
    assert bench.said == ["a", "b", "c"]
    assert bench.driver.flight.records == (
        Record(100.0, "a+b", (Said("a"), Said("b"))),
        Record(101.0, "c", (Said("c"),)),
    )


def test_an_event_from_inside_an_action_waits_for_the_other_actions() -> None:
    bench = Bench(Echo())
    bench.on_say = lambda word: bench.driver.dispatch("x") if word == "a" else None
    bench.driver.dispatch("a+b")
    assert bench.said == ["a", "b", "x"]


def test_events_that_breed_events_let_the_loop_breathe() -> None:
    bench = Bench(Echo())
    bench.on_say = lambda word: bench.driver.dispatch("again")
    bench.driver.dispatch("start")
    assert len(bench.said) < 100
    assert bench.arms[-1] == bench.now
    bench.driver.wake()
    assert len(bench.said) > 100


def test_nothing_is_armed_while_nothing_is_pending() -> None:
    bench = Bench(Echo())
    bench.driver.start()
    bench.driver.dispatch("a")
    assert bench.arms == []
    forever = Bench(Echo(due=math.inf))
    forever.driver.start()
    assert forever.arms == []


def test_the_timer_follows_the_deadline_and_is_set_only_when_that_moves() -> None:
    node = Echo(due=110.0)
    bench = Bench(node)
    bench.driver.start()
    bench.driver.dispatch("a")
    assert bench.arms == [110.0]
    node.due = 105.0
    bench.driver.dispatch("b")
    node.due = None
    bench.driver.dispatch("c")
    assert bench.arms == [110.0, 105.0, None]


def test_a_due_deadline_ticks_once_and_the_tick_is_recorded_with_its_reason() -> None:
    node = Echo(due=110.0, period=10.0)
    bench = Bench(node)
    bench.driver.start()
    bench.now = 109.0
    bench.driver.wake()
    assert node.ticks == []
    assert bench.arms == [110.0, 110.0]
    bench.now = 110.5
    bench.driver.wake()
    assert node.ticks == [110.5]
    assert bench.arms[-1] == 120.0
    assert bench.driver.flight.records == (Record(110.5, Tick("due"), (Said("tick"),)),)


def test_a_failing_action_costs_neither_the_next_action_nor_the_next_event() -> None:
    bench = Bench(Echo())

    def fail(word: str) -> None:
        if word == "a":
            raise OSError(1, "Operation not permitted")

    bench.on_say = fail
    bench.driver.dispatch("a+b")
    bench.driver.dispatch("c")
    assert bench.said == ["a", "b", "c"]
    (fault,) = bench.faults
    assert fault.action == Said("a")
    assert fault.text == "Said failed: PermissionError: [Errno 1] Operation not permitted"


def test_a_node_that_fails_is_reported_recorded_and_goes_on() -> None:
    bench = Bench(Echo())
    bench.driver.dispatch("break")
    bench.driver.dispatch("a")
    assert bench.said == ["a"]
    assert [fault.what for fault in bench.faults] == ["node failed at str"]
    assert bench.driver.flight.records[0].fault == "RuntimeError('a bug')"


def test_even_a_broken_fault_report_does_not_stop_the_node() -> None:
    bench = Bench(Echo())
    bench.driver._on_fault = lambda fault: 1 / 0  # type: ignore[assignment,return-value]
    bench.driver.dispatch("break")
    bench.driver.dispatch("a")
    assert bench.said == ["a"]


def test_a_deadline_that_never_moves_is_slowed_down_instead_of_spinning() -> None:
    bench = Bench(Echo(due=50.0, broken=True))
    bench.driver.start()
    for _ in range(40):
        bench.driver.wake()
    assert bench.arms[0] == 50.0
    assert bench.arms[-1] == bench.now + 1.0


def test_a_sleep_is_noticed_before_the_tick_that_it_made_late() -> None:
    node = Echo(due=110.0)
    bench = Bench(node)
    bench.driver.start()
    seen: list[int] = []
    bench.driver._on_slept = lambda slept: seen.append(len(node.ticks)) or bench.slept.append(slept)
    bench.now, bench.asleep = 9000.0, 8890.0
    bench.driver.wake()
    bench.driver.dispatch("a")
    assert bench.slept == [8890.0]
    assert seen == [0]
    assert node.ticks == [9000.0]


def test_the_news_of_a_sleep_comes_before_everything_that_noticed_it() -> None:
    bench = Bench(Echo(due=110.0))
    bench.driver._on_slept = lambda slept: bench.driver.dispatch("resumed")
    bench.now, bench.asleep = 9000.0, 8890.0
    bench.driver.wake()
    bench.asleep += 60.0
    bench.driver.dispatch("a")
    assert bench.said == ["resumed", "tick", "resumed", "a"]


def test_two_clocks_read_in_turn_are_no_sleep() -> None:
    bench = Bench(Echo())
    bench.asleep = 0.01
    bench.driver.dispatch("a")
    assert bench.slept == []


def test_after_stop_nothing_happens_any_more() -> None:
    node = Echo(due=100.0)
    bench = Bench(node)
    bench.on_say = lambda word: bench.driver.stop()
    bench.driver.dispatch("a")
    bench.driver.dispatch("b")
    bench.driver.wake()
    bench.driver.stop()
    assert bench.said == ["a"]
    assert node.ticks == []
    assert bench.closed
    assert bench.arms == []


def test_the_recorder_keeps_the_last_records_and_counts_all() -> None:
    bench = Bench(Echo(), kept=4)
    for number in range(10):
        bench.driver.dispatch(str(number))
    flight = bench.driver.flight
    assert [record.event for record in flight.records] == ["6", "7", "8", "9"]
    assert flight.total == 10


def test_a_recording_replays_on_a_fresh_node_and_shows_where_another_differs() -> None:
    bench = Bench(Echo(due=110.0, period=10.0))
    bench.driver.dispatch("a+b")
    bench.now = 110.0
    bench.driver.wake()
    records = bench.driver.flight.records
    assert replay(Echo(due=110.0, period=10.0), records) == []

    class Other(Echo):
        def tick(self, now: float) -> list[Said]:
            return []

    assert replay(Other(), records) == [(records[1], ())]


@dataclass(frozen=True, slots=True)
class Sealed:
    spi: int
    key: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Secretive:
    key: bytes

    def __repr__(self) -> str:
        return "Secretive(...)"


def test_the_recorder_shows_octets_in_hex_and_never_what_a_repr_hides() -> None:
    flight: FlightRecorder[object, object] = FlightRecorder()
    flight.add(Record(1.5, (b"\x01\xff", IPv4Address("10.0.0.1")), (Sealed(7, b"key"), Secretive(b"key"))))
    shown = flight.as_json(2.0)
    assert shown["schema"] == "control/flight/1"
    assert shown["records"] == [
        {
            "now": 1.5,
            "event": ["01ff", "10.0.0.1"],
            "actions": [{"is": "Sealed", "spi": 7}, "Secretive(...)"],
        }
    ]


def test_a_deep_value_is_cut_instead_of_followed() -> None:
    value: object = "bottom"
    for _ in range(100):
        value = [value]
    assert "bottom" not in str(plain(value))


@pytest.mark.parametrize("make", [KernelTimer, LoopTimer, boot_timer])
def test_real_timers_fire_at_their_instant_and_not_when_disarmed(make: Callable[..., KernelTimer]) -> None:
    async def scenario() -> list[float]:
        fired: list[float] = []
        timer = make(asyncio.get_running_loop(), lambda: fired.append(boottime()))
        start = boottime()
        timer.arm(start + 0.01)
        timer.arm(None)
        await asyncio.sleep(0.03)
        assert fired == []
        timer.arm(start - 5.0)
        await asyncio.sleep(0.01)
        assert len(fired) == 1
        at = boottime() + 0.03
        timer.arm(at + 10)
        timer.arm(at)
        await asyncio.sleep(0.06)
        timer.arm(boottime() + 0.01)
        timer.close()
        timer.close()
        await asyncio.sleep(0.03)
        return [moment - at for moment in fired[1:]]

    (late,) = asyncio.run(scenario())
    assert -0.001 < late < 0.5


def test_an_idle_driver_wakes_the_process_never() -> None:
    async def scenario() -> int:
        node = Echo()
        driver: Driver[str, Said] = Driver(node, lambda action: None, on_fault=lambda fault: None)
        driver.start()
        driver.dispatch("a")
        loop = asyncio.get_running_loop()
        turns = 0
        select = loop._selector.select  # type: ignore[attr-defined]

        def counted(timeout: float | None) -> object:
            nonlocal turns
            turns += 1
            return select(timeout)

        loop._selector.select = counted  # type: ignore[attr-defined]
        await asyncio.sleep(0.1)
        driver.stop()
        return turns

    assert asyncio.run(scenario()) <= 3


def test_a_driver_on_the_real_clock_ticks_in_time() -> None:
    started = time.clock_gettime(time.CLOCK_BOOTTIME)

    async def scenario() -> list[float]:
        node = Echo(due=started + 0.02, period=0.02)
        driver: Driver[str, Said] = Driver(node, lambda action: None, on_fault=lambda fault: None)
        driver.start()
        while len(node.ticks) < 3 and boottime() < started + 10:
            await asyncio.sleep(0.01)
        driver.stop()
        return node.ticks

    ticks = asyncio.run(scenario())
    assert len(ticks) >= 3
    assert all(tick >= started + 0.02 * number for number, tick in enumerate(ticks, 1))
