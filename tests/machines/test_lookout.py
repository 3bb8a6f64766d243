"""The lookout of the home agent: how soon, and how seldom, it looks at the kernel. On a clock of our own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast

import pytest

from home_agent import lookout
from home_agent.lookout import PAUSE, SELDOM, SETTLED, Lookout
from tunnel.alterations import Alterations


@dataclass(eq=False)
class Handle:
    at: float
    call: Callable[[], None]
    cancelled: bool = False

    def when(self) -> float:
        return self.at

    def cancel(self) -> None:
        self.cancelled = True


@dataclass
class Loop:
    """As much of an event loop as a lookout needs."""

    now: float = 1000.0
    handles: list[Handle] = field(default_factory=list)
    readers: dict[int, Callable[[], None]] = field(default_factory=dict)

    def time(self) -> float:
        return self.now

    def call_at(self, at: float, call: Callable[[], None]) -> Handle:
        self.handles.append(Handle(at, call))
        return self.handles[-1]

    def call_later(self, delay: float, call: Callable[[], None]) -> Handle:
        return self.call_at(self.now + delay, call)

    def add_reader(self, descriptor: int, call: Callable[[], None]) -> None:
        self.readers[descriptor] = call

    def remove_reader(self, descriptor: int) -> None:
        del self.readers[descriptor]

    def run_until(self, until: float) -> None:
        while waiting := [one for one in self.handles if not one.cancelled and one.at <= until]:
            first = min(waiting, key=Handle.when)
            self.handles.remove(first)
            self.now = first.at
            first.call()
        self.now = until


@dataclass
class Word:
    """In place of the sockets."""

    descriptors: tuple[int, ...] = (7, 8)
    waiting: bool = False

    def heard(self) -> bool:
        heard, self.waiting = self.waiting, False
        return heard


@dataclass
class Watch:
    loop: Loop
    word: Word
    looked: list[float]
    lookout: Lookout

    def hear(self) -> None:
        self.word.waiting = True
        self.loop.readers[7]()


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Watch:
    loop, word, looked = Loop(), Word(), list[float]()
    monkeypatch.setattr(lookout.asyncio, "get_running_loop", lambda: loop)
    made = Lookout(cast(Alterations, word), lambda: looked.append(loop.now))
    return Watch(loop, word, looked, made)


def test_without_word_it_looks_every_ten_minutes(watch: Watch) -> None:
    watch.loop.run_until(1000 + 3 * SELDOM)
    assert watch.looked == [1000 + SELDOM, 1000 + 2 * SELDOM, 1000 + 3 * SELDOM]


def test_word_brings_it_once_however_much_there_is(watch: Watch) -> None:
    for at in range(5):
        watch.loop.run_until(1100 + at / 10)
        watch.hear()
    watch.loop.run_until(1200)
    assert watch.looked == [1100 + SETTLED]
    watch.loop.run_until(1100 + SETTLED + SELDOM)
    assert watch.looked[1:] == [1100 + SETTLED + SELDOM]


def test_who_changes_something_every_second_brings_it_no_more_often_than_twice_a_minute(watch: Watch) -> None:
    for at in range(120):
        watch.loop.run_until(1100 + at)
        watch.hear()
    assert watch.looked == [1101, 1101 + PAUSE, 1101 + 2 * PAUSE, 1101 + 3 * PAUSE]


def test_a_socket_that_was_woken_for_nothing_brings_nothing(watch: Watch) -> None:
    watch.loop.readers[8]()
    watch.loop.run_until(1000 + SELDOM - 1)
    assert watch.looked == []


def test_a_closed_one_hears_and_does_nothing(watch: Watch) -> None:
    watch.lookout.close()
    watch.loop.run_until(1000 + 2 * SELDOM)
    assert (watch.looked, watch.loop.readers) == ([], {})
