"""What each machine of a lab must be told: topology -> addresses, routes, NAT, files and programs.

Pure. The machines are the core router `net`, one router with a switch per network, and the hosts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network

from lab.access import (
    LAN,
    UPLINK,
    name_servers,
    nat_rules,
    router_address,
    router_files,
    router_services,
    translator,
)
from lab.topology import CORE, Host, Service, Topology

SWITCH = "switch"
FIXED = "eth0"
"""The interface of a host that has a fixed place."""

_ROUTER_SYSCTL = {
    "net.ipv4.ip_forward": 1,
    "net.ipv4.conf.all.rp_filter": 0,
    "net.ipv4.conf.default.rp_filter": 0,
    "net.ipv4.conf.all.send_redirects": 0,
    "net.ipv4.conf.default.send_redirects": 0,
    "net.ipv6.conf.all.forwarding": 1,
    # Its switch is part of it, but only the interface that has an address answers for that address,
    # and what merely crosses the switch is none of the NAT's business.
    "net.ipv4.conf.all.arp_ignore": 1,
    "net.bridge.bridge-nf-call-iptables": 0,
    "net.bridge.bridge-nf-call-ip6tables": 0,
    "net.bridge.bridge-nf-call-arptables": 0,
    # A router has been up for long: its addresses are past duplicate address detection.
    "net.ipv6.conf.all.accept_dad": 0,
    "net.ipv6.conf.default.accept_dad": 0,
}
_SWITCH_SYSCTL = {
    # The far end of a cable becomes a port of the switch, and a port speaks no IPv6 of its own.
    "net.ipv6.conf.default.disable_ipv6": 1,
    # Where br_netfilter is loaded, frames inside the switch would pass the router's NAT a second time, which
    # then takes replies for new flows and gives them other ports.
    "net.bridge.bridge-nf-call-iptables": 0,
    "net.bridge.bridge-nf-call-ip6tables": 0,
    "net.bridge.bridge-nf-call-arptables": 0,
}
_STATIC_HOST_SYSCTL = {"net.ipv6.conf.all.accept_ra": 0, "net.ipv6.conf.default.accept_ra": 0}

@dataclass(frozen=True, slots=True)
class Wire:
    """One Ethernet cable between two machines."""

    machine: str
    interface: str
    other: str
    other_interface: str


@dataclass(frozen=True, slots=True)
class Machine:
    """One namespace: what is set before its cables are there, and what after."""

    name: str
    early_sysctl: Mapping[str, int] = field(default_factory=dict)
    ip: tuple[str, ...] = ()
    """Lines for ip(8) in batch mode."""
    late_sysctl: Mapping[str, int] = field(default_factory=dict)
    nft: str = ""
    files: Mapping[str, str] = field(default_factory=dict)
    services: tuple[Service, ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that is built, in the order in which services start."""

    machines: tuple[Machine, ...]
    wires: tuple[Wire, ...]


def plan(topology: Topology) -> Plan:
    """Lay out the whole lab."""
    uplinks = {name: _Uplink.of(topology, index) for index, name in enumerate(topology.network)}
    machines = [_core(topology, uplinks)]
    machines += [_router(topology, name, uplinks[name]) for name in topology.network]
    machines += [_host(topology, name, host) for name, host in topology.host.items()]
    return Plan(tuple(machines), tuple(_wires(topology)))


def far_end(host: str, interface: str) -> str:
    """The name of the loose end of a cable, wherever it is plugged in."""
    return f"{host}-{interface}"


@dataclass(frozen=True, slots=True)
class _Uplink:
    """The point-to-point link between the core router (first address) and a network's router."""

    ipv4: IPv4Network
    ipv6: IPv6Network

    @staticmethod
    def of(topology: Topology, index: int) -> _Uplink:
        core = topology.core
        ipv4 = IPv4Network((int(core.ipv4.network_address) + 4 * index, 30))
        ipv6 = IPv6Network((int(core.ipv6.network_address) + (index << 64), 64))
        return _Uplink(ipv4, ipv6)


def _wires(topology: Topology) -> Iterator[Wire]:
    for name in topology.network:
        yield Wire(CORE, name, name, UPLINK)
        yield Wire(name, LAN, name, "lan-port")
    for name, host in topology.host.items():
        if host.network is not None:
            mobile = topology.mobile_network.get(host.network)
            where = host.network if mobile is None else mobile.router
            yield Wire(name, FIXED, where, far_end(name, FIXED))


