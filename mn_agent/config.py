"""Configuration of the mobile node: TOML text to one checked, frozen value.

Pure. Every key is described in docs/configuration.md; common use needs fewer than ten lines.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Annotated, Literal

import msgspec

from runtime.settings import decode_toml
from tunnel.plane import DataPlaneChoice
from wire.http import page_of
from wire.prefix import prefix_of
from wire.profile import Profile, profile_named

DYNAMIC_IPV4 = IPv4Address("0.0.0.0")
"""The IPv4 home address that asks the home agent to allocate one (draft section 2.5)."""

MAX_IPV4_PREFIXES = 7
"""Ours looks at eight IPv4 Home Address options of a Binding Update; one is for the home address."""

Port = Annotated[int, msgspec.Meta(ge=1, le=65535)]
Lifetime = Annotated[int, msgspec.Meta(ge=12, le=262140)]
Seconds = Annotated[float, msgspec.Meta(ge=0.2, le=32.0)]
KeepalivePeriod = Annotated[float, msgspec.Meta(ge=2.0, le=3600.0)]
PrefixLength = Annotated[int, msgspec.Meta(ge=8, le=30)]


class _Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A TOML table in which an unknown key is an error."""


class HomeSection(_Section, frozen=True):
    """[home]: the addresses that stay."""

    ipv6: IPv6Address
    ipv4: IPv4Address | Literal["dynamic"] | None = None
    ipv4_prefixes: tuple[IPv4Network, ...] = ()
    """Reached through the tunnel, whatever a visited network has on its link (docs/security.md)."""

    def __post_init__(self) -> None:
        address = self.ipv6
        if address.is_link_local or address.is_multicast or address.is_loopback or address.is_unspecified:
            raise ValueError(f"ipv6 = {address} is not a routable unicast address")


class HomeAgentSection(_Section, frozen=True):
    """[home_agent]: by name (A and AAAA), service (SRV), both addresses, or the home prefix (anycast)."""

    name: str | None = None
    service: str | None = None
    ipv6: IPv6Address | None = None
    ipv4: IPv4Address | None = None
    prefix: IPv6Network | None = None
    """Of the home link, where home agents are asked by their anycast address; beside name or service, too."""
    port: Port = 4191

    def __post_init__(self) -> None:
        by_address = self.ipv6 is not None or self.ipv4 is not None
        ways = sum((self.name is not None, self.service is not None, by_address))
        if ways != 1 and (ways or self.prefix is None):
            raise ValueError(
                'needs exactly one of name = "ha.example.net", service = "example.net" (SRV), '
                'or the two addresses ipv6 = and ipv4 =; or prefix = "2001:db8:99::/64" (anycast)'
            )
        if self.prefix is not None and by_address:
            raise ValueError("prefix finds what ipv6 and ipv4 say already: leave one of them out")
        if self.prefix is not None and self.prefix.prefixlen != 64:
            raise ValueError(f"prefix = {self.prefix} has no anycast address of home agents: /64 is needed")
        if by_address and self.ipv6 is None:
            raise ValueError("ipv4 needs ipv6 beside it: bindings are made with the IPv6 address")


class SecuritySection(_Section, frozen=True):
    """[security]: manual keys of the security associations with the home agent."""

    key_file: str


class WireSection(_Section, frozen=True):
    """[wire]: which numbering of flags and which TLV header both ends use."""

    profile: Literal["rfc5555", "rfc5555+rfc5845-tlv", "draft-00"] = "rfc5555"
    strict_presence: bool = False
    """Take a NAT detection option as "use UDP" whatever it says, as the draft's sections 4.2 and 4.4 do."""


class MovementSection(_Section, frozen=True):
    """[movement]: which links may be used, and which are preferred."""

    interfaces: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()
    metered: tuple[str, ...] = ()
    prefer_ipv6: bool = True
    addresses: Literal["observe", "agent"] = "observe"
    """Who sets the address of a network that was recognised: others, as ever, or this agent at once."""
    hysteresis: Annotated[float, msgspec.Meta(ge=0.0, le=60.0)] = 1.0
    """Seconds that a link which keeps coming and going must stay, before a working one is left for it."""


class PortalSection(_Section, frozen=True):
    """[portal]: how captive portals are found that do not say themselves where they are."""

    probe_url: str = ""
    """A page whose answer is known; asked for only while the home agent does not answer. Empty: none is."""
    probe_expect: Annotated[str, msgspec.Meta(min_length=1, max_length=200)] = "204"
    """The status of that page, or a text in it."""

    def __post_init__(self) -> None:
        if self.probe_url:
            page_of(self.probe_url)


class RoutingSection(_Section, frozen=True):
    """[routing]: what goes into the tunnel."""

    mode: Literal["lan", "strict", "home-only"] = "lan"


class TunnelSection(_Section, frozen=True):
    """[tunnel]: the TUN device and how packets are wrapped."""

    device: Annotated[str, msgspec.Meta(min_length=1, max_length=15)] = "mip0"
    force_udp: bool = False
    tlv: bool = False
    protect_payload: bool = False
    """Payload travels in ESP, or not at all; the home agent has to be configured alike."""
    data_plane: DataPlaneChoice = "auto"
    """What carries the packets; where it cannot be had, the next slower one does."""


