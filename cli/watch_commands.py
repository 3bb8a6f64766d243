"""`events`, `wait` and `flight`: what happens, what is waited for, and what happened.

Performs I/O.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

import click

from cli.exits import Exit
from cli.session import MNCTL, Failure, json_option, print_json, session
from cli.words import clean, items_at, text_at
from runtime.client import ControlError, ErrorKind

_LOOK_AGAIN = 1.0
"""Seconds between looks at the status when no event says that it changed."""
_TRY_AGAIN = 0.2
"""Seconds between tries to reach a daemon that does not run yet."""
_NOT_YET = (ErrorKind.NOT_RUNNING, ErrorKind.TIMEOUT, ErrorKind.BUSY)

_GOALS: Mapping[str, Callable[[Mapping[str, Any]], bool]] = {
    "bound": lambda status: status.get("state") in ("bound", "home"),
    "away": lambda status: status.get("state") == "bound" and not status.get("at_home"),
    "home": lambda status: status.get("state") == "home" or bool(status.get("at_home")),
}


@click.command(short_help="Tell events as they happen.")
@click.option("--history", type=click.IntRange(0, 256), default=0, metavar="N", help="First, the last N.")
@json_option
def events(history: int, as_json: bool) -> None:
    """Tell events as they happen, until interrupted. With --json: one object a line."""
    try:
        for event in session().events(history):
            if as_json:
                print_json(event)
            else:
                click.echo(event_line(event))
    except KeyboardInterrupt:
        return


def event_line(event: Mapping[str, Any]) -> str:
    """An event as one line: time of day, name, fields."""
    try:
        moment = datetime.fromisoformat(str(event.get("t", ""))).astimezone()
        when = moment.strftime("%H:%M:%S.") + f"{moment.microsecond // 1000:03d}"
    except ValueError:
        when = "--:--:--.---"
    fields = [
        f"{clean(str(name))}={clean(value) if isinstance(value, str) else json.dumps(value)}"
        for name, value in event.items()
        if name not in ("schema", "t", "event") and value is not None
    ]
    return f"{when} {text_at(event, 'event'):<11} {' '.join(fields)}".rstrip()


@click.command(short_help="Wait until bound, away or at home.")
@click.option("--for", "goal", type=click.Choice(list(_GOALS)), default="bound", show_default=True)
@click.option("--timeout", type=click.FloatRange(min=0), metavar="SECONDS", help="Give up then, with code 3.")
@json_option
def wait(goal: str, timeout: float | None, as_json: bool) -> None:
    """Wait until the home addresses are reachable (bound), through a tunnel (away), or at home (home).

    A daemon that does not run yet is waited for as well.
    """
    until = None if timeout is None else time.monotonic() + timeout
    reached = _wait(_GOALS[goal], until)
    if reached is None:
        raise Failure(MNCTL, Exit.TIMEOUT, f"not {goal} within {timeout or 0:g} s", "mnctl status")
    if as_json:
        print_json(reached)


def _wait(goal: Callable[[Mapping[str, Any]], bool], until: float | None) -> dict[str, Any] | None:
    """The first status that satisfies `goal`; None when the time is up."""
    here = session()
    while True:
        try:
            with here.client() as watching, here.client() as asking:
                watching.subscribe()
                while True:
                    status = asking.call("status")
                    if goal(status):
                        return status
                    if _left(until) <= 0:
                        return None
                    watching.next_event(within=_left(until))
        except ControlError as error:
            if error.kind not in _NOT_YET:
                here.end(error)
        if _left(until) <= 0:
            return None
        time.sleep(min(_TRY_AGAIN, _left(until)))


def _left(until: float | None) -> float:
    return _LOOK_AGAIN if until is None else min(_LOOK_AGAIN, until - time.monotonic())


@click.command(short_help="Show the daemon's last 256 decisions.")
@json_option
def flight(as_json: bool) -> None:
    """Show what the daemon was told lately and what it decided (the flight recorder). For root."""
    result = session().call("flight", {}, "control/flight/1")
    if as_json:
        print_json(result)
        return
    now = result.get("now") or 0.0
    for record in items_at(result, "records"):
        ago = (record.get("now") or 0.0) - now
        actions = ", ".join(_brief(action) for action in items_at(record, "actions")) or "nothing"
        fault = f"  FAULT {text_at(record, 'fault')}" if record.get("fault") else ""
        click.echo(f"{ago:10.3f} s  {_brief(record.get('event'))}  →  {actions}{fault}")


def _brief(value: object) -> str:
    """A value of the recorder in one or two words and its short fields."""
    if not isinstance(value, Mapping):
        return clean(str(value))[:60]
    simple = [
        f"{clean(str(name))}={clean(str(one))}"
        for name, one in value.items()
        if name != "is" and isinstance(one, str | int | float) and len(str(one)) <= 40
    ]
    return f"{text_at(value, 'is')}({', '.join(simple[:4])})"
