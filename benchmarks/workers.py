"""Processes of ours in the chain's namespaces that are asked by lines of JSON and answer with lines of JSON.

Performs I/O.
"""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.chain import Chain

_ROOT = Path(__file__).parent.parent


@dataclass(frozen=True, slots=True)
class Worker:
    """One such process. It is asked one thing at a time."""

    process: subprocess.Popen[str]
    name: str

    @classmethod
    def start(cls, chain: Chain, stack: ExitStack, node: str, module: str, *arguments: str) -> Worker:
        """Started, and ready: its first line has come. `stack` ends it."""
        process = subprocess.Popen(
            chain.command(node, sys.executable, "-m", module, *arguments),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=_ROOT,
        )  # fmt: skip
        stack.callback(process.wait)
        stack.callback(process.kill)
        worker = cls(process, f"{module} on {node}")
        worker.answer()
        return worker

    def ask(self, do: str, **wish: object) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"do": do, **wish}) + "\n")
        self.process.stdin.flush()

    def answer(self) -> dict[str, Any]:
        """The next line. RuntimeError if it has ended instead."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.name} has ended (exit status {self.process.wait()})")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def call(self, do: str, **wish: object) -> dict[str, Any]:
        self.ask(do, **wish)
        return self.answer()
