"""What a mobile node is made of: its journal, its machines and what they remember, each of them once.

Pure.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from random import Random

from mn_agent.associations import Associations, associations_for
from mn_agent.bridge import Bridge
from mn_agent.choice import Choice, policy_of
from mn_agent.config import Configuration
from mn_agent.decisions import Decisions
from mn_agent.dialect import Dialect
from mn_agent.discovery import Discovery, discovery_for
from mn_agent.enquiries import Enquiries
from mn_agent.handover import Journal
from mn_agent.memory import Memory
from mn_agent.messages import Wish
from mn_agent.mobile_router import MobileRouter
from mn_agent.nat64 import Nat64
from mn_agent.nat_mapping import NatMappings
from mn_agent.network_memory import NetworkMemory
from mn_agent.old_paths import OldPaths
from mn_agent.path_limits import PathLimits
from mn_agent.path_watch import PathWatch
from mn_agent.portals import Portals
from mn_agent.protection import PayloadProtection
from mn_agent.race import Race
from mn_agent.recognition import Recognition
from mn_agent.registration import HomeRegistration
from mn_agent.steadiness import SteadyLinks
from mn_agent.thinker import Thinker
from mn_agent.way_check import WayCheck
from movement.known_networks import KnownNetworks
from tunnel.authentication import Keys
from tunnel.path import Drop
from tunnel.protection import PayloadKey


@dataclass(frozen=True, slots=True)
class Parts:
    """Made together, and shared by those that decide (`node`) and carry out (`consequences`)."""

    configuration: Configuration
    choice: Choice
    discovery: Discovery
    enquiries: Enquiries
    registration: HomeRegistration
    payload: PayloadProtection
    associations: Associations
    dialect: Dialect
    networks: NetworkMemory
    nat64: Nat64
    portals: Portals
    recognition: Recognition
    limits: PathLimits
    paths: PathWatch
    thinkers: tuple[Thinker, ...]
    ways: WayCheck
    decisions: Decisions = field(default_factory=Decisions)
    journal: Journal = field(default_factory=Journal)
    bridge: Bridge = field(default_factory=Bridge)
    old_paths: OldPaths = field(default_factory=OldPaths)
    drops: Counter[str] = field(default_factory=Counter)

    def refuse(self, drop: Drop) -> None:
        """A message that is not obeyed is counted by its reason."""
        self.drops[drop.reason] += 1


def assemble(
    configuration: Configuration,
    keys: Keys,
    memory: Memory,
    rng: Random,
    now: float,
    wall_offset: float,
    payload_key: PayloadKey | None,
    networks: KnownNetworks,
) -> Parts:
    """The parts of a mobile node that starts `now`; the arguments are those of `MobileNode`."""
    binding, tunnel, home = configuration.binding, configuration.tunnel, configuration.home.ipv6
    discovery = discovery_for(configuration, memory.home_agents)
    enquiries = Enquiries(configuration, discovery, rng)
    memory_of_networks = NetworkMemory(networks, wall_offset)
    limits = PathLimits(memory_of_networks)
    registration = HomeRegistration(
        Wish.of(configuration),
        memory.next_sequence,
        rng,
        now,
        reachable=binding.reachable,
        retry_unacknowledged_ipv4=binding.retry_unacknowledged_ipv4,
        first_timeout=binding.first_registration_timeout,
        router=MobileRouter(configuration.router),
        mappings=NatMappings(memory_of_networks, limits, binding.nat_keepalive),
    )
    dialect = Dialect(configuration.profile, tunnel.tlv)
    key = payload_key if tunnel.protect_payload else None
    payload = PayloadProtection(key, home, rng.randbytes, reachable=binding.reachable)
    associations = associations_for(keys, configuration.profile, home, memory, wall_offset, rng)
    choice = Choice(policy_of(configuration), home)
    nat64 = Nat64()
    portals = Portals(configuration.portal)
    owns_addresses = configuration.movement.addresses == "agent"
    recognition = Recognition(policy_of(configuration), memory_of_networks, owns_addresses)
    steady = SteadyLinks(configuration.movement.hysteresis)
    paths = PathWatch(memory_of_networks, limits, registration.demands, rng)
    registration.demands.needs_udp = paths.wants_udp
    thinkers = (recognition, steady, nat64, Race(memory_of_networks, rng), portals, paths)
    return Parts(
        configuration,
        choice,
        discovery,
        enquiries,
        registration,
        payload,
        associations,
        dialect,
        memory_of_networks,
        nat64,
        portals,
        recognition,
        limits,
        paths,
        thinkers,
        WayCheck(home),
    )
