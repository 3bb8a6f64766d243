"""The traffic of a scenario: starts the stream programs on both ends and reads what they wrote.

Performs I/O.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lab.flows import Conversation, End, Program, conversations
from lab.judge import Stream
from lab.running import LOGS, RunningLab
from lab.scenario import Stream as StreamDeclaration
from lab.streams.journal import RECORD, now_ns
from lab.verdict import Session

_END_WITHIN = 20.0
_ALIVE_WITHIN = 2.0
"""Seconds: a stream that delivers nothing more in this time did not survive."""


@dataclass(frozen=True, slots=True)
class Traffic:
    """All streams of one scenario, running."""

    conversations: tuple[Conversation, ...]
    programs: Sequence[tuple[Program, subprocess.Popen[bytes]]]

    @staticmethod
    def start(lab: RunningLab, declared: Sequence[StreamDeclaration], directory: Path) -> Traffic:
        """Start every declared stream in each of its families."""
        directory.mkdir(parents=True, exist_ok=True)
        homes, there = lab.topology.session_addresses, lab.topology.correspondent.addresses
        planned = tuple(conversations(declared, homes, there, directory))
        programs = [program for conversation in planned for program in conversation.programs]
        return Traffic(planned, [(program, _spawn(lab, program)) for program in programs])

    def streams(self) -> Mapping[str, Stream]:
        """What the journals say by now."""
        return {
            flow.name: Stream(
                int(flow.interval_ms * 1e6),
                [(at, sequence) for at, _, sequence in _read(flow.received)],
                None if flow.sent is None else [(at, sequence) for at, _, sequence in _read(flow.sent)],
            )
            for conversation in self.conversations
            for flow in conversation.flows
        }

    def finish(self) -> list[Session]:
        """End all streams in good order and say how each session went."""
        alive = _alive(self.conversations)
        concluding = [process for program, process in self.programs if program.concludes]
        for process in concluding:
            process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + _END_WITHIN
        for process in concluding:
            _wait(process, deadline)
        for _, process in self.programs:
            process.send_signal(signal.SIGTERM)
        for _, process in self.programs:
            _wait(process, time.monotonic() + 1.0)
        return [_session(conversation, alive[conversation.name]) for conversation in self.conversations]


def _spawn(lab: RunningLab, program: Program) -> subprocess.Popen[bytes]:
    here = program.end is End.MOBILE_NODE
    machine = lab.topology.session_host if here else lab.topology.roles.correspondent
    # Without site-packages (-S), which a stream has no use for, it starts three times as fast.
    command = [sys.executable, "-S", "-m", f"lab.streams.{program.module}", *program.words]
    return lab.machines[machine].spawn(command, LOGS / f"{machine}.streams.log")


def _read(path: Path) -> list[tuple[int, int, int]]:
    try:
        octets = path.read_bytes()
    except FileNotFoundError:
        return []
    whole = len(octets) - len(octets) % RECORD.size
    return [(at, sent, sequence) for at, sent, sequence in RECORD.iter_unpack(octets[:whole])]


def _alive(conversations: Sequence[Conversation]) -> Mapping[str, bool]:
    """By name, whether each flow of a conversation goes on delivering."""
    now, deadline = now_ns(), time.monotonic() + _ALIVE_WITHIN
    while True:
        alive = {one.name: all(_delivers(flow.received, now) for flow in one.flows) for one in conversations}
        if all(alive.values()) or time.monotonic() > deadline:
            return alive
        time.sleep(0.05)


def _delivers(journal: Path, since_ns: int) -> bool:
    records = _read(journal)
    return bool(records) and records[-1][0] > since_ns


def _session(conversation: Conversation, alive: bool) -> Session:
    if not conversation.results:
        delivered = sum(len(_read(flow.received)) for flow in conversation.flows)
        return Session(conversation.name, alive, delivered * conversation.octets_each, None)
    said = [json.loads(path.read_text()) for path in conversation.results if path.exists()]
    complete = len(said) == len(conversation.results) and all(one["error"] is None for one in said)
    octets = sum(one["received"] for one in said)
    return Session(conversation.name, alive and complete, octets, complete and all(o["whole"] for o in said))


def _wait(process: subprocess.Popen[bytes], deadline: float) -> None:
    try:
        process.wait(max(0.0, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
