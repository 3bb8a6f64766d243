"""What the router of a network runs for its guests: advertisements, DHCP, NAT, NAT64 and a captive portal.

Pure. RFC 6052 and 7050 (NAT64), RFC 8781 and 8910 (what advertisements say of it and of the portal).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from lab import captivity
from lab.topology import Host, Network, Service, Topology

UPLINK = "uplink"
LAN = "lan"

NAT64 = IPv6Network("2001:db8:64:ff9b::/96")
"""A prefix of the network's own (RFC 6052 section 2.2): behind the well-known one tayga serves only global
addresses, and those of the lab are for documentation."""
_NAT64_POOL = IPv4Network("192.168.255.0/24")
"""Between translator and masquerade, inside the router."""
_NAT64_DEVICE = "nat64"
_TAYGA = f"""
tun-device {_NAT64_DEVICE}
ipv4-addr {_NAT64_POOL[1]}
ipv6-addr {NAT64.supernet(new_prefix=64)[1 << 32 | 1]}
prefix {NAT64}
dynamic-pool {_NAT64_POOL}
data-dir /var/lib/tayga
"""
# Whichever name server a host believes in, here it is the network's own that answers.
_NAT64_DNS = f"""
table inet names {{
    chain prerouting {{
        type nat hook prerouting priority dstnat
        iifname "{LAN}" udp dport 53 redirect
    }}
}}
"""
_NAT = f"""
table ip nat {{
    chain postrouting {{
        type nat hook postrouting priority srcnat
        oifname "{UPLINK}" masquerade fully-random
    }}
}}
table ip filter {{
    chain forward {{
        type filter hook forward priority filter
        iifname "{UPLINK}" ct state new drop
    }}
}}
"""


def router_address(prefix: IPv4Network | IPv6Network) -> IPv4Address | IPv6Address:
    """The router of a network has its first address."""
    return prefix[1]


def through_nat64(address: IPv4Address | IPv6Address) -> IPv6Address:
    """What stands for an IPv4 address behind the prefix (RFC 6052 section 2.2); an IPv6 one is itself."""
    if isinstance(address, IPv6Address):
        return address
    return IPv6Address(int(NAT64.network_address) | int(address))


def portal_url(network: Network) -> str:
    """Where the guests of a network find its portal."""
    if network.ipv4 is not None:
        return f"http://{router_address(network.ipv4)}:{captivity.PORT}"
    assert network.ipv6 is not None, "a network has a prefix"
    return f"http://[{router_address(network.ipv6)}]:{captivity.PORT}"


def translator(network: Network) -> Iterator[str]:
    """Lines for ip(8): the device and routes of a NAT64."""
    if network.nat64:
        yield f"tuntap add dev {_NAT64_DEVICE} mode tun"
        yield f"link set {_NAT64_DEVICE} up"
        yield f"route add {_NAT64_POOL} dev {_NAT64_DEVICE}"
        yield f"route add {NAT64} dev {_NAT64_DEVICE}"


def nat_rules(network: Network) -> str:
    """Lines for nft(8)."""
    return _NAT * (network.nat or network.nat64) + _NAT64_DNS * network.nat64


def router_files(network: Network, servers: Sequence[IPv4Address | IPv6Address]) -> Mapping[str, str]:
    """Path -> text; `servers` are the name servers that guests are told of."""
    if not network.access:
        return {}
    files = {"/etc/dnsmasq.conf": _dnsmasq(network, servers)}
    return {**files, "/etc/tayga.conf": _TAYGA} if network.nat64 else files


def router_services(network: Network) -> Iterator[Service]:
    """The programs, in the order in which they start."""
    if network.access:
        yield Service(command="dnsmasq --keep-in-foreground --conf-file=/etc/dnsmasq.conf")
    if network.nat64:
        yield Service(command="tayga --nodetach --config /etc/tayga.conf")
    if network.portal:
        yield Service(command=f"python3 -S -m lab.portal {portal_url(network)}")
    said = [f"--nat64={NAT64}"] * network.nat64 + [f"--portal={_portal_api(network)}"] * network.portal
    if said and network.ipv6 is not None:
        yield Service(command=f"python3 -S -m lab.advertise {LAN} {' '.join(said)}")


def name_servers(topology: Topology) -> list[IPv4Address | IPv6Address]:
    """The addresses of the hosts that serve names."""
    return [address for host in topology.host.values() for address in host.addresses if _serves_names(host)]


def _dnsmasq(network: Network, servers: Sequence[IPv4Address | IPv6Address]) -> str:
    """dnsmasq.conf of an access router: DHCP that answers at once, and router advertisements."""
    lines = ["user=root", f"interface={LAN}", "bind-interfaces", "log-facility=-"]
    lines += _nat64_names(servers) if network.nat64 else ["port=0"]
    if network.ipv4 is not None:
        first, last = network.ipv4[10], network.ipv4[min(60, network.ipv4.num_addresses - 2)]
        lines += [f"dhcp-range={first},{last},{network.ipv4.netmask},1h", "dhcp-authoritative", "no-ping"]
        lines += [f"dhcp-option=option:dns-server,{a}" for a in servers if a.version == 4]
        lines += ["dhcp-leasefile=/var/lib/misc-dnsmasq.leases"]
        if network.portal:
            lines.append(f"dhcp-option=114,{_portal_api(network)}")
        if network.dhcp_delay_s:
            lines.append(f"dhcp-reply-delay={network.dhcp_delay_s}")
    if network.ipv6 is not None:
        lines += [f"dhcp-range={network.ipv6.network_address},ra-only,64,1h", "enable-ra"]
        lines += [f"dhcp-option=option6:dns-server,[{a}]" for a in servers if a.version == 6]
    return "\n".join(lines) + "\n"


def _nat64_names(servers: Sequence[IPv4Address | IPv6Address]) -> Iterator[str]:
    """It knows the name by which RFC 7050 asks for the prefix, and asks others for the rest."""
    yield "no-resolv"
    yield "no-hosts"
    yield from (f"server={address}" for address in servers if address.version == 6)
    for well_known in (IPv4Address("192.0.0.170"), IPv4Address("192.0.0.171")):
        yield f"host-record=ipv4only.arpa,{well_known},{through_nat64(well_known)}"


def _portal_api(network: Network) -> str:
    return portal_url(network) + captivity.API


def _serves_names(host: Host) -> bool:
    return any(service.name == "dnsmasq" for service in host.services)
