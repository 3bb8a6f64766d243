"""What a person sees of a run: a line per move while it happens, then a table and the verdict.

Performs I/O.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from rich import box
from rich.console import Console
from rich.control import Control
from rich.markup import escape
from rich.segment import ControlType
from rich.table import Table
from rich.text import Text

from lab.judge import Handover
from lab.report import between_ms, beyond_round_trip_ms, since_start_ms
from lab.scenario import Scenario
from lab.step import Step
from lab.verdict import Session, Verdict

_WIDTHS = (8, 12, 7, 7, 10)
"""Columns of the phases in the line of a move."""
_NAMES = {"ipv6": "IPv6", "ipv4": "IPv4", "home": "home", "none": "–"}


class Screen:
    """Talks to standard output, or to nobody when a machine reads it."""

    def __init__(self, silent: bool) -> None:
        self._console = Console(quiet=silent, highlight=False)
        self._live = self._console.is_terminal and not silent
        if not self._console.is_terminal and "COLUMNS" not in os.environ:
            self._console.width = 160

    def title(self, name: str, scenario: Scenario) -> None:
        self._console.print(f"[bold]{name}[/]  {scenario.title}")

    def doing(self, what: str) -> None:
        """Something that takes a moment; on a terminal the next line takes its place."""
        if self._live:
            self._console.print(Text(f"   … {what}", style="dim"), end="\r")

    def _line(self, text: Text | str) -> None:
        if self._live:
            self._console.control(Control((ControlType.ERASE_IN_LINE, 2)))
        self._console.print(text, soft_wrap=True)

    def ready(self, seconds: float, homes: Sequence[str], streams: int) -> None:
        answering = " and ".join(homes)
        ready = f"   reachable after {seconds:.1f} s: {answering} answer, {streams} streams run"
        self._line(ready)
        self._line(Text("   ms from cable pulled to new link, then from phase to phase\n", style="dim"))

    def other(self, index: int, step: Step) -> None:
        """A step that is no handover."""
        self._line(f"{index:>3}  {escape(step.text)}")

    def handover(self, handover: Handover, limit_ms: float | None) -> None:
        link = since_start_ms(handover, handover.link_ns)
        worst, outage_ns = handover.worst
        line = Text(f"{handover.window.index:>3}  {handover.origin:>7} → {handover.target:<8}")
        line.append(f"{_how(handover):<28}", style="cyan")
        phases = (
            f"link {_plain(link)}",
            f"address {_plus(handover.link_ns, handover.usable_ns)}",
            f"BU {_plus(handover.usable_ns, handover.update_ns)}",
            f"BA {_plus(handover.update_ns, handover.ack_ns)}",
            f"packet {_plus(handover.ack_ns, handover.first_packet_ns)}",
        )
        line.append("".join(f"{phase:<{width}} " for phase, width in zip(phases, _WIDTHS, strict=True)))
        bad = (limit_ms is not None and outage_ns > limit_ms * 1e6) or not handover.registered
        line.append(f"outage {outage_ns / 1e6:.0f} ms", style="bold red" if bad else "bold green")
        line.append(f" {worst}" if outage_ns else "", style="dim")
        beyond = beyond_round_trip_ms(handover)
        line.append("" if beyond is None else f", {beyond:.0f} beyond a round trip", style="dim")
        line.append(f", lost {_lost(handover)}")
        self._line(line)

    def summary(self, handovers: Sequence[Handover], sessions: Sequence[Session], verdict: Verdict) -> None:
        self._line("")
        if handovers:
            self._console.print(_table(handovers))
        kept = sum(session.survived for session in sessions)
        line = f"{kept} of {len(sessions)} sessions kept"
        summed = [session for session in sessions if session.whole is not None]
        if summed:
            octets = sum(session.octets for session in summed)
            right = sum(session.whole is True for session in summed)
            line += f"; {octets / 1e6:.1f} MB over TCP, {right} of {len(summed)} checksums right"
        self._console.print(line)
        for reason in verdict.reasons:
            self._console.print(Text(f"  ✘ {reason}", style="red"))
        mark = Text("✔ pass", style="bold green") if verdict.passed else Text("✘ fail", style="bold red")
        self._console.print(mark)

    def busy(self, load: float, processors: int) -> None:
        """Why times may be longer than the network made them."""
        if load > processors:
            words = f"load {load:.1f} on {processors} processors"
            self._line(Text(f"  this computer was busy ({words}), and times include that", style="yellow"))

    def written(self, directory: Path, names: Sequence[str]) -> None:
        shown = directory.relative_to(Path.cwd()) if directory.is_relative_to(Path.cwd()) else directory
        self._console.print(f"wrote {shown}/: {', '.join(names)}")


def _table(handovers: Sequence[Handover]) -> Table:
    """One row per move; streams that differ only in their family share a column."""
    table = Table(
        title="ms after the new address can be used; outage of each stream over IPv6 and IPv4",
        title_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
    )
    for heading in ("", "move", "detect", "register", "resume"):
        table.add_column(heading, justify="left" if heading == "move" else "right", no_wrap=True)
    streams = list(dict.fromkeys(stream.rpartition("-")[0] for stream in handovers[0].silences))
    for stream in streams:
        table.add_column(stream.replace("-", " "), justify="right", no_wrap=True)
    table.add_column("lost", justify="right")
    for handover in handovers:
        phases = (
            (handover.usable_ns, handover.update_ns),
            (handover.update_ns, handover.ack_ns),
            (handover.ack_ns, handover.first_packet_ns),
        )
        table.add_row(
            str(handover.window.index),
            f"{handover.origin} → {handover.target}",
            *(_plain(between_ms(*phase)) for phase in phases),
            *(_outages(handover, stream) for stream in streams),
            _lost(handover),
        )
    return table


def _outages(handover: Handover, stream: str) -> str:
    both = [handover.silences.get(f"{stream}-v{version}") for version in (6, 4)]
    return " ".join("  –" if one is None else f"{one.outage_ns / 1e6:>3.0f}" for one in both)


_WRAPPED = {"ip-in-ip": "IP in IP", "udp": "UDP", "esp": "ESP", "esp-udp": "ESP in UDP"}


def _how(handover: Handover) -> str:
    wrapped = _WRAPPED.get(handover.encapsulation, handover.encapsulation)
    nat = " NAT" if handover.nat else ""
    return f"{_NAMES[handover.family_from]} → {_NAMES[handover.family_to]}{nat}, {wrapped}"


def _lost(handover: Handover) -> str:
    """The most packets that one stream lost."""
    return str(max(handover.lost.values(), default=0))


def _plus(begin_ns: int | None, end_ns: int | None) -> str:
    duration = between_ms(begin_ns, end_ns)
    return "–" if duration is None else f"{duration:+.0f}"


def _plain(duration: float | None) -> str:
    return "–" if duration is None else f"{duration:.0f}"
