"""The host's addresses as its C library sees them: a second opinion beside rtnetlink, for checks at start.

Performs I/O (netifaces). It knows neither address states nor routes, and asks the kernel once for each
interface, so it is nothing for the path of a handover.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface, ip_interface

import netifaces

Address = IPv4Address | IPv6Address
Interface = IPv4Interface | IPv6Interface


def interface_addresses() -> dict[str, tuple[Interface, ...]]:
    """Interface name -> its addresses with prefix lengths. Labels of addresses (eth0:1) count as eth0."""
    found: dict[str, tuple[Interface, ...]] = {}
    for label in netifaces.interfaces():
        families = netifaces.ifaddresses(label)
        entries = [*families.get(netifaces.AF_INET, ()), *families.get(netifaces.AF_INET6, ())]
        name = label.partition(":")[0]
        found[name] = (*found.get(name, ()), *(_interface(e["addr"], e.get("netmask", "")) for e in entries))
    return found


def _interface(address: str, mask: str) -> Interface:
    """An IPv6 address may carry its zone ("fe80::1%eth0"), and its mask is "ffff:...::/64".

    The address of a point-to-point link has no mask.
    """
    plain = address.partition("%")[0]
    length = mask.rpartition("/")[2]
    return ip_interface(f"{plain}/{length}" if length else plain)


def in_use(wanted: Iterable[Address], apart_from: str) -> dict[Address, str]:
    """Which of `wanted` an interface of this host has already, other than `apart_from`, and which that is."""
    found = {
        held.ip: name
        for name, addresses in interface_addresses().items()
        for held in addresses
        if name != apart_from
    }
    return {address: found[address] for address in wanted if address in found}
