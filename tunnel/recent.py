"""The packets of the last moments, kept so that what went into a path that was gone can be sent again.

Pure. Not in the RFCs: a mobile node whose link broke tells its home agent for how long (wire.vendor), and
each end sends again what it sent into the break. TCP then needs no timeout to recover, and datagrams arrive
late instead of never.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import Protocol

KEPT = 2048
"""Packets, whatever the number of bindings: at most about 3 MiB."""
OLDEST = 2.0
"""Seconds: what is older is of no use to anybody any more."""


class Whole(Protocol):
    """A super-packet, remembered as it is until the memory that it lies in is used for another one."""

    @property
    def head(self) -> bytes:
        """Its headers."""
        ...

    def packets(self) -> Sequence[bytes]:
        """What it stands for; nothing if it is no more."""
        ...


class RecentPackets:
    """The last `KEPT` packets that came out of the TUN device, each with its time.

    `remember((now, packet))` is the deque's own append: it runs for every packet. `by_source` says on which
    side of a packet the home address is.
    """

    __slots__ = ("_by_source", "_packets", "remember")

    def __init__(self, by_source: bool) -> None:
        self._by_source = by_source
        self._packets: deque[tuple[float, bytes | Whole]] = deque(maxlen=KEPT)
        self.remember = self._packets.append

    def take(self, homes: Iterable[IPv4Network | IPv6Network], since: float, now: float) -> tuple[bytes, ...]:
        """The packets of `homes` since `since` (seconds of CLOCK_BOOTTIME), oldest first; they stay."""
        concerns = Concern(homes, self._by_source)
        begin = max(since, now - OLDEST)
        taken: list[bytes] = []
        for at, packet in reversed(tuple(self._packets)):
            if at < begin:
                break
            if concerns(packet if isinstance(packet, bytes) else packet.head):
                taken.extend((packet,) if isinstance(packet, bytes) else reversed(packet.packets()))
        return tuple(reversed(taken))


def _within(home: bytes, prefixes: tuple[IPv4Network | IPv6Network, ...]) -> bool:
    address = ip_address(home)
    return any(address.version == prefix.version and address in prefix for prefix in prefixes)


class Concern:
    """Whether a packet is one of `homes`: addresses and prefixes of mobile nodes."""

    __slots__ = ("_by_source", "_hosts", "_prefixes")

    def __init__(self, homes: Iterable[IPv4Network | IPv6Network], by_source: bool) -> None:
        networks = tuple(homes)
        self._by_source = by_source
        self._hosts = {n.network_address.packed for n in networks if n.prefixlen == n.max_prefixlen}
        self._prefixes = tuple(n for n in networks if n.prefixlen < n.max_prefixlen)

    def __call__(self, packet: bytes) -> bool:
        home = self._home(packet)
        return home in self._hosts or bool(home and self._prefixes and _within(home, self._prefixes))

    def _home(self, packet: bytes) -> bytes:
        """The octets of the home address; none if the packet has no whole header."""
        version = packet[0] >> 4 if packet else 0
        if version == 6 and len(packet) >= 40:
            return packet[8:24] if self._by_source else packet[24:40]
        if version == 4 and len(packet) >= 20:
            return packet[12:16] if self._by_source else packet[16:20]
        return b""
