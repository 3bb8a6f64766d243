"""Plays a scenario: step by step, judged while it happens, with a verdict and evidence at the end.

Performs I/O.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lab.actions import cable_of, perform
from lab.investigation import Investigation
from lab.judge import Window, busiest_second, judge_window
from lab.namespaces import STATE, LabError
from lab.report import report
from lab.running import LOGS, RunningLab, tail
from lab.scenario import Scenario
from lab.screen import Screen
from lab.step import Action, Step
from lab.streams.journal import now_ns
from lab.timeline import timeline
from lab.traffic import Traffic
from lab.verdict import verdict

EVIDENCE = STATE / "evidence"
_BOUND_WITHIN = 60.0
_TALKING_WITHIN = 30.0
_CUTS = (Action.MOVE, Action.PLUG, Action.FLAP, Action.SUSPEND)


def play(lab: RunningLab, scenario: Scenario, name: str, directory: Path | None, as_json: bool) -> int:
    """Play `scenario` in a lab that is built but not started; 0 if the verdict is pass, 1 if not."""
    began = time.monotonic()
    screen = Screen(silent=as_json)
    screen.title(name, scenario)
    screen.doing("starting the networks, the home agent and the mobile node")
    investigation = Investigation.begin(lab, EVIDENCE)
    lab.start_all()
    _wait_until_reachable(lab)
    traffic = Traffic.start(lab, scenario.stream, EVIDENCE / "streams")
    _wait_until_talking(traffic)
    homes = [str(address) for address in lab.topology.session_addresses]
    screen.ready(time.monotonic() - began, homes, len(traffic.streams()))
    run = _Run(lab, scenario, investigation, traffic, screen)
    for index, step in enumerate(scenario.step, 1):
        run.step(index, step)
    sessions = traffic.finish()
    investigation.end()
    # Judged once more, now that every capture is complete.
    evidence = investigation.evidence(traffic.streams())
    handovers = [one for window in run.windows if (one := judge_window(window, evidence)) is not None]
    busiest = busiest_second(evidence)
    judged = verdict(handovers, sessions, busiest, scenario.expect)
    said = report(name, handovers, sessions, judged)
    said["updates_a_second"] = busiest
    said["machine"] = {"processors": os.cpu_count(), "load": round(os.getloadavg()[0], 2)}
    picture = timeline(name, handovers, run.windows, evidence)
    screen.summary(handovers, sessions, judged)
    if not judged.passed:
        screen.busy(os.getloadavg()[0], os.cpu_count() or 1)
    if directory is not None:
        screen.written(directory, publish(directory, said, picture))
    if as_json:
        print(json.dumps(said))
    return 0 if judged.passed else 1


@dataclass(slots=True)
class _Run:
    """The steps that have been taken, and what they showed."""

    lab: RunningLab
    scenario: Scenario
    investigation: Investigation
    traffic: Traffic
    screen: Screen
    windows: list[Window] = field(default_factory=list)

    def step(self, index: int, step: Step) -> None:
        """Take one step, watch what it does, and tell."""
        self.screen.doing(step.text)
        before, cable = self._plugged(), cable_of(self.lab, step)
        started = perform(self.lab, step, self.scenario.dark_ms)
        time.sleep(self.scenario.watch_s if step.watch_s is None else step.watch_s)
        window = Window(
            index,
            step.text,
            started,
            now_ns(),
            cut=step.unplug or (cable if step.action in _CUTS else None),
            before=before,
            after=self._plugged(),
        )
        self.windows.append(window)
        handover = judge_window(window, self.investigation.evidence(self.traffic.streams()))
        if handover is None:
            self.screen.other(index, step)
        else:
            self.screen.handover(handover, self.scenario.expect.outage_ms)

    def _plugged(self) -> dict[str, str]:
        node = self.lab.topology.roles.mobile_node
        return {i: network for (host, i), network in self.lab.cables.items() if host == node and network}


def publish(directory: Path, said: dict[str, object], picture: str) -> Sequence[str]:
    """Write report, picture, captures and journals; whatever an earlier run left there is replaced."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        shutil.copytree(EVIDENCE, directory, dirs_exist_ok=True)
        shutil.copytree(LOGS, directory / "log", dirs_exist_ok=True)
        (directory / "report.json").write_text(json.dumps(said, indent=1) + "\n")
        (directory / "timeline.svg").write_text(picture)
    except OSError as error:
        raise LabError(f"the report cannot be written: {error}") from None
    captures = sorted(path.name for path in EVIDENCE.glob("*.pcap"))
    return ["report.json", "timeline.svg", *captures, "streams/", "log/"]


def _wait_until_reachable(lab: RunningLab) -> None:
    """Until the correspondent reaches every home address: asked with ping, not of the agent."""
    correspondent = lab.machines[lab.topology.roles.correspondent]
    deadline = time.monotonic() + _BOUND_WITHIN
    for address in dict.fromkeys((*lab.topology.roles.home_addresses, *lab.topology.session_addresses)):
        while True:
            try:
                correspondent.run(["ping", "-n", "-q", "-c", "1", "-W", "0.3", str(address)])
                break
            except LabError:
                if time.monotonic() > deadline:
                    raise LabError(_why_unreachable(lab, str(address))) from None


def _why_unreachable(lab: RunningLab, address: str) -> str:
    roles = lab.topology.roles
    lines = [f"{address} does not answer within {_BOUND_WITHIN:.0f} s; the last words of the daemons:"]
    for host in (roles.mobile_node, roles.home_agent):
        for path in sorted(LOGS.glob(f"{host}.*agent.log")):
            lines += [f"{path.name}:", tail(path)]
    return "\n".join(lines)


def _wait_until_talking(traffic: Traffic) -> None:
    deadline = time.monotonic() + _TALKING_WITHIN
    while silent := [name for name, stream in traffic.streams().items() if not stream.received]:
        if time.monotonic() > deadline:
            raise LabError(f"nothing arrives from {', '.join(silent)}")
        time.sleep(0.05)
