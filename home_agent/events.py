"""What the home agent is told.

Pure.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from tunnel.path import Arrival

Address = IPv4Address | IPv6Address


@dataclass(frozen=True, slots=True)
class Start:
    """The shell is ready: put everything that was remembered into effect."""


@dataclass(frozen=True, slots=True)
class ControlReceived:
    """A whole IPv6 packet that carries a mobility message, just as it arrived."""

    packet: bytes
    arrival: Arrival


@dataclass(frozen=True, slots=True)
class Probed:
    """The answer to ProbeAddresses: which of them somebody on the home link already uses."""

    home_address: IPv6Address
    addresses: frozenset[Address]
    in_use: frozenset[Address]


@dataclass(frozen=True, slots=True)
class Revoke:
    """The operator ends the binding of this home address."""

    home_address: IPv6Address


@dataclass(frozen=True, slots=True)
class SecondPortOpen:
    """Questions about NATs arrive at this UDP port, too, and are answered from there."""

    port: int


Event = Start | ControlReceived | Probed | Revoke | SecondPortOpen
