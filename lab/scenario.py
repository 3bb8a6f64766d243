"""A scenario: what happens to the mobile node, what runs meanwhile, and what is expected of it.

Pure. docs/scenarios.md describes the file for its readers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import Enum
from typing import Annotated, Literal

import msgspec

from lab.topology import KeyMethod, Topology
from runtime.settings import ConfigError, decode_toml
from runtime.toml_lines import KeyPath, key_lines

Seconds = Annotated[float, msgspec.Meta(ge=0, le=3600)]
Milliseconds = Annotated[float, msgspec.Meta(ge=0, le=60000)]
Percent = Annotated[int, msgspec.Meta(ge=0, le=100)]


class Action(Enum):
    """What one step does; its value is the key that says so in the file."""

    MOVE = "move"
    PLUG = "plug"
    UNPLUG = "unplug"
    ROAM = "roam"
    RUN = "run"
    FLUSH_NAT = "flush_nat"
    LOSE = "lose"
    STOP = "stop"
    START = "start"
    WAIT = "wait"


class StreamKind(Enum):
    """A program pair whose traffic is watched; each runs once in each family."""

    BULK = "bulk"
    ECHO = "echo"
    UP = "up"
    DOWN = "down"
    PING = "ping"


class _Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A TOML table in which an unknown key is an error."""


class Expectation(_Section, frozen=True):
    """[expect]: the verdict is "pass" only if all of it holds."""

    outage_ms: Milliseconds | None = None
    """No stream may be silent longer than this once the new address can be used."""
    lost_packets: Annotated[int, msgspec.Meta(ge=0)] | None = None
    """At most so many packets of a stream may be lost in any one move."""
    handovers: Annotated[int, msgspec.Meta(ge=0)] | None = None
    sessions: bool = True
    """Every stream still delivers at the end, every transfer arrives whole."""


class Stream(_Section, frozen=True):
    """[[stream]]: one kind of traffic between the correspondent and the home addresses."""

    kind: StreamKind
    families: tuple[Literal["ipv6", "ipv4"], ...] = ("ipv6", "ipv4")
    interval_ms: Annotated[float, msgspec.Meta(ge=1, le=10000)] = 10.0
    rate_mbit: Annotated[float, msgspec.Meta(gt=0, le=10000)] = 1.0
    """Only of a bulk transfer, in each direction."""


class Step(_Section, frozen=True):
    """[[step]]: exactly one action, then `watch_s` seconds in which its effect is watched."""

    move: str | None = None
    plug: str | None = None
    unplug: str | None = None
    roam: str | None = None
    run: tuple[str, ...] | None = None
    flush_nat: str | None = None
    lose: Percent | None = None
    stop: str | None = None
    start: str | None = None
    wait: Seconds | None = None

    interface: str | None = None
    """Whose cable `move` and `plug` take; the first one of the mobile node if left out."""
    on: str | None = None
    """The host for `run`, `stop` and `start` (the mobile node if left out), the network for `lose`."""
    signal: Literal["TERM", "KILL"] = "TERM"
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
        value = getattr(self, self.action.value)
        words = " ".join(value) if isinstance(value, tuple) else str(value)
        return f"{self.action.value} {words}{f' on {self.on}' if self.on else ''}"


class Scenario(_Section, frozen=True):
    """The whole of a scenario file."""

    title: str
    step: tuple[Step, ...]
    topology: str = "internet"
    start: dict[str, str] | None = None
    """Which interface begins in which network; the topology's own beginning if left out."""
    stream: tuple[Stream, ...] = tuple(Stream(kind=kind) for kind in StreamKind)
    expect: Expectation = Expectation()
    keys: KeyMethod | None = None
    """How Binding Updates are authenticated; as the topology says if left out."""
    files: dict[str, dict[str, str]] = {}
    """Files to replace on hosts: host -> path -> text."""
    watch_s: Seconds = 2.0
    dark_ms: Milliseconds = 20.0
    """How long a moved cable hangs loose, as a radio needs some time to find its next network."""

    def checked(self, topology: Topology, text: str, name: str) -> Topology:
        """The topology as this scenario changes it. Raises ConfigError for names that it does not know."""
        lines = key_lines(text)
        errors = []
        for path, message in self._unknown_names(topology):
            while path and path not in lines:
                path = path[:-1]
            errors.append((lines.get(path, 1), message))
        if errors:
            raise ConfigError(f"{name}:{line}: {message}" for line, message in sorted(errors))
        changed = topology.with_files(self.files)
        if self.keys is not None:
            changed = changed.with_keys_for(self.keys)
        if self.start is None:
            return changed
        role = topology.roles.mobile_node
        mobile_node = msgspec.structs.replace(changed.mobile_node, plugged=self.start)
        return msgspec.structs.replace(changed, host={**changed.host, role: mobile_node})

    def _unknown_names(self, topology: Topology) -> Iterator[tuple[KeyPath, str]]:
        interfaces = topology.mobile_node.interfaces
        for interface, network in (self.start or {}).items():
            yield from _known(("start", interface), interface, interfaces, "interface")
            yield from _known(("start", interface), network, topology.network, "network")
        for host in self.files:
            yield from _known(("files", host), host, topology.host, "host")
        for index, step in enumerate(self.step):
            yield from _step_names(("step", index), step, topology)


def parse_scenario(text: str, name: str) -> Scenario:
    """Read a scenario file. Raises ConfigError with one `file:line: message` for everything wrong."""
    return decode_toml(text, name, Scenario)


def _step_names(path: KeyPath, step: Step, topology: Topology) -> Iterator[tuple[KeyPath, str]]:
    interfaces = topology.mobile_node.interfaces
    key = step.action.value
    if step.interface is not None:
        yield from _known((*path, "interface"), step.interface, interfaces, "interface")
    match step.action:
        case Action.MOVE | Action.PLUG | Action.FLUSH_NAT:
            yield from _known((*path, key), getattr(step, key), topology.network, "network")
        case Action.UNPLUG | Action.ROAM:
            yield from _known((*path, key), getattr(step, key), interfaces, "interface")
        case Action.LOSE:
            yield from _known((*path, "on"), step.on, topology.network, "network")
        case Action.STOP | Action.START:
            host = step.on or topology.roles.mobile_node
            yield from _known((*path, "on"), host, topology.host, "host")
            if host in topology.host:
                services = [service.name for service in topology.host[host].services]
                yield from _known((*path, key), getattr(step, key), services, f"service on {host}")
        case Action.RUN:
            host = step.on or topology.roles.mobile_node
            yield from _known((*path, "on"), host, topology.host, "host")
        case Action.WAIT:
            pass


def _known(
    path: KeyPath, name: str | None, known: Mapping[str, object] | tuple[str, ...] | list[str], what: str
) -> Iterator[tuple[KeyPath, str]]:
    if name not in known:
        yield path, f"there is no {what} {name!r} (known: {', '.join(known)})" if name else f"which {what}?"
