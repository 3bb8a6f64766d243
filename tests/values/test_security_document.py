"""docs/security.md and the code name each other truly: tests, anchors, and threats."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TESTS = ROOT / "tests"
TEXT = (ROOT / "docs" / "security.md").read_text()
MENTION = re.compile(r"(xfail: )?`([\w/]+\.py)::(\w+)`")
THREATS = frozenset(re.findall(r"^### ([a-z-]+)$", TEXT, re.MULTILINE))
PACKAGES = ("wire", "tunnel", "movement", "runtime", "mn_agent", "home_agent", "cli", "lab", "tests")
REFERENCE = re.compile(r"docs/security\.md: ([a-z-]+(?:,\s+[a-z-]+)*)")


@cache
def source(file: str) -> str:
    return (TESTS / file).read_text()


def test_every_test_that_is_named_exists() -> None:
    missing = [
        f"{file}::{test}"
        for _, file, test in MENTION.findall(TEXT)
        if not re.search(rf"^def {test}\(", source(file), re.MULTILINE)
    ]
    assert missing == []


def test_every_mention_of_a_test_is_read() -> None:
    assert len(MENTION.findall(TEXT)) == TEXT.count("::test_")


def test_what_is_expected_to_fail_is_not_shown_as_a_defence() -> None:
    for marked, file, test in MENTION.findall(TEXT):
        decorators = source(file).partition(f"\ndef {test}(")[0].rpartition("\n\n\n")[2]
        assert ("mark.xfail" in decorators) is bool(marked), test


def test_every_threat_says_what_shows_its_defence_or_that_there_is_none() -> None:
    for section in re.split(r"^### ", TEXT, flags=re.MULTILINE)[1:]:
        threat = re.split(r"^## ", section, flags=re.MULTILINE)[0]
        assert "::test_" in threat or "**Not defended**" in threat, threat.splitlines()[0]


def test_links_within_the_document_lead_somewhere() -> None:
    titles = re.findall(r"^#+ (.+)$", TEXT, re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}
    assert set(re.findall(r"\]\(#([\w-]+)\)", TEXT)) <= anchors


def references() -> Iterator[tuple[str, str]]:
    """(file, threat) of everything that refers to one by its name."""
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            for names in REFERENCE.findall(path.read_text()):
                for name in re.split(r",\s+", names):
                    yield str(path.relative_to(ROOT)), name


def test_threats_that_modules_name_are_in_the_document() -> None:
    named = list(references())
    assert len(named) > 20
    assert [(file, name) for file, name in named if name not in THREATS] == []
