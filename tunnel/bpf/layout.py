"""What programs and user space share: routes by home address, tallies, switches, and recent packets.

Pure. All numbers are in the order of the machine; addresses and ports as they are in packets.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from tunnel.path import Encapsulation, TunnelPath
from wire.profile import TlvLayout

Address = IPv4Address | IPv6Address


class Wrapping(IntEnum):
    """How a program wraps; NONE leaves packets to user space."""

    NONE = 0
    UDP = 1
    UDP_TLV = 2
    UDP_TLV_DRAFT = 3
    IP_IN_IPV4 = 4
    IP_IN_IPV6 = 5


class Verdict(IntEnum):
    """What a program says about a packet."""

    PASS = 0
    DROP = 2
    REDIRECT = 7


# ---- routes: the value of HOMES and NETWORKS --------------------------------------------------------------
ROUTE = struct.Struct("=IIIBBxx16s16s2s2s4x")
LANE, IFINDEX, LIMIT, WRAPPING, OVERHEAD = 0, 4, 8, 12, 13
LOCAL, REMOTE, LOCAL_PORT, REMOTE_PORT = 16, 32, 48, 50
PEER = struct.Struct("=16s16s2s2s4x")
PEER_REMOTE, PEER_LOCAL, PEER_REMOTE_PORT, PEER_LOCAL_PORT = 0, 16, 32, 34
PEERS = 4
"""Outer sources of one home address that a program knows; more of them are user space's."""
FIRST_PEER = ROUTE.size
ROUTE_SIZE = ROUTE.size + PEERS * PEER.size

KEY_SIZE = 16
NETWORK_KEY_SIZE = 4 + KEY_SIZE

# ---- tallies: one slot a lane -----------------------------------------------------------------------------
TALLY_SIZE = 64
"""A line of the cache, so that two lanes do not fight for one."""
TX_PACKETS, TX_OCTETS, SENT_AT, RX_PACKETS, RX_OCTETS, RECEIVED_AT, ASKED_AT, REFUSED = range(0, 64, 8)
"""Times in nanoseconds of CLOCK_BOOTTIME. ASKED_AT: of the first packet since something came in."""

# ---- switches: the only value of their map ----------------------------------------------------------------
SWITCHES_SIZE = 16
TLV, TUN_IFINDEX, TOLD_AT = 0, 4, 8
TLV_CODE = {None: 0, TlvLayout.RFC5845: 1, TlvLayout.DRAFT: 2}

# ---- recent packets: the only value of their map -----------------------------------------------------------
ENTRIES = 2048
"""Packets that are remembered, at most."""
ENTRY = struct.Struct("=QQII")
ENTRY_AT, ENTRY_POSITION, ENTRY_LENGTH, ENTRY_SEGMENT = 0, 8, 16, 20
NEXT_ENTRY, NEXT_POSITION, FULL_UNTIL = 0, 8, 16
FIRST_ENTRY = 64
OCTETS = 4 << 20
"""Room for them, in octets; the longest packet may begin at its last one."""
LONGEST = 1 << 16
FIRST_OCTET = FIRST_ENTRY + ENTRIES * ENTRY.size
RECENT_SIZE = FIRST_OCTET + OCTETS + LONGEST


def key_of(address: Address) -> bytes:
    """An address in 16 octets. Programs take no IPv6 address that begins like this with an IPv4 one in it."""
    return key_of_octets(address.packed)


def key_of_octets(packed: bytes) -> bytes:
    """The same for an address of 4 or 16 octets."""
    return packed.rjust(KEY_SIZE, b"\0")


def network_key_of(network: IPv4Network | IPv6Network) -> bytes:
    length = network.prefixlen + (96 if network.version == 4 else 0)
    return struct.pack("=I", length) + key_of(network.network_address)


@dataclass(frozen=True, slots=True)
class KernelPeer:
    """Where packets for a home address may come from, and the own end of that; ports zero without UDP."""

    remote: Address
    local: Address
    remote_port: int
    local_port: int

    def encode(self) -> bytes:
        ports = (self.remote_port.to_bytes(2, "big"), self.local_port.to_bytes(2, "big"))
        return PEER.pack(key_of(self.remote), key_of(self.local), *ports)


@dataclass(frozen=True, slots=True)
class Exit:
    """How packets leave by a path. `ifindex` 0: routing decides."""

    path: TunnelPath
    """With its local port, whatever it is in the table."""
    ifindex: int


def encode_route(lane: int, leaving: Exit | None, peers: tuple[KernelPeer, ...]) -> bytes:
    """The value for a home address. Without a way to leave, packets are only accepted for it."""
    if leaving is None:
        head = ROUTE.pack(lane, 0, 0, Wrapping.NONE, 0, b"", b"", b"", b"")
    else:
        path = leaving.path
        head = ROUTE.pack(
            lane,
            leaving.ifindex,
            max(path.inner_mtu, 0),
            wrapping_of(path),
            path.overhead,
            key_of(path.local),
            key_of(path.remote),
            path.local_port.to_bytes(2, "big"),
            path.remote_port.to_bytes(2, "big"),
        )
    return (head + b"".join(peer.encode() for peer in peers[:PEERS])).ljust(ROUTE_SIZE, b"\0")


def wrapping_of(path: TunnelPath) -> Wrapping:
    """How programs wrap what leaves by `path`; NONE for what they cannot, which is payload in ESP."""
    version4 = path.local.version == 4
    match path.encapsulation:
        case Encapsulation.IP_IN_IP:
            return Wrapping.IP_IN_IPV4 if version4 else Wrapping.IP_IN_IPV6
        case Encapsulation.UDP if version4:
            return Wrapping.UDP
        case Encapsulation.UDP_TLV if version4:
            return Wrapping.UDP_TLV
        case Encapsulation.UDP_TLV_DRAFT if version4:
            return Wrapping.UDP_TLV_DRAFT
        case _:
            return Wrapping.NONE


@dataclass(frozen=True, slots=True)
class Descriptors:
    """The maps that programs are bound to, by their descriptors."""

    homes: int
    """Home address -> route."""
    networks: int
    """Mobile network prefix -> route; the longest one counts."""
    tallies: int
    switches: int
    recent: int
    bell: int
    """A ring buffer: an entry is the lane by which packets leave while nothing comes back."""
