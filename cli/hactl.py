"""hactl: look at the home agent of this machine, and take a binding away.

Performs I/O.
"""

from __future__ import annotations

from typing import Any

import click

from cli.home_agent_screen import exit_of, render_bindings, render_leases, render_node, render_status
from cli.lazy import LazyGroup
from cli.paint import paint_for_stdout
from cli.session import HACTL, Session, expect_any_output, json_option, print_json, session
from cli.words import text_at

COMMANDS = {
    "status": "cli.hactl:status",
    "bindings": "cli.hactl:bindings",
    "leases": "cli.hactl:leases",
    "show": "cli.hactl:show",
    "drop": "cli.hactl:drop",
    "events": "cli.watch_commands:events",
    "flight": "cli.watch_commands:flight",
    "config": "cli.setup_commands:hactl_config",
    "keygen": "cli.setup_commands:keygen",
    "schema": "cli.setup_commands:hactl_schema",
    "completion": "cli.setup_commands:completion",
}


@click.group(cls=LazyGroup, commands_at=COMMANDS, invoke_without_command=True)
@click.option("--socket", metavar="PATH", help="The control socket of home-agent (also HACTL_SOCKET).")
@click.version_option(package_name="mn-agent", prog_name="hactl")
@click.pass_context
def hactl(context: click.Context, socket: str | None) -> None:
    """Look at the home agent of this machine, and take a binding away. Without a command: status.

    Exit codes: 0 ok, 1 error, 2 usage, 3 timeout, 4 not well, 6 permission, 7 configuration invalid,
    8 daemon not running, 10 not found.
    """
    context.obj = Session(HACTL, socket)
    if context.invoked_subcommand is None:
        context.invoke(status)


@click.command(short_help="How the home agent is.")
@json_option
def status(as_json: bool) -> None:
    """Say how the home agent is and what it has done. The exit code is 4 when it is not well."""
    result = session().call("status", {}, "hactl/status/1")
    if as_json:
        print_json(result)
    else:
        click.echo(render_status(result, paint_for_stdout()))
    click.get_current_context().exit(int(exit_of(result)))


@click.command(short_help="Who is where, and until when.")
@json_option
def bindings(as_json: bool) -> None:
    """List the binding cache: who is where, how they are reached, and until when."""
    result, rows = _all("bindings")
    if as_json:
        print_json({**result, "bindings": rows})
    else:
        click.echo(render_bindings(rows))


@click.command(short_help="Who has which IPv4 address.")
@json_option
def leases(as_json: bool) -> None:
    """List IPv4 home addresses and who has them."""
    result, rows = _all("leases")
    if as_json:
        print_json({**result, "leases": rows})
    else:
        click.echo(render_leases(result, rows))


@click.command(short_help="Everything about one mobile node.")
@click.argument("node")
@json_option
def show(node: str, as_json: bool) -> None:
    """Show one mobile node, by its name or a home address."""
    result = session().call("show", {"node": node}, "hactl/show/1")
    if as_json:
        print_json(result)
    else:
        click.echo(render_node(result, paint_for_stdout()))


@click.command(short_help="Remove a binding.")
@click.argument("node")
@json_option
def drop(node: str, as_json: bool) -> None:
    """Remove the binding of a mobile node, by its name or a home address; it may register again."""
    result = session().call("drop", {"home_address": node}, "hactl/drop/1")
    if as_json:
        print_json(result)
    else:
        click.echo(text_at(result, "message") or f"dropped the binding of {text_at(result, 'home_address')}")


def _all(what: str) -> tuple[dict[str, Any], list[Any]]:
    """Every part of a list that comes in parts: the last result, and all rows."""
    rows: list[Any] = []
    after: str | None = None
    while True:
        result = session().call(what, {"after": after}, f"hactl/{what}/1")
        rows += result.get(what) or []
        following = result.get("next")
        if following is None or following == after:
            return result, rows
        after = str(following)


def main() -> None:
    expect_any_output()
    hactl(prog_name="hactl")
