"""`config check`, `keygen`, `schema` and `completion`: what one needs before and beside a running daemon.

Performs I/O. None of it asks a daemon.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from click.shell_completion import get_completion_class

from cli.exits import Exit
from cli.fields import schema_names, schema_text
from cli.session import HACTL, MNCTL, Failure, Tool, json_option, print_json, session
from cli.words import clean, count

_SHELLS = ("bash", "zsh", "fish")


@click.command(short_help="Write fresh keys into a new file.")
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--method",
    type=click.Choice(["esp", "authentication"]),
    default="esp",
    show_default=True,
    help="ESP, or the authentication option of RFC 4285.",
)
def keygen(file: Path, method: str) -> None:
    """Write fresh keys into FILE (mode 0600), which must not exist.

    The mobile node and the home agent need the same file, and what is in it decides how Binding Updates are
    authenticated: by ESP, or by an authentication option in the message itself.
    """
    from tunnel.keys import KeyFileError, Method, generate_keys, write_keys

    try:
        write_keys(file, generate_keys(method=Method(method)))
    except KeyFileError as error:
        raise Failure(session().tool, Exit.ERROR, f"{error.path} {error.why}", error.fix) from None
    click.echo(f"wrote {clean(str(file))}, readable by its owner only")
    click.echo("bring the same file to the home agent by a safe way, and name it as key_file on both ends")


def _config_group(tool: Tool, default: str) -> click.Group:
    @click.group("config", short_help="Check the configuration file.")
    def config() -> None:
        """The configuration file."""

    @config.command()
    @click.argument("file", type=click.Path(path_type=Path), default=default)
    @json_option
    def check(file: Path, as_json: bool) -> None:
        """Say whether FILE is right, or everything that is wrong with it. Needs no root and no daemon."""
        errors = _errors_in(tool, file)
        code = Exit.CONFIG if errors else Exit.OK
        if as_json:
            schema = f"{tool.name}/config-check/1"
            print_json({"schema": schema, "file": str(file), "errors": list(errors)})
        elif errors:
            for error in errors:
                click.echo(clean(error), err=True)
            number = count(len(errors), "error")
            click.echo(f"{number}, nothing loaded (a running daemon is unchanged)", err=True)
        else:
            click.echo(f"{clean(str(file))}: all is right")
        click.get_current_context().exit(int(code))

    return config


def _errors_in(tool: Tool, file: Path) -> tuple[str, ...]:
    """Every mistake in the configuration `file` of this tool's daemon."""
    from runtime.settings import ConfigError

    parse = _parser_of(tool)
    try:
        data = file.read_bytes()
        parse(data.decode(), str(file))
    except OSError as error:
        return (f"{file}: cannot be read: {error.strerror}",)
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        return (f"{file}:{line}: not UTF-8 text",)
    except ConfigError as error:
        return error.errors
    return ()


def _parser_of(tool: Tool) -> Callable[[str, str], object]:
    """The daemon's own reader of its configuration: what it refuses is refused here."""
    if tool is MNCTL:
        from mn_agent.config import parse_configuration

        return parse_configuration
    from home_agent.config import parse_configuration as parse_home_agent

    return parse_home_agent


def _schema_command(tool: Tool) -> click.Command:
    @click.command("schema", short_help="Print the JSON Schema of a result.")
    @click.argument("name", required=False)
    def schema(name: str | None) -> None:
        """Print the JSON Schema of the result NAME; without NAME, which there are."""
        if name is None:
            click.echo("\n".join(schema_names(tool)))
            return
        try:
            click.echo(schema_text(tool, name), nl=False)
        except KeyError:
            names = schema_names(tool)
            raise Failure(tool, Exit.NOT_FOUND, f"no schema {name}", candidates=names) from None

    return schema


@click.command(short_help="Print a completion script.")
@click.argument("shell", type=click.Choice(_SHELLS), required=False)
def completion(shell: str | None) -> None:
    """Print the completion script of SHELL (that of $SHELL without it).

    bash: eval "$(mnctl completion bash)" in ~/.bashrc; zsh and fish alike.
    """
    context = click.get_current_context().find_root()
    name = context.info_name or "mnctl"
    chosen = shell or Path(os.environ.get("SHELL", "")).name
    kind = get_completion_class(chosen)
    if kind is None:
        known = ", ".join(_SHELLS)
        raise click.UsageError(f"no completion for {clean(chosen) or 'an unknown shell'}, but for {known}")
    root: Any = context.command
    click.echo(kind(root, {}, name, f"_{name.upper()}_COMPLETE").source())


mnctl_config = _config_group(MNCTL, "/etc/mn-agent/mn-agent.toml")
hactl_config = _config_group(HACTL, "/etc/home-agent/home-agent.toml")
mnctl_schema = _schema_command(MNCTL)
hactl_schema = _schema_command(HACTL)
