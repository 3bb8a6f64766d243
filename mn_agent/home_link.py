"""The home link in a snapshot: where the prefix of the home address is on-link, the node may be at home.

Pure. RFC 6275 section 11.5.5. A prefix proves nothing, anybody can advertise it: it only makes the mobile
node ask there, and an authenticated answer of the home agent makes it be at home. Over IPv4 alone there is
no returning home (false-home in docs/security.md).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address, IPv6Network

from mn_agent.config import Configuration
from movement.policy import Attachment, Policy, usable
from movement.snapshot import Link, Snapshot


def apart_from(snapshot: Snapshot, homes: Collection[IPv4Address | IPv6Address]) -> Snapshot:
    """The snapshot without the home addresses that are on a home link: none of them is a care-of address."""
    return Snapshot(
        tuple(
            replace(link, addresses=tuple(a for a in link.addresses if a.address not in homes))
            for link in snapshot.links
        )
    )


def with_home(
    snapshot: Snapshot,
    attachments: tuple[Attachment, ...],
    policy: Policy,
    configuration: Configuration,
    prefix: IPv6Network,
) -> tuple[Attachment, ...]:
    """The attachments, the home link before all others, and there with the home address as care-of address.

    Its other IPv6 addresses are left out: on the home link they lead to no home agent that would tunnel to
    them. Its IPv4 addresses stay, for the case that this is not the home link at all.

    A mobile router stays abroad even there: the networks behind it are routed to its home agent, which
    knows where to only as long as there is a binding.
    """
    if configuration.router is not None:
        return attachments
    home_address = configuration.home.ipv6
    links = [link for link in snapshot.links if policy.permits(link.name) and _shows(link, prefix)]
    if not links:
        return attachments
    ranks = {attachment.index: rank for rank, attachment in reversed(list(enumerate(attachments)))}
    links.sort(key=lambda link: ranks.get(link.index, len(attachments)))
    known = {link.index for link in links}
    others = (a for a in attachments if a.index not in known or a.care_of not in prefix)
    return (*(_at_home(link, home_address, prefix) for link in links), *others)


def _shows(link: Link, prefix: IPv6Network) -> bool:
    return link.up and any(address.network == prefix and usable(address) for address in link.addresses)


def _at_home(link: Link, home_address: IPv6Address, prefix: IPv6Network) -> Attachment:
    gateways = (router.gateway for router in link.routers if router.family == 6)
    return Attachment(
        interface=link.name,
        index=link.index,
        care_of=home_address,
        prefix_length=prefix.prefixlen,
        router=next((gateway for gateway in gateways if gateway is not None), None),
        mtu=link.mtu,
        metric=0,
        carrier_losses=link.carrier_losses,
    )
