"""Writes into documents what result files say: tables between markers, and pictures beside the results.

Performs I/O. A block is everything between `<!-- begin NAME -->` and `<!-- end NAME -->`; what is around is
written by people and stays.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from benchmarks import goals, plots, tables

RESULTS = Path(__file__).parent / "results"
DOCUMENTS = Path(__file__).parent.parent / "docs"
PERFORMANCE = DOCUMENTS / "performance.md"

Write = Callable[[tables.Document], str]


def _judged(judge: Callable[[tables.Document], Sequence[goals.Goal]]) -> Write:
    return lambda document: goals.table(judge(document))


TABLES: Mapping[str, Mapping[str, Write]] = {
    "data_plane": {
        "data-plane-goals": _judged(goals.of_data_plane),
        "data-plane": tables.data_plane,
        "profiles": tables.profiles,
    },
    "costs": {"costs": tables.costs},
    "path_swap": {"path-swap-goals": _judged(goals.of_path_swap), "path-swap": tables.path_swap},
    "home_agent": {"home-agent-goals": _judged(goals.of_home_agent), "home-agent": tables.home_agent},
    "idle": {"idle-goals": _judged(goals.of_idle), "idle": tables.idle},
    "handover": {
        "handover-goals": _judged(goals.of_handover),
        "handover": tables.handover,
        "signalling": tables.signalling,
    },
}
"""Result file -> block of docs/performance.md -> how it is made."""
SCHEMAS: Mapping[str, str] = {
    "data_plane": "mn-bench/data-plane/2",
    "costs": "mn-bench/costs/1",
    "path_swap": "mn-bench/path-swap/1",
    "home_agent": "mn-bench/home-agent/1",
    "idle": "mn-bench/idle/1",
    "handover": "mn-bench/handover/1",
}
"""What a result has to say that it is; it may be older than these tables."""
PICTURES = {"data_plane": plots.data_plane, "handover": plots.handover}


def fill(text: str, name: str, block: str) -> str:
    """`text` with the block `name` replaced. ValueError if there is not exactly one."""
    begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
    pattern = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
    filled, count = pattern.subn(lambda _: f"{begin}\n{block.strip()}\n{end}", text)
    if count != 1:
        raise ValueError(f"{count} blocks are called {name}, there should be one")
    return filled


def write_report(name: str) -> list[Path]:
    """Bring tables and picture of one result up to date; what was written. ValueError for an old result."""
    document = json.loads((RESULTS / f"{name}.json").read_text())
    if document["schema"] != SCHEMAS[name]:
        raise ValueError(f"{name}.json is {document['schema']}, not {SCHEMAS[name]}: measure again")
    text = PERFORMANCE.read_text()
    for block, table in TABLES[name].items():
        text = fill(text, block, table(document))
    PERFORMANCE.write_text(text)
    written = [PERFORMANCE]
    if name in PICTURES:
        picture = RESULTS / f"{name}.svg"
        picture.write_text(PICTURES[name](document))
        written.append(picture)
    return written
