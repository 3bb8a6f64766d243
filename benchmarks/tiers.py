"""What is measured: each tier of our data plane and each peer, behind one shape.

Performs I/O.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Protocol

from benchmarks.chain import Chain
from benchmarks.ours import Ours
from benchmarks.peers.fastd import Fastd
from benchmarks.peers.openvpn import Openvpn
from benchmarks.peers.vtun import Vtun
from benchmarks.peers.vxlan import Vxlan
from benchmarks.peers.wireguard_go import WireguardGo
from benchmarks.running import Running
from tunnel.plane import Tier


class Contestant(Protocol):
    """Something that can carry the home addresses of the chain."""

    def formats(self) -> tuple[str, ...]:
        """How packets may travel, in words that a row carries: "udp/ipv4"."""
        ...

    def version(self) -> str:
        """Of the program that does it; "" for our own and for the kernel's."""
        ...

    def start(self, chain: Chain, form: str) -> Iterator[Running]:
        """Up at the first value, down when it is asked for another. Unavailable if this host cannot."""
        ...


CONTESTANTS: Mapping[str, Contestant] = {
    **{tier.value: Ours(tier) for tier in Tier},
    "peer:vxlan": Vxlan(),
    "peer:wireguard-go": WireguardGo(),
    "peer:openvpn": Openvpn(),
    "peer:fastd": Fastd(),
    "peer:vtun": Vtun(),
}
"""By the name that a row carries."""


@contextmanager
def up(chain: Chain, contestant: Contestant, form: str) -> Iterator[Running]:
    """A tunnel for the duration of a `with` block."""
    yield from contestant.start(chain, form)
