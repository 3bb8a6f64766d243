"""Underlays: the sockets at one local address through which tunnel and control packets leave and arrive.

Performs I/O. RFC 5555 section 4.1, RFC 2473, RFC 2003, RFC 3948 (port 4500). ARCHITECTURE.md says
what Linux does with headers of Mobile IPv6, and hence why these sockets are the ones that work.
"""

from __future__ import annotations

import errno
import os
import secrets
import socket
import struct
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address
from typing import assert_never

from tunnel.closing import close_aside
from tunnel.control_filter import accept_nothing
from tunnel.encapsulation import tos_of, wrap
from tunnel.framing import framing_of
from tunnel.outer import outer_fragments
from tunnel.path import Encapsulation, TunnelPath
from tunnel.plane import Intake, IntakeKind, Seal, Send, TrainSender
from tunnel.trains.senders import (
    Address,
    CheckedUdpTrain,
    Marks,
    RawTrain,
    SealedTrain,
    UdpTrain,
    takes_trains,
)
from tunnel.underlay_sockets import (
    HOP_LIMIT,
    SO_NO_CHECK,
    Ways,
    attach_filter,
    close_all,
    interface_mtu,
    open_control,
    open_esp,
    open_socket,
)
from wire.ip import PROTOCOL_ESP, PROTOCOL_IPV4, PROTOCOL_IPV6, PROTOCOL_MOBILITY

_IP_MTU, _IPV6_MTU = 14, 24  # linux/in.h and in6.h; the socket module does not name them

_INT = struct.Struct("=i")
_MARKS4: Marks = tuple([(socket.IPPROTO_IP, socket.IP_TOS, _INT.pack(tos))] for tos in range(256))
MARKS6: Marks = tuple([(socket.IPPROTO_IPV6, socket.IPV6_TCLASS, _INT.pack(tos))] for tos in range(256))


class Underlay(ABC):
    """All sockets at `local`; `port` is that of UDP (0 where there is none), `interface` "" for any."""

    def __init__(
        self,
        local: IPv4Address | IPv6Address,
        port: int,
        ways: Ways,
        intakes: list[Intake],
        header_included: socket.socket,
    ) -> None:
        self.local = local
        self.port = port
        self.interface = ways.interface
        self.intakes = tuple(intakes)
        self._ways = ways
        self._header_included = header_included

    @abstractmethod
    def send_control(self, remote: IPv4Address | IPv6Address, remote_port: int, packet: bytes) -> str | None:
        """Send an IPv6 control packet: inside UDP over IPv4, as it is over IPv6. Any thread may call it.

        The reason in words if the kernel does not take it, else None.
        """

    @abstractmethod
    def sender(self, path: TunnelPath, seal: Seal | None) -> Send:
        """How to send inner packets by `path`; never fragments where the kernel lets us say so."""

    @abstractmethod
    def port_of(self, path: TunnelPath) -> int:
        """The local UDP port from which packets leave by `path`; 0 if it is not in UDP."""

    def fragmenting_sender(self, path: TunnelPath, seal: Seal | None) -> Send:
        """The same, but the outer packet is fragmented as the path needs it."""
        if path.encapsulation.protected and seal is None:
            return refuse
        address = (str(path.remote), 0)

        def send_fragmented(packet: bytes) -> None:
            narrowest = replace(path, link_mtu=min(path.link_mtu, self.path_mtu(path)))
            local_port, number = self.port_of(path), secrets.randbits(32)
            for piece in outer_fragments(packet, narrowest, local_port, seal, HOP_LIMIT, number):
                self._header_included.sendto(piece, address)

        return send_fragmented

    @abstractmethod
    def train_sender(self, path: TunnelPath, seal: Seal | None) -> TrainSender | None:
        """How to send many inner packets by `path` at once; never fragments."""

    def path_mtu(self, path: TunnelPath) -> int:
        """The MTU towards `path.remote` as far as it is believed: the link's, or less if a router said so."""
        version4 = path.remote.version == 4
        family = socket.AF_INET if version4 else socket.AF_INET6
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as probe:
                self._ways.prepare(probe)
                if self.interface and not self._ways.believe_routers:
                    return interface_mtu(probe, self.interface)
                probe.bind((str(self.local), 0))
                probe.connect((str(path.remote), path.remote_port or 1))
                if version4:
                    return probe.getsockopt(socket.IPPROTO_IP, _IP_MTU)
                return probe.getsockopt(socket.IPPROTO_IPV6, _IPV6_MTU)
        except OSError:
            return path.link_mtu

    def close(self) -> None:
        """Close every socket. Detach from the data plane first. Closing twice does nothing."""
        for intake in self.intakes:
            if intake.kind is IntakeKind.CONTROL:
                close_aside(intake.socket)
            else:
                intake.socket.close()
        self._header_included.close()


