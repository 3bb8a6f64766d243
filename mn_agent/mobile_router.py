"""The mobile router: the networks it asks for, those it was granted, and who does not take it as a router.

Pure. RFC 3963 sections 5.2 and 5.3, draft sections 3.1.1, 3.2.1 and 4.4, RFC 5555 section 3.1.1.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv4Network, IPv6Network

from mn_agent.binding_update_list import Binding, HomeAgent, RefusedPrefix
from mn_agent.config import RouterSection
from mn_agent.ipv4_answers import asks_for_prefix, ipv4_answers
from wire.mobility import AckFlag, BindingAck, BindingStatus, BindingUpdate, UpdateFlag
from wire.options import Ipv4AddressAck, Ipv4HomeAddress

ANY_PREFIX = IPv4Address("0.0.0.0")
SHORTEST_PREFIX = 8
"""No home agent owns a larger part of the IPv4 Internet, so nobody can give it away."""


@dataclass(frozen=True, slots=True)
class RouterPart:
    """What one Binding Update says because this node is a mobile router."""

    as_router: bool = False
    prefixes: tuple[IPv6Network, ...] = ()
    requests: tuple[Ipv4HomeAddress, ...] = ()


HOST = RouterPart()


@dataclass(frozen=True, slots=True)
class Behind:
    """The networks behind this node as far as they are known; `allocated` are those of no configuration."""

    networks: tuple[IPv4Network | IPv6Network, ...] = ()
    allocated: tuple[IPv4Network, ...] = ()


NOTHING = Behind()


class MobileRouter:
    """`section` None: an ordinary mobile node, of which nothing here is ever asked for."""

    def __init__(self, section: RouterSection | None) -> None:
        self._section = section
        self._granted: dict[tuple[str, int], IPv4Network] = {}
        self._latest: dict[int, IPv4Network] = {}
        self._silent: dict[str, float] = {}
        self._fatal = False
        self.refusals: dict[str, int] = {}
        """By the name of the home agent: the status by which it refused us as a mobile router."""

    @property
    def behind(self) -> Behind:
        """What is configured, and what was granted lately by any home agent."""
        section = self._section
        if section is None:
            return Behind()
        wishes = self._wishes(section)
        ipv4 = (self._latest.get(index, wish) for index, wish in enumerate(wishes))
        known = [network for network in ipv4 if isinstance(network, IPv4Network)]
        requested = (self._latest.get(index) for index, wish in enumerate(wishes) if isinstance(wish, int))
        return Behind(
            tuple(dict.fromkeys((*section.ipv6_prefixes, *known))),
            tuple(dict.fromkeys(network for network in requested if network is not None)),
        )

    # ---- asking ----------------------------------------------------------------------------
    def part(self, home_agent: HomeAgent, lifetime: int) -> RouterPart:
        """For a Binding Update to `home_agent`; a deregistration names no prefixes."""
        if self._section is None or not self.is_taken_by(home_agent):
            return HOST
        if lifetime == 0:
            return RouterPart(as_router=True)
        named = self._section.ipv6_prefixes if self._section.mode == "explicit" else ()
        requests = tuple(
            self._request(self._granted.get((home_agent.name, index)), wish)
            for index, wish in enumerate(self._wishes(self._section))
        )
        return RouterPart(True, named, requests)

    def is_taken_by(self, home_agent: HomeAgent) -> bool:
        """Whether `home_agent` has not yet refused us as a mobile router."""
        return self._section is not None and not self._fatal and home_agent.name not in self.refusals

    def preferred(self, home_agents: tuple[HomeAgent, ...], now: float) -> tuple[HomeAgent, ...]:
        """Those which may take us as a mobile router; all of them, for a mere host, if there is none."""
        willing = tuple(agent for agent in home_agents if agent.name not in self.refusals)
        answering = tuple(agent for agent in willing if self._silent.get(agent.name, 0.0) <= now)
        return answering or (home_agents if self.refusals else willing)

    def silent(self, home_agent: HomeAgent, until: float) -> None:
        """It does not answer: until then, one that takes us as a host only is better than none."""
        self._silent[home_agent.name] = until

    # ---- answers ---------------------------------------------------------------------------
    def is_denied_by(self, update: BindingUpdate, ack: BindingAck) -> bool:
        """It was accepted, but not as a router: without R in the answer no prefix is forwarded."""
        return UpdateFlag.ROUTER in update.flags and AckFlag.ROUTER not in ack.flags

    def refuse(self, home_agent: HomeAgent, status: int) -> None:
        """`home_agent` does not take us as a mobile router; no Binding Update with R goes there any more.

        A status that belongs to the other mode ends the role altogether (RFC 3963 section 5.3).
        """
        self.refusals[home_agent.name] = status
        self._fatal = self._fatal or status in self._foreign_statuses()

    def bound(self, binding: Binding, update: BindingUpdate, ack: BindingAck) -> Binding:
        """`binding` with what it means for the networks behind us; grants are remembered.

        When a prefix that this home agent once granted is gone, the binding is refreshed at once, so that
        a new one is asked for (draft section 3.1.1: P only in new requests).
        """
        if self._section is None or UpdateFlag.ROUTER not in update.flags:
            return binding
        name, lost = binding.target.home_agent.name, False
        granted: list[IPv4Network] = []
        refused: list[RefusedPrefix] = []
        answers = [pair for pair in ipv4_answers(update, ack) if asks_for_prefix(pair[0])]
        for index, (request, answer) in enumerate(answers):
            network = _network(answer, binding)
            if network is not None:
                self._granted[name, index] = self._latest[index] = network
                granted.append(network)
            else:
                lost = self._granted.pop((name, index), None) is not None or lost
                self._latest.pop(index, None)
                status = None if answer is None else answer.status
                refused.append(RefusedPrefix(request.address, request.prefix_length, status))
        return replace(
            binding,
            router=True,
            prefixes=(*self._section.ipv6_prefixes, *dict.fromkeys(granted)),
            refused_prefixes=tuple(refused),
            refresh_at=binding.accepted_at if lost else binding.refresh_at,
        )

    def _wishes(self, section: RouterSection) -> tuple[IPv4Network | int, ...]:
        return (*section.ipv4_prefixes, *section.ipv4_prefix_requests)

    def _request(self, granted: IPv4Network | None, wish: IPv4Network | int) -> Ipv4HomeAddress:
        """R061, R063: P and the wished length at first, later the allocated prefix without P."""
        if granted is not None:
            return Ipv4HomeAddress(granted.network_address, granted.prefixlen)
        if isinstance(wish, IPv4Network):
            return Ipv4HomeAddress(wish.network_address, wish.prefixlen, prefix_request=True)
        return Ipv4HomeAddress(ANY_PREFIX, wish, prefix_request=True)

    def _foreign_statuses(self) -> tuple[int, ...]:
        if self._section is None or self._section.mode == "explicit":
            return (BindingStatus.FORWARDING_SETUP_FAILED,)
        return (BindingStatus.INVALID_PREFIX, BindingStatus.NOT_AUTHORISED_FOR_PREFIX)


def _network(answer: Ipv4AddressAck | None, binding: Binding) -> IPv4Network | None:
    """The granted prefix, whatever was asked for (R074); None if refused, or if it would harm this host."""
    if answer is None or answer.status >= 128 or not SHORTEST_PREFIX <= answer.prefix_length <= 32:
        return None
    network = IPv4Network((answer.address, answer.prefix_length), strict=False)
    address = network.network_address
    unusable = address.is_multicast or address.is_loopback or address.is_link_local or address.is_unspecified
    home_agent = binding.target.home_agent.ipv4
    return None if unusable or (home_agent is not None and home_agent in network) else network
