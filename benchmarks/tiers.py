"""What is measured: each tier of our data plane and each peer, behind one shape.

Performs I/O.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from benchmarks.chain import Chain
from benchmarks.peers.fastd import Fastd
from benchmarks.peers.openvpn import Openvpn
from benchmarks.peers.vtun import Vtun
from benchmarks.peers.vxlan import Vxlan
from benchmarks.peers.wireguard_go import WireguardGo
from benchmarks.running import Running, Unavailable
from tunnel.path import Encapsulation
from tunnel.plane import Tier

_DEVICE = "mip0"
_ROOT = Path(__file__).parent.parent


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


_IN_IPV4 = (
    (Encapsulation.UDP, 4),
    (Encapsulation.IP_IN_IP, 4),
    (Encapsulation.UDP_TLV, 4),
)
_IN_IPV6 = ((Encapsulation.IP_IN_IP, 6),)
_PROTECTED = ((Encapsulation.ESP_UDP, 4), (Encapsulation.ESP, 6))


@dataclass(frozen=True, slots=True)
class Ours:
    """One tier of our data plane at both ends, with every format that it carries by itself."""

    tier: Tier

    def formats(self) -> tuple[str, ...]:
        return tuple(_FORMATS[self.tier])

    def version(self) -> str:
        return ""

    def start(self, chain: Chain, form: str) -> Iterator[Running]:
        encapsulation, outer = _FORMATS[self.tier][form]
        ends = []
        try:
            for node, role in (("ha", "home-agent"), ("mn", "mobile-node")):
                ends.append(_start_end(chain, node, role, self.tier, encapsulation, outer))
            chain.route_home_through(_DEVICE, _DEVICE)
            try:
                yield Running(tuple(end.pid for end in ends))
            finally:
                chain.forget_home()
        finally:
            for end in ends:
                _stop_end(end)


def _named(*kinds: tuple[Encapsulation, int]) -> Mapping[str, tuple[Encapsulation, int]]:
    return {f"{encapsulation.value}/ipv{outer}": (encapsulation, outer) for encapsulation, outer in kinds}


_FORMATS = {
    Tier.KERNEL: _named(*_IN_IPV4, *_IN_IPV6),
    Tier.OFFLOAD: _named(*_IN_IPV4, *_IN_IPV6, *_PROTECTED),
    Tier.PORTABLE: _named(*_IN_IPV4, *_IN_IPV6, *_PROTECTED),
}

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


def _start_end(
    chain: Chain, node: str, role: str, tier: Tier, encapsulation: Encapsulation, outer: int
) -> subprocess.Popen[str]:
    module = [sys.executable, "-m", "benchmarks.endpoint"]
    arguments = [role, tier.value, encapsulation.value, str(outer), _DEVICE]
    # `ip netns exec` replaces itself by the command, so the process we start is the one to measure.
    end = subprocess.Popen(
        chain.command(node, *module, *arguments),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=_ROOT,
    )
    assert end.stdout is not None
    said = end.stdout.readline().strip()
    if said != "ready":
        end.communicate()
        raise Unavailable(said or f"the {role} did not start (exit status {end.wait()})")
    return end


def _stop_end(end: subprocess.Popen[str]) -> None:
    """End its input, and say what it refused: a benchmark with losses is no figure of throughput alone."""
    report, _ = end.communicate(timeout=10)
    drops = {reason: n for reason, n in json.loads(report)["drops"].items() if not _is_noise(reason)}
    if drops:
        print(f"    refused packets: {drops}", file=sys.stderr)


def _is_noise(reason: str) -> bool:
    """Multicast that the hosts' own kernels send to every interface."""
    return reason == "link-local-or-multicast"
