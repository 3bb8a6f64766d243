"""Binding Updates as this mobile node writes them, and Binding Acknowledgements as it reads them.

Pure. RFC 6275 sections 11.7.1 and 11.7.3, draft sections 3 and 4.4, RFC 5555 section 4.4.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from ipaddress import IPv4Address, IPv6Address

from mn_agent.binding_update_list import Binding, Target
from mn_agent.config import Configuration
from mn_agent.ipv4_answers import address_answer
from mn_agent.mobile_router import HOST, RouterPart
from tunnel.envelope import ControlPacket
from tunnel.path import Encapsulation, TunnelPath
from wire.esp import UDP_PORT_NAT_TRAVERSAL
from wire.mobility import AckFlag, BindingAck, BindingStatus, BindingUpdate, UpdateFlag
from wire.options import (
    NATKATIMEOUT,
    NO_KEEPALIVE,
    AlternateCareOfAddress,
    BindingRefreshAdvice,
    Ipv4AddressAck,
    Ipv4CareOfAddress,
    Ipv4HomeAddress,
    MobileNetworkPrefix,
    NatDetection,
    Option,
    first,
)
from wire.profile import Profile, TlvLayout
from wire.vendor import interruption_option, observed_in, protection_in

REFRESH_FRACTION = 0.8
REFRESH_MARGIN = 5.0
"""A binding is refreshed at the earlier of 80 % of its lifetime and five seconds before its end."""
KEEPALIVE_JITTER = 0.1
REFRESH_JITTER = 0.05


@dataclass(frozen=True, slots=True)
class Wish:
    """What this mobile node asks for with each registration."""

    home_address: IPv6Address
    ipv4: IPv4Address | None
    lifetime: int
    force_udp: bool
    tlv: bool
    profile: Profile
    router: RouterPart = HOST
    protect_payload: bool = False
    strict_presence: bool = False

    @classmethod
    def of(cls, configuration: Configuration) -> Wish:
        """What the configuration says."""
        return cls(
            configuration.home.ipv6,
            configuration.requested_ipv4,
            configuration.binding.lifetime,
            configuration.tunnel.force_udp,
            configuration.tunnel.tlv,
            configuration.profile,
            protect_payload=configuration.tunnel.protect_payload,
            strict_presence=configuration.wire.strict_presence,
        )


def compose_update(wish: Wish, target: Target, sequence: int, lifetime: int) -> ControlPacket:
    """The Binding Update for `target`; `lifetime` in seconds, 0 deregisters.

    On an IPv6 link it carries the Home Address option and an Alternate Care-of Address; on an
    IPv4 link the IPv4 Care-of Address option takes their place (RFC 5555 section 3.1.2). On the
    home link it comes from the home address and needs none of them (RFC 6275 section 11.5.5).
    """
    home_agent = target.home_agent.ipv6
    assert home_agent is not None
    flags = UpdateFlag.ACKNOWLEDGE | UpdateFlag.HOME
    if target.at_home:
        return ControlPacket(wish.home_address, home_agent, BindingUpdate(sequence, lifetime, flags))
    options: list[Option] = []
    if wish.ipv4 is not None:
        options.append(Ipv4HomeAddress(wish.ipv4))
    if wish.router.as_router:
        flags |= UpdateFlag.ROUTER
        options += wish.router.requests
        options += (MobileNetworkPrefix(prefix) for prefix in wish.router.prefixes)
    care_of = target.care_of
    if wish.tlv:
        flags |= UpdateFlag.TLV
    if isinstance(care_of, IPv6Address):
        options.append(AlternateCareOfAddress(care_of))
        update = BindingUpdate(sequence, lifetime, flags, tuple(options))
        return ControlPacket(care_of, home_agent, update, home_address_option=wish.home_address)
    if wish.force_udp:
        flags |= UpdateFlag.FORCE_UDP
    options.append(Ipv4CareOfAddress(care_of))
    update = BindingUpdate(sequence, lifetime, flags, tuple(options))
    return ControlPacket(wish.home_address, home_agent, update)


def with_interruption(packet: ControlPacket, seconds: float) -> ControlPacket:
    """Tell the home agent that whatever it sent in the last `seconds` was lost (see wire.vendor)."""
    update = packet.message
    assert isinstance(update, BindingUpdate)
    return replace(packet, message=replace(update, options=(*update.options, interruption_option(seconds))))


def candidate_paths(target: Target, configuration: Configuration) -> tuple[TunnelPath, ...]:
    """Every path the home agent may send on from the moment it accepts a Binding Update.

    The acknowledgement says which one; payload can overtake it (draft section 4.1).
    """
    profile = configuration.profile
    if configuration.tunnel.protect_payload:
        return (_path(target, _protected(target)),)
    kinds = [Encapsulation.IP_IN_IP]
    if target.care_of.version == 4:
        kinds.append(Encapsulation.UDP)
        if profile.tlv is not None:
            kinds.append(_tlv_encapsulation(profile))
    return tuple(_path(target, kind) for kind in kinds)


def accepted_binding(
    wish: Wish,
    target: Target,
    update: BindingUpdate,
    ack: BindingAck,
    sent_at: float,
    now: float,
    jitter: float,
) -> Binding:
    """What an acknowledgement with a status below 128 means (RFC 6275 section 11.7.3).

    `jitter` lies in [-1, 1] and spreads refreshes and keepalives of many nodes.
    """
    lifetime = min(ack.lifetime, update.lifetime)
    expires_at = sent_at + lifetime
    refresh = max(min(REFRESH_FRACTION * lifetime, lifetime - REFRESH_MARGIN), lifetime / 2)
    advice = first(ack.options, BindingRefreshAdvice)
    if advice is not None and 0 < advice.interval < lifetime:
        refresh = min(refresh, advice.interval)
    nat = first(ack.options, NatDetection)
    address_ack = address_answer(update, ack)
    accepted_ipv4 = address_ack if address_ack is not None and address_ack.status < 128 else None
    return Binding(
        target=target,
        home_address=wish.home_address,
        ipv4_home_address=accepted_ipv4.address if accepted_ipv4 else None,
        ipv4_prefix_length=accepted_ipv4.prefix_length if accepted_ipv4 else 32,
        ipv4_status=address_ack.status if address_ack else None,
        path=_path(target, _encapsulation(wish, target, update, ack, nat)),
        status=ack.status,
        sequence=update.sequence,
        lifetime=lifetime,
        sent_at=sent_at,
        accepted_at=now,
        refresh_at=sent_at + refresh * (1 - REFRESH_JITTER * (1 + jitter) / 2),
        expires_at=expires_at,
        keepalive=_keepalive(target, nat, jitter),
        nat=None if target.care_of.version == 6 else nat_seen(nat),
        observed=_observed(target, ack),
    )


def leaves_payload_unprotected(wish: Wish, ack: BindingAck) -> bool:
    """Payload is to be protected, and the home agent, though it accepts the binding, does not do that."""
    return wish.protect_payload and protection_in(ack.options) is None


def ipv4_unacknowledged(update: BindingUpdate, ack: BindingAck) -> bool:
    """The update asked for an IPv4 home address and the answer ignores it (draft section 2.3.1)."""
    return first(update.options, Ipv4HomeAddress) is not None and first(ack.options, Ipv4AddressAck) is None


def _observed(target: Target, ack: BindingAck) -> str | None:
    if target.care_of.version == 6:
        return str(target.care_of)  # the home agent answers to the source it saw, and the answer arrived
    seen = observed_in(ack.options)
    return None if seen is None else f"{seen[0]}:{seen[1]}"


def nat_seen(nat: NatDetection | None) -> bool:
    """Every answer over UDP has the option (draft section 4.2); all ones in it means that no NAT was seen."""
    return nat is not None and nat.refresh != NO_KEEPALIVE


def _encapsulation(
    wish: Wish, target: Target, update: BindingUpdate, ack: BindingAck, nat: NatDetection | None
) -> Encapsulation:
    if wish.protect_payload:
        return _protected(target)
    if target.care_of.version == 6:
        return Encapsulation.IP_IN_IP
    if wish.strict_presence and nat is not None:
        nat = NatDetection(force_udp=True, refresh=nat.refresh)
    forced = UpdateFlag.FORCE_UDP in update.flags or (nat is not None and nat.force_udp)
    if not forced and not nat_seen(nat):
        return Encapsulation.IP_IN_IP
    if UpdateFlag.TLV in update.flags and AckFlag.TLV in ack.flags and wish.profile.tlv is not None:
        return _tlv_encapsulation(wish.profile)
    return Encapsulation.UDP


def _protected(target: Target) -> Encapsulation:
    return Encapsulation.ESP if target.care_of.version == 6 else Encapsulation.ESP_UDP


def _tlv_encapsulation(profile: Profile) -> Encapsulation:
    return Encapsulation.UDP_TLV_DRAFT if profile.tlv is TlvLayout.DRAFT else Encapsulation.UDP_TLV


def _keepalive(target: Target, nat: NatDetection | None, jitter: float) -> float | None:
    """Seconds between keepalives (draft section 4.3); None when the home agent says none are needed."""
    if target.care_of.version == 6 or nat is None or nat.refresh == NO_KEEPALIVE:
        return None
    period = nat.refresh or NATKATIMEOUT
    return max(1.0, period * (1 - KEEPALIVE_JITTER * (1 + jitter) / 2))


def _path(target: Target, encapsulation: Encapsulation) -> TunnelPath:
    port = UDP_PORT_NAT_TRAVERSAL if encapsulation.protected else target.home_agent.port
    return TunnelPath(
        local=target.care_of,
        remote=target.outer_destination,
        encapsulation=encapsulation,
        remote_port=port if encapsulation.in_udp else 0,
        interface=target.attachment.interface,
        link_mtu=target.attachment.mtu,
        translated=target.attachment.through is not None,
    )


class Reaction(Enum):
    """What a refusal makes the mobile node do next."""

    RESYNCHRONISE = "use the sequence number the home agent named"
    WITHOUT_FORCED_UDP = "ask again without forcing UDP"
    NOT_AS_ROUTER = "ask another home agent, which may take a mobile router; if there is none, be a host"
    OTHER_TYPE = "end the registration of the other type, then ask again"
    ANOTHER_HOME_AGENT = "try the next home agent, then wait"
    ANOTHER_CARE_OF_ADDRESS = "try another care-of address, then wait"
    UNPROTECTED = "the home agent does not protect payload: end the binding, try another one, then wait"
    GIVE_UP = "stop until the configuration changes or the user asks"


_ROUTER_STATUSES = (
    BindingStatus.ROUTER_NOT_PERMITTED,
    BindingStatus.INVALID_PREFIX,
    BindingStatus.NOT_AUTHORISED_FOR_PREFIX,
    BindingStatus.FORWARDING_SETUP_FAILED,
)
_REACTIONS: dict[int, Reaction] = {
    BindingStatus.TYPE_CHANGE_DISALLOWED: Reaction.OTHER_TYPE,
    BindingStatus.SEQUENCE_OUT_OF_WINDOW: Reaction.RESYNCHRONISE,
    BindingStatus.DUPLICATE_ADDRESS: Reaction.GIVE_UP,
    BindingStatus.AUTHENTICATION_FAILED: Reaction.GIVE_UP,
    BindingStatus.INVALID_CARE_OF_ADDRESS: Reaction.ANOTHER_CARE_OF_ADDRESS,
}


def reaction_to(status: int, update: BindingUpdate) -> Reaction:
    """The next step after a status of 128 or more; unknown ones count as plain refusals.

    144 means "cannot force UDP" only when the update asked for it: RFC 4285 uses the same
    number for an identification mismatch.
    """
    if status == BindingStatus.CANNOT_FORCE_UDP and UpdateFlag.FORCE_UDP in update.flags:
        return Reaction.WITHOUT_FORCED_UDP
    if status in _ROUTER_STATUSES and UpdateFlag.ROUTER in update.flags:
        return Reaction.NOT_AS_ROUTER
    return _REACTIONS.get(status, Reaction.ANOTHER_HOME_AGENT)
