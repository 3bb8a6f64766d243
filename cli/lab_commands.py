"""`mnctl lab`: network namespaces in which anyone sees a mobile node roam.

Performs I/O. Imports lab only inside the commands, so that it costs nothing to have them.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import click

NEEDED = {
    "ip": "iproute2",
    "nsenter": "util-linux",
    "unshare": "util-linux",
    "nft": "nftables",
    "dnsmasq": "dnsmasq-base",
    "dhcpcd": "dhcpcd-base",
    "tcpdump": "tcpdump",
    "ping": "iputils-ping",
}
"""Programs of a lab, and the Debian packages in which they come."""

_in_lab = click.option(
    "--lab", "name", metavar="NAME", envvar="MN_LAB", help="Which lab, when several are running (or $MN_LAB)."
)


@click.group(name="lab")
def lab() -> None:
    """Network namespaces to roam in: real routers, NAT, DHCP, DNS and a home agent."""


@lab.command(name="list")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def list_(as_json: bool) -> None:
    """Show the labs that run and the scenarios that can be played."""
    from lab.library import scenario_files
    from lab.registry import running_labs

    labs = running_labs()
    scenarios = {name: _title(path) for name, path in scenario_files().items()}
    if as_json:
        running = [{"name": one.name, "pid": one.pid, "cables": dict(one.cables)} for one in labs]
        click.echo(json.dumps({"schema": "mnctl/lab-list/1", "labs": running, "scenarios": scenarios}))
        return
    click.echo("Running labs" if labs else "No lab is running.  Start one: mnctl lab up")
    for one in labs:
        plugged = ", ".join(f"{cable} in {network}" for cable, network in one.cables.items() if network)
        click.echo(f"  {one.name:<12}{plugged or 'all cables hang loose'}")
    click.echo("\nScenarios  (mnctl lab run NAME)")
    width = max(map(len, scenarios), default=0) + 2
    for name, title in scenarios.items():
        click.echo(f"  {name:<{width}}{title}")


@lab.command()
@click.option("--topology", default="internet", show_default=True, help="A known name, or a TOML file.")
@click.option("--name", metavar="NAME", help="How to call it (one is made up otherwise).")
def up(topology: str, name: str | None) -> None:
    """Build a lab and leave it running, for a person to play with."""
    from lab.launch import run_behind
    from lab.registry import find_lab

    _require_lab_tools()
    name = name or _new_name()
    _or_fail(lambda: run_behind([name, f"--topology={_absolute(topology)}"]))
    one = _or_fail(lambda: find_lab(name))
    plugged = ", ".join(f"{cable} in {network}" for cable, network in one.cables.items() if network)
    click.echo(f"lab {name} is up: {one.title}; {plugged or 'all cables hang loose'}")
    click.echo(f"  machines  {' '.join(one.machines)}")
    click.echo("  look      mnctl lab exec mn -- mnctl status")
    click.echo("  move      mnctl lab plug eth0 cafe")
    click.echo("  end       mnctl lab down")


@lab.command(name="exec", context_settings={"ignore_unknown_options": True})
@_in_lab
@click.argument("node")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def exec_(name: str | None, node: str, command: tuple[str, ...]) -> None:
    """Run COMMAND on a machine of the lab; standard input, terminal and exit code are its own."""
    from lab.namespaces import environment
    from lab.registry import find_lab

    _require_root()
    directory = "/" if str(Path.cwd()).startswith(("/run", "/etc", "/var/lib")) else str(Path.cwd())
    words = _or_fail(lambda: find_lab(name).enter(node, command, directory))
    sys.stdout.flush()
    os.execvpe(words[0], words, environment())


@lab.command()
@_in_lab
@click.argument("interface")
@click.argument("network")
def plug(name: str | None, interface: str, network: str) -> None:
    """Put a cable of the mobile node into NETWORK (out of another one first, if it is there)."""
    from lab.registry import find_lab

    _require_root()
    _or_fail(lambda: find_lab(name).ask({"plug": interface, "network": network}))


@lab.command()
@_in_lab
@click.argument("interface")
def unplug(name: str | None, interface: str) -> None:
    """Pull a cable of the mobile node out: it loses its carrier."""
    from lab.registry import find_lab

    _require_root()
    _or_fail(lambda: find_lab(name).ask({"unplug": interface}))


@lab.command(name="do")
@_in_lab
@click.argument("step")
def do_(name: str | None, step: str) -> None:
    """Do what a STEP of a scenario would, for example 'lose = 30, on = "cafe"' (docs/scenarios.md)."""
    from lab.registry import find_lab

    _require_root()
    _or_fail(lambda: find_lab(name).ask({"step": step}))


@lab.command()
@click.argument("scenario")
@click.option("--json", "as_json", is_flag=True, help="Print report.json instead of lines and a table.")
@click.option("--report", type=click.Path(path_type=Path), help="Where report, picture and captures go.")
def run(scenario: str, as_json: bool, report: Path | None) -> None:
    """Play SCENARIO (a known name or a TOML file) and judge it: exit code 0 only if the verdict is pass."""
    from lab.launch import run_in_front
    from lab.library import load_scenario

    _or_fail(lambda: load_scenario(scenario))
    _require_lab_tools()
    if report is None and scenario == "tour":
        report = Path("build/demo")
    arguments = [_new_name(), f"--scenario={_absolute(scenario)}"]
    if report is not None:
        arguments.append(f"--report={report.absolute()}")
    if as_json:
        arguments.append("--json")
    sys.exit(run_in_front(arguments))


@lab.command()
@_in_lab
@click.option("--all", "everything", is_flag=True, help="Take all labs down.")
def down(name: str | None, everything: bool) -> None:
    """Take a lab down."""
    from lab.registry import find_lab, running_labs

    _require_root()
    for one in running_labs() if everything else [_or_fail(lambda: find_lab(name))]:
        one.stop()


def _or_fail(work: Callable[[], Any]) -> Any:
    """The result, or an end with the exit code that the kind of failure has in all our commands."""
    from lab.library import NotFound
    from lab.namespaces import LabError
    from lab.registry import NoLab
    from runtime.settings import ConfigError

    try:
        return work()
    except ConfigError as error:
        _fail(7, str(error))
    except (NotFound, NoLab) as error:
        _fail(10, str(error))
    except LabError as error:
        _fail(1, str(error))


def _fail(code: int, message: str) -> NoReturn:
    for line in message.splitlines():
        click.echo(f"mnctl: {line}", err=True)
    sys.exit(code)


def _require_root() -> None:
    if os.geteuid() != 0:
        _fail(6, "a lab needs root:  sudo mnctl lab ...")


def _require_lab_tools() -> None:
    _require_root()
    search = ":".join((os.environ.get("PATH", ""), "/usr/sbin", "/sbin"))
    missing = [package for program, package in NEEDED.items() if shutil.which(program, path=search) is None]
    if missing:
        _fail(1, f"programs are missing:  apt-get install {' '.join(dict.fromkeys(missing))}")
    if not Path("/dev/net/tun").exists():
        _fail(1, "/dev/net/tun is missing:  modprobe tun")


def _new_name() -> str:
    return f"lab-{secrets.token_hex(2)}"


def _absolute(name: str) -> str:
    """A path as the supervisor finds it; names stay names."""
    return str(Path(name).absolute()) if name.endswith(".toml") else name


def _title(path: Path) -> str:
    import tomllib

    try:
        return str(tomllib.loads(path.read_text()).get("title", ""))
    except (OSError, ValueError) as error:
        return f"cannot be read: {error}"
