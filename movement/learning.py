"""What a snapshot teaches about the networks in it: our addresses there, and for how long they are ours.

Pure. RFC 4436 section 2.1, RFC 6059 section 4.3.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address
from typing import Any

from movement.known_networks import KnownNetworks, Learnt, Lease
from movement.network import NetworkId, network_of
from movement.policy import usable
from movement.snapshot import DefaultRouter, Link, LinkAddress, Snapshot

SLACK = 60.0
"""Seconds by which the end of an address may move without being written down again."""


def learn(known: KnownNetworks, snapshot: Snapshot, now: float, ours: int = 0) -> KnownNetworks:
    """`known`, and what `snapshot` adds to it; the same object if that is nothing new.

    An address that is valid for ever was given by hand, or by a daemon that keeps the lease to itself: it is
    not learnt, since nobody can say until when it is ours. What carries the protocol number `ours` was set by
    this agent, out of this very memory.
    """
    for link in snapshot.links:
        for network, address, router in _used(link):
            own = ours and ours in (address.protocol, router.protocol)
            if own or address.valid_until is None or address.valid_until <= now:
                continue
            facts = known.about(network)
            if isinstance(address.address, IPv4Address):
                lease = Learnt(Lease(address.address, client_id(link), router.metric), address.valid_until)
                before = next((one for one in facts.leases if one.value.client_id == client_id(link)), None)
                if _is_news(lease, before):
                    known = known.put(network, facts.leased(lease))
            else:
                address6 = Learnt(address.address, address.valid_until)
                if _is_news(address6, facts.address6):
                    known = known.learn(network, address6=address6)
    return known


def client_id(link: Link) -> str:
    """What a DHCP server tells the clients on this link from others by (RFC 2132 section 9.14, type 1)."""
    return f"01:{link.hardware.hex(':')}" if link.hardware else ""


def _used(link: Link) -> Iterator[tuple[NetworkId, LinkAddress, DefaultRouter]]:
    """Addresses in networks whose router is known; temporary ones are given up before anybody returns."""
    for address in link.addresses if link.up else ():
        if not usable(address) or address.temporary:
            continue
        for router in link.routers:
            network = network_of(router, address) if router.family == address.address.version else None
            if network is not None:
                yield network, address, router


def _is_news(fact: Learnt[Any], known: Learnt[Any] | None) -> bool:
    return known is None or known.value != fact.value or abs(known.until - fact.until) > SLACK
