"""What a mobile node is told of the home prefix, and when it is told to ask.

Pure. RFC 6275 sections 6.8, 10.3.1 and 10.6, draft section 2.2.
"""

from __future__ import annotations

from ipaddress import IPv6Address

from home_agent.binding_cache import Binding
from home_agent.config import HomeLinkSection
from tunnel.envelope import ControlPacket
from wire.icmp import MobilePrefixAdvertisement, MobilePrefixSolicitation, PrefixInformation
from wire.mobility import BindingStatus


def accepted_status(lifetime: int, link: HomeLinkSection) -> BindingStatus:
    """Plain acceptance, unless the home prefix is or will be deprecated during the binding."""
    ends = link.prefix_preferred_lifetime < lifetime
    return BindingStatus.ACCEPTED_PREFIX_DISCOVERY if ends else BindingStatus.ACCEPTED


def advertisement(
    solicitation: MobilePrefixSolicitation, binding: Binding, own: IPv6Address, link: HomeLinkSection
) -> ControlPacket:
    """The answer, to where the mobile node is registered, with the type 2 routing header that it must have.

    On an IPv4 link that names the destination once more, and all of it goes through the tunnel.
    """
    home, remote = binding.home_address, binding.arrival.remote
    native = isinstance(remote, IPv6Address) and not binding.in_udp
    destination = remote if native and isinstance(remote, IPv6Address) else home
    information = PrefixInformation(
        prefix=link.ipv6_prefix.network_address,
        prefix_length=link.ipv6_prefix.prefixlen,
        on_link=True,
        autonomous=True,
        router_address=False,
        valid_lifetime=link.prefix_valid_lifetime,
        preferred_lifetime=link.prefix_preferred_lifetime,
    )
    message = MobilePrefixAdvertisement(solicitation.identifier, False, False, (information,))
    return ControlPacket(own, destination, message, routing_home_address=home)
