"""A hundred thousand mutated inputs to each parser: nothing but refusals, and none takes a millisecond."""

from __future__ import annotations

import pytest

from tests.fuzz.daemon_targets import SLOW_TARGETS
from tests.fuzz.offload_targets import OFFLOAD_TARGETS
from tests.fuzz.runner import LIMIT, FuzzFailureError, Target, fuzz
from tests.fuzz.targets import TARGETS

INPUTS = 100_000
SEED = 5555


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_no_mutated_input_escapes_or_takes_long(target: Target) -> None:
    outcome = fuzz(target, INPUTS, SEED)

    assert outcome.worst < LIMIT, outcome.worst_input.hex()


@pytest.mark.parametrize("target", [*TARGETS, *OFFLOAD_TARGETS], ids=lambda target: target.name)
def test_every_parser_accepts_one_of_its_seeds(target: Target) -> None:
    accepted = 0
    for seed in target.seeds:
        try:
            target.parse(seed)
        except target.refusals:
            continue
        accepted += 1

    assert accepted, "a fuzzer whose seeds are all refused tests only the first check"


@pytest.mark.parametrize("target", OFFLOAD_TARGETS, ids=lambda target: target.name)
def test_no_mutated_train_escapes(target: Target) -> None:
    fuzz(target, 5_000, SEED)


@pytest.mark.parametrize("target", SLOW_TARGETS, ids=lambda target: target.name)
def test_no_mutated_file_escapes(target: Target) -> None:
    fuzz(target, 2_000, SEED)


def test_the_fuzzer_notices_an_escape() -> None:
    def parse(data: bytes) -> object:
        return data[20]

    with pytest.raises(FuzzFailureError, match="IndexError"):
        fuzz(Target("broken", (bytes(30),), parse, (ValueError,)), 1000, SEED)


def test_the_fuzzer_makes_the_same_inputs_from_the_same_seed() -> None:
    def inputs(seed: int) -> list[bytes]:
        seen: list[bytes] = []
        fuzz(Target("recorder", (b"seed" * 9,), seen.append, ()), 200, seed)
        return seen

    assert inputs(1) == inputs(1)
    assert inputs(1) != inputs(2)
