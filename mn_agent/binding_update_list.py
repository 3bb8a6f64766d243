"""Bindings as the mobile node knows them: what a home agent has accepted, and for how long.

Pure. RFC 6275 section 11.1 (Binding Update List), draft section 4.4, RFC 5555 section 4.4.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from movement.policy import Attachment
from tunnel.path import TunnelPath


@dataclass(frozen=True, slots=True)
class HomeAgent:
    """One home agent. Its two addresses always come from one name (draft section 2.1)."""

    name: str
    ipv6: IPv6Address | None
    ipv4: IPv4Address | None
    port: int = 4191

    def serves(self, care_of: IPv4Address | IPv6Address) -> bool:
        """Can a binding with this care-of address be made here? The inner packet needs IPv6."""
        return self.ipv6 is not None and (care_of.version == 6 or self.ipv4 is not None)


@dataclass(frozen=True, slots=True)
class Target:
    """Where a registration goes, and through what."""

    attachment: Attachment
    home_agent: HomeAgent
    at_home: bool = False
    """The attachment is the home link, and the care-of address is the home address."""

    @property
    def care_of(self) -> IPv4Address | IPv6Address:
        return self.attachment.care_of

    @property
    def outer_destination(self) -> IPv4Address | IPv6Address:
        """The home agent's address in the family of the care-of address."""
        address = self.home_agent.ipv6 if self.care_of.version == 6 else self.home_agent.ipv4
        assert address is not None, "a target is made only of a home agent that serves its care-of address"
        return address

    def is_in(self, attachments: Iterable[Attachment]) -> bool:
        """Whether this place is among them, and has been there all the time."""
        return any(_place(attachment) == _place(self.attachment) for attachment in attachments)

    def same_as(self, other: Target) -> bool:
        """Metrics and routers may change without a movement; what is registered may not."""
        return (
            self.home_agent == other.home_agent
            and _place(self.attachment) == _place(other.attachment)
            and self.attachment.mtu == other.attachment.mtu
        )


def places(attachments: Iterable[Attachment]) -> list[tuple[str, IPv4Address | IPv6Address, int]]:
    """What makes each attachment another one: its link, its care-of address, and that the carrier stayed."""
    return [_place(attachment) for attachment in attachments]


def _place(attachment: Attachment) -> tuple[str, IPv4Address | IPv6Address, int]:
    return attachment.interface, attachment.care_of, attachment.carrier_losses


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the binding update list: one home address or mobile network prefix (draft section 4.4)."""

    home_address: IPv4Address | IPv6Address | IPv4Network | IPv6Network
    care_of: IPv4Address | IPv6Address
    encapsulation: str
    expires_at: float


@dataclass(frozen=True, slots=True)
class RefusedPrefix:
    """An IPv4 prefix that the home agent did not grant: status, or None if it did not answer."""

    address: IPv4Address
    length: int
    status: int | None


@dataclass(frozen=True, slots=True)
class Binding:
    """A home registration that the home agent accepted.

    `sent_at` is the instant at which the accepted Binding Update left: lifetimes count from it,
    since the home agent cannot have started its clock earlier. `keepalive` is the period in
    seconds of keepalives, None when the mapping needs none. `nat` is None on IPv6 links.
    `observed` is the address, and port, that the home agent saw, if it tells. `prefixes` are the mobile
    network prefixes that it forwards to us as a `router`.
    """

    target: Target
    home_address: IPv6Address
    ipv4_home_address: IPv4Address | None
    ipv4_prefix_length: int
    ipv4_status: int | None
    path: TunnelPath
    status: int
    sequence: int
    lifetime: int
    sent_at: float
    accepted_at: float
    refresh_at: float
    expires_at: float
    keepalive: float | None
    nat: bool | None
    observed: str | None
    router: bool = False
    prefixes: tuple[IPv4Network | IPv6Network, ...] = ()
    refused_prefixes: tuple[RefusedPrefix, ...] = ()

    @property
    def entries(self) -> tuple[Entry, ...]:
        """The binding update list: an entry per home address and mobile network prefix."""
        homes: list[IPv4Address | IPv6Address | IPv4Network | IPv6Network] = [self.home_address]
        if self.ipv4_home_address is not None:
            homes.append(self.ipv4_home_address)
        homes += self.prefixes
        encapsulation = self.path.encapsulation.value
        return tuple(Entry(home, self.target.care_of, encapsulation, self.expires_at) for home in homes)
