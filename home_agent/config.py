"""Configuration of the home agent: TOML text to one checked, frozen value.

Pure. Common use needs three tables and about ten lines.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Annotated, Literal

import msgspec

from runtime.settings import ConfigError, decode_toml, line_of
from runtime.toml_lines import KeyPath, key_lines
from tunnel.link_filter import MOST
from tunnel.plane import DataPlaneChoice
from wire.esp import UDP_PORT_NAT_TRAVERSAL
from wire.options import NATKATIMEOUT
from wire.profile import Profile, profile_named
from wire.text import text_of

Port = Annotated[int, msgspec.Meta(ge=1, le=65535)]
Lifetime = Annotated[int, msgspec.Meta(ge=8, le=262140)]
Refresh = Annotated[int, msgspec.Meta(ge=1, le=86400)]
Device = Annotated[str, msgspec.Meta(min_length=1, max_length=15)]
ForceUdp = Literal["accept", "deny", "require"]


class _Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A TOML table in which an unknown key is an error."""


class HomeAgentSection(_Section, frozen=True):
    """[home_agent]: where mobile nodes reach this home agent."""

    interface: Device
    ipv6: IPv6Address
    ipv4: IPv4Address
    port: Port = 4191
    second_port: Port | Literal["any", "none"] = "any"
    """Where questions about NATs are answered as well; "any" lets the kernel choose."""
    accepting: bool = True
    """False answers every registration with status 131, so that a home agent can be emptied."""


class HomeLinkSection(_Section, frozen=True):
    """[home_link]: the prefixes of the home link and what is given out of them."""

    ipv6_prefix: IPv6Network
    ipv4_prefix: IPv4Network | None = None
    ipv4_pool: IPv4Network | None = None
    ipv4_prefix_pool: IPv4Network | None = None
    ipv4_prefix_length: Annotated[int, msgspec.Meta(ge=8, le=30)] = 24
    """The largest IPv4 prefix that one mobile router gets, by its length."""
    duplicate_address_detection: bool = True
    overhear: bool = True
    """Keep for two seconds what is sent on the home link to configured home addresses, for who just left."""
    anycast: bool = True
    """Answer home agent discovery at the anycast address of `ipv6_prefix`."""
    prefix_valid_lifetime: Annotated[int, msgspec.Meta(ge=8, le=0xFFFFFFFF)] = 2592000
    prefix_preferred_lifetime: Annotated[int, msgspec.Meta(ge=0, le=0xFFFFFFFF)] = 604800
    """Of `ipv6_prefix`, as the routers of the home link advertise it; 4294967295 is for ever."""

    @property
    def shortest_ipv4_prefix(self) -> int:
        pool = self.ipv4_prefix_pool
        return self.ipv4_prefix_length if pool is None else max(self.ipv4_prefix_length, pool.prefixlen)


class MobileNode(_Section, frozen=True):
    """[[mobile_node]]: one mobile node that may register here, and what it may have."""

    home_address: IPv6Address
    key_file: str
    name: str = ""
    enabled: bool = True
    ipv4: IPv4Address | Literal["dynamic", "none"] = "dynamic"
    router: bool = False
    prefixes: tuple[IPv6Network, ...] = ()
    ipv4_prefixes: tuple[IPv4Network, ...] = ()
    ipv4_prefix_requests: bool = False
    force_udp: ForceUdp | None = None
    tlv: bool | None = None
    nat_refresh: Refresh | None = None
    protect_payload: bool | None = None

    @property
    def label(self) -> str:
        return self.name or text_of(self.home_address)

    @property
    def may_route(self) -> bool:
        """Whether this node may register as a mobile router (RFC 3963)."""
        some = bool(self.prefixes) or bool(self.ipv4_prefixes) or self.ipv4_prefix_requests
        return self.router or some


class BindingSection(_Section, frozen=True):
    """[binding]: how long things last."""

    max_lifetime: Lifetime = 3600
    lease_lifetime: Lifetime = 86400
    nat_refresh: Refresh = NATKATIMEOUT
    max_bindings: Annotated[int, msgspec.Meta(ge=1)] = 10000
    refresh_requests: bool = True
    """Ask for a refresh (Binding Refresh Request) shortly before a binding ends."""


class TunnelSection(_Section, frozen=True):
    """[tunnel]: the TUN device and what mobile nodes may ask of the tunnel."""

    device: Device = "mip-ha0"
    force_udp: ForceUdp = "accept"
    tlv: bool | None = None
    protect_payload: bool = False
    """Payload travels in ESP, or not at all; a mobile node that does not offer that is refused (129)."""
    data_plane: DataPlaneChoice = "auto"
    """What carries the packets; where it cannot be had, the next slower one does."""


