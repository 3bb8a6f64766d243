"""What the mobile node is told.

Pure.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, IPv6Network

from mn_agent.binding_update_list import HomeAgent
from movement.snapshot import Snapshot
from tunnel.path import Arrival
from wire.advertisement import WayOut
from wire.http import Answer
from wire.probe import Probe
from wire.router_probes import NeighbourAnswer


@dataclass(frozen=True, slots=True)
class NetworkChanged:
    """The links, addresses and routers of this host are now `snapshot`.

    `hinted_at` is when the kernel first told of the change, `heard_at` when payload last came in through the
    tunnel (seconds of CLOCK_BOOTTIME; 0.0 for never).
    """

    snapshot: Snapshot
    hinted_at: float
    heard_at: float = 0.0


@dataclass(frozen=True, slots=True)
class ControlReceived:
    """A whole IPv6 packet that carries a mobility message, just as it arrived."""

    packet: bytes
    arrival: Arrival


@dataclass(frozen=True, slots=True)
class EchoHeard:
    """`remote` has answered an echo sent from `care_of` on `interface`. Anybody on the way can say so."""

    interface: str
    care_of: IPv4Address | IPv6Address
    remote: IPv4Address | IPv6Address
    identifier: int
    sequence: int
    data: bytes


@dataclass(frozen=True, slots=True)
class RouterSaid:
    """A router on `interface` has advertised. Anybody on the link can."""

    interface: str
    way_out: WayOut


@dataclass(frozen=True, slots=True)
class DhcpSaid:
    """A DHCP server on `interface` has answered; `portal` as in a WayOut. Anybody on the link can."""

    interface: str
    portal: str | None


@dataclass(frozen=True, slots=True)
class Nat64Found:
    """DNS has shown these prefixes, to who asked through `interface`."""

    interface: str
    prefixes: tuple[IPv6Network, ...]


@dataclass(frozen=True, slots=True)
class WebAnswered:
    """What came back for the FetchPage of this number; None: nothing that could be read."""

    number: int
    answer: Answer | None


@dataclass(frozen=True, slots=True)
class ProbeAnswered:
    """The home agent has answered `probe` through the tunnel; not `whole`: in fragments."""

    probe: Probe
    whole: bool = True


@dataclass(frozen=True, slots=True)
class HomeAgentsFound:
    """DNS answered: home agents, best first, addresses paired by name."""

    home_agents: tuple[HomeAgent, ...]


@dataclass(frozen=True, slots=True)
class HomeAgentsUnknown:
    """DNS gave no usable answer."""

    problem: str


@dataclass(frozen=True, slots=True)
class PathLastUsed:
    """When a datagram last left through the present path, and when payload last came in by any.

    Seconds of CLOCK_BOOTTIME; 0.0 for never.
    """

    sent_at: float
    received_at: float


@dataclass(frozen=True, slots=True)
class PathSilent:
    """Payload leaves and nothing comes back."""


@dataclass(frozen=True, slots=True)
class LinkUnusable:
    """Sockets could not be opened at, or a message not sent from, this care-of address."""

    care_of: IPv4Address | IPv6Address
    why: str


@dataclass(frozen=True, slots=True)
class NeighbourAnswered:
    """A neighbour on a link that was probed has said something. Anybody could have."""

    interface: str
    answer: NeighbourAnswer


@dataclass(frozen=True, slots=True)
class Roam:
    """The user wants another attachment: a link, a family, or (both None) the best one again."""

    to: str | None
    family: int | None


@dataclass(frozen=True, slots=True)
class Check:
    """The user wants to know what every way to the home agent is like now."""


@dataclass(frozen=True, slots=True)
class Refresh:
    """The user wants the binding refreshed now."""


@dataclass(frozen=True, slots=True)
class Resumed:
    """The host was asleep for `slept` seconds. The links as they are now were told before."""

    slept: float


@dataclass(frozen=True, slots=True)
class Stop:
    """Deregister, then finish."""


Event = (
    NetworkChanged
    | ControlReceived
    | EchoHeard
    | RouterSaid
    | DhcpSaid
    | WebAnswered
    | ProbeAnswered
    | Nat64Found
    | HomeAgentsFound
    | HomeAgentsUnknown
    | PathLastUsed
    | PathSilent
    | LinkUnusable
    | NeighbourAnswered
    | Roam
    | Check
    | Refresh
    | Resumed
    | Stop
)
