"""`mnctl netcheck`: every interface as a way to the home agent.

Performs I/O.
"""

from __future__ import annotations

import click

from cli.exits import Exit
from cli.netcheck_screen import render_netcheck
from cli.paint import paint_for_stdout
from cli.session import MNCTL, Failure, json_option, print_json, session
from cli.words import items_at, text_at

CHECK_WITHIN = 15.0
"""Seconds: ways that are silent are asked again, a few at a time."""


@click.command(short_help="Which networks are there, and what are they good for?")
@click.argument("interface", required=False)
@json_option
def netcheck(interface: str | None, as_json: bool) -> None:
    """Ask over every interface whether the home agent answers, and say what is known of each.

    It takes about a second, longer where nobody answers, changes nothing, and asks nobody but routers, home
    agents and portals. What nobody has measured is shown as "?".
    """
    result = session().call("netcheck", {}, "mnctl/netcheck/1", timeout=CHECK_WITHIN)
    if interface is not None:
        names = [text_at(one, "interface") for one in items_at(result, "interfaces")]
        if interface not in names:
            message = f"no interface {interface}"
            raise Failure(MNCTL, Exit.NOT_FOUND, message, candidates=tuple(names))
        chosen = [one for one in items_at(result, "interfaces") if text_at(one, "interface") == interface]
        result = {**result, "interfaces": chosen}
    if as_json:
        print_json(result)
    else:
        click.echo(render_netcheck(result, paint_for_stdout()))
