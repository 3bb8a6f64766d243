"""mnctl: look at the mobile node of this machine, and move it.

Performs I/O. Only what `status` needs is imported here; every other command is imported when it runs.
"""

from __future__ import annotations

import click

from cli.lazy import LazyGroup
from cli.paint import paint_for_stdout
from cli.session import MNCTL, Session, expect_any_output, json_option, print_json, session
from cli.status_screen import exit_of, render_status

COMMANDS = {
    "status": "cli.mnctl:status",
    "why": "cli.why_command:why",
    "netcheck": "cli.netcheck_command:netcheck",
    "roam": "cli.roam_command:roam",
    "refresh": "cli.roam_command:refresh",
    "events": "cli.watch_commands:events",
    "wait": "cli.watch_commands:wait",
    "flight": "cli.watch_commands:flight",
    "config": "cli.setup_commands:mnctl_config",
    "keygen": "cli.setup_commands:keygen",
    "schema": "cli.setup_commands:mnctl_schema",
    "completion": "cli.setup_commands:completion",
    "lab": "cli.lab_commands:lab",
}


@click.group(cls=LazyGroup, commands_at=COMMANDS, invoke_without_command=True)
@click.option("--socket", metavar="PATH", help="The control socket of mn-agent (also MNCTL_SOCKET).")
@click.version_option(package_name="mn-agent", prog_name="mnctl")
@click.pass_context
def mnctl(context: click.Context, socket: str | None) -> None:
    """Look at the mobile node of this machine, and move it. Without a command: status.

    Exit codes: 0 ok, 1 error, 2 usage, 3 timeout, 4 not bound, 5 handover failed, 6 permission,
    7 configuration invalid, 8 daemon not running, 10 not found.
    """
    context.obj = Session(MNCTL, socket)
    if context.invoked_subcommand is None:
        context.invoke(status)


@click.command(short_help="Are the home addresses reachable, and how?")
@json_option
@click.option("-g", "--get", "field", metavar="FIELD", help="Print one field, such as path.care_of.")
def status(as_json: bool, field: str | None) -> None:
    """Say whether the home addresses are reachable, how, and since when.

    The exit code is 0 when they are and 4 when they are not.
    """
    result = session().call("status", {}, "mnctl/status/1")
    if field is not None:
        from cli.fields import field_of

        click.echo(field_of(MNCTL, result, field))
    elif as_json:
        print_json(result)
    else:
        click.echo(render_status(result, paint_for_stdout()))
    click.get_current_context().exit(int(exit_of(result)))


def main() -> None:
    expect_any_output()
    mnctl(prog_name="mnctl")
