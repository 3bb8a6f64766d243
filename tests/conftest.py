"""Collects which requirements each test shows, and how it ended, for docs/conformance.md."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

RESULTS = Path("build") / "requirements.json"


class Evidence:
    """Requirement id -> test -> outcome of the last phase that decided it."""

    def __init__(self) -> None:
        self.outcomes: dict[str, dict[str, str]] = {}

    def note(self, requirement: str, test: str, outcome: str) -> None:
        # One test function with several parameters passes only if all of them do.
        tests, name = self.outcomes.setdefault(requirement, {}), test.split("[")[0]
        if tests.get(name, "passed") == "passed":
            tests[name] = outcome

    def write(self, beside: bool) -> None:
        """Replace what was written before; or, `beside` it, only what was written of the same tests."""
        shown = json.loads(RESULTS.read_text(encoding="utf-8")) if beside and RESULTS.exists() else {}
        for requirement, tests in self.outcomes.items():
            shown.setdefault(requirement, {}).update(tests)
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps(shown, indent=1, sort_keys=True) + "\n", encoding="utf-8")


EVIDENCE = pytest.StashKey[Evidence]()
REQUIREMENT = "requirement"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--add-evidence", action="store_true", help="keep what an earlier run of other tests has shown"
    )


def pytest_configure(config: pytest.Config) -> None:
    config.stash[EVIDENCE] = Evidence()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    requirements = Path(__file__).parent / "data/requirements.json"
    known = {entry["id"] for entry in json.loads(requirements.read_text(encoding="utf-8"))}
    for item in items:
        ids = {str(i) for mark in item.iter_markers("requirement") for i in mark.args}
        if unknown := sorted(ids - known):
            raise pytest.UsageError(f"{item.nodeid} claims to show unknown requirements: {unknown}")
        # Properties travel with the reports, also out of the processes that share the tests among them.
        item.user_properties += [(REQUIREMENT, name) for name in sorted(ids)]


def pytest_sessionstart(session: pytest.Session) -> None:
    session.config.pluginmanager.register(Reports(session.config.stash[EVIDENCE]))


class Reports:
    """Hears how each test ended, in whichever process it ran."""

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" or not report.passed:
            for kind, name in report.user_properties:
                if kind == REQUIREMENT:
                    self._evidence.note(str(name), report.nodeid, report.outcome)


def pytest_sessionfinish(session: pytest.Session) -> None:
    if not hasattr(session.config, "workerinput"):  # one of several processes knows only what it ran
        session.config.stash[EVIDENCE].write(beside=session.config.getoption("--add-evidence"))
