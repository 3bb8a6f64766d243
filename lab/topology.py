"""A topology: which networks, hosts and loose cables a lab has, as its TOML file declares them.

Pure.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Annotated, Literal

import msgspec

from runtime.settings import ConfigError, decode_toml
from runtime.toml_lines import KeyPath, key_lines

CORE = "net"
"""The router on which every network hangs."""
INGRESS = "lan"
"""What the interfaces of a mobile router to the networks behind it are called, with a number."""

Name = Annotated[str, msgspec.Meta(pattern="^[a-z][a-z0-9-]{0,11}$")]
Interface = Annotated[str, msgspec.Meta(pattern="^[a-z][a-z0-9]{0,7}$")]


class _Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A TOML table in which an unknown key is an error."""


class Core(_Section, frozen=True):
    """[core]: where the links between the core router and the networks take their addresses."""

    ipv4: IPv4Network
    ipv6: IPv6Network


class Network(_Section, frozen=True):
    """[network.NAME]: a router with a switch behind it, and what it gives to whoever is plugged in."""

    ipv4: IPv4Network | None = None
    ipv6: IPv6Network | None = None
    nat: bool = False
    """IPv4 is private, behind address and port translation with random ports."""
    nat64: bool = False
    """IPv4 hosts are reached through a prefix (tayga); its name server and advertisements say which."""
    portal: bool = False
    """Its router has a captive portal, which is open until a step of a scenario closes it."""
    dhcp_delay_s: Annotated[int, msgspec.Meta(ge=0, le=60)] = 0
    """How long its DHCP server thinks before it answers."""
    access: bool = True
    """Offers router advertisements and DHCP; a network of servers has static addresses only."""

    @property
    def kind(self) -> str:
        """What a mobile node finds here."""
        if self.ipv6 is not None:
            return "nat64" if self.nat64 else "ipv6" if self.ipv4 is None else "dual"
        return "nat" if self.nat else "ipv4"


class MobileNetwork(_Section, frozen=True):
    """[mobile_network.NAME]: a network behind a host that moves, and reached through its home agent."""

    router: str
    """The host whose ingress interface (lan0, lan1, ...) it is on."""
    ipv4: IPv4Network | None = None
    ipv6: IPv6Network | None = None
    addressed: bool = True
    """The router has the first address of each prefix from the beginning, as its owner would set it up."""


class Service(_Section, frozen=True):
    """One program that runs on a host as long as the lab does."""

    command: str
    ready: str | None = None
    """A path that exists as soon as the program can be used."""

    @property
    def name(self) -> str:
        return self.command.split()[0].rpartition("/")[2]


KeyMethod = Literal["esp", "authentication"]
"""What the keys are for: ESP, or the authentication option (as of `mnctl keygen --method`)."""


class Host(_Section, frozen=True):
    """[host.NAME]: a machine; `network` and `addresses` are fixed, `interfaces` have loose cables."""

    network: str | None = None
    addresses: tuple[IPv4Address | IPv6Address, ...] = ()
    interfaces: tuple[Interface, ...] = ()
    plugged: dict[str, str] = {}
    """Which interface begins in which network."""
    sysctl: dict[str, int] = {}
    files: dict[str, str] = {}
    services: tuple[Service, ...] = ()


class Keys(_Section, frozen=True):
    """[[keys]]: one fresh key file, written with mode 0600 to these hosts (host -> path)."""

    paths: dict[str, str]
    method: KeyMethod = "esp"


class Roles(_Section, frozen=True):
    """[roles]: who is who when a scenario is judged."""

    mobile_node: str
    home_agent: str
    correspondent: str
    home_addresses: tuple[IPv4Address | IPv6Address, ...]
    port: int = 4191
    sessions: str | None = None
    """Whose addresses the streams use: a host behind the mobile node, or the mobile node itself."""


class Topology(_Section, frozen=True):
    """The whole of a topology file."""

    core: Core
    network: dict[str, Network]
    host: dict[str, Host]
    roles: Roles
    keys: tuple[Keys, ...] = ()
    title: str = ""
    mobile_network: dict[str, MobileNetwork] = {}

    @property
    def mobile_node(self) -> Host:
        return self.host[self.roles.mobile_node]

    @property
    def home_agent(self) -> Host:
        return self.host[self.roles.home_agent]

    @property
    def correspondent(self) -> Host:
        return self.host[self.roles.correspondent]

    @property
    def access_networks(self) -> Mapping[str, Network]:
        return {name: network for name, network in self.network.items() if network.access}

    def kind(self, name: str) -> str:
        """What the network of that name is for the mobile node."""
        return "home" if name == self.home_agent.network else self.network[name].kind

    def with_keys_for(self, method: KeyMethod) -> Topology:
        """The same topology with every key file made for `method`."""
        keys = tuple(msgspec.structs.replace(one, method=method) for one in self.keys)
        return msgspec.structs.replace(self, keys=keys)

    @property
    def session_host(self) -> str:
        """The machine whose sessions have to survive."""
        return self.roles.sessions or self.roles.mobile_node

    @property
    def session_addresses(self) -> tuple[IPv4Address | IPv6Address, ...]:
        name = self.roles.sessions
        return self.roles.home_addresses if name is None else self.host[name].addresses

    def place(self, name: str) -> Network | MobileNetwork:
        """The network of that name, of either kind."""
        return self.mobile_network[name] if name in self.mobile_network else self.network[name]

    def behind(self, router: str) -> Mapping[str, str]:
        """Ingress interface of `router` -> name of the mobile network on it."""
        names = [name for name, network in self.mobile_network.items() if network.router == router]
        return {f"{INGRESS}{index}": name for index, name in enumerate(names)}

    def with_files(self, files: Mapping[str, Mapping[str, str]]) -> Topology:
        """The same topology with some files of some hosts replaced or added (host -> path -> text)."""
        hosts = dict(self.host)
        for name, changed in files.items():
            hosts[name] = msgspec.structs.replace(hosts[name], files={**hosts[name].files, **changed})
        return msgspec.structs.replace(self, host=hosts)


