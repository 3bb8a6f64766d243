"""TunnelPath: the one immutable value in which control plane and data plane meet.

Pure. RFC 5555 section 4.1 (tunnelling formats), RFC 2473, RFC 2003.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from ipaddress import IPv4Address, IPv6Address

IPV4_HEADER = 20
IPV6_HEADER = 40
UDP_HEADER = 8
TLV_HEADER = 4


class Encapsulation(Enum):
    """How an inner packet travels between the care-of address and the home agent."""

    IP_IN_IP = "ip-in-ip"
    """Protocol 4 or 41 directly in the outer header, of either outer family."""
    UDP = "udp"
    """The inner packet right after the UDP header ("vanilla")."""
    UDP_TLV_DRAFT = "udp-tlv-draft"
    """UDP, then the four-octet TLV header of draft-ietf-mext-nemo-v4traversal-00."""
    UDP_TLV = "udp-tlv"
    """UDP, then the four-octet TLV header of RFC 5845."""

    @property
    def in_udp(self) -> bool:
        return self is not Encapsulation.IP_IN_IP


@dataclass(frozen=True, slots=True)
class TunnelPath:
    """One way to the other end of the tunnel. A handover is the assignment of another one.

    `local` and `remote` are of one family. Ports are zero unless the encapsulation is in UDP; a local port of
    zero is that of whatever underlay is open at `local`.
    `interface` is the physical link, or "" where routing decides (home agent).
    `link_mtu` is the MTU of the outer packet in octets.
    """

    local: IPv4Address | IPv6Address
    remote: IPv4Address | IPv6Address
    encapsulation: Encapsulation
    local_port: int = 0
    remote_port: int = 0
    interface: str = ""
    link_mtu: int = 1500

    @property
    def overhead(self) -> int:
        """Octets in front of the inner packet."""
        outer = IPV4_HEADER if self.local.version == 4 else IPV6_HEADER
        match self.encapsulation:
            case Encapsulation.IP_IN_IP:
                return outer
            case Encapsulation.UDP:
                return outer + UDP_HEADER
            case Encapsulation.UDP_TLV_DRAFT | Encapsulation.UDP_TLV:
                return outer + UDP_HEADER + TLV_HEADER

    @property
    def inner_mtu(self) -> int:
        """The largest inner packet that fits, in octets."""
        return self.link_mtu - self.overhead


@dataclass(frozen=True, slots=True)
class Arrival:
    """Where a datagram came in: outer addresses and UDP ports (zero when not in UDP)."""

    local: IPv4Address | IPv6Address
    remote: IPv4Address | IPv6Address
    local_port: int = 0
    remote_port: int = 0
    interface: str = ""


@dataclass(frozen=True, slots=True)
class Drop:
    """A refusal: why a packet goes no further. Counted, never raised, never logged per packet."""

    reason: str
