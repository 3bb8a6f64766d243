"""What the mobile node asks its shell to do.

Pure. Actions towards kernel and data plane are whole desired states, never deltas.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from mn_agent.discovery import Query
from movement.policy import Attachment
from movement.visit import Ask
from tunnel.endpoint import EndpointConfig
from tunnel.forwarding import Route
from tunnel.kernel import KernelConfig
from tunnel.link_filter import Watch
from tunnel.path import TunnelPath
from wire.http import Page
from wire.probe import Probe


@dataclass(frozen=True, slots=True)
class KeepUnderlays:
    """Exactly these attachments have sockets open: open what is missing, close the rest."""

    attachments: tuple[Attachment, ...]


@dataclass(frozen=True, slots=True)
class ExpectLinks:
    """Exactly these links may soon have an attachment: prepare what takes longer than a handover may."""

    interfaces: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SendControl:
    """Send one mobility message: `packet` is a whole IPv6 packet.

    From an IPv4 care-of address it goes in UDP to `remote`:`port`; from an IPv6 one as it is.
    """

    care_of: IPv4Address | IPv6Address
    remote: IPv4Address | IPv6Address
    port: int
    packet: bytes


@dataclass(frozen=True, slots=True)
class SendIcmp:
    """The same for a message of discovery, which is no mobility message but ICMPv6."""

    care_of: IPv4Address | IPv6Address
    remote: IPv4Address | IPv6Address
    port: int
    packet: bytes


@dataclass(frozen=True, slots=True)
class SendEcho:
    """Ask `remote` for an echo, from `attachment` and through its link; an answer comes back as EchoHeard."""

    attachment: Attachment
    remote: IPv4Address | IPv6Address
    identifier: int
    sequence: int
    data: bytes


@dataclass(frozen=True, slots=True)
class AskRouters:
    """Solicit the routers on `interface`; what they say comes back as RouterSaid."""

    interface: str


@dataclass(frozen=True, slots=True)
class AskDhcp:
    """Ask the DHCP servers on `interface`, where this host has `address`; it comes back as DhcpSaid."""

    interface: str
    address: IPv4Address


@dataclass(frozen=True, slots=True)
class AskNat64:
    """Ask DNS for what shows the prefix of a NAT64; it comes back as Nat64Found for `interface`, or not."""

    interface: str


@dataclass(frozen=True, slots=True)
class FetchPage:
    """Ask a web server for `page`, from `attachment`; WebAnswered with `number` comes back, or nothing."""

    attachment: Attachment
    page: Page
    number: int
    accept: str


@dataclass(frozen=True, slots=True)
class SendProbe:
    """Send `probe` from a home address to `home_agent` as payload: into the tunnel, whatever carries it.

    An answer comes back as ProbeAnswered.
    """

    home_address: IPv6Address
    home_agent: IPv6Address
    probe: Probe


@dataclass(frozen=True, slots=True)
class InstallRoutes:
    """The data plane forwards by `routes` from now on: this is the handover."""

    routes: tuple[Route, ...]


@dataclass(frozen=True, slots=True)
class AnnouncePath:
    """Show the home agent, and NATs, this end of the protected `path`, if it was idle for `idle` seconds."""

    path: TunnelPath
    idle: float = 0.0


@dataclass(frozen=True, slots=True)
class ConfigureEndpoint:
    """The data plane tells control packets and nested tunnels from payload by `config`."""

    config: EndpointConfig


@dataclass(frozen=True, slots=True)
class SendAgain:
    """Packets from the home addresses `homes` that were sent since `since` went into a path that was gone."""

    homes: tuple[IPv4Network | IPv6Network, ...]
    since: float


@dataclass(frozen=True, slots=True)
class WatchLink:
    """Keep what is sent on the home link, by `watch`; what was kept by the watch before is still there once.

    None: the mobile node is not there.
    """

    watch: Watch | None


@dataclass(frozen=True, slots=True)
class SendOnLink:
    """What was sent from `homes` since `since` went into a path that was gone: send it on the home link."""

    homes: tuple[IPv4Network | IPv6Network, ...]
    since: float
    interface: str


@dataclass(frozen=True, slots=True)
class DeliverKept:
    """What came to `homes` on the home link before they were at home there is theirs now."""

    homes: tuple[IPv4Network | IPv6Network, ...]


@dataclass(frozen=True, slots=True)
class ConfigureKernel:
    """Addresses, rules, routes and guard of this host are `config` from now on."""

    config: KernelConfig


@dataclass(frozen=True, slots=True)
class AnnounceHome:
    """`addresses` are at home on `interface`: tell the neighbours of new ones. None of them: not at home."""

    interface: str
    addresses: tuple[IPv4Address | IPv6Address, ...]


@dataclass(frozen=True, slots=True)
class AskDns:
    """Find home agents; answer with HomeAgentsFound or HomeAgentsUnknown."""

    query: Query


@dataclass(frozen=True, slots=True)
class AskPathUse:
    """Answer with PathLastUsed for `path`."""

    path: TunnelPath


@dataclass(frozen=True, slots=True)
class ListenOnLinks:
    """On exactly these interfaces; answer with NeighbourAnswered."""

    interfaces: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ProbeLink:
    """Ask neighbours on `interface` whether they are the routers that we know."""

    interface: str
    ask: Ask


@dataclass(frozen=True, slots=True)
class Remember:
    """Write this to disk, for the next start. It never holds a key."""

    state: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class RememberNetworks:
    """Write this to disk, too: the networks that were met."""

    document: bytes


@dataclass(frozen=True, slots=True)
class Report:
    """Something a person or a script may want to know: one event of `mnctl events`."""

    event: str
    fields: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Finished:
    """Deregistered, or given up: the shell may end."""


Action = (
    KeepUnderlays
    | ExpectLinks
    | SendControl
    | SendIcmp
    | SendEcho
    | AskRouters
    | AskDhcp
    | FetchPage
    | SendProbe
    | AskNat64
    | InstallRoutes
    | AnnouncePath
    | ConfigureEndpoint
    | SendAgain
    | WatchLink
    | SendOnLink
    | DeliverKept
    | ConfigureKernel
    | AnnounceHome
    | AskDns
    | AskPathUse
    | ListenOnLinks
    | ProbeLink
    | Remember
    | RememberNetworks
    | Report
    | Finished
)
