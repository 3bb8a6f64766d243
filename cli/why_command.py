"""`mnctl why`: what there was to choose from, and what decided.

Performs I/O.
"""

from __future__ import annotations

import click

from cli.paint import paint_for_stdout
from cli.session import json_option, print_json, session
from cli.why_screen import render_why


@click.command(short_help="Why is it where it is?")
@click.option("--last", type=click.IntRange(0, 20), default=3, metavar="N", help="Decisions shown (3).")
@json_option
def why(last: int, as_json: bool) -> None:
    """Say why the mobile node uses the path that it uses: every candidate with its score, and the rule.

    The score is a sum of penalties; the least is the best. Below stand the last decisions.
    """
    result = session().call("why", {}, "mnctl/why/1")
    if as_json:
        print_json(result)
    else:
        click.echo(render_why(result, last, paint_for_stdout()))
