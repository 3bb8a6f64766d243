"""`mnctl roam` and `mnctl refresh`: make the mobile node do something now.

Performs I/O.
"""

from __future__ import annotations

from pathlib import Path

import click
from click.shell_completion import CompletionItem

from cli.exits import Exit
from cli.paint import paint_for_stdout
from cli.roam_screen import exit_of, render_roam
from cli.session import MNCTL, Failure, json_option, print_json, session
from cli.words import milliseconds, number_at, text_at

_ROAM_WITHIN = 90.0
"""Seconds: a home agent that does not answer is asked again at 1.5, 3, 6, 12 s and so on."""
_REFRESH_WITHIN = 60.0


def _interfaces(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    try:
        names = sorted(path.name for path in Path("/sys/class/net").iterdir())
    except OSError:
        names = []
    return [CompletionItem(name) for name in names if name.startswith(incomplete) and name != "lo"]


@click.command(short_help="Move to another link or family, now.")
@click.option("--to", metavar="PLACE", shell_complete=_interfaces, help="An interface, or a care-of address.")
@click.option("--family", type=click.Choice(["4", "6"]), help="Use only care-of addresses of this family.")
@click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")
@click.option("--explain", is_flag=True, help="Show as well what there was to choose from, and what decided.")
@json_option
def roam(to: str | None, family: str | None, dry_run: bool, explain: bool, as_json: bool) -> None:
    """Move to another link or family, or, without options, to the best there is.

    The former path stays in use until the home agent has accepted the new one. Exit code 5: it did not.
    """
    params = {"to": to, "family": int(family) if family else None, "dry_run": dry_run or None}
    result = session().call("roam", params, "mnctl/roam/1", timeout=_ROAM_WITHIN)
    if as_json:
        print_json(result)
    else:
        click.echo(render_roam(result, paint_for_stdout(), explain))
    click.get_current_context().exit(int(exit_of(result)))


@click.command(short_help="Register again where we are, now.")
@json_option
def refresh(as_json: bool) -> None:
    """Register the present care-of address again, now."""
    result = session().call("refresh", {}, "mnctl/refresh/1", timeout=_REFRESH_WITHIN)
    failed = result.get("result") != "ok"
    if as_json:
        print_json(result)
        click.get_current_context().exit(int(Exit.ERROR if failed else Exit.OK))
    if failed:
        raise Failure(MNCTL, Exit.ERROR, text_at(result, "message") or "the binding was not refreshed")
    rtt, lifetime = number_at(result, "rtt_ms"), number_at(result, "lifetime_s")
    words = [f"seq {sequence}" for sequence in [text_at(result, "sequence")] if sequence]
    words += [f"answered in {milliseconds(rtt)}"] if rtt is not None else []
    words += [f"lifetime {lifetime:.0f} s"] if lifetime is not None else []
    click.echo(f"{paint_for_stdout().good('✔')} refreshed{': ' if words else ''}{', '.join(words)}")
