"""DataPlane: what every tier of the data plane offers to the daemons, and what it needs from underlays.

Pure.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Literal, Protocol

from tunnel.endpoint import EndpointConfig
from tunnel.forwarding import ForwardingTable
from tunnel.framing import Framing
from tunnel.path import Arrival, TunnelPath

OnControl = Callable[[bytes, Arrival], None]
"""Takes a whole IPv6 control packet and where it came in. Called in the data plane's own thread."""
OnFault = Callable[[str], None]
"""Takes the reason why the data plane cannot go on as before. Called once a fault, in its own thread."""
Send = Callable[[bytes], object]
"""Sends one inner packet by one path; OSError (BlockingIOError when the queue is full) if it cannot."""


class Seal(Protocol):
    """The sealing end of what protects a path; OSError when its keys are used up."""

    def seal(self, packet: bytes) -> bytes:
        """An ESP packet of an inner packet."""
        ...

    def seal_rows(self, rows: memoryview, width: int, target: memoryview) -> int:
        """The same for many, from and to somewhere: see `tunnel.payload_esp.PayloadSealer`."""
        ...


class TrainSender(Protocol):
    """Sends many inner packets of one length by one path, in few system calls."""

    framing: Framing
    """What has to stand around each of them in its row."""

    def most(self, width: int) -> int:
        """How many rows of `width` octets leave by one system call."""
        ...

    def send(self, rows: memoryview, width: int, tos: int) -> int:
        """Send rows without gaps, each of `width` octets, the last perhaps shorter; how many have left.

        At most `most(width)` rows. OSError, and none has left, as for `Send`.
        """
        ...


OnSilence = Callable[[], None]
"""Called when packets leave for a while and none comes back, and when the first one cannot leave because its
path is held (tunnel.path.held). Called in the data plane's own thread."""


DataPlaneChoice = Literal["auto", "kernel", "offload", "portable"]
"""What `[tunnel] data_plane` may say."""


class Tier(Enum):
    """From the fastest to the one that works everywhere."""

    KERNEL = "kernel"
    OFFLOAD = "offload"
    PORTABLE = "portable"


@dataclass(frozen=True, slots=True)
class TierReport:
    """Which tier is in use, which was asked for, and why it is not a faster one (None: none is faster)."""

    tier: Tier
    configured: DataPlaneChoice
    why: str | None

    def describe(self) -> dict[str, object]:
        """`data_plane` of `mnctl status --json` and `hactl status --json`."""
        return {"tier": self.tier.value, "configured": self.configured, "why": self.why}


@dataclass(frozen=True, slots=True)
class Counters:
    """Inner packets and their octets since the start; `drops` by reason."""

    rx_packets: int
    rx_bytes: int
    tx_packets: int
    tx_bytes: int
    drops: Mapping[str, int]


class IntakeKind(Enum):
    """What a read from a socket of an underlay gives."""

    UDP = "udp"
    """The payload of a UDP datagram."""
    RAW_IPV4 = "raw-ipv4"
    """An IPv4 packet whose payload is an inner packet: raw sockets of IPv4 keep the outer header."""
    RAW_IPV6 = "raw-ipv6"
    """The payload of an IPv6 packet: raw sockets of IPv6 do not."""
    CONTROL = "control"
    """A whole IPv6 packet that may be a control packet, from a packet socket."""
    UDP_ESP = "udp-esp"
    """The payload of a datagram on UDP port 4500."""
    RAW_IPV6_ESP = "raw-ipv6-esp"
    """The payload of an IPv6 packet that is ESP."""


@dataclass(frozen=True, slots=True)
class Intake:
    """A non-blocking socket to read from, and what comes out of it."""

    kind: IntakeKind
    socket: socket.socket


class Carrier(Protocol):
    """An underlay as a data plane sees it: sockets at one local address."""

    @property
    def local(self) -> IPv4Address | IPv6Address: ...
    @property
    def port(self) -> int: ...
    @property
    def interface(self) -> str: ...
    @property
    def intakes(self) -> Sequence[Intake]: ...

    def sender(self, path: TunnelPath, seal: Seal | None) -> Send:
        """How to send inner packets by `path`; never fragments. `seal` is needed for a protected path."""
        ...

    def fragmenting_sender(self, path: TunnelPath, seal: Seal | None) -> Send:
        """The same for the rare packet whose outer packet has to be fragmented."""
        ...

    def train_sender(self, path: TunnelPath, seal: Seal | None) -> TrainSender | None:
        """The same for many packets at once; None where there is no way."""
        ...

    def path_mtu(self, path: TunnelPath) -> int:
        """What the kernel knows of the MTU towards `path.remote`, in octets of the outer packet."""
        ...


class Device(Protocol):
    """A TUN device."""

    @property
    def name(self) -> str: ...
    @property
    def vnet_header(self) -> bool:
        """Whether each packet has a header before it: see `tunnel.offload.vnet`."""
        ...

    def fileno(self) -> int: ...


class DataPlane(Protocol):
    """Carries packets between a TUN device and underlays while another thread decides by which path.

    All methods may be called from any thread, before and after `start`.
    """

    def start(self) -> None:
        """Begin to carry packets."""
        ...

    def configure(self, config: EndpointConfig) -> None:
        """Set what counts as control, and which keys protect payload, from now on."""
        ...

    def install(self, table: ForwardingTable) -> None:
        """Use `table` from the next packet on: a handover."""
        ...

    def send_again(self, homes: Iterable[IPv4Network | IPv6Network], since: float) -> None:
        """Send again, by the present table, what was sent for `homes` since `since` (CLOCK_BOOTTIME).

        A tier that does not see each packet has nothing to send again.
        """
        ...

    def send_on_link(
        self, homes: Iterable[IPv4Network | IPv6Network], since: float, interface: str
    ) -> None:
        """The same where `homes` are at home on `interface` now: in the clear, by that link."""
        ...

    def carry(self, packets: Sequence[bytes]) -> None:
        """Send inner packets, by the present table, that did not come out of the TUN device."""
        ...

    def deliver(self, packets: Sequence[bytes]) -> None:
        """Give packets for this host to its kernel, as if they had come through the tunnel."""
        ...

    def announce(self, path: TunnelPath, idle: float) -> None:
        """Send a packet without content by `path` if nothing left by it for `idle` seconds.

        It shows the other end, and any NAT, where this end is. By a path that is not protected, or for which
        there are no keys, nothing is sent.
        """
        ...

    def expect(self, interfaces: Iterable[str]) -> None:
        """Carriers at these links may be attached soon. A tier that has nothing to prepare does nothing."""
        ...

    def attach(self, carrier: Carrier) -> None:
        """Receive from `carrier`, and send through it by the paths that start at its local address."""
        ...

    def detach(self, carrier: Carrier) -> None:
        """Stop using `carrier`. When this returns it can be closed."""
        ...

    def renew(self, device: Device) -> None:
        """Go on with another TUN device, after the old one was deleted by somebody else."""
        ...

    def counters(self) -> Counters: ...

    def last_sent(self, path: TunnelPath) -> float:
        """When a datagram last left by `path` (seconds of CLOCK_BOOTTIME, 0.0 for never)."""
        ...

    def last_received(self) -> float:
        """When payload last came in by any path (seconds of CLOCK_BOOTTIME, 0.0 for never)."""
        ...

    def close(self) -> None:
        """Stop. The TUN device and the underlays stay open: they belong to whoever opened them."""
        ...
