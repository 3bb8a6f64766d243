"""The guard: an nft table for packets which no application and no kernel code may answer.

Pure. RFC 6275 sections 6.3 and 6.4, CVE-2019-14899.

For a home address, only the TUN device (and a mobile router's own networks) is a way in: an attacker on the
visited link who guesses it learns nothing. Home address options and type 2 routing headers in front of
control messages are unknown to most kernels, which would complain to the sender; packet sockets take them
before this hook. Nothing here changes with the care-of address, so a handover runs no nft.

Neighbour discovery passes: on the way home the address is on the link before the home agent has let go of it,
and each of the two has to learn where the other one is.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

FAMILY_KEYWORD = {4: "ip", 6: "ip6"}
"""How nft names a family."""


NEIGHBOURS = "{ nd-neighbor-solicit, nd-neighbor-advert }"


@dataclass(frozen=True, slots=True)
class Chain:
    """A base chain: its name, `type ... priority ...`, and its rules in order."""

    name: str
    hook: str
    rules: tuple[str, ...]

    @property
    def text(self) -> str:
        lines = (f"{self.hook}; policy accept;", *self.rules)
        return f"\tchain {self.name} {{\n" + "".join(f"\t\t{line}\n" for line in lines) + "\t}\n"


@dataclass(frozen=True, slots=True)
class Guard:
    """A table of family inet; `text` is what `nft -f` reads."""

    table: str
    chains: tuple[Chain, ...]

    @property
    def text(self) -> str:
        return f"table inet {self.table} {{\n" + "".join(chain.text for chain in self.chains) + "}\n"


def guard_of(table: str, homes: Iterable[IPv4Address | IPv6Address], ways_in: Iterable[str]) -> Guard:
    """The guard of a host that may be reached at `homes` through the interfaces `ways_in` only."""
    outside = f"iifname != {interface_set('lo', *ways_in)}"
    rules = (
        f"ip6 hoplimit 255 icmpv6 type {NEIGHBOURS} accept",
        *(f"{outside} {FAMILY_KEYWORD[home.version]} daddr {home} counter drop" for home in homes),
        "rt type 2 fib daddr type local counter drop",
        "exthdr dst exists meta l4proto { 135, 50 } fib daddr type local counter drop",
    )
    return Guard(table, (Chain("prerouting", "type filter hook prerouting priority raw", rules),))


def interface_set(*names: str) -> str:
    """Names of interfaces as nft writes a set."""
    return "{ " + ", ".join(f'"{name}"' for name in names) + " }"
