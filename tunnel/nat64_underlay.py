"""The underlay of an IPv6 link whose NAT64 leads to the IPv4 Internet: outside IPv4 in UDP, on the link IPv6.

Performs I/O. RFC 6052, RFC 6146. Everything above sees an IPv4 care-of address behind a NAT, which it is: the
home agent gets IPv4 and UDP. Only the sockets here know that the link carries IPv6.
"""

from __future__ import annotations

import socket
from ipaddress import IPv4Address, IPv6Address, IPv6Network
from typing import Any, assert_never

from tunnel.encapsulation import wrap
from tunnel.path import Encapsulation, TunnelPath
from tunnel.plane import Intake, IntakeKind, Seal, Send, TrainSender
from tunnel.underlay import MARKS6, Underlay, plain_sender, refuse, send_or_say, wrapping_sender
from tunnel.underlay_sockets import Ways, close_all, open_socket
from wire.nat64 import embedded, synthesise


class TranslatedSocket(socket.socket):
    """An IPv6 UDP socket that names its peers by the IPv4 addresses in theirs.

    What comes from an address without one comes from nobody: its name is empty, and fits no path.
    """

    prefix: IPv6Network

    def recvmsg(self, *arguments: Any) -> Any:
        data, ancillary, flags, peer = super().recvmsg(*arguments)
        return data, ancillary, flags, self._outside(peer)

    def recvmsg_into(self, *arguments: Any) -> Any:
        size, ancillary, flags, peer = super().recvmsg_into(*arguments)
        return size, ancillary, flags, self._outside(peer)

    def recvfrom(self, *arguments: Any) -> Any:
        data, peer = super().recvfrom(*arguments)
        return data, self._outside(peer)

    def _outside(self, peer: tuple[str, int, int, int]) -> tuple[str, int]:
        address = embedded(self.prefix, IPv6Address(peer[0].partition("%")[0]))
        return ("" if address is None else str(address), peer[1])


class Nat64Underlay(Underlay):
    """UDP sockets at the IPv6 address `source`; `local` is the IPv4 address that stands for it."""

    def __init__(
        self, local: IPv4Address, source: IPv6Address, prefix: IPv6Network, ways: Ways, esp_port: int | None
    ) -> None:
        self._prefix = prefix
        opened: list[socket.socket] = []
        try:
            for port in (0,) if esp_port is None else (0, esp_port):
                plain = open_socket(socket.AF_INET6, socket.SOCK_DGRAM, 0, ways, (str(source), port))
                translated = TranslatedSocket(fileno=plain.detach())
                translated.setblocking(False)
                translated.prefix = prefix
                opened.append(translated)
                translated.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVTCLASS, 1)
            quiet = open_socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_RAW, ways, None)
        except OSError:
            close_all(opened)
            raise
        self._udp = opened[0]
        self._esp = opened[1] if len(opened) > 1 else None
        intakes = [Intake(IntakeKind.UDP, self._udp)]
        if self._esp is not None:
            intakes.append(Intake(IntakeKind.UDP_ESP, self._esp))
        super().__init__(local, self._udp.getsockname()[1], ways, intakes, quiet)

    def send_control(self, remote: IPv4Address | IPv6Address, remote_port: int, packet: bytes) -> str | None:
        return send_or_say(self._udp, packet, (self._on_link(remote), remote_port, 0, 0))

    def sender(self, path: TunnelPath, seal: Seal | None) -> Send:
        address = (self._on_link(path.remote), path.remote_port, 0, 0)
        match path.encapsulation:
            case Encapsulation.UDP:
                return plain_sender(self._udp, address, MARKS6)
            case Encapsulation.UDP_TLV | Encapsulation.UDP_TLV_DRAFT as kind:
                return wrapping_sender(self._udp, address, lambda packet: wrap(packet, kind), MARKS6)
            case Encapsulation.ESP_UDP:
                if self._esp is None or seal is None:
                    return refuse
                return wrapping_sender(self._esp, address, seal.seal, MARKS6)
            case Encapsulation.IP_IN_IP | Encapsulation.ESP:
                return refuse  # a NAT64 translates neither
            case _:
                assert_never(path.encapsulation)

    def train_sender(self, path: TunnelPath, seal: Seal | None) -> TrainSender | None:
        """None: one packet at a time."""
        return None

    def fragmenting_sender(self, path: TunnelPath, seal: Seal | None) -> Send:
        """The same sockets: the kernel fragments what is longer than the link takes."""
        return self.sender(path, seal)

    def port_of(self, path: TunnelPath) -> int:
        if path.encapsulation is Encapsulation.ESP_UDP and self._esp is not None:
            port: int = self._esp.getsockname()[1]
            return port
        return self.port if path.encapsulation.in_udp else 0

    def path_mtu(self, path: TunnelPath) -> int:
        """The link's, as an IPv4 packet would find it."""
        return path.link_mtu

    def _on_link(self, remote: IPv4Address | IPv6Address) -> str:
        assert isinstance(remote, IPv4Address), "a NAT64 leads to IPv4 only"
        return str(synthesise(self._prefix, remote))


def open_nat64_underlay(
    local: IPv4Address,
    source: IPv6Address,
    prefix: IPv6Network,
    interface: str,
    mark: int,
    esp_port: int | None = None,
) -> Nat64Underlay:
    """Sockets at `source` towards the NAT64. OSError if the address or a privilege is missing."""
    return Nat64Underlay(local, source, prefix, Ways(interface, mark, believe_routers=False), esp_port)
