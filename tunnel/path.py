"""TunnelPath: the one immutable value in which control plane and data plane meet.

Pure. RFC 5555 section 4.1 (tunnelling formats), RFC 2473, RFC 2003; RFC 4303, RFC 4106 and RFC 3948 (payload
protection).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from ipaddress import IPv4Address, IPv6Address

IPV4_HEADER = 20
IPV6_HEADER = 40
UDP_HEADER = 8
TLV_HEADER = 4
PAYLOAD_ESP = 8 + 8 + 2 + 16
"""ESP header, initialisation vector, trailer without padding, ICV of AES-GCM (RFC 4106)."""
PAYLOAD_ESP_ALIGNMENT = 4
"""Inner packet and trailer are padded to a multiple of this."""


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
    ESP = "esp"
    """Tunnel-mode ESP directly in the outer header (protocol 50): protected payload on IPv6 links."""
    ESP_UDP = "esp-udp"
    """Tunnel-mode ESP in UDP port 4500: protected payload on IPv4 links."""

    # Worked out once: both are asked for several times with every Binding Update.
    in_udp: bool
    protected: bool
    """Whether only the two ends can read and write what travels."""

    def __init__(self, name: str) -> None:
        words = name.split("-")
        self.in_udp = "udp" in words
        self.protected = "esp" in words


@dataclass(frozen=True, slots=True)
class TunnelPath:
    """One way to the other end of the tunnel. A handover is the assignment of another one.

    `local` and `remote` are of one family. Ports are zero unless the encapsulation is in UDP; a local port of
    zero is that of whatever underlay is open at `local`.
    `interface` is the physical link, or "" where routing decides (home agent).
    `link_mtu` is the MTU of the outer packet in octets.
    `spi` names the pair of security associations by the SPI under which this end receives; the keys are in
    the keyring of the endpoint. Zero without protection, and while there are no keys: then nothing passes.
    `translated`: a NAT64 is on the way. At the mobile node the link carries IPv6 instead of what stands here,
    and a NAT64 may drop datagrams without a checksum: a tier that writes outer headers leaves it to sockets.
    """

    local: IPv4Address | IPv6Address
    remote: IPv4Address | IPv6Address
    encapsulation: Encapsulation
    local_port: int = 0
    remote_port: int = 0
    interface: str = ""
    link_mtu: int = 1500
    spi: int = 0
    translated: bool = False

    @property
    def overhead(self) -> int:
        """Octets around the inner packet, the padding of ESP left out."""
        outer = IPV4_HEADER if self.local.version == 4 else IPV6_HEADER
        match self.encapsulation:
            case Encapsulation.IP_IN_IP:
                return outer
            case Encapsulation.UDP:
                return outer + UDP_HEADER
            case Encapsulation.UDP_TLV_DRAFT | Encapsulation.UDP_TLV:
                return outer + UDP_HEADER + TLV_HEADER
            case Encapsulation.ESP:
                return outer + PAYLOAD_ESP
            case Encapsulation.ESP_UDP:
                return outer + UDP_HEADER + PAYLOAD_ESP

    @property
    def inner_mtu(self) -> int:
        """The largest inner packet that fits, in octets."""
        return self.room_in(self.link_mtu)

    def room_in(self, outer: int) -> int:
        """The largest inner packet that fits an outer one of `outer` octets."""
        room = outer - self.overhead
        if not self.encapsulation.protected:
            return room
        # With the two octets of the trailer a multiple of four; rounding up would not fit any more.
        return room - (room + 2) % PAYLOAD_ESP_ALIGNMENT


HELD = "-"
"""In place of the interface of a path by which nothing leaves: no underlay has this name."""


def held(path: TunnelPath) -> TunnelPath:
    """`path`, but what would leave by it waits until a data plane has told that there is something."""
    return replace(path, interface=HELD)


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