class BindingSection(_Section, frozen=True):
    """[binding]: what is asked of the home agent."""

    lifetime: Lifetime = 420
    reachable: bool = True
    retry_unacknowledged_ipv4: bool = False
    first_registration_timeout: Seconds = 1.5
    nat_keepalive: KeepalivePeriod | None = None
    """At most that long between keepalives, in place of what the home agent suggests."""


class RouterSection(_Section, frozen=True):
    """[router]: this node is a mobile router; these networks are behind it (RFC 3963)."""

    interfaces: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)]
    """The ingress interfaces, where those networks are; shell patterns."""
    mode: Literal["explicit", "implicit"] = "explicit"
    """Whether each Binding Update names the IPv6 prefixes, or the home agent knows them."""
    ipv6_prefixes: tuple[IPv6Network, ...] = ()
    ipv4_prefixes: tuple[IPv4Network, ...] = ()
    ipv4_prefix_requests: tuple[PrefixLength, ...] = ()
    """Lengths of further IPv4 prefixes, which the home agent allocates."""

    def __post_init__(self) -> None:
        ipv4 = len(self.ipv4_prefixes) + len(self.ipv4_prefix_requests)
        if not self.ipv6_prefixes and not ipv4:
            raise ValueError("needs ipv6_prefixes, ipv4_prefixes or ipv4_prefix_requests: what is behind it?")
        if self.mode == "explicit" and not self.ipv6_prefixes:
            raise ValueError('mode = "explicit" names IPv6 prefixes; without any, use mode = "implicit"')
        if ipv4 > MAX_IPV4_PREFIXES:
            raise ValueError(f"{ipv4} IPv4 prefixes are more than one Binding Update asks for")
        prefixes: tuple[IPv4Network | IPv6Network, ...] = (*self.ipv6_prefixes, *self.ipv4_prefixes)
        for prefix in prefixes:
            if not _is_routed(prefix):
                raise ValueError(f"{prefix} is not a unicast prefix that hosts can have")


class LogSection(_Section, frozen=True):
    """[log]: how much is told on standard error."""

    level: Literal["debug", "info", "warning", "error"] = "info"


class PathsSection(_Section, frozen=True):
    """[paths]: where the agent keeps its control socket and its memory."""

    control_socket: str = "/run/mn-agent/control.sock"
    runtime_directory: str = "/run/mn-agent"
    state_directory: str = "/var/lib/mn-agent"


class Configuration(_Section, frozen=True):
    """The whole of mn-agent.toml."""

    home: HomeSection
    home_agent: HomeAgentSection
    security: SecuritySection
    wire: WireSection = WireSection()
    movement: MovementSection = MovementSection()
    portal: PortalSection = PortalSection()
    routing: RoutingSection = RoutingSection()
    tunnel: TunnelSection = TunnelSection()
    binding: BindingSection = BindingSection()
    router: RouterSection | None = None
    log: LogSection = LogSection()
    paths: PathsSection = PathsSection()

    def __post_init__(self) -> None:
        if self.tunnel.tlv and self.profile.tlv is None:
            raise ValueError(
                'tunnel.tlv = true needs [wire] profile = "rfc5555+rfc5845-tlv" or "draft-00": '
                "the profile rfc5555 has no TLV header"
            )
        if self.tunnel.tlv and self.tunnel.protect_payload:
            raise ValueError("tunnel.tlv = true and protect_payload = true exclude each other")
        if self.home.ipv6 not in self.home_prefix:
            raise ValueError(f"home.ipv6 = {self.home.ipv6} is not in home_agent.prefix = {self.home_prefix}")

    @property
    def profile(self) -> Profile:
        return profile_named(self.wire.profile)

    @property
    def home_prefix(self) -> IPv6Network:
        """Of the home link: as configured, else the 64 bits before the interface identifier (RFC 4291)."""
        return self.home_agent.prefix or prefix_of(self.home.ipv6, 64)

    @property
    def ingress(self) -> tuple[str, ...]:
        """Names or patterns of the interfaces to networks behind this node; never a way to the Internet."""
        return () if self.router is None else self.router.interfaces

    @property
    def requested_ipv4(self) -> IPv4Address | None:
        """What the IPv4 Home Address option asks for; None when no IPv4 home address is wanted."""
        return DYNAMIC_IPV4 if self.home.ipv4 == "dynamic" else self.home.ipv4


def parse_configuration(text: str, name: str = "mn-agent.toml") -> Configuration:
    """Check the text of a configuration file.

    Raises ConfigError with one `file:line: message` for everything that is wrong.
    """
    return decode_toml(text, name, Configuration)


def _is_routed(prefix: IPv4Network | IPv6Network) -> bool:
    address = prefix.network_address
    unusable = address.is_multicast or address.is_loopback or address.is_link_local or address.is_unspecified
    return 3 <= prefix.prefixlen < prefix.max_prefixlen and not unusable
