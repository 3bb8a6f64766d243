"""What sockets, data plane and kernel must be, derived whole from what the mobile node knows.

Pure. Draft section 4.4.1, RFC 6275 sections 11.3 and 11.5, RFC 7359 (no leak beside the tunnel).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from ipaddress import IPv4Address, IPv6Address, ip_network

from mn_agent.actions import (
    Action,
    AnnounceHome,
    ConfigureEndpoint,
    ConfigureKernel,
    ExpectLinks,
    InstallRoutes,
    KeepUnderlays,
    SendControl,
    SendProbe,
    WatchLink,
)
from mn_agent.binding_update_list import Binding, HomeAgent, Target
from mn_agent.choice import policy_of
from mn_agent.config import Configuration
from mn_agent.messages import candidate_paths
from mn_agent.mobile_router import NOTHING, Behind
from mn_agent.protection import UNPROTECTED, PayloadState
from movement.dna4 import Candidate
from movement.policy import Attachment
from movement.snapshot import Link, Snapshot
from tunnel.endpoint import EndpointConfig
from tunnel.forwarding import Route
from tunnel.home_kernel import at_home_kernel, returning_kernel
from tunnel.kernel import (
    TABLE_MAIN,
    AddressOnLink,
    KernelConfig,
    KernelRoute,
    LocalPrefix,
    RoutingMode,
    distinct,
    mobile_node_kernel,
    optimistic_addresses,
)
from tunnel.link_filter import Towards, Watch
from tunnel.mobile_network import MobileNetwork, with_mobile_network
from tunnel.path import Encapsulation, TunnelPath, held
from tunnel.prefixes import as_network

_EVERYWHERE = ip_network("0.0.0.0/0")
UNBOUND_MTU = 1400
"""MTU of the TUN device while there is no path."""
LEAST_MTU = 1280
"""IPv6 does not work below (RFC 8200 section 5)."""


@dataclass(frozen=True, slots=True)
class ConfirmedLease:
    """An address that is ours again, as a router on this interface has shown, until DHCP has its say."""

    interface: str
    candidate: Candidate


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Everything that the desired state depends on."""

    configuration: Configuration
    snapshot: Snapshot
    attachments: tuple[Attachment, ...]
    home_agents: tuple[HomeAgent, ...]
    target: Target | None
    binding: Binding | None
    old_paths: tuple[TunnelPath, ...]
    at_home: bool = False
    """The home agent has let go, and `target` is on the home link."""
    allocated: IPv4Address | None = None
    """The IPv4 home address of the last binding."""
    behind: Behind = NOTHING
    payload: PayloadState = UNPROTECTED
    asking_from: tuple[Attachment, ...] = ()
    """The links through which something else is being asked than to be registered."""
    held: bool = False
    """Payload has to wait for the acknowledgement of a Binding Update."""
    unanswered: int = 0
    """Binding Updates to the target that have had no answer."""
    leases: tuple[ConfirmedLease, ...] = ()
    limits: Mapping[tuple[str, IPv4Address | IPv6Address], int] = field(default_factory=dict)
    """Octets of outer packets that pass, by interface and care-of address, where the link says more."""

    def limited(self, path: TunnelPath) -> TunnelPath:
        """`path`, as large as is known to pass."""
        mtu = self.limits.get((path.interface, path.local), path.link_mtu)
        return path if mtu >= path.link_mtu else replace(path, link_mtu=mtu)


def desired(around: Surroundings) -> tuple[Action, ...]:
    """Every desired state."""
    return (
        KeepUnderlays(underlays(around)),
        ConfigureEndpoint(endpoint(around)),
        InstallRoutes(routes(around)),
        ConfigureKernel(kernel(around)),
        AnnounceHome(*announced(around)),
        WatchLink(watched(around)),
        ExpectLinks(tuple(_links(around))),
    )


def in_order(changed: list[Action], others: list[Action], around: Surroundings) -> list[Action]:
    """Desired states that have changed, around the other actions, which need what is set up before them.

    The kernel comes last, since nothing waits for it but the probes, which need the MTU of the device; but
    on the home link sockets and neighbours can use the home address only when it is there. Payload that
    goes after a Binding Update waits for that to leave, and what answers it is taken in before: a NAT that
    hears both at once, by two processors, may give each a port of its own.
    """
    kernels = [action for action in changed if isinstance(action, ConfigureKernel)]
    first = [action for action in changed if not isinstance(action, ConfigureKernel)]
    at_home = around.target is not None and around.target.at_home
    probes = [action for action in others if isinstance(action, SendProbe)]
    sent = [action for action in others if not isinstance(action, SendProbe)]
    if at_home:
        return [*kernels, *first, *sent]
    updates = [number for number, action in enumerate(sent) if isinstance(action, SendControl)]
    followed = [action for action in first if isinstance(action, InstallRoutes)]
    if updates and followed and around.binding is None:
        waiting = InstallRoutes(routes(around, told=False))
        first = [waiting if action in followed else action for action in first]
        sent[updates[-1] + 1 : updates[-1] + 1] = followed
    return [*first, *sent, *kernels, *probes]


