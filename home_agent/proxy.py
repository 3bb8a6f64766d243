"""The home link: probing for duplicates, announcing what is defended, reaching mobile nodes that are at home.

Performs I/O. RFC 6275 sections 10.3.1 and 10.4.1, RFC 5227, RFC 4862. Answering for bound addresses is the
kernel's work (its proxy neighbour entries); this is what the kernel does not do.
"""

from __future__ import annotations

import asyncio
import fcntl
import socket
import struct
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from ipaddress import IPv4Address, IPv6Address

from tunnel.closing import close_aside
from tunnel.link_filter import Towards, Watch
from tunnel.link_memory import LinkMemory
from tunnel.persistent import PersistentMap
from tunnel.prefixes import Network
from tunnel.underlay_sockets import attach_filter
from wire.classic_bpf import assembled
from wire.neighbours import announcement, claimed_in, probe

Address = IPv4Address | IPv6Address

PROBE_TIME = 1.0
"""Seconds to listen: RetransTimer, which RFC 4862 waits for after its one probe."""
PROBE_AGAIN = 0.4
"""Seconds after which the probe is repeated, since the first one may be lost."""
ANNOUNCEMENTS = (0.0, 1.0, 3.0)
"""Seconds at which a newly defended address is announced."""

_SOL_PACKET = 263
_PACKET_ADD_MEMBERSHIP = 1
_PACKET_MR_ALLMULTI = 2
_PACKET_IGNORE_OUTGOING = 23
_ETH_P_ALL = 3
_SIOCGIFMTU = 0x8921
_USUAL_MTU = 1500
_MAX_FRAME = 2048
_BURST = 64

# Classic BPF: ARP, or ICMPv6 neighbour solicitations and advertisements right after the IPv6 header.
_NEIGHBOURS_ONLY = assembled(
    (
        (0x28, 0, 0, 12),  # ldh [12]                 EtherType
        (0x15, 6, 0, 0x0806),  # jeq ARP       -> accept
        (0x15, 0, 6, 0x86DD),  # jeq IPv6      else drop
        (0x30, 0, 0, 20),  # ldb [20]                 next header
        (0x15, 0, 4, 58),  # jeq ICMPv6    else drop
        (0x30, 0, 0, 54),  # ldb [54]                 type
        (0x15, 1, 0, 135),  # jeq solicitation -> accept
        (0x15, 0, 1, 136),  # jeq advertisement else drop
        (0x06, 0, 0, 0x40000),  # accept
        (0x06, 0, 0, 0),  # drop
    )
)