class WireSection(_Section, frozen=True):
    """[wire]: which numbering of flags both ends use, and how unusual requests are met."""

    profile: Literal["rfc5555", "rfc5555+rfc5845-tlv", "draft-00"] = "rfc5555"
    strict: bool = False
    """Refuse contradictory Binding Updates that home_agent.location otherwise reads with good will."""


class LogSection(_Section, frozen=True):
    """[log]: how much is told on standard error."""

    level: Literal["debug", "info", "warning", "error"] = "info"


class PathsSection(_Section, frozen=True):
    """[paths]: where the home agent keeps its control socket and its memory."""

    control_socket: str = "/run/home-agent/control.sock"
    runtime_directory: str = "/run/home-agent"
    state_directory: str = "/var/lib/home-agent"


class Configuration(_Section, frozen=True):
    """The whole of home-agent.toml."""

    home_agent: HomeAgentSection
    home_link: HomeLinkSection
    mobile_node: tuple[MobileNode, ...] = ()
    binding: BindingSection = BindingSection()
    tunnel: TunnelSection = TunnelSection()
    wire: WireSection = WireSection()
    log: LogSection = LogSection()
    paths: PathsSection = PathsSection()

    @property
    def profile(self) -> Profile:
        return profile_named(self.wire.profile)

    @property
    def overheard(self) -> frozenset[IPv4Address | IPv6Address]:
        """The home addresses that the home link is watched for: none if a filter takes fewer."""
        nodes = self.mobile_node if self.home_link.overhear else ()
        homes = {address for node in nodes for address in (node.home_address, node.ipv4)}
        addresses = frozenset(home for home in homes if not isinstance(home, str))
        return addresses if len(addresses) <= MOST else frozenset()

    def force_udp(self, node: MobileNode) -> ForceUdp:
        return node.force_udp or self.tunnel.force_udp

    def tlv(self, node: MobileNode) -> bool:
        """Whether the TLV header is agreed to: where the profile has one, unless configured otherwise."""
        wanted = node.tlv if node.tlv is not None else self.tunnel.tlv
        return self.profile.tlv is not None and wanted is not False and not self.protects_payload(node)

    def protects_payload(self, node: MobileNode) -> bool:
        wanted = node.protect_payload
        return self.tunnel.protect_payload if wanted is None else wanted

    def nat_refresh(self, node: MobileNode) -> int:
        return node.nat_refresh or self.binding.nat_refresh


def parse_configuration(text: str, name: str = "home-agent.toml") -> Configuration:
    """Check the text of a configuration file.

    Raises ConfigError with one `file:line: message` for everything that is wrong.
    """
    configuration = decode_toml(text, name, Configuration)
    wrong = tuple(_contradictions(configuration))
    if wrong:
        lines = key_lines(text)
        found = sorted((line_of(path, lines), message) for path, message in wrong)
        raise ConfigError(f"{name}:{line}: {message}" for line, message in found)
    return configuration


Mistake = tuple[KeyPath, str]


def _contradictions(configuration: Configuration) -> Iterator[Mistake]:
    """What no single key can show to be wrong."""
    agent = configuration.home_agent
    if agent.second_port in (agent.port, UDP_PORT_NAT_TRAVERSAL):
        yield ("home_agent", "second_port"), f"second_port = {agent.second_port} is in use for something else"
    yield from _about_the_tunnel(configuration)
    yield from _about_the_pools(configuration)
    taken_ipv6: dict[IPv6Address, str] = {configuration.home_agent.ipv6: "the home agent"}
    taken_ipv4: dict[IPv4Address, str] = {configuration.home_agent.ipv4: "the home agent"}
    for index, node in enumerate(configuration.mobile_node):
        at: KeyPath = ("mobile_node", index)
        yield from _about_addresses(configuration, node, at, taken_ipv6, taken_ipv4)
        yield from _about_prefixes(configuration, node, at)
    for key in ("prefixes", "ipv4_prefixes"):
        yield from _about_overlaps(configuration, key)


def _about_the_tunnel(configuration: Configuration) -> Iterator[Mistake]:
    if configuration.profile.tlv is not None:
        return
    wanted: list[tuple[KeyPath, bool | None]] = [(("tunnel", "tlv"), configuration.tunnel.tlv)]
    wanted += [(("mobile_node", i, "tlv"), node.tlv) for i, node in enumerate(configuration.mobile_node)]
    for path, tlv in wanted:
        if tlv:
            yield (
                path,
                (
                    'tlv = true needs [wire] profile = "rfc5555+rfc5845-tlv" or "draft-00": '
                    "the profile rfc5555 has no TLV header"
                ),
            )