def _core(topology: Topology, uplinks: Mapping[str, _Uplink]) -> Machine:
    lines: list[str] = []
    for name, network in topology.network.items():
        uplink = uplinks[name]
        lines += [
            f"link set {name} up",
            f"address add {uplink.ipv4[1]}/30 dev {name}",
            f"address add {uplink.ipv6[1]}/64 dev {name} nodad",
        ]
        if network.ipv4 is not None and not network.nat:
            lines.append(f"route add {network.ipv4} via {uplink.ipv4[2]}")
        if network.ipv6 is not None:
            lines.append(f"route add {network.ipv6} via {uplink.ipv6[2]}")
    home = topology.home_agent.network
    if home is not None:
        uplink = uplinks[home]
        lines += _routes_home(topology, uplink.ipv4[2], uplink.ipv6[2])
    return Machine(CORE, early_sysctl=_ROUTER_SYSCTL, ip=tuple(lines))


def _routes_home(topology: Topology, *hops: IPv4Address | IPv6Address) -> Iterator[str]:
    """Mobile networks are reached through the home agent, by the hop of their family."""
    for mobile in topology.mobile_network.values():
        for prefix in (mobile.ipv4, mobile.ipv6):
            hop = next((hop for hop in hops if prefix is not None and hop.version == prefix.version), None)
            if hop is not None:
                yield f"route add {prefix} via {hop}"


def _router(topology: Topology, name: str, uplink: _Uplink) -> Machine:
    network = topology.network[name]
    ports = ["lan-port"]
    ports += [far_end(other, FIXED) for other, host in topology.host.items() if host.network == name]
    lines = [
        f"link add {SWITCH} type bridge mcast_snooping 0 forward_delay 0",
        f"link set {SWITCH} addrgenmode none up",
        *(f"link set {port} addrgenmode none master {SWITCH} up" for port in ports),
        f"link set {LAN} up",
        f"link set {UPLINK} up",
        f"address add {uplink.ipv4[2]}/30 dev {UPLINK}",
        f"address add {uplink.ipv6[2]}/64 dev {UPLINK} nodad",
        f"route add default via {uplink.ipv4[1]}",
        f"route add default via {uplink.ipv6[1]}",
    ]
    for prefix in (network.ipv4, network.ipv6):
        if prefix is not None:
            nodad = " nodad" if prefix.version == 6 else ""
            lines.append(f"address add {router_address(prefix)}/{prefix.prefixlen} dev {LAN}{nodad}")
    if name == topology.home_agent.network:
        lines += _routes_home(topology, *topology.home_agent.addresses)
    lines += translator(network)
    return Machine(
        name,
        early_sysctl=_ROUTER_SYSCTL,
        ip=tuple(lines),
        late_sysctl=_SWITCH_SYSCTL,
        nft=nat_rules(network),
        files=router_files(network, name_servers(topology)),
        services=tuple(router_services(network)),
    )


def _host(topology: Topology, name: str, host: Host) -> Machine:
    if host.network is None:
        up = tuple(f"link set {interface} up" for interface in host.interfaces)
        up += tuple(_ingress(topology, name))
        return Machine(name, ip=up, late_sysctl=host.sysctl, files=host.files, services=host.services)
    network = topology.place(host.network)
    lines = [f"link set {FIXED} up"]
    for address in host.addresses:
        prefix = network.ipv4 if address.version == 4 else network.ipv6
        assert prefix is not None
        nodad = " nodad" if address.version == 6 else ""
        lines.append(f"address add {address}/{prefix.prefixlen} dev {FIXED}{nodad}")
        lines.append(f"route add default via {router_address(ip_network(prefix))}")
    return Machine(
        name,
        early_sysctl=_STATIC_HOST_SYSCTL,
        ip=tuple(lines),
        late_sysctl=host.sysctl,
        files=host.files,
        services=host.services,
    )


def _ingress(topology: Topology, router: str) -> Iterator[str]:
    """The mobile networks behind a host: each is a switch in it, which is its ingress interface there."""
    for interface, name in topology.behind(router).items():
        network = topology.mobile_network[name]
        yield f"link add {interface} type bridge mcast_snooping 0 forward_delay 0"
        yield f"link set {interface} up"
        for host, declared in topology.host.items():
            if declared.network == name:
                yield f"link set {far_end(host, FIXED)} addrgenmode none master {interface} up"
        for prefix in (network.ipv4, network.ipv6):
            if prefix is not None and network.addressed:
                nodad = " nodad" if prefix.version == 6 else ""
                yield f"address add {router_address(prefix)}/{prefix.prefixlen} dev {interface}{nodad}"