class Extension(_Section, frozen=True):
    """A topology file that only says what it has more than another one, its `base`."""

    base: str
    title: str = ""
    network: dict[str, Network] = {}
    mobile_network: dict[str, MobileNetwork] = {}
    host: dict[str, Host] = {}
    files: dict[str, dict[str, str]] = {}
    """Files to replace on hosts of the base: host -> path -> text."""
    sessions: str | None = None

    def of(self, base: Topology) -> Topology:
        """The base with all that is more here."""
        extended = msgspec.structs.replace(
            base,
            title=self.title or base.title,
            network={**base.network, **self.network},
            mobile_network={**base.mobile_network, **self.mobile_network},
            host={**base.host, **self.host},
            roles=msgspec.structs.replace(base.roles, sessions=self.sessions or base.roles.sessions),
        )
        return extended.with_files({host: files for host, files in self.files.items() if host in base.host})


def base_of(text: str) -> str | None:
    """The topology that the one in `text` extends, if any; mistakes are for `parse_topology` to tell."""
    try:
        base = tomllib.loads(text).get("base")
    except ValueError:
        return None
    return base if isinstance(base, str) else None


def parse_topology(text: str, name: str, base: Topology | None = None) -> Topology:
    """Read a topology file. Raises ConfigError with one `file:line: message` for everything wrong.

    `base` is what the file extends, if it says so.
    """
    topology = (
        decode_toml(text, name, Topology) if base is None else decode_toml(text, name, Extension).of(base)
    )
    lines = key_lines(text)
    errors = sorted((_line(lines, path), message) for path, message in _contradictions(topology))
    if errors:
        raise ConfigError(f"{name}:{line}: {message}" for line, message in errors)
    return topology


def _line(lines: Mapping[KeyPath, int], path: KeyPath) -> int:
    while path and path not in lines:
        path = path[:-1]
    return lines.get(path, 1)


def _contradictions(topology: Topology) -> Iterator[tuple[KeyPath, str]]:
    for name, network in topology.network.items():
        path: KeyPath = ("network", name)
        if name == CORE or name in topology.host:
            yield path, f'the name "{name}" is taken by another machine'
        if network.ipv4 is None and network.ipv6 is None:
            yield path, f"[network.{name}] needs ipv4 or ipv6 (or both)"
        if network.nat and network.ipv4 is None:
            yield (*path, "nat"), f"[network.{name}] nat = true needs ipv4"
        if network.nat64 and (network.ipv6 is None or network.ipv4 is not None):
            yield (*path, "nat64"), f"[network.{name}] nat64 = true needs ipv6, and no ipv4"
        if network.portal and not network.access:
            yield (*path, "portal"), f"[network.{name}] portal = true needs access = true"
    for name, host in topology.host.items():
        yield from _host_contradictions(topology, name, host)
    for name, mobile in topology.mobile_network.items():
        path = ("mobile_network", name)
        if name in topology.network or name in topology.host:
            yield path, f'the name "{name}" is taken'
        router = topology.host.get(mobile.router)
        if router is None or not router.interfaces:
            yield (*path, "router"), f'"{mobile.router}" is no host that moves'
        if mobile.ipv4 is None and mobile.ipv6 is None:
            yield path, f"[mobile_network.{name}] needs ipv4 or ipv6 (or both)"
    for index, keys in enumerate(topology.keys):
        for name in keys.paths:
            if name not in topology.host:
                yield ("keys", index, "paths", name), f'there is no host "{name}"'
    yield from _role_contradictions(topology)


def _host_contradictions(topology: Topology, name: str, host: Host) -> Iterator[tuple[KeyPath, str]]:
    path: KeyPath = ("host", name)
    if name == CORE:
        yield path, f'the name "{CORE}" belongs to the core router'
    if (host.network is None) == (not host.interfaces):
        yield path, f"[host.{name}] needs either network (a fixed place) or interfaces (loose cables)"
    if host.network is not None and host.network not in {*topology.network, *topology.mobile_network}:
        yield (*path, "network"), _no_network(topology, host.network)
    elif host.network is not None:
        network = topology.place(host.network)
        for index, address in enumerate(host.addresses):
            prefix = network.ipv4 if address.version == 4 else network.ipv6
            if prefix is None or address not in prefix:
                yield (*path, "addresses", index), f"{address} is not in network {host.network}"
    for interface, where in host.plugged.items():
        if interface not in host.interfaces:
            yield (*path, "plugged", interface), f'[host.{name}] has no interface "{interface}"'
        if where not in topology.network:
            yield (*path, "plugged", interface), _no_network(topology, where)


def _role_contradictions(topology: Topology) -> Iterator[tuple[KeyPath, str]]:
    roles = topology.roles
    for role in ("mobile_node", "home_agent", "correspondent"):
        if (name := getattr(roles, role)) not in topology.host:
            yield ("roles", role), f'there is no host "{name}"'
    mobile_node = topology.host.get(roles.mobile_node)
    if mobile_node is not None and not mobile_node.interfaces:
        yield ("roles", "mobile_node"), f'"{roles.mobile_node}" has no interfaces, so it cannot move'
    if roles.sessions is not None and not getattr(topology.host.get(roles.sessions), "addresses", ()):
        yield ("sessions",), f'"{roles.sessions}" is no host with addresses'


def _no_network(topology: Topology, name: str) -> str:
    return f'there is no network "{name}" (known: {", ".join(topology.network)})'
