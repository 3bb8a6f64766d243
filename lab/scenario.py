"""A scenario: what happens to the mobile node, what runs meanwhile, and what is expected of it.

Pure. docs/scenarios.md describes the file for its readers.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum
from typing import Annotated, Literal

import msgspec

from lab.step import Milliseconds, Seconds, Step, known, unknown_names
from lab.topology import KeyMethod, Topology
from runtime.settings import ConfigError, decode_toml
from runtime.toml_lines import KeyPath, key_lines

DARK_MS = 20.0


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
    outage_beyond_round_trip_ms: Milliseconds | None = None
    """The same, beside one measured round trip to the home agent."""
    update_ms: Milliseconds | None = None
    """The Binding Update leaves so soon after the new address can be used."""
    bound_ms: Milliseconds | None = None
    """The acknowledgement comes so soon after the new address can be used."""
    updates_a_second: Annotated[int, msgspec.Meta(ge=1)] | None = None
    """At most so many Binding Updates to one address of the home agent within any second."""
    lost_with_two_links: Annotated[int, msgspec.Meta(ge=0)] | None = None
    """Packets of a stream that may be lost in a move between two links that can be used at once."""
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
    dark_ms: Milliseconds = DARK_MS
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
            yield from known(("start", interface), interface, interfaces, "interface")
            yield from known(("start", interface), network, topology.network, "network")
        for host in self.files:
            yield from known(("files", host), host, topology.host, "host")
        for index, step in enumerate(self.step):
            yield from unknown_names(("step", index), step, topology)


def parse_scenario(text: str, name: str) -> Scenario:
    """Read a scenario file. Raises ConfigError with one `file:line: message` for everything wrong."""
    return decode_toml(text, name, Scenario)


def parse_step(words: str, topology: Topology) -> Step:
    """One step as it stands between the braces of `step = [{ ... }]`. Raises ConfigError as scenarios do."""
    text = f'title = "one step"\nstep = [{{ {words} }}]\n'
    scenario = parse_scenario(text, "step")
    scenario.checked(topology, text, "step")
    return scenario.step[0]