def home_addresses(around: Surroundings) -> tuple[IPv4Address | IPv6Address, ...]:
    """The home addresses of this host: the configured ones, and what the home agent allocated."""
    binding = around.binding
    return homes_of(around.configuration, around.allocated if binding is None else binding.ipv4_home_address)


def homes_of(
    configuration: Configuration, allocated: IPv4Address | None
) -> tuple[IPv4Address | IPv6Address, ...]:
    """The home addresses if the home agent has last allocated `allocated`."""
    configured, ipv6 = configuration.home.ipv4, configuration.home.ipv6
    ipv4 = configured if isinstance(configured, IPv4Address) else None
    if configured == "dynamic":
        ipv4 = allocated
    return (ipv6,) if ipv4 is None else (ipv6, ipv4)


def underlays(around: Surroundings) -> tuple[Attachment, ...]:
    """Attachments with open sockets: the one aimed at, the one that carries data, the one just left."""
    wanted = set()
    if around.target is not None:
        wanted.add(_place(around.target.attachment))
    if around.binding is not None:
        wanted.add(_place(around.binding.target.attachment))
    wanted |= {(path.interface, path.local) for path in around.old_paths}
    kept = tuple(a for a in around.attachments if _place(a) in wanted)
    return (*kept, *(asking for asking in around.asking_from if _place(asking) not in wanted))


def routes(around: Surroundings, told: bool = True) -> tuple[Route, ...]:
    """Routes of the home addresses and of the networks behind this node.

    Not `told`: the Binding Update that payload is to follow has not left yet.

    Payload follows the binding. Before the first acknowledgement it follows the Binding Update at
    once: the home agent takes either encapsulation from the registered care-of address, and drops
    the payload if it did not accept. Both encapsulations are accepted from the moment the update
    leaves, since payload can overtake the acknowledgement. At home there is no path, but that which
    was left a moment ago may still deliver.
    """
    target, binding = around.target, around.binding
    abroad = target is not None and not target.at_home
    candidates = candidate_paths(target, around.configuration) if target and abroad else ()
    if binding is not None:
        path = binding.path
    elif around.at_home and around.old_paths:
        path = around.old_paths[0]
    elif candidates:
        path = candidates[0] if len(candidates) == 1 else _in_udp(candidates)
    else:
        return ()
    path = around.limited(path)
    accept = tuple(dict.fromkeys((*candidates, *around.old_paths)))
    if around.held or not told:
        path, accept = held(path), (path, *accept)
    networks = around.behind.networks if binding is None else binding.prefixes
    bound = (Route(as_network(home), path, accept) for home in (*home_addresses(around), *networks))
    return tuple(map(around.payload.route, bound))


def endpoint(around: Surroundings) -> EndpointConfig:
    """What is not payload: messages of the home agents, and tunnels inside the tunnel."""
    agents = around.home_agents
    ipv6 = frozenset(agent.ipv6 for agent in agents if agent.ipv6 is not None)
    ipv4 = frozenset(agent.ipv4 for agent in agents if agent.ipv4 is not None)
    return EndpointConfig(
        control_local=frozenset({around.configuration.home.ipv6}),
        control_peer=ipv6,
        home_agent=ipv6 | ipv4,
        tlv=around.configuration.profile.tlv,
        keyring=around.payload.keyring,
    )


def announced(around: Surroundings) -> tuple[str, tuple[IPv4Address | IPv6Address, ...]]:
    """The home link and the home addresses on it; nothing while away."""
    if not around.at_home or around.target is None:
        return "", ()
    return around.target.attachment.interface, home_addresses(around)


def watched(around: Surroundings) -> Watch | None:
    """At home: what this host sends there. While it asks whether it is: what comes in, and is refused."""
    if around.target is None or not around.target.at_home:
        return None
    interface, homes = around.target.attachment.interface, frozenset(home_addresses(around))
    if around.at_home:
        return Watch(interface, (Towards.LINK,), homes, by_source=True)
    return Watch(interface, (Towards.US,), homes, by_source=False)


def kernel(around: Surroundings) -> KernelConfig:
    """Addresses, rules, routes and guard of this host."""
    config = _kernel(around)
    if around.configuration.movement.addresses == "agent":
        config = replace(config, sysctls=(*config.sysctls, *optimistic_addresses(distinct(_links(around)))))
    return _with_leases(around, config)


