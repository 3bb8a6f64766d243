"""What the mobile nodes with a binding want of their home agent's kernel: routes into the tunnel, a defence.

Pure. RFC 6275 section 10.4.1, RFC 3963 section 6.3.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv6Address

from tunnel.persistent import PersistentMap
from tunnel.prefixes import Address, Network


@dataclass(frozen=True, slots=True)
class Guest:
    """One mobile node. There are thousands, so this holds its addresses only; the rest follows from them."""

    destinations: tuple[Address | Network, ...]
    """Home addresses, and mobile network prefixes, which are routed into the TUN device."""
    defended: tuple[Address, ...]
    """Addresses for which the kernel answers neighbours on the home link."""

    @classmethod
    def of(
        cls, destinations: Iterable[Address | Network], defended: Iterable[Address], own: Iterable[Address]
    ) -> Guest:
        """`own` are the home agent's addresses: never taken away from it, whatever the binding cache says."""
        kept = frozenset(own)
        routed = tuple(one for one in dict.fromkeys(destinations) if one not in kept)
        answered = tuple(one for one in dict.fromkeys(defended) if one not in kept)
        return cls(answered if answered == routed else routed, answered)  # mostly one tuple is enough


Guests = PersistentMap[IPv6Address, Guest]
"""By home address."""
NO_GUESTS: Guests = PersistentMap()