def _about_the_pools(configuration: Configuration) -> Iterator[Mistake]:
    link = configuration.home_link
    if link.prefix_preferred_lifetime > link.prefix_valid_lifetime:
        yield (
            ("home_link", "prefix_preferred_lifetime"),
            "home_link.prefix_preferred_lifetime is longer than prefix_valid_lifetime",
        )
    pools = {"ipv4_pool": link.ipv4_pool, "ipv4_prefix_pool": link.ipv4_prefix_pool}
    for key, pool in pools.items():
        if pool is not None and (pool.is_multicast or pool.is_loopback or pool.is_link_local):
            yield ("home_link", key), f"home_link.{key} = {pool} holds no usable unicast addresses"
    if link.ipv4_pool and link.ipv4_prefix_pool and link.ipv4_pool.overlaps(link.ipv4_prefix_pool):
        at: KeyPath = ("home_link", "ipv4_prefix_pool")
        yield at, f"home_link.ipv4_prefix_pool overlaps ipv4_pool = {link.ipv4_pool}"
    if link.ipv4_prefix and link.ipv4_prefix_pool and link.ipv4_prefix_pool.overlaps(link.ipv4_prefix):
        yield (
            ("home_link", "ipv4_prefix_pool"),
            f"home_link.ipv4_prefix_pool overlaps the home link itself, {link.ipv4_prefix}",
        )


def _about_addresses(
    configuration: Configuration,
    node: MobileNode,
    at: KeyPath,
    taken_ipv6: dict[IPv6Address, str],
    taken_ipv4: dict[IPv4Address, str],
) -> Iterator[Mistake]:
    prefix = configuration.home_link.ipv6_prefix
    home = node.home_address
    if home not in prefix or home.is_link_local or home.is_multicast:
        yield (*at, "home_address"), f"home_address {home} is not a unicast address of the home link {prefix}"
    if home in taken_ipv6:
        yield (*at, "home_address"), f"home_address {home} already belongs to {taken_ipv6[home]}"
    taken_ipv6[home] = node.label
    if isinstance(node.ipv4, IPv4Address):
        if not is_usable_ipv4(node.ipv4):
            yield (*at, "ipv4"), f"ipv4 = {node.ipv4} is not a usable unicast address"
        if node.ipv4 in taken_ipv4:
            yield (*at, "ipv4"), f"ipv4 = {node.ipv4} already belongs to {taken_ipv4[node.ipv4]}"
        taken_ipv4[node.ipv4] = node.label
    if node.ipv4_prefix_requests and configuration.home_link.ipv4_prefix_pool is None:
        yield (*at, "ipv4_prefix_requests"), "ipv4_prefix_requests = true needs [home_link] ipv4_prefix_pool"


def _about_prefixes(configuration: Configuration, node: MobileNode, at: KeyPath) -> Iterator[Mistake]:
    link, agent = configuration.home_link, configuration.home_agent
    for prefix in node.prefixes:
        if prefix.overlaps(link.ipv6_prefix) or agent.ipv6 in prefix or not is_mobile_prefix(prefix):
            yield (*at, "prefixes"), f"prefix {prefix} is not a unicast prefix apart from the home link"
    for ipv4 in node.ipv4_prefixes:
        on_link = link.ipv4_prefix is not None and ipv4.overlaps(link.ipv4_prefix)
        if on_link or agent.ipv4 in ipv4 or not is_usable_ipv4(ipv4.network_address):
            yield (*at, "ipv4_prefixes"), f"prefix {ipv4} is not a unicast prefix apart from the home link"


def _about_overlaps(
    configuration: Configuration, key: Literal["prefixes", "ipv4_prefixes"]
) -> Iterator[Mistake]:
    """Prefixes of one mobile node inside those of another: in their order each follows what is around it."""
    nodes = configuration.mobile_node
    claims = [(prefix, index) for index, node in enumerate(nodes) for prefix in getattr(node, key)]
    around: list[tuple[IPv4Network | IPv6Network, int]] = []
    for prefix, index in sorted(claims, key=lambda claim: (claim[0].network_address, claim[0].prefixlen)):
        while around and not around[-1][0].overlaps(prefix):
            around.pop()
        for other, owner in around:
            if owner != index:
                late, early = ((prefix, index), owner) if index > owner else ((other, owner), index)
                at: KeyPath = ("mobile_node", late[1], key)
                yield at, f"prefix {late[0]} overlaps a prefix of {nodes[early].label}"
                break
        around.append((prefix, index))


def is_usable_ipv4(address: IPv4Address) -> bool:
    """Whether a host can have this address: unicast, neither loopback nor link-local nor reserved."""
    first, second, _, _ = address.packed
    return 0 < first < 224 and first != 127 and (first, second) != (169, 254)


def is_mobile_prefix(prefix: IPv6Network) -> bool:
    """Whether a mobile network can have this prefix: unicast beyond the link, with a bit to spare."""
    address = prefix.network_address
    return 3 <= prefix.prefixlen <= 127 and not (
        address.is_multicast or address.is_link_local or address.is_loopback or address.is_unspecified
    )