def _kernel(around: Surroundings) -> KernelConfig:
    target, home = around.target, around.configuration.home.ipv6
    if target is None or not target.at_home:
        return _with_networks(around, _kernel_abroad(around))
    if around.at_home:
        return _kernel_at_home(around, target.attachment)
    abroad = _with_networks(around, _kernel_abroad(around))
    return returning_kernel(abroad, home, target.attachment.interface)


def _kernel_at_home(around: Surroundings, place: Attachment) -> KernelConfig:
    configuration, homes = around.configuration, home_addresses(around)
    link = around.snapshot.link(place.interface)
    on_link = {address.network for address in link.addresses} if link is not None else set()
    routers = (router.gateway for router in link.routers) if link is not None else ()
    return at_home_kernel(
        device=configuration.tunnel.device,
        home_addresses=homes,
        mtu=UNBOUND_MTU,
        interface=place.interface,
        routers=(gateway for gateway in routers if gateway is not None),
        home_prefixes=(n for n in sorted(on_link, key=str) if any(home in n for home in homes)),
        mode=RoutingMode(configuration.routing.mode),
        care_of=_other_addresses(around),
        local_prefixes=_local_prefixes(around),
        uplinks=_uplinks(around),
    )


def _kernel_abroad(around: Surroundings) -> KernelConfig:
    configuration = around.configuration
    return mobile_node_kernel(
        device=configuration.tunnel.device,
        home_addresses=home_addresses(around),
        mtu=_device_mtu(around),
        mode=RoutingMode(configuration.routing.mode),
        care_of=_other_addresses(around),
        local_prefixes=_local_prefixes(around),
        home_prefixes=(configuration.home_prefix, *configuration.home.ipv4_prefixes),
        uplinks=_uplinks(around),
        ingress=(link.name for link in _ingress(around)),
    )


def _device_mtu(around: Surroundings) -> int:
    if around.binding is None:
        return UNBOUND_MTU
    return max(LEAST_MTU, around.limited(around.binding.path).inner_mtu)


def _with_networks(around: Surroundings, config: KernelConfig) -> KernelConfig:
    """The same for a mobile router."""
    if around.configuration.router is None:
        return config
    links = _ingress(around)
    network = MobileNetwork(
        prefixes=around.behind.networks,
        interfaces=tuple(link.name for link in links),
        links=tuple(link.name for link in links if link.up),
        connected=tuple(_local_prefixes(around)),
        allocated=around.behind.allocated,
        care_of=tuple(_other_addresses(around)),
    )
    return with_mobile_network(config, network)


def _with_leases(around: Surroundings, config: KernelConfig) -> KernelConfig:
    """And the addresses that were confirmed, each with a route that the DHCP client's own goes before."""
    on_link, routes = list(config.on_link), list(config.routes)
    for confirmed in around.leases:
        network, lease = confirmed.candidate.network, confirmed.candidate.lease
        address, metric = lease.value.address, lease.value.metric + 1
        on_link.append(AddressOnLink(address, confirmed.interface, network.prefix.prefixlen, lease.until))
        way = KernelRoute(_EVERYWHERE, confirmed.interface, TABLE_MAIN, metric=metric, source=address)
        routes.append(replace(way, gateway=network.router))
    return replace(config, on_link=tuple(on_link), routes=tuple(routes))


def _ingress(around: Surroundings) -> tuple[Link, ...]:
    """The links to the networks behind this node, in the order of the configuration."""
    patterns = around.configuration.ingress
    ranked = ((pattern, link) for pattern in patterns for link in around.snapshot.links)
    return tuple(dict.fromkeys(link for pattern, link in ranked if fnmatchcase(link.name, pattern)))


def _other_addresses(around: Surroundings) -> Iterator[IPv4Address | IPv6Address]:
    """Care-of addresses: on the home link the attachment's is the home address, which is none."""
    home = around.configuration.home.ipv6
    return (a.care_of for a in around.attachments if a.care_of != home and a.through is None)


def _local_prefixes(around: Surroundings) -> Iterator[LocalPrefix]:
    return (
        LocalPrefix(connected.network, interface, connected.address)
        for interface, connected in around.snapshot.connected()
    )


def _links(around: Surroundings) -> Iterator[str]:
    """Those that may become uplinks, before they have an address."""
    policy = policy_of(around.configuration)
    return (link.name for link in around.snapshot.links if policy.permits(link.name))


def _uplinks(around: Surroundings) -> Iterator[str]:
    return (attachment.interface for attachment in around.attachments)


def _in_udp(candidates: tuple[TunnelPath, ...]) -> TunnelPath:
    return next(path for path in candidates if path.encapsulation is Encapsulation.UDP)


def _place(attachment: Attachment) -> tuple[str, IPv4Address | IPv6Address]:
    return attachment.interface, attachment.care_of
