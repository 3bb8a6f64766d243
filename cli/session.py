"""One run of mnctl or hactl: which daemon it asks, and how it ends when that does not work out.

Performs I/O.
"""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NoReturn

import click

from cli.exits import EXIT_OF, Exit
from cli.words import clean
from runtime.client import ANSWER_WITHIN, ControlClient, ControlError, ErrorKind


@dataclass(frozen=True, slots=True)
class Tool:
    """A command line and its daemon."""

    name: str
    daemon: str
    socket: str
    variable: str


MNCTL = Tool("mnctl", "mn-agent", "/run/mn-agent/control.sock", "MNCTL_SOCKET")
HACTL = Tool("hactl", "home-agent", "/run/home-agent/control.sock", "HACTL_SOCKET")


class Failure(click.ClickException):
    """An end that says what happened, where, and what to do; with --json also as an object."""

    def __init__(
        self,
        tool: Tool,
        code: Exit,
        message: str,
        fix: str = "",
        candidates: tuple[str, ...] = (),
        kind: str = "",
    ) -> None:
        super().__init__(message)
        self.exit_code = int(code)  # type: ignore[misc]  # click reads it from the instance as well
        self._tool = tool
        self._fix = fix
        self._candidates = candidates
        self._kind = kind or code.name.lower().replace("_", "-")
        self._as_json = wants_json()

    def show(self, file: Any = None) -> None:
        message = clean(self.message.rstrip(".")) + "."
        if self._candidates:
            message += f" Candidates: {', '.join(clean(one) for one in self._candidates)}."
        click.echo(f"{self._tool.name}: {message}", err=True)
        if self._fix:
            indent = " " * (len(self._tool.name) + 2)
            click.echo("\n".join(indent + clean(line) for line in self._fix.splitlines()), err=True)
        if self._as_json:
            print_json(
                {
                    "schema": f"{self._tool.name}/error/1",
                    "kind": self._kind,
                    "message": self.message,
                    "fix": self._fix or None,
                    "candidates": list(self._candidates),
                    "exit_code": self.exit_code,
                }
            )


class Session:
    """The connection of this run to its daemon."""

    def __init__(self, tool: Tool, socket: str | None) -> None:
        self.tool = tool
        self.socket = socket or os.environ.get(tool.variable) or tool.socket

    def call(
        self, method: str, params: dict[str, Any], schema: str, *, timeout: float = ANSWER_WITHIN
    ) -> dict[str, Any]:
        """Ask the daemon, leaving out parameters that are None; ends the run without a result of `schema`."""
        given = {name: value for name, value in params.items() if value is not None}
        try:
            with self.client() as client:
                result = client.call(method, given, timeout=timeout)
        except ControlError as error:
            self.end(error)
        if result.get("schema") != schema:
            self._skew(str(result.get("schema")), schema)
        return result

    def events(self, history: int) -> Iterator[dict[str, Any]]:
        """Events as they come; ends the run when the daemon does."""
        try:
            with self.client() as client:
                yield from client.events(history)
        except ControlError as error:
            self.end(error)

    def client(self) -> ControlClient:
        return ControlClient(self.socket, daemon=self.tool.daemon)

    def end(self, error: ControlError) -> NoReturn:
        fix = error.fix
        if error.kind is ErrorKind.NOT_RUNNING and fix.startswith("sudo systemctl start"):
            fix = f"start it:  {fix}      why it stopped:  journalctl -u {self.tool.daemon} -n 20"
        elif error.kind is ErrorKind.PERMISSION and fix == "run it with sudo":
            fix = f"sudo {self.tool.name} {shlex.join(sys.argv[1:])}"
        code = EXIT_OF[error.kind]
        raise Failure(self.tool, code, error.message, fix, error.candidates, error.kind.value) from None

    def _skew(self, got: str, wanted: str) -> NoReturn:
        message = f"{self.tool.daemon} answers {got[:60]!r}, and this {self.tool.name} understands {wanted!r}"
        fix = f"upgrade both to one version, then:  sudo systemctl restart {self.tool.daemon}"
        raise Failure(self.tool, Exit.ERROR, message, fix, kind=ErrorKind.VERSION_SKEW.value)


def wants_json() -> bool:
    """Whether the command that runs was given --json."""
    context = click.get_current_context(silent=True)
    return bool(context and context.params.get("as_json"))


def print_json(value: object) -> None:
    """One JSON object on one line."""
    click.echo(json.dumps(value, ensure_ascii=True))


def session() -> Session:
    """The session that the group made."""
    found = click.get_current_context().find_object(Session)
    assert found is not None
    return found


def expect_any_output() -> None:
    """Signs that a terminal's encoding lacks become question marks instead of a crash."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")


json_option = click.option("--json", "as_json", is_flag=True, help="One JSON object, never coloured.")
