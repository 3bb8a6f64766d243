"""The loop that puts mutated inputs through one parser and keeps count."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from random import Random

from tests.fuzz.mutation import mutate

SLOW_NS = 50_000
"""Inputs that take longer are timed again, since on a shared machine most of them were merely interrupted."""

LIMIT = 0.001
"""Seconds that no input may take."""

_PROGRESS_EVERY = 100_000


@dataclass(frozen=True, slots=True)
class Target:
    """A parser, inputs that it likes, and the exceptions by which it may refuse the others."""

    name: str
    seeds: tuple[bytes, ...]
    parse: Callable[[bytes], object]
    refusals: tuple[type[Exception], ...]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one run showed; `worst` and `seconds` in seconds, `worst_input` is where `worst` was seen."""

    name: str
    inputs: int
    refused: int
    seconds: float
    worst: float
    worst_input: bytes

    @property
    def inputs_per_second(self) -> float:
        return self.inputs / self.seconds if self.seconds else 0.0

    def __str__(self) -> str:
        return (
            f"{self.name:<24} {self.inputs:>10,} inputs {self.refused / self.inputs:>5.0%} refused "
            f"{self.inputs_per_second:>9,.0f}/s  worst {self.worst * 1e6:>6.0f} us"
        )


class FuzzFailureError(AssertionError):
    """An exception that is no refusal escaped from a parser."""

    def __init__(self, target: Target, data: bytes, error: Exception) -> None:
        super().__init__(f"{target.name}: {error!r} for bytes.fromhex({data.hex()!r})")


def fuzz(target: Target, count: int, seed: int, progress: Callable[[Outcome], None] | None = None) -> Outcome:
    """Run `count` inputs, the same ones for the same seed. FuzzFailureError at the first escape."""
    random = Random(f"{target.name}/{seed}")
    clock = time.perf_counter_ns
    refused, worst, worst_input = 0, 0, b""
    started = clock()
    outcome = Outcome(target.name, 0, 0, 0.0, 0.0, b"")
    for number in range(1, count + 1):
        data = mutate(target.seeds, random)
        before = clock()
        try:
            target.parse(data)
        except target.refusals:
            refused += 1
        except Exception as error:
            raise FuzzFailureError(target, data, error) from error
        taken = clock() - before
        if taken > worst:
            taken = _time_again(target, data) if taken > SLOW_NS else taken
            if taken > worst:
                worst, worst_input = taken, data
        if number % _PROGRESS_EVERY == 0 or number == count:
            seconds = (clock() - started) / 1e9
            outcome = Outcome(target.name, number, refused, seconds, worst / 1e9, worst_input)
            if progress is not None:
                progress(outcome)
    return outcome


def _time_again(target: Target, data: bytes) -> int:
    """The least of five runs, in nanoseconds of this thread's CPU time."""
    times = []
    for _ in range(5):
        before = time.thread_time_ns()
        with suppress(*target.refusals):
            target.parse(data)
        times.append(time.thread_time_ns() - before)
    return min(times)
