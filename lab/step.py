"""A step of a scenario: the one thing that it does, and to whom.

Pure. docs/scenarios.md describes the keys for their readers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import Enum
from typing import Annotated, Literal

import msgspec

from lab.topology import Topology
from runtime.toml_lines import KeyPath

Seconds = Annotated[float, msgspec.Meta(ge=0, le=3600)]
Milliseconds = Annotated[float, msgspec.Meta(ge=0, le=60000)]
Percent = Annotated[int, msgspec.Meta(ge=0, le=100)]
Port = Annotated[int, msgspec.Meta(ge=1, le=65535)]


class Action(Enum):
    """What one step does; its value is the key that says so in the file."""

    MOVE = "move"
    PLUG = "plug"
    UNPLUG = "unplug"
    FLAP = "flap"
    SUSPEND = "suspend"
    ROAM = "roam"
    RUN = "run"
    STOP = "stop"
    START = "start"
    WAIT = "wait"
    FLUSH_NAT = "flush_nat"
    LOSE = "lose"
    BLOCK = "block"
    BLACK_HOLE = "black_hole"
    SILENCE_DHCP = "silence_dhcp"
    CAPTIVE = "captive"
    LOGIN = "login"
    MEND = "mend"


class _Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A TOML table in which an unknown key is an error."""


class Block(_Section, frozen=True):
    """What a router drops: one of a protocol inside IP, a port of whoever is out there, a family."""

    protocol: Annotated[int, msgspec.Meta(ge=0, le=255)] | None = None
    udp: Port | None = None
    tcp: Port | None = None
    family: Literal["ipv4", "ipv6"] | None = None
    way: Literal["out", "in", "both"] = "both"
    """Out: from the network into the Internet."""

    def __post_init__(self) -> None:
        named = [self.protocol, self.udp, self.tcp, self.family]
        if sum(one is not None for one in named) != 1:
            raise ValueError("a block needs exactly one of protocol, udp, tcp, family")


class Flap(_Section, frozen=True):
    """A link that comes and goes, at an even pace; it stays in the end."""

    times_a_second: Annotated[float, msgspec.Meta(gt=0, le=20)]
    seconds: Seconds


class Step(_Section, frozen=True):
    """[[step]]: exactly one action, `until` its effect is there, then `watch_s` seconds of watching it."""

    move: str | None = None
    plug: str | None = None
    unplug: str | None = None
    flap: Flap | None = None
    suspend: Seconds | None = None
    roam: str | None = None
    run: tuple[str, ...] | None = None
    stop: str | None = None
    start: str | None = None
    wait: Seconds | None = None
    flush_nat: str | None = None
    lose: Percent | None = None
    block: Block | None = None
    black_hole: Annotated[int, msgspec.Meta(ge=68, le=65535)] | None = None
    silence_dhcp: str | None = None
    captive: str | None = None
    login: str | None = None
    mend: str | None = None

    interface: str | None = None
    """Whose cable `move`, `plug` and `flap` take; the first one plugged in if left out."""
    on: str | None = None
    """The machine for `run`, `stop` and `start` (the mobile node if left out), the network for `lose`,
    `block` and `black_hole`."""
    signal: Literal["TERM", "KILL"] = "TERM"
    until: tuple[str, ...] | None = None
    """A command on the mobile node that ends when the step has had its effect."""
    watch_s: Seconds | None = None

    def __post_init__(self) -> None:
        actions = [action.value for action in Action if getattr(self, action.value) is not None]
        if len(actions) != 1:
            found = " and ".join(actions) or "none"
            raise ValueError(f"needs exactly one of {', '.join(a.value for a in Action)} (found {found})")

    @property
    def action(self) -> Action:
        return next(action for action in Action if getattr(self, action.value) is not None)

    @property
    def text(self) -> str:
        """As a person would say it."""
        words = _words(getattr(self, self.action.value))
        return f"{self.action.value} {words}{f' on {self.on}' if self.on else ''}"


def _words(value: object) -> str:
    match value:
        case tuple():
            return " ".join(value)
        case msgspec.Struct():
            told = {f: getattr(value, f) for f in value.__struct_fields__}
            return ", ".join(f"{field} {one}" for field, one in told.items() if one is not None)
        case _:
            return str(value)


def unknown_names(path: KeyPath, step: Step, topology: Topology) -> Iterator[tuple[KeyPath, str]]:
    """What a step names that the topology does not have: where it stands, and what is wrong."""
    interfaces, networks = topology.mobile_node.interfaces, topology.network
    key = step.action.value
    host = step.on or topology.roles.mobile_node
    if step.interface is not None:
        yield from known((*path, "interface"), step.interface, interfaces, "interface")
    match step.action:
        case Action.MOVE | Action.PLUG | Action.FLUSH_NAT | Action.SILENCE_DHCP | Action.MEND:
            yield from known((*path, key), getattr(step, key), networks, "network")
        case Action.CAPTIVE | Action.LOGIN:
            portals = [name for name, network in networks.items() if network.portal]
            yield from known((*path, key), getattr(step, key), portals, "network with a portal")
        case Action.UNPLUG | Action.ROAM:
            yield from known((*path, key), getattr(step, key), interfaces, "interface")
        case Action.LOSE | Action.BLOCK | Action.BLACK_HOLE:
            yield from known((*path, "on"), step.on, networks, "network")
        case Action.STOP | Action.START:
            yield from known((*path, "on"), host, topology.host, "host")
            if host in topology.host:
                services = [service.name for service in topology.host[host].services]
                yield from known((*path, key), getattr(step, key), services, f"service on {host}")
        case Action.RUN:
            yield from known((*path, "on"), host, (*topology.host, *networks), "machine")
        case Action.FLAP | Action.SUSPEND | Action.WAIT:
            pass


def known(
    path: KeyPath, name: str | None, names: Mapping[str, object] | tuple[str, ...] | list[str], what: str
) -> Iterator[tuple[KeyPath, str]]:
    """A complaint about `name`, if it is none of `names`."""
    if name not in names:
        yield path, f"there is no {what} {name!r} (known: {', '.join(names)})" if name else f"which {what}?"
