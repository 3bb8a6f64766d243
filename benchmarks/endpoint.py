"""One end of a benchmarked tunnel, in a process of its own: the product's device, underlay and data plane.

Performs I/O. Started as `python -m benchmarks.endpoint ROLE TIER FORMAT OUTER DEVICE`; says "ready", or why
this host cannot have that tier; for each number on its standard input swaps paths so many times and prints
how long each swap took; when the input ends, prints its counters as JSON.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address, ip_network

from benchmarks.chain import AGENT4, AGENT6, CARE_OF4, CARE_OF6, HOME4, HOME6
from tunnel.endpoint import Endpoint, EndpointConfig, Role
from tunnel.forwarding import ForwardingTable, Route
from tunnel.keyring import Keyring, PayloadPair
from tunnel.path import Arrival, Encapsulation, TunnelPath
from tunnel.payload_esp import KEY_SIZE, PayloadAssociation
from tunnel.plane import DataPlane, Tier
from tunnel.tiers import Wiring, open_tunnel
from tunnel.underlay import Underlay, open_ipv4_underlay, open_ipv6_underlay
from wire.esp import UDP_PORT_NAT_TRAVERSAL
from wire.profile import HOME_AGENT_PORT, TlvLayout

_TLV = {Encapsulation.UDP_TLV: TlvLayout.RFC5845, Encapsulation.UDP_TLV_DRAFT: TlvLayout.DRAFT}


def main() -> None:
    role, tier, encapsulation = Role(sys.argv[1]), Tier(sys.argv[2]), Encapsulation(sys.argv[3])
    outer, device = int(sys.argv[4]), sys.argv[5]
    path = _path(role, encapsulation, outer)
    underlay = _underlay(path)
    keyring = Keyring([_pair(role)])
    endpoint = Endpoint(role, EndpointConfig(tlv=_TLV.get(encapsulation), keyring=keyring))
    wiring = Wiring(endpoint, _ignore_control, _die, tlv=encapsulation in _TLV)
    tunnel = open_tunnel(tier.value, device, path.inner_mtu, wiring)
    if tunnel.report.tier is not tier:
        print(tunnel.report.why, flush=True)
        sys.exit(1)
    plane = tunnel.plane
    plane.attach(underlay)
    plane.install(ForwardingTable(Route(ip_network(home), path) for home in (HOME4, HOME6)))
    plane.start()
    print("ready", flush=True)
    for line in sys.stdin:
        _swap(plane, path, int(line))
    counters = plane.counters()
    print(json.dumps({"rx": counters.rx_packets, "tx": counters.tx_packets, "drops": dict(counters.drops)}))
    tunnel.close()
    underlay.close()


def _swap(plane: DataPlane, path: TunnelPath, times: int) -> None:
    """Install a table with the other care-of address, and back, and so on; print the microseconds of each."""
    other = replace(path, local=CARE_OF4 + 1)
    underlay = _underlay(other)
    plane.attach(underlay)
    tables = [
        ForwardingTable(Route(ip_network(h), p, (path, other)) for h in (HOME4, HOME6)) for p in (other, path)
    ]
    took = []
    for number in range(times):
        began = time.perf_counter()
        plane.install(tables[number % 2])
        took.append(round((time.perf_counter() - began) * 1e6, 1))
        time.sleep(0.01)
    plane.install(tables[1])
    plane.detach(underlay)
    underlay.close()
    print(json.dumps(took), flush=True)


def _path(role: Role, encapsulation: Encapsulation, outer: int) -> TunnelPath:
    port = HOME_AGENT_PORT if encapsulation.in_udp else 0
    spi = 0
    if encapsulation.protected:
        port = UDP_PORT_NAT_TRAVERSAL if encapsulation.in_udp else 0
        spi = _pair(role).inbound.spi
    care_of: IPv4Address | IPv6Address = CARE_OF4 if outer == 4 else CARE_OF6
    agent: IPv4Address | IPv6Address = AGENT4 if outer == 4 else AGENT6
    local, remote = (care_of, agent) if role is Role.MOBILE_NODE else (agent, care_of)
    own = 0 if encapsulation.protected else port
    # As in the daemons: a mobile node knows its link, a home agent answers by whichever leads there.
    link = "router" if role is Role.MOBILE_NODE else ""
    return TunnelPath(local, remote, encapsulation, own, port, link, spi=spi)


def _pair(role: Role) -> PayloadPair:
    """Keys that are as good as any for a benchmark, and the same in every one: never use them elsewhere."""
    there = PayloadAssociation(0x1000_0001, bytes(KEY_SIZE), b"benc")
    back = PayloadAssociation(0x2000_0001, bytes([1]) * KEY_SIZE, b"hmrk")
    return PayloadPair(there, back) if role is Role.MOBILE_NODE else PayloadPair(back, there)


def _underlay(path: TunnelPath) -> Underlay:
    if isinstance(path.local, IPv4Address):
        esp_port = UDP_PORT_NAT_TRAVERSAL if path.encapsulation.protected else None
        return open_ipv4_underlay(path.local, HOME_AGENT_PORT, path.interface or None, 0, esp_port)
    return open_ipv6_underlay(path.local, path.interface or None, 0, path.encapsulation.protected)


def _ignore_control(packet: bytes, arrival: Arrival) -> None:
    """There is no control plane here."""


def _die(reason: str) -> None:
    print(reason, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
