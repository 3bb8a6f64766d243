"""Collects which requirements each test shows, and how it ended, for docs/conformance.md."""

from __future__ import annotations

import json
from collections.abc import Generator
from pathlib import Path

import pytest

RESULTS = Path("build") / "requirements.json"


class Evidence:
    """Requirement id -> test -> outcome of the last phase that decided it."""

    def __init__(self) -> None:
        self.marks: dict[str, tuple[str, ...]] = {}
        self.outcomes: dict[str, str] = {}

    def note(self, item: pytest.Item) -> None:
        ids = tuple(str(i) for mark in item.iter_markers("requirement") for i in mark.args)
        if ids:
            self.marks[item.nodeid] = ids

    def write(self) -> None:
        shown: dict[str, dict[str, str]] = {}
        for test, ids in self.marks.items():
            name = test.split("[")[0]
            outcome = self.outcomes.get(test, "not run")
            for requirement in ids:
                tests = shown.setdefault(requirement, {})
                # One test function with several parameters passes only if all of them do.
                if tests.get(name, "passed") == "passed":
                    tests[name] = outcome
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps(shown, indent=1, sort_keys=True) + "\n", encoding="utf-8")


EVIDENCE = pytest.StashKey[Evidence]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[EVIDENCE] = Evidence()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    requirements = Path(__file__).parent / "data/requirements.json"
    known = {entry["id"] for entry in json.loads(requirements.read_text(encoding="utf-8"))}
    for item in items:
        config.stash[EVIDENCE].note(item)
        unknown = set(config.stash[EVIDENCE].marks.get(item.nodeid, ())) - known
        if unknown:
            raise pytest.UsageError(f"{item.nodeid} claims to show unknown requirements: {sorted(unknown)}")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    outcomes = item.config.stash[EVIDENCE].outcomes
    if report.when == "call" or not report.passed:
        outcomes[item.nodeid] = report.outcome
    return report


def pytest_sessionfinish(session: pytest.Session) -> None:
    session.config.stash[EVIDENCE].write()