class Ipv4Underlay(Underlay):
    """One UDP socket, raw sockets for IPv4 and IPv6 directly in IPv4, and port 4500 for protected payload."""

    def __init__(self, local: IPv4Address, port: int, ways: Ways, esp_port: int | None) -> None:
        address = (str(local), port)
        opened: list[socket.socket] = []
        try:
            for kind, protocol in (
                (socket.SOCK_DGRAM, 0),
                (socket.SOCK_RAW, PROTOCOL_IPV4),
                (socket.SOCK_RAW, PROTOCOL_IPV6),
                (socket.SOCK_RAW, socket.IPPROTO_RAW),
            ):
                opened.append(open_socket(socket.AF_INET, kind, protocol, ways, address))
            self._esp = None if esp_port is None else open_esp(local, esp_port, ways)
        except OSError:
            close_all(opened)
            raise
        self._udp, self._ipv4, self._ipv6, header_included = opened
        self._udp.setsockopt(socket.IPPROTO_IP, socket.IP_RECVTOS, 1)
        intakes = [
            Intake(IntakeKind.UDP, self._udp),
            Intake(IntakeKind.RAW_IPV4, self._ipv4),
            Intake(IntakeKind.RAW_IPV4, self._ipv6),
        ]
        if self._esp is not None:
            intakes.append(Intake(IntakeKind.UDP_ESP, self._esp))
        super().__init__(local, self._udp.getsockname()[1], ways, intakes, header_included)

    def send_control(self, remote: IPv4Address | IPv6Address, remote_port: int, packet: bytes) -> str | None:
        return send_or_say(self._udp, packet, (str(remote), remote_port))

    def sender(self, path: TunnelPath, seal: Seal | None) -> Send:
        address = (str(path.remote), path.remote_port)
        match path.encapsulation:
            case Encapsulation.IP_IN_IP:
                return _by_version(
                    plain_sender(self._ipv4, (address[0], 0), _MARKS4),
                    plain_sender(self._ipv6, (address[0], 0), _MARKS4),
                )
            case Encapsulation.UDP:
                return plain_sender(self._udp, address, _MARKS4)
            case Encapsulation.UDP_TLV | Encapsulation.UDP_TLV_DRAFT as kind:
                return wrapping_sender(self._udp, address, lambda packet: wrap(packet, kind), _MARKS4)
            case Encapsulation.ESP_UDP:
                if self._esp is None or seal is None:
                    return refuse
                send = wrapping_sender(self._esp, address, seal.seal, _MARKS4)
                return _with_checksum(self._esp, send) if path.translated else send
            case Encapsulation.ESP:
                return refuse
            case _:
                assert_never(path.encapsulation)

    def train_sender(self, path: TunnelPath, seal: Seal | None) -> TrainSender | None:
        address, framing = (str(path.remote), path.remote_port), framing_of(path.encapsulation)
        if path.encapsulation.in_udp and not takes_trains(self._udp):
            return None
        match path.encapsulation:
            case Encapsulation.IP_IN_IP:
                return RawTrain(self._ipv4, self._ipv6, (address[0], 0), _MARKS4, framing)
            case Encapsulation.UDP | Encapsulation.UDP_TLV | Encapsulation.UDP_TLV_DRAFT:
                return UdpTrain(self._udp, address, _MARKS4, framing)
            case Encapsulation.ESP_UDP:
                if self._esp is None or seal is None:
                    return None
                return SealedTrain(CheckedUdpTrain(self._esp, address, _MARKS4, framing), seal)
            case Encapsulation.ESP:
                return None
            case _:
                assert_never(path.encapsulation)

    def port_of(self, path: TunnelPath) -> int:
        if path.encapsulation is Encapsulation.ESP_UDP and self._esp is not None:
            port: int = self._esp.getsockname()[1]
            return port
        return self.port if path.encapsulation.in_udp else 0


