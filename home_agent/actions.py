"""What the home agent asks its shell to do.

Pure. Actions towards kernel, home link and data plane are whole desired states, never deltas.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from home_agent.records import Record
from tunnel.endpoint import EndpointConfig
from tunnel.forwarding import ForwardingTable
from tunnel.kernel import KernelConfig
from tunnel.path import Arrival
from tunnel.persistent import PersistentMap

Address = IPv4Address | IPv6Address


@dataclass(frozen=True, slots=True)
class Remember:
    """This is all there is to know about one mobile node: on disk before anything is sent after it."""

    record: Record


@dataclass(frozen=True, slots=True)
class ConfigureKernel:
    """Routes, proxied neighbours and settings of this host are `config` from now on."""

    config: KernelConfig


@dataclass(frozen=True, slots=True)
class ConfigureEndpoint:
    """The data plane tells control from payload, and has the keys for protected payload, by `config`."""

    config: EndpointConfig


@dataclass(frozen=True, slots=True)
class InstallTable:
    """The data plane forwards by `table` from now on."""

    table: ForwardingTable


@dataclass(frozen=True, slots=True)
class SendAgain:
    """What was sent to `homes` since `since` went into a path that was gone: send it by the present one."""

    homes: tuple[IPv4Network | IPv6Network, ...]
    since: float


@dataclass(frozen=True, slots=True)
class SendOnLink:
    """The same for who is at home now: send it on the home link, after the answer."""

    homes: tuple[IPv4Network | IPv6Network, ...]
    since: float


@dataclass(frozen=True, slots=True)
class Defend:
    """These addresses are this home agent's to defend on the home link; announce the new ones.

    The value says whether it is a mobile router's address (the router flag of its advertisements).
    """

    addresses: PersistentMap[Address, bool]


@dataclass(frozen=True, slots=True)
class ProbeAddresses:
    """Ask on the home link whether anybody uses these addresses; answer with Probed."""

    home_address: IPv6Address
    addresses: frozenset[Address]


@dataclass(frozen=True, slots=True)
class SendControl:
    """Send one mobility message: `packet` is a whole IPv6 packet.

    It goes back where `via` came from: over IPv4 in UDP to that address and port, over IPv6 as it is.
    """

    packet: bytes
    via: Arrival


@dataclass(frozen=True, slots=True)
class Report:
    """Something a person or a script may want to know: one event of `hactl events`."""

    event: str
    fields: Mapping[str, object]


Action = (
    Remember
    | ConfigureKernel
    | ConfigureEndpoint
    | InstallTable
    | SendAgain
    | SendOnLink
    | Defend
    | ProbeAddresses
    | SendControl
    | Report
)
