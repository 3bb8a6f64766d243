"""What was sent on a link in the last moments, kept because the link may have been gone already.

Performs I/O (a packet socket, and a thread that reads it). Not in the RFCs, see ARCHITECTURE.md. At home
nothing passes through the tunnel, so nothing of ours would have a copy.
"""

from __future__ import annotations

import contextlib
import math
import select
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Network

from tunnel.closing import close_aside
from tunnel.link_filter import Watch, program
from tunnel.link_headers import link_header_of
from tunnel.offload.single import single_packets
from tunnel.offload.vnet import VNET_HEADER, moved
from tunnel.prefixes import as_network
from tunnel.recent import KEPT, OLDEST, Concern
from tunnel.underlay_sockets import attach_filter
from wire.ip import PROTOCOL_ICMPV6

_SOL_PACKET, _PACKET_ADD_MEMBERSHIP, _PACKET_VNET_HDR = 263, 1, 15
_MR_PROMISCUOUS = 1
_SO_TIMESTAMPNS = 35
_TIMESPEC = struct.Struct("@ll")
_ANCILLARY = socket.CMSG_SPACE(_TIMESPEC.size)
_ETH_P_ALL = 3
_LARGEST = VNET_HEADER + 65536
_ROOM = 1 << 20
"""Octets that may wait to be read."""
_TURN = 64
"""Packets that are read at once."""
_REST = 0.005
"""Seconds between turns: of a faster stream this is a sample, and costs a small part of a core."""
_OCTETS = 4 << 20
"""Kept at most, whatever the number of packets."""
_NEIGHBOUR_DISCOVERY = range(133, 138)


class LinkMemory:
    """The packets of one `Watch`, until it is closed; what was kept can be had after that.

    A link on which nothing is sent that is watched for wakes nobody.
    """

    def __init__(self, watch: Watch, *, overhear: bool = False) -> None:
        """OSError if there is no such interface. `overhear`: have frames for others, too, from the link."""
        self.watch = watch
        self._concerns = Concern(map(as_network, watch.homes), watch.by_source)
        self._link_header = link_header_of(watch.interface) or 0
        self._lock = threading.Lock()
        self._kept: deque[tuple[float, bytes, bytes]] = deque()
        """When, how it is to be finished, and the packet."""
        self._octets = 0
        with contextlib.ExitStack() as stack:
            # Without a protocol it hears nothing until the filter is there.
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, 0)
            stack.callback(close_aside, self._socket)
            attach_filter(self._socket, program(watch))
            self._socket.setsockopt(_SOL_PACKET, _PACKET_VNET_HDR, 1)
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _ROOM)
            if overhear:
                index = socket.if_nametoindex(watch.interface)
                wish = struct.pack("iHH8s", index, _MR_PROMISCUOUS, 0, b"")
                self._socket.setsockopt(_SOL_PACKET, _PACKET_ADD_MEMBERSHIP, wish)
            self._socket.bind((watch.interface, _ETH_P_ALL))
            self._ending, self._end = socket.socketpair()
            stack.callback(self._ending.close)
            stack.callback(self._end.close)
            self._open = stack.pop_all()
        self._thread = threading.Thread(target=self._run, name="link-memory", daemon=True)
        self._thread.start()

    def take(
        self, homes: Iterable[IPv4Network | IPv6Network], since: float, until: float = math.inf
    ) -> tuple[bytes, ...]:
        """The packets of `homes` in that time (CLOCK_BOOTTIME), oldest first, ready to be sent: once."""
        concerns = Concern(homes, self.watch.by_source)
        begin = max(since, time.clock_gettime(time.CLOCK_BOOTTIME) - OLDEST)
        with self._lock:
            taken = [entry for entry in self._kept if concerns(entry[2])]
            others = [entry for entry in self._kept if not concerns(entry[2])]
            self._kept = deque(others)
            self._octets = sum(len(packet) for _, _, packet in others)
        singles = (single_packets(how, packet) for at, how, packet in taken if begin <= at <= until)
        return tuple(single for packets in singles for single in packets)

    def close(self) -> None:
        """Read what is left and watch no more."""
        if self._thread.is_alive():
            self._end.close()
            self._thread.join()
        self._open.close()

    def _run(self) -> None:
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        poll.register(self._ending, select.POLLIN)
        ended = False
        while not ended:
            ended = any(descriptor == self._ending.fileno() for descriptor, _ in poll.poll())
            more = self._read()
            if more and not ended:
                time.sleep(_REST)

    def _read(self) -> bool:
        """One turn; whether there may be more."""
        # The kernel stamps packets with the wall clock.
        ahead = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
        for _ in range(_TURN):
            try:
                frame, ancillary, _, _ = self._socket.recvmsg(_LARGEST, _ANCILLARY)
            except BlockingIOError:
                return False
            except OSError:
                continue  # the link went down, which the kernel tells once
            packet = frame[VNET_HEADER + self._link_header :]
            if self._concerns(packet) and not _is_discovery(packet):
                seconds, nanoseconds = _TIMESPEC.unpack(ancillary[0][2])
                self._keep(seconds + nanoseconds / 1e9 - ahead, moved(frame, -self._link_header), packet)
        return True

    def _keep(self, at: float, how: bytes, packet: bytes) -> None:
        with self._lock:
            kept = self._kept
            while kept and (self._octets + len(packet) > _OCTETS or len(kept) == KEPT):
                self._octets -= len(kept.popleft()[2])
            kept.append((at, how, packet))
            self._octets += len(packet)


def _is_discovery(packet: bytes) -> bool:
    """Whether it is a matter between neighbours, which ends with the link."""
    icmp = len(packet) > 40 and packet[0] >> 4 == 6 and packet[6] == PROTOCOL_ICMPV6
    return icmp and packet[40] in _NEIGHBOUR_DISCOVERY