class Ipv6Underlay(Underlay):
    """Raw sockets for IPv4 and IPv6 directly in IPv6, and control packets with their extension headers.

    Linux without CONFIG_IPV6_MIP6 hands a packet with a home address option or a type 2 routing header to no
    raw socket, so control is received by a packet socket, and sent with a header of our own making.
    """

    def __init__(self, local: IPv6Address, ways: Ways, protected: bool, icmp: bool) -> None:
        address = (str(local), 0)
        opened: list[socket.socket] = []
        try:
            for protocol in (
                PROTOCOL_IPV4,
                PROTOCOL_IPV6,
                socket.IPPROTO_RAW,
                # A bare mobility header or ESP is answered with "unrecognised next header" unless a raw
                # socket wants it; these two want it and read nothing.
                PROTOCOL_MOBILITY,
                PROTOCOL_ESP,
            ):
                bind_to = None if protocol == socket.IPPROTO_RAW else address
                opened.append(open_socket(socket.AF_INET6, socket.SOCK_RAW, protocol, ways, bind_to))
            for quiet in opened[3 : 4 if protected else 5]:
                attach_filter(quiet, accept_nothing())
            opened.append(open_control(local, ways.interface, icmp))
        except OSError:
            close_all(opened)
            raise
        self._ipv4, self._ipv6, header_included, self._quiet, self._esp, control = opened
        for payload in (self._ipv4, self._ipv6, self._esp):
            payload.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVTCLASS, 1)
        intakes = [
            Intake(IntakeKind.RAW_IPV6, self._ipv4),
            Intake(IntakeKind.RAW_IPV6, self._ipv6),
            Intake(IntakeKind.CONTROL, control),
        ]
        if protected:
            intakes.append(Intake(IntakeKind.RAW_IPV6_ESP, self._esp))
        super().__init__(local, 0, ways, intakes, header_included)

    def send_control(self, remote: IPv4Address | IPv6Address, remote_port: int, packet: bytes) -> str | None:
        return send_or_say(self._header_included, packet, (str(remote), 0, 0, 0))

    def sender(self, path: TunnelPath, seal: Seal | None) -> Send:
        address = (str(path.remote), 0, 0, 0)
        if path.encapsulation is Encapsulation.ESP and seal is not None:
            return wrapping_sender(self._esp, address, seal.seal, MARKS6)
        if path.encapsulation is not Encapsulation.IP_IN_IP:
            return refuse
        return _by_version(
            plain_sender(self._ipv4, address, MARKS6), plain_sender(self._ipv6, address, MARKS6)
        )

    def train_sender(self, path: TunnelPath, seal: Seal | None) -> TrainSender | None:
        address, framing = (str(path.remote), 0, 0, 0), framing_of(path.encapsulation)
        if path.encapsulation is Encapsulation.ESP and seal is not None:
            return SealedTrain(RawTrain(self._esp, self._esp, address, MARKS6, framing), seal)
        if path.encapsulation is not Encapsulation.IP_IN_IP:
            return None
        return RawTrain(self._ipv4, self._ipv6, address, MARKS6, framing)

    def port_of(self, path: TunnelPath) -> int:
        return 0

    def close(self) -> None:
        super().close()
        close_all([self._quiet, self._esp])


def open_ipv4_underlay(
    local: IPv4Address,
    port: int,
    interface: str | None,
    mark: int,
    esp_port: int | None = None,
    *,
    believe_routers: bool = True,
) -> Ipv4Underlay:
    """Sockets at `local`; port 0 lets the kernel choose. OSError if the address or a privilege is missing.

    `esp_port`: also take in protected payload in UDP, at that port; 0 as above.
    """
    return Ipv4Underlay(local, port, Ways(interface or "", mark, believe_routers), esp_port)


def open_ipv6_underlay(
    local: IPv6Address,
    interface: str | None,
    mark: int,
    protected: bool = False,
    icmp: bool = False,
    *,
    believe_routers: bool = True,
) -> Ipv6Underlay:
    """Sockets at `local`. OSError if the address (tentative ones too) or a privilege is missing.

    `protected`: also take in protected payload. `icmp`: answers of home agent discovery, and complaints about
    what was sent, are control packets as well.
    """
    return Ipv6Underlay(local, Ways(interface or "", mark, believe_routers), protected, icmp)


def plain_sender(opened: socket.socket, address: Address, marks: Marks) -> Send:
    """Send a packet as it is; its DSCP and ECN go to the outer header when they are not zero."""
    sendto, sendmsg = opened.sendto, opened.sendmsg

    def send(packet: bytes) -> None:
        second = packet[1]
        if second < 16 and (packet[0] == 0x60 or (second == 0 and packet[0] < 0x60)):
            sendto(packet, address)
        else:
            sendmsg((packet,), marks[tos_of(packet)], 0, address)

    return send


def wrapping_sender(
    opened: socket.socket, address: Address, wrapped: Callable[[bytes], bytes], marks: Marks
) -> Send:
    sendto, sendmsg = opened.sendto, opened.sendmsg

    def send(packet: bytes) -> None:
        tos = tos_of(packet) if packet else 0
        if tos:
            sendmsg((wrapped(packet),), marks[tos], 0, address)
        else:
            sendto(wrapped(packet), address)

    return send


def _with_checksum(opened: socket.socket, send: Send) -> Send:
    """By a socket that else sends none: a NAT64 may drop such datagrams (RFC 7915 section 4.5)."""

    def checked(packet: bytes) -> None:
        opened.setsockopt(socket.SOL_SOCKET, SO_NO_CHECK, 0)
        try:
            send(packet)
        finally:
            opened.setsockopt(socket.SOL_SOCKET, SO_NO_CHECK, 1)

    return checked


def _by_version(send4: Send, send6: Send) -> Send:
    """IP in IP has one protocol number, hence one socket, for each inner family."""

    def send(packet: bytes) -> None:
        if packet[0] & 0x20:  # of the two version nibbles only 6 has this bit
            send6(packet)
        else:
            send4(packet)

    return send


def refuse(packet: bytes) -> None:
    """No UDP over IPv6, which the draft forbids and RFC 5555 keeps for last; nothing in the clear."""
    raise OSError(errno.EPROTONOSUPPORT, "no such encapsulation over this family")


def send_or_say(opened: socket.socket, packet: bytes, address: Address) -> str | None:
    try:
        opened.sendto(packet, address)
    except OSError as error:
        return os.strerror(error.errno) if error.errno else str(error)
    return None