class HomeLink:
    """The interface `interface`, on which the home agent's own address is `own`.

    As long as it is open the interface receives all multicast: neighbours look for bound addresses in
    groups that this host is no member of. `on_problem` gets in words what a system call refused.

    What is sent on it to one of `homes` is kept for a moment, if this host sends it or a switch shows it to
    all: that of who has just left, and whose switch port or neighbours do not know yet.
    """

    def __init__(
        self,
        interface: str,
        own: IPv6Address,
        on_problem: Callable[[str], None],
        homes: frozenset[Address] = frozenset(),
    ) -> None:
        """OSError if the interface or a privilege is missing."""
        self.interface = interface
        self._own = own
        self._on_problem = on_problem
        self._defended: PersistentMap[Address, bool] = PersistentMap()
        self._repetitions = tuple(deque[tuple[float, tuple[Address, ...]]]() for _ in ANNOUNCEMENTS[1:])
        """When addresses are announced again, each time in order: one timer for thousands of them."""
        self._timer: asyncio.TimerHandle | None = None
        self._packet = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, 0)
        try:
            self._packet.bind((interface, 0))
            self._hardware: bytes = self._packet.getsockname()[4]
            membership = struct.pack("iHH8s", socket.if_nametoindex(interface), _PACKET_MR_ALLMULTI, 0, b"")
            self._packet.setsockopt(_SOL_PACKET, _PACKET_ADD_MEMBERSHIP, membership)
            kind = socket.SOCK_RAW | socket.SOCK_NONBLOCK
            self._raw = socket.socket(socket.AF_INET6, kind, socket.IPPROTO_RAW)
            self._raw.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode())
        except OSError:
            self._packet.close()
            raise
        self._memory = self._overhearing(homes)

    @property
    def mtu(self) -> int:
        """Of the interface, in octets; the usual one where the kernel does not say."""
        request = struct.pack("16si12x", self.interface.encode(), 0)
        try:
            answer = fcntl.ioctl(self._raw, _SIOCGIFMTU, request)
        except OSError:
            return _USUAL_MTU
        return int(struct.unpack("16si12x", answer)[1])

    def defend(self, addresses: PersistentMap[Address, bool]) -> None:
        """Announce addresses that were not defended before, and stop announcing those that no longer are.

        The value tells whether the address is a mobile router's.
        """
        before, self._defended = self._defended, addresses
        changes = addresses.differences(before)
        fresh = tuple(address for address, was, router in changes if was is None and router is not None)
        if fresh:
            self._announce(fresh)
            now = asyncio.get_running_loop().time()
            for waiting, delay in zip(self._repetitions, ANNOUNCEMENTS[1:], strict=True):
                waiting.append((now + delay, fresh))
            self._wait()

    def _wait(self) -> None:
        """For the next repetition, if there is one."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None
        first = min((waiting[0][0] for waiting in self._repetitions if waiting), default=None)
        if first is not None:
            self._timer = asyncio.get_running_loop().call_at(first, self._repeat)

    def _repeat(self) -> None:
        now = asyncio.get_running_loop().time()
        for waiting in self._repetitions:
            while waiting and waiting[0][0] <= now:
                self._announce(waiting.popleft()[1])
        self._wait()

    async def probe(self, addresses: frozenset[Address]) -> frozenset[Address]:
        """Which of `addresses` somebody on the home link has; takes PROBE_TIME."""
        in_use: set[Address] = set()
        try:
            listener = self._listen()
        except OSError as error:
            self._on_problem(f"cannot listen for duplicates on {self.interface}: {error.strerror}")
            return frozenset()
        loop = asyncio.get_running_loop()
        loop.add_reader(listener, self._hear, listener, addresses, in_use)
        try:
            for pause in (PROBE_AGAIN, PROBE_TIME - PROBE_AGAIN):
                for address in addresses:
                    self._transmit(probe(address, self._hardware))
                await asyncio.sleep(pause)
        finally:
            loop.remove_reader(listener)
            close_aside(listener)
        return frozenset(in_use)

    def send(self, packet: bytes, destination: IPv6Address) -> str | None:
        """Send an IPv6 packet to a neighbour on the home link, past any route into the tunnel.

        The reason in words if the kernel does not take it, else None.
        """
        try:
            self._raw.sendto(packet, (str(destination), 0, 0, 0))
        except OSError as error:
            return error.strerror or str(error)
        return None

    def _overhearing(self, homes: frozenset[Address]) -> LinkMemory | None:
        """Without it all works, but packets of a moment."""
        if not homes:
            return None
        watch = Watch(self.interface, (Towards.OTHERS, Towards.LINK), homes, by_source=False)
        try:
            return LinkMemory(watch, overhear=True)
        except OSError as error:
            self._on_problem(f"cannot watch {self.interface}: {error.strerror}")
            return None

    def overheard(self, homes: Iterable[Network], since: float) -> Sequence[bytes]:
        """Packets to `homes` that were on the link since then and not for this host, oldest first."""
        return () if self._memory is None else self._memory.take(homes, since)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._memory is not None:
            self._memory.close()
        self._packet.close()
        self._raw.close()

    def _announce(self, addresses: Iterable[Address]) -> None:
        """Those that are still defended."""
        for address in addresses:
            router = self._defended.get(address)
            if router is not None:
                self._transmit(announcement(address, self._hardware, self._own, router))

    def _transmit(self, frame: bytes) -> None:
        try:
            self._packet.send(frame)
        except OSError as error:
            self._on_problem(f"cannot send on {self.interface}: {error.strerror}")

    def _listen(self) -> socket.socket:
        listener = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, 0)
        try:
            attach_filter(listener, _NEIGHBOURS_ONLY)
            listener.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, 1)
            listener.bind((self.interface, _ETH_P_ALL))
        except OSError:
            listener.close()
            raise
        return listener

    def _hear(self, listener: socket.socket, addresses: frozenset[Address], in_use: set[Address]) -> None:
        for _ in range(_BURST):
            try:
                frame = listener.recv(_MAX_FRAME)
            except OSError:
                return
            address = claimed_in(frame, self._hardware)
            if address in addresses and address is not None:
                in_use.add(address)
