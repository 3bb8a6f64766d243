"""The outer packets that one inner packet becomes where its path is too narrow even for IPv6's least MTU.

Pure. RFC 2473 section 7.1 (b), RFC 4459 section 3.2. The kernel would do this by what it knows of a path, but
what has been measured (tunnel.path.TunnelPath.link_mtu) it does not know.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

from tunnel.encapsulation import protocol_of, tos_of, wrap
from tunnel.fragmentation import fragment_ipv4, fragment_ipv6
from tunnel.path import Encapsulation, TunnelPath
from tunnel.plane import Seal
from wire.ip import IPV4_HEADER, PROTOCOL_ESP, PROTOCOL_UDP, IPv4Header, IPv6Header
from wire.udp import UDP_HEADER, UdpHeader, encode_udp


def outer_fragments(
    packet: bytes, path: TunnelPath, local_port: int, seal: Seal | None, hop_limit: int, identification: int
) -> tuple[bytes, ...]:
    """Whole IP packets of at most `path.link_mtu` octets. `seal` is needed for a protected path.

    `identification` is of 32 bits, of which IPv4 takes the lower 16.
    """
    protocol, payload = _payload(packet, path, local_port, seal)
    local, remote, tos = path.local, path.remote, tos_of(packet) if packet else 0
    if isinstance(local, IPv4Address) and isinstance(remote, IPv4Address):
        length = IPV4_HEADER + len(payload)
        number = identification & 0xFFFF
        header = IPv4Header(local, remote, protocol, length, hop_limit, tos, number, dont_fragment=False)
        return fragment_ipv4(header.encode() + payload, path.link_mtu)
    if isinstance(local, IPv6Address) and isinstance(remote, IPv6Address):
        fixed = IPv6Header(local, remote, protocol, len(payload), hop_limit, tos)
        return fragment_ipv6(fixed, payload, path.link_mtu, identification)
    raise ValueError("the ends of a path are of one family")


def _payload(packet: bytes, path: TunnelPath, local_port: int, seal: Seal | None) -> tuple[int, bytes]:
    """Protocol number, and what follows the outer IP header."""
    kind = path.encapsulation
    if kind.protected:
        if seal is None:
            raise ValueError("a protected path needs keys")
        esp = seal.seal(packet)
        if not kind.in_udp:
            return PROTOCOL_ESP, esp
        # Without a checksum, as in tunnel.underlay: the ICV says more.
        return PROTOCOL_UDP, UdpHeader(local_port, path.remote_port, UDP_HEADER + len(esp), 0).encode() + esp
    if kind is Encapsulation.IP_IN_IP:
        return protocol_of(packet), packet
    datagram = encode_udp(path.local, path.remote, local_port, path.remote_port, wrap(packet, kind))
    return PROTOCOL_UDP, datagram
