"""The kernel's own VXLAN: a UDP tunnel without any program, and the least that one can cost.

Performs I/O. It carries Ethernet frames, so its two ends are neighbours.
"""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.chain import AGENT4, CARE_OF4, Chain
from benchmarks.running import Running

_DEVICE = "vx0"
_GATEWAYS = {4: ("10.99.0.1", "10.99.0.2"), 6: ("2001:db8:98::1", "2001:db8:98::2")}
_MTU = 1450
"""20 + 8 + 8 + 14 octets are around the inner packet."""


class Vxlan:
    """One interface at either end, as `ip link` makes it."""

    def formats(self) -> tuple[str, ...]:
        return ("vxlan/ipv4",)

    def version(self) -> str:
        return ""

    def start(self, chain: Chain, form: str) -> Iterator[Running]:
        ends = (("mn", CARE_OF4, AGENT4, 2, "router"), ("ha", AGENT4, CARE_OF4, 1, "router"))
        for node, local, remote, host, link in ends:
            options = f"id 7 local {local} remote {remote} dstport 4789 dev {link}"
            chain.ip(node, f"link add {_DEVICE} mtu {_MTU} type vxlan {options}")
            chain.ip(node, f"addr add 10.99.0.{host}/24 dev {_DEVICE}")
            chain.ip(node, f"addr add 2001:db8:98::{host}/64 dev {_DEVICE} nodad")
            chain.ip(node, f"link set {_DEVICE} up")
        chain.route_home_through(_DEVICE, _DEVICE, _GATEWAYS)
        try:
            yield Running(())
        finally:
            chain.forget_home()
            for node, *_ in ends:
                chain.ip(node, f"link del {_DEVICE}")
