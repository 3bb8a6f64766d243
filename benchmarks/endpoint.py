"""One end of a benchmarked tunnel, in a process of its own: the product's device, underlay and data plane.

Performs I/O. Started as `python -m benchmarks.endpoint ROLE FORMAT OUTER DEVICE`; says "ready", works until
its standard input ends, then prints its counters as JSON.
"""

from __future__ import annotations

import json
import sys
from ipaddress import IPv4Address, IPv6Address, ip_network

from benchmarks.chain import AGENT4, AGENT6, CARE_OF4, CARE_OF6, HOME4, HOME6
from tunnel.endpoint import Endpoint, EndpointConfig, Role
from tunnel.forwarding import ForwardingTable, Route
from tunnel.path import Arrival, Encapsulation, TunnelPath
from tunnel.portable import PortablePlane
from tunnel.tun import TunDevice
from tunnel.underlay import Underlay, open_ipv4_underlay, open_ipv6_underlay
from wire.profile import HOME_AGENT_PORT, TlvLayout

_TLV = {Encapsulation.UDP_TLV: TlvLayout.RFC5845, Encapsulation.UDP_TLV_DRAFT: TlvLayout.DRAFT}


def main() -> None:
    role, encapsulation, outer = Role(sys.argv[1]), Encapsulation(sys.argv[2]), int(sys.argv[3])
    path = _path(role, encapsulation, outer)
    underlay = _underlay(path)
    device = TunDevice.open(sys.argv[4], path.inner_mtu)
    endpoint = Endpoint(role, EndpointConfig(tlv=_TLV.get(encapsulation)))
    plane = PortablePlane(device, endpoint, _ignore_control, _die)
    plane.attach(underlay)
    plane.install(ForwardingTable(Route(ip_network(home), path) for home in (HOME4, HOME6)))
    plane.start()
    print("ready", flush=True)
    sys.stdin.read()
    counters = plane.counters()
    print(json.dumps({"rx": counters.rx_packets, "tx": counters.tx_packets, "drops": dict(counters.drops)}))
    plane.close()
    underlay.close()
    device.close()


def _path(role: Role, encapsulation: Encapsulation, outer: int) -> TunnelPath:
    port = HOME_AGENT_PORT if encapsulation.in_udp else 0
    care_of: IPv4Address | IPv6Address = CARE_OF4 if outer == 4 else CARE_OF6
    agent: IPv4Address | IPv6Address = AGENT4 if outer == 4 else AGENT6
    local, remote = (care_of, agent) if role is Role.MOBILE_NODE else (agent, care_of)
    return TunnelPath(local, remote, encapsulation, port, port)


def _underlay(path: TunnelPath) -> Underlay:
    if isinstance(path.local, IPv4Address):
        return open_ipv4_underlay(path.local, HOME_AGENT_PORT, None, 0)
    return open_ipv6_underlay(path.local, None, 0)


def _ignore_control(packet: bytes, arrival: Arrival) -> None:
    """There is no control plane here."""


def _die(reason: str) -> None:
    print(reason, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
