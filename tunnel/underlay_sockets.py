"""The sockets of an underlay: marked, tied to one interface, and believing routers or not.

Performs I/O. RFC 1191, RFC 8201 (what routers say of a path's MTU), RFC 3948 section 2.1.

Every packet that leaves carries the mark by which routing keeps it out of the tunnel, and on IPv4 DF. Who
measures the path (a mobile node, mn_agent.path_probe) does not believe routers: with IP_PMTUDISC_PROBE no
report of a path MTU, true or forged, changes what is sent. Who does not measure (a home agent, which serves
mobile nodes of anybody) believes, with IP_PMTUDISC_DO: the kernel keeps what routers report and answers
EMSGSIZE, which becomes an ICMP error for the sender of the inner packet. There a forged report costs little:
the kernel asks that it quotes an existing socket, and `Lane.reduce` takes none below 1280 octets inside.
"""

from __future__ import annotations

import ctypes
import fcntl
import socket
import struct
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from tunnel.control_filter import accept_control

HOP_LIMIT = 64
_BUFFER = 4 << 20  # octets; a burst at line rate outlasts one drain
_ETHERTYPE_IPV6 = 0x86DD

# Constants of linux/in.h, in6.h, socket.h, sockios.h and if_packet.h that the socket module does not name.
_SO_ATTACH_FILTER, _SO_SNDBUFFORCE, _SO_RCVBUFFORCE, SO_NO_CHECK = 26, 32, 33, 11
_SOL_PACKET, _PACKET_IGNORE_OUTGOING = 263, 23
_IP_MTU_DISCOVER, _IPV6_MTU_DISCOVER = 10, 23
_PMTUDISC_WANT, _PMTUDISC_DO, _PMTUDISC_PROBE = 1, 2, 3
_SIOCGIFMTU, _INTERFACE_REQUEST = 0x8921, struct.Struct("16si20x")


@dataclass(frozen=True, slots=True)
class Ways:
    """How the sockets of an underlay send: marked, through one interface ("" for any), believing routers."""

    interface: str
    mark: int
    believe_routers: bool

    def prepare(self, unbound: socket.socket) -> None:
        """Give a fresh socket mark and interface."""
        if self.mark:
            unbound.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, self.mark)
        if self.interface:
            unbound.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, self.interface.encode())

    @property
    def discovery(self) -> int:
        """IP_MTU_DISCOVER: DF, and reports of routers obeyed or not."""
        return _PMTUDISC_DO if self.believe_routers else _PMTUDISC_PROBE

    @property
    def discovery6(self) -> int:
        """IPV6_MTU_DISCOVER, by which the kernel fragments outer packets for routers that are believed."""
        return _PMTUDISC_WANT if self.believe_routers else _PMTUDISC_PROBE


def open_esp(local: IPv4Address, port: int, ways: Ways) -> socket.socket:
    """UDP without checksums: the ICV says more, and a NAT has one thing less to get wrong (RFC 3948, 2.1)."""
    opened = open_socket(socket.AF_INET, socket.SOCK_DGRAM, 0, ways, (str(local), port))
    opened.setsockopt(socket.SOL_SOCKET, SO_NO_CHECK, 1)
    opened.setsockopt(socket.IPPROTO_IP, socket.IP_RECVTOS, 1)
    return opened


def open_socket(
    family: int, kind: int, protocol: int, ways: Ways, address: tuple[str, int] | None
) -> socket.socket:
    """A non-blocking socket, bound to `address` if there is one. OSError if the kernel refuses."""
    opened = socket.socket(family, kind | socket.SOCK_NONBLOCK, protocol)
    try:
        ways.prepare(opened)
        _widen(opened, _SO_SNDBUFFORCE, socket.SO_SNDBUF)
        _widen(opened, _SO_RCVBUFFORCE, socket.SO_RCVBUF)
        if family == socket.AF_INET:
            opened.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, ways.discovery)
            opened.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, HOP_LIMIT)
        else:
            opened.setsockopt(socket.IPPROTO_IPV6, _IPV6_MTU_DISCOVER, ways.discovery6)
            opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, HOP_LIMIT)
        if address is not None:
            # A raw socket takes a port for a protocol number, so it gets none.
            opened.bind(address if kind == socket.SOCK_DGRAM else (address[0], 0))
    except OSError:
        opened.close()
        raise
    return opened


def close_all(opened: list[socket.socket]) -> None:
    """Closing twice does nothing."""
    for each in opened:
        each.close()


def _widen(opened: socket.socket, force: int, plain: int) -> None:
    try:
        opened.setsockopt(socket.SOL_SOCKET, force, _BUFFER)
    except PermissionError:
        opened.setsockopt(socket.SOL_SOCKET, plain, _BUFFER)


def interface_mtu(any_socket: socket.socket, interface: str) -> int:
    """The MTU of `interface` in octets."""
    answer = fcntl.ioctl(any_socket, _SIOCGIFMTU, _INTERFACE_REQUEST.pack(interface.encode(), 0))
    return int(_INTERFACE_REQUEST.unpack(answer)[1])


def open_control(local: IPv6Address, interface: str, icmp: bool) -> socket.socket:
    """A packet socket that starts at the IPv6 header and sees control packets for `local` only."""
    kind = socket.SOCK_DGRAM | socket.SOCK_NONBLOCK
    opened = socket.socket(socket.AF_PACKET, kind, 0 if interface else socket.htons(_ETHERTYPE_IPV6))
    try:
        attach_filter(opened, accept_control(local, icmp))
        _widen(opened, _SO_RCVBUFFORCE, socket.SO_RCVBUF)
        opened.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, 1)
        if interface:
            opened.bind((interface, _ETHERTYPE_IPV6))
        else:
            _discard_unfiltered(opened)
    except OSError:
        opened.close()
        raise
    return opened


def _discard_unfiltered(opened: socket.socket) -> None:
    """Without an interface to bind to, the socket has listened to everything until its filter came."""
    try:
        while True:
            opened.recv(1)
    except BlockingIOError:
        pass


def attach_filter(opened: socket.socket, program: bytes) -> None:
    """Let `opened` see only what the classic BPF `program` accepts."""
    instructions = ctypes.create_string_buffer(program, len(program))
    described = struct.pack("HP", len(program) // 8, ctypes.addressof(instructions))
    opened.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, described)
