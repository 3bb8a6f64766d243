"""What dnsmasq cannot put into router advertisements: the NAT64 prefix and where the captive portal answers.

Performs I/O. Runs as `python -m lab.advertise INTERFACE [--nat64 PREFIX] [--portal URL]` on a router, beside
dnsmasq: a router may send what it has to say in several advertisements (RFC 4861 section 6.2.3). RFC 8781
(PREF64 option), RFC 8910 section 2.3 (Captive-Portal option).
"""

from __future__ import annotations

import argparse
import socket
import struct
import time
from ipaddress import IPv6Network

_ROUTER_SOLICITATION, _ROUTER_ADVERTISEMENT = 133, 134
_LIFETIME = 1800
_EVERY = 200.0
_CAPTIVE_PORTAL, _PREF64 = 37, 38
_ICMP6_FILTER = 1
_PREFIX_LENGTH_CODES = {96: 0, 64: 1, 56: 2, 48: 3, 40: 4, 32: 5}


def advertisement(nat64: IPv6Network | None, portal: str | None) -> bytes:
    """An ICMPv6 router advertisement, without the checksum that the kernel adds."""
    header = struct.pack("!BBHBBHII", _ROUTER_ADVERTISEMENT, 0, 0, 64, 0, _LIFETIME, 0, 0)
    return header + (pref64_option(nat64) if nat64 else b"") + (portal_option(portal) if portal else b"")


def pref64_option(prefix: IPv6Network) -> bytes:
    """RFC 8781 section 4: lifetime in units of eight seconds beside the code of the prefix length."""
    scaled = (_LIFETIME + 7) // 8 << 3 | _PREFIX_LENGTH_CODES[prefix.prefixlen]
    return struct.pack("!BBH", _PREF64, 2, scaled) + prefix.network_address.packed[:12]


def portal_option(url: str) -> bytes:
    """RFC 8910 section 2.3: the URL of the API, padded with zeros to eight octets."""
    text = url.encode()
    units = (2 + len(text) + 7) // 8
    return struct.pack("!BB", _CAPTIVE_PORTAL, units) + text.ljust(8 * units - 2, b"\0")


def main() -> None:
    parser = argparse.ArgumentParser(prog="lab.advertise")
    parser.add_argument("interface")
    parser.add_argument("--nat64", type=IPv6Network)
    parser.add_argument("--portal")
    options = parser.parse_args()
    said = advertisement(options.nat64, options.portal)
    link = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
    link.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, options.interface.encode())
    link.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
    link.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, 255)
    # A set bit holds a type back; only solicitations are of interest.
    everything_but = [0xFFFFFFFF] * 8
    everything_but[_ROUTER_SOLICITATION >> 5] &= ~(1 << (_ROUTER_SOLICITATION & 31))
    link.setsockopt(socket.IPPROTO_ICMPV6, _ICMP6_FILTER, struct.pack("@8I", *everything_but))
    index = socket.if_nametoindex(options.interface)
    membership = socket.inet_pton(socket.AF_INET6, "ff02::2") + struct.pack("@I", index)
    link.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, membership)
    next_at = time.monotonic()
    while True:
        link.settimeout(max(0.001, next_at - time.monotonic()))
        try:
            link.recv(1500)
        except TimeoutError:
            next_at = time.monotonic() + _EVERY
        link.sendto(said, ("ff02::1", 0, 0, index))


if __name__ == "__main__":
    main()
