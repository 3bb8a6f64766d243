"""What is wrong with a network, and the packet filter of its router that makes it so.

Pure. Nothing is told to anybody: no ICMP, no reset. Loss and blocks meet what is forwarded; what the router
itself says (advertisements, DHCP) is only touched where that is named.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from lab.access import LAN, UPLINK
from lab.step import Block

TABLE = "mn-lab-faults"
_OUT, _IN = f'oifname "{UPLINK}"', f'iifname "{UPLINK}"'


@dataclass(frozen=True, slots=True)
class Faults:
    """All that is wrong with one network at a time."""

    lose: int = 0
    """Packets of a hundred, each way."""
    blocks: tuple[Block, ...] = ()
    black_hole: int | None = None
    """The most octets of a packet that passes."""
    silent_dhcp: bool = False


def ruleset(faults: Faults) -> str:
    """What nft(8) is told: the whole table anew, or that there is none."""
    fresh = f"table inet {TABLE}\ndelete table inet {TABLE}\n"
    if faults == Faults():
        return fresh
    forwarded = "".join(f" {rule} drop\n" for rule in _forwarded(faults))
    rules = f"chain forward {{\n type filter hook forward priority raw\n{forwarded}}}\n"
    if faults.silent_dhcp:
        asked = f' iifname "{LAN}" udp dport {{ 67, 547 }} drop\n'
        rules += f"chain input {{\n type filter hook input priority raw\n{asked}}}\n"
    return f"{fresh}table inet {TABLE} {{\n{rules}}}\n"


def _forwarded(faults: Faults) -> Iterator[str]:
    for way in (_OUT, _IN):
        if faults.lose:
            yield f"{way} numgen random mod 100 < {faults.lose}"
        if faults.black_hole is not None:
            yield f"{way} meta length > {faults.black_hole}"
    for block in faults.blocks:
        if block.way in ("out", "both"):
            yield f"{_OUT} {_matching(block, 'dport')}"
        if block.way in ("in", "both"):
            yield f"{_IN} {_matching(block, 'sport')}"


def _matching(block: Block, port: str) -> str:
    if block.family is not None:
        return f"meta nfproto {block.family}"
    if block.protocol is not None:
        return f"meta l4proto {block.protocol}"
    return f"udp {port} {block.udp}" if block.udp is not None else f"tcp {port} {block.tcp}"
