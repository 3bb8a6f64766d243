"""Which attachments a host has, best first, and why in that order.

Pure. RFC 5555 section 4.4.1 (an IPv6 care-of address is preferred), RFC 6275 section 11.5, RFC 6724.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from ipaddress import IPv4Address, IPv6Address, ip_network

from movement.network import NetworkId, network_of
from movement.snapshot import Address, DefaultRouter, Link, LinkAddress, Snapshot
from movement.translation import Translation

_FAMILIES = (4, 6)
_UNSET_IPV6_METRIC = 1024
_UNIQUE_LOCAL = ip_network("fc00::/7")


@dataclass(frozen=True, slots=True)
class Policy:
    """What the user wants. Interface names may be shell patterns; an empty `interfaces_allow` allows all.

    `accept_onlink`: a default route without a gateway (point-to-point modems) makes a link usable.
    """

    interfaces_allow: tuple[str, ...] = ()
    interfaces_deny: tuple[str, ...] = ()
    prefer_ipv6: bool = True
    preferred: tuple[str, ...] = ()
    accept_onlink: bool = False
    metered: tuple[str, ...] = ()

    def permits(self, interface: str) -> bool:
        """Whether links of this name may carry the tunnel at all."""
        allowed = not self.interfaces_allow or _matches(interface, self.interfaces_allow)
        return allowed and not _matches(interface, self.interfaces_deny)

    def is_metered(self, interface: str) -> bool:
        """Whether traffic over links of this name costs money."""
        return _matches(interface, self.metered)


@dataclass(frozen=True, slots=True)
class Attachment:
    """A link, a care-of address on it and the router behind which the rest of the world is.

    `router` None: the link has no gateway, everybody is on-link. `metric` is that of the default route.
    """

    interface: str
    index: int
    care_of: IPv4Address | IPv6Address
    prefix_length: int
    router: IPv4Address | IPv6Address | None
    mtu: int
    metric: int
    carrier_losses: int = 0
    """As of the link, where another network in the place of this one must not be mistaken for it."""
    network: NetworkId | None = None
    """Which network this is, once the router's link-layer address is known."""
    through: Translation | None = None
    """The care-of address stands for an IPv6 address on the link, and a NAT64 makes the difference."""


def rank(snapshot: Snapshot, policy: Policy, current: Attachment | None = None) -> tuple[Attachment, ...]:
    """All attachments, best first: at most one for each family of each link.

    What somebody chose decides, in this order: the user's preferred interfaces; the metric of the link's
    default routes, so that the tunnel goes where the host's own traffic would go; IPv6 before IPv4.
    These three are an attachment's class. Within a class nobody has chosen, and every move costs a
    registration: there `current` stays first while it is valid. It leaves for a better class only.
    """
    found = [
        (link, attachment)
        for link in snapshot.links
        if link.up and policy.permits(link.name)
        for attachment in _attachments(link, policy, current)
    ]
    metrics = link_metrics(attachment for _, attachment in found)

    def order(entry: tuple[Link, Attachment]) -> tuple[object, ...]:
        link, attachment = entry
        return (
            preference(link.name, policy),
            metrics[link.index],
            (attachment.care_of.version == 6) is not policy.prefer_ipv6,
            not _same_place(attachment, current),
            current is None or attachment.index != current.index,
            link.name,
        )

    return tuple(attachment for _, attachment in sorted(found, key=order))


def usable(address: LinkAddress) -> bool:
    """Whether an address can be a care-of address: routable at least within a site, and in good standing."""
    scope = address.address
    routable = not (scope.is_link_local or scope.is_loopback or scope.is_multicast or scope.is_unspecified)
    return routable and not address.tentative and not address.deprecated


def _attachments(link: Link, policy: Policy, current: Attachment | None) -> Iterable[Attachment]:
    mine = current if current is not None and current.index == link.index else None
    for family in _FAMILIES:
        router = _best_router(link, family, policy, mine)
        address = _best_address(link, family, mine)
        if router is not None and address is not None:
            yield Attachment(
                interface=link.name,
                index=link.index,
                care_of=address.address,
                prefix_length=address.prefix_length,
                router=router.gateway,
                mtu=link.mtu,
                metric=router.metric,
                network=network_of(router, address),
            )


def _best_router(link: Link, family: int, policy: Policy, mine: Attachment | None) -> DefaultRouter | None:
    """The lowest metric; among equals the router in use, as long as it is there (RFC 6275 section 11.5.1)."""
    known = mine.router if mine is not None else None

    def order(router: DefaultRouter) -> tuple[object, ...]:
        onlink = router.gateway is None
        return router.metric, onlink or router.gateway != known, onlink, _number(router.gateway)

    candidates = (
        router
        for router in link.routers
        if router.family == family and (router.gateway is not None or policy.accept_onlink)
    )
    return min(candidates, key=order, default=None)


def _best_address(link: Link, family: int, mine: Attachment | None) -> LinkAddress | None:
    """The care-of address in use; else one that lasts (not temporary), is global, and has the least number.

    Temporary addresses come last because each rotation would be a movement. A deprecated one is better than
    none (RFC 4862 section 5.5.4).
    """
    there = [a for a in link.addresses if a.address.version == family]
    good = [a for a in there if usable(a)]
    return min(
        good or [a for a in there if usable(replace(a, deprecated=False))],
        key=lambda a: (
            mine is None or a.address != mine.care_of,
            a.temporary,
            a.address in _UNIQUE_LOCAL,
            int(a.address),
        ),
        default=None,
    )


def link_metrics(attachments: Iterable[Attachment]) -> dict[int, int]:
    """The best metric of each link. 1024 is what the kernel writes where nobody set one for IPv6."""
    metrics: dict[int, int] = {}
    for attachment in attachments:
        unset = attachment.care_of.version == 6 and attachment.metric == _UNSET_IPV6_METRIC
        metric = 0 if unset else attachment.metric
        metrics[attachment.index] = min(metric, metrics.get(attachment.index, metric))
    return metrics


def preference(interface: str, policy: Policy) -> int:
    """The place of a link in the order that the user has given; 0 is best."""
    names = policy.preferred
    return next((i for i, name in enumerate(names) if fnmatchcase(interface, name)), len(names))


def _matches(interface: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(interface, pattern) for pattern in patterns)


def _same_place(attachment: Attachment, current: Attachment | None) -> bool:
    return current is not None and attachment.index == current.index and attachment.care_of == current.care_of


def _number(address: Address | None) -> int:
    return 0 if address is None else int(address)
