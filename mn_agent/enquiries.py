"""What the mobile node asks and hears in ICMPv6: home agents, home prefixes, complaints.

Pure. RFC 6275 sections 6.5 to 6.8 and 11.4, draft sections 2.1 and 2.2, RFC 5555 section 2.2.
"""

from __future__ import annotations

import math
from ipaddress import IPv6Address, IPv6Network
from random import Random

from mn_agent.actions import Action, Report, SendIcmp
from mn_agent.anycast_discovery import AnycastDiscovery, Question
from mn_agent.associations import Associations
from mn_agent.binding_update_list import Binding, Target
from mn_agent.config import Configuration
from mn_agent.discovery import Discovery
from mn_agent.hints import Hints
from mn_agent.prefix_discovery import PrefixDiscovery
from movement.policy import Attachment
from runtime.node import Deadline, earliest
from tunnel.envelope import ControlPacket
from tunnel.path import Drop
from wire.icmp import (
    HomeAgentDiscoveryReply,
    MobilePrefixAdvertisement,
    MobilePrefixSolicitation,
    ParameterProblem,
    decode_icmp6,
    encode_icmp6,
)
from wire.ip import IPV6_HEADER, PROTOCOL_ICMPV6, IPv6Header
from wire.mobility import BindingStatus
from wire.reader import DecodeError


def is_icmp(packet: bytes) -> bool:
    """Whether ICMPv6 follows the IPv6 header: unprotected, so a reply of discovery or an error at best."""
    return packet[6:7] == bytes((PROTOCOL_ICMPV6,))


class Enquiries:
    """`discovery` is told of home agents that answer at their anycast address."""

    def __init__(self, configuration: Configuration, discovery: Discovery, rng: Random) -> None:
        section, home = configuration.home_agent, configuration.home.ipv6
        self._configuration = configuration
        self._discovery = discovery
        self._anycast = None
        if section.prefix is not None:
            self._anycast = AnycastDiscovery(section.prefix, home, configuration.router is not None, rng)
        self.prefixes = PrefixDiscovery(home, rng)
        self.hints = Hints()
        self.may_extend = True
        """Whether messages may carry what is ours and not the RFCs'."""

    @property
    def asking_from(self) -> tuple[Attachment, ...]:
        """Whose sockets have to be open though no home agent is known yet."""
        asking = None if self._anycast is None else self._anycast.asking_from
        return () if asking is None else (asking,)

    @property
    def home_valid_until(self) -> float:
        """No binding can last longer than the home address."""
        home = self.prefixes.home
        return math.inf if home is None else home.valid_until

    def problems(self, now: float) -> list[tuple[str, str, str]]:
        """For `mnctl status`: code, text, and what a person can do."""
        found = [("complaint", one.text, "hactl status") for one in self.hints.standing(now)]
        home = self.prefixes.home
        if home is not None and home.preferred_until <= now:
            text = f"the home prefix {home.prefix} is being given up; the home address needs another one"
            found.append(("home-prefix-ends", text, "ask whoever runs the home agent"))
        if self._anycast is not None and self._anycast.problem is not None:
            found.append(("anycast", self._anycast.problem, "mnctl events"))
        return found

    @property
    def home_prefix(self) -> IPv6Network:
        """Of the home link: as the home agent says, else as it is configured."""
        home = self.prefixes.home
        return self._configuration.home_prefix if home is None else home.prefix

    def network_changed(self, attachments: tuple[Attachment, ...], now: float) -> None:
        """These are the links now, best first."""
        if self._anycast is not None:
            self._anycast.network_changed(attachments, now)

    def doubt(self, now: float) -> None:
        """The home agents that are known do not answer."""
        if self._anycast is not None:
            self._anycast.doubt(now)

    def bound(self, binding: Binding, now: float) -> None:
        """The home agent has accepted; perhaps it says that prefixes are about to change."""
        self.hints.refuted()
        if binding.status == BindingStatus.ACCEPTED_PREFIX_DISCOVERY:
            self.prefixes.needed(now)

    def extensions_refused(self, now: float) -> list[Action]:
        """The home agent does not know something that we sent: from now on nothing but what the RFCs say."""
        self.may_extend = False
        return [Report("complaint", {"text": "the home agent does not know our extensions"})]

    def due(self, binding: Binding | None, associations: Associations, now: float) -> list[Action]:
        """What is to be asked now. Prefixes are asked under the protection of ESP, or not at all."""
        actions: list[Action] = []
        if self._anycast is not None:
            actions += (_discovery_request(question) for question in self._anycast.tick(now))
        bound = binding is not None and associations.next_sequence is not None
        identifier = self.prefixes.tick(bound, now)
        if identifier is None or binding is None:
            return actions
        target = binding.target
        sealed = associations.seal(solicitation(self._configuration.home.ipv6, target, identifier), now)
        if isinstance(sealed, bytes):
            port = target.home_agent.port
            actions.append(SendIcmp(target.care_of, target.outer_destination, port, sealed))
        return actions

    def deadline(self) -> Deadline | None:
        """The next timer."""
        return earliest((self.prefixes.deadline(), self._anycast.deadline() if self._anycast else None))

    def heard(self, packet: bytes, target: Target | None, now: float) -> list[Action] | Drop:
        """An ICMPv6 message that nothing protects."""
        try:
            header = IPv6Header.decode(packet)
            end = IPV6_HEADER + header.payload_length
            message = decode_icmp6(packet[IPV6_HEADER:end], header.source, header.destination)
        except DecodeError:
            return Drop("icmp-malformed")
        match message:
            case HomeAgentDiscoveryReply() as reply:
                return self._discovered(reply, header.destination, now)
            case ParameterProblem() as problem:
                complaint = self.hints.heard(problem, header.source, target, now)
                return [] if complaint is None else [Report("complaint", {"text": complaint.text})]
            case _:
                return Drop("icmp-unexpected")

    def advertised(self, advertisement: MobilePrefixAdvertisement, now: float) -> list[Action] | Drop:
        """An advertisement from our home agent, protected by its association with us."""
        if not self.prefixes.advertised(advertisement, now):
            return Drop("prefix-advertisement-unasked")
        return [Report("prefix", self.prefixes.describe(now) or {"prefix": None})]

    def _discovered(
        self, reply: HomeAgentDiscoveryReply, destination: IPv6Address, now: float
    ) -> list[Action] | Drop:
        found = () if self._anycast is None else self._anycast.answered(reply, destination, now)
        if not found:
            return Drop("home-agent-discovery-unasked")
        self._discovery.learnt(found, self._configuration.home_agent.port)
        return [Report("home-agents", {"found": [str(address) for address in found]})]


def solicitation(home_address: IPv6Address, target: Target, identifier: int) -> ControlPacket:
    """A mobile prefix solicitation with its home address option; on an IPv4 link the home address is the
    source as well, and the packet goes through the tunnel (RFC 5555 section 2.2).
    """
    home_agent, care_of = target.home_agent.ipv6, target.care_of
    assert home_agent is not None
    source = care_of if isinstance(care_of, IPv6Address) else home_address
    message = MobilePrefixSolicitation(identifier)
    return ControlPacket(source, home_agent, message, home_address_option=home_address)


def _discovery_request(question: Question) -> SendIcmp:
    care_of, destination = question.attachment.care_of, question.destination
    assert isinstance(care_of, IPv6Address)
    message = encode_icmp6(question.request, care_of, destination)
    header = IPv6Header(care_of, destination, PROTOCOL_ICMPV6, len(message))
    return SendIcmp(care_of, destination, 0, header.encode() + message)
