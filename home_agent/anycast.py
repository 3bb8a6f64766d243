"""Answers mobile nodes that ask the anycast address of the home agents of the home link.

Performs I/O (a raw ICMPv6 socket). RFC 6275 sections 6.5, 6.6 and 10.5.1, RFC 2526, RFC 3963 section 7.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable
from ipaddress import IPv6Address, IPv6Network

from home_agent.limits import TokenBuckets
from runtime.clock import boottime
from wire.icmp import (
    HOME_AGENT_DISCOVERY_REQUEST,
    HomeAgentDiscoveryReply,
    HomeAgentDiscoveryRequest,
    decode_icmp6,
    encode_icmp6,
    home_agents_anycast,
)
from wire.reader import DecodeError

ANSWERS_PER_SECOND, BURST, SOURCES = 2.0, 10.0, 1024
"""What one /64 may ask, and how many of them are remembered. Ours; nothing authenticates a request."""

_IPV6_JOIN_ANYCAST, _ICMP6_FILTER = 27, 1
_LARGEST, _ANCILLARY, _AT_ONCE = 2048, 64, 32


class AnycastAnswers:
    """This home agent, at `own`, answers for the prefix of its home link only.

    `mobile_routers` says whether it serves those too: it answers those who look for that, and says so.
    """

    def __init__(
        self,
        interface: str,
        prefix: IPv6Network,
        own: IPv6Address,
        mobile_routers: bool,
        on_problem: Callable[[str], None],
    ) -> None:
        """OSError if the kernel does not let this host have the anycast address."""
        self.address = home_agents_anycast(prefix)
        self._own = own
        self._mobile_routers = mobile_routers
        self._on_problem = on_problem
        self._sources: TokenBuckets[bytes] = TokenBuckets(ANSWERS_PER_SECOND, BURST, SOURCES)
        kind = socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
        self._socket = socket.socket(socket.AF_INET6, kind, socket.IPPROTO_ICMPV6)
        try:
            self._socket.setsockopt(socket.IPPROTO_ICMPV6, _ICMP6_FILTER, _only(HOME_AGENT_DISCOVERY_REQUEST))
            self._socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
            group = self.address.packed + struct.pack("=i", socket.if_nametoindex(interface))
            self._socket.setsockopt(socket.IPPROTO_IPV6, _IPV6_JOIN_ANYCAST, group)
        except OSError:
            self._socket.close()
            raise

    def start(self) -> None:
        asyncio.get_running_loop().add_reader(self._socket, self._drain)

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._socket)
        self._socket.close()

    def _drain(self) -> None:
        for _ in range(_AT_ONCE):
            try:
                data, ancillary, _flags, peer = self._socket.recvmsg(_LARGEST, _ANCILLARY)
            except OSError:
                return
            destination = next((IPv6Address(info[2][:16]) for info in ancillary), IPv6Address(0))
            source = IPv6Address(peer[0].partition("%")[0])
            answer = self.answer(data, source, destination)
            if answer is not None:
                self._send(answer, source)

    def answer(self, data: bytes, source: IPv6Address, destination: IPv6Address) -> bytes | None:
        """The reply to an ICMPv6 message, as its octets; None for one that deserves none."""
        unusable = source.is_multicast or source.is_unspecified or source.is_link_local
        if destination != self.address or unusable:
            return None
        try:
            request = decode_icmp6(data, source, destination)
        except DecodeError:
            return None
        if not isinstance(request, HomeAgentDiscoveryRequest):
            return None
        if request.mobile_router and not self._mobile_routers:
            return None
        if not self._sources.spend(source.packed[:8], boottime()):
            return None
        reply = HomeAgentDiscoveryReply(request.identifier, (self._own,), request.mobile_router)
        return encode_icmp6(reply, self._own, source)

    def _send(self, answer: bytes, destination: IPv6Address) -> None:
        information = (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, self._own.packed + struct.pack("=i", 0))
        try:
            self._socket.sendmsg([answer], [information], 0, (str(destination), 0))
        except OSError as error:
            self._on_problem(f"no answer sent to {destination}: {error.strerror}")


def _only(kind: int) -> bytes:
    """An ICMPv6 filter (RFC 3542 section 3.2): a bit for each type that is blocked."""
    blocked = (1 << 256) - 1 ^ 1 << kind
    return struct.pack("=8I", *(blocked >> 32 * word & 0xFFFFFFFF for word in range(8)))
