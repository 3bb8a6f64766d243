"""Where a binding puts its mobile node: what the law holds tables and peers against.

Pure.
"""

from __future__ import annotations

from home_agent.binding_cache import Binding
from tunnel.forwarding import Peer, peer_of
from tunnel.path import Arrival, Encapsulation, TunnelPath


def place_of(binding: Binding) -> TunnelPath:
    """The address and port at which an authentic update put the mobile node."""
    arrival = binding.arrival
    remote = arrival.remote if arrival.local_port else binding.care_of
    return TunnelPath(arrival.local, remote, Encapsulation.UDP, arrival.local_port, arrival.remote_port)


def leads_to(path: TunnelPath, binding: Binding) -> bool:
    place = place_of(binding)
    if path.remote != place.remote or path.local != place.local:
        return False
    if path.encapsulation.protected:
        return True  # the port of payload is another one, which its keys tell
    return not path.encapsulation.in_udp or path.remote_port == place.remote_port != 0


def peers_of(place: TunnelPath, nat: bool, arrival: Arrival) -> set[Peer]:
    peers = {peer_of(place.remote, place.remote_port)} if arrival.local_port else set[Peer]()
    return peers if nat else peers | {peer_of(place.remote)}
