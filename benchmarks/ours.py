"""A tier of our data plane between the two ends of a chain, as something to be measured.

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

from benchmarks.chain import Chain
from benchmarks.running import Running, Unavailable
from tunnel.path import Encapsulation
from tunnel.plane import Tier

_DEVICE = "mip0"
_ROOT = Path(__file__).parent.parent
_Kind = tuple[Encapsulation, int]
"""How packets travel, and the IP version around them."""
_IN_IPV4 = ((Encapsulation.UDP, 4), (Encapsulation.IP_IN_IP, 4), (Encapsulation.UDP_TLV, 4))
_IN_IPV6 = ((Encapsulation.IP_IN_IP, 6),)
_PROTECTED = ((Encapsulation.ESP_UDP, 4), (Encapsulation.ESP, 6))


def _named(*kinds: _Kind) -> Mapping[str, _Kind]:
    return {f"{encapsulation.value}/ipv{outer}": (encapsulation, outer) for encapsulation, outer in kinds}


_FORMATS = {
    Tier.KERNEL: _named(*_IN_IPV4, *_IN_IPV6),
    Tier.OFFLOAD: _named(*_IN_IPV4, *_IN_IPV6, *_PROTECTED),
    Tier.PORTABLE: _named(*_IN_IPV4, *_IN_IPV6, *_PROTECTED),
}


@dataclass(frozen=True, slots=True)
class Ours:
    """One tier at both ends, with every format that it carries by itself."""

    tier: Tier

    def formats(self) -> tuple[str, ...]:
        return tuple(_FORMATS[self.tier])

    def version(self) -> str:
        return ""

    def start(self, chain: Chain, form: str) -> Iterator[Running]:
        with self.ends(chain, form) as ends:
            yield Running(tuple(end.process.pid for end in ends))

    @contextmanager
    def ends(self, chain: Chain, form: str) -> Iterator[tuple[End, End]]:
        """Both ends, the mobile node's first. Unavailable if this host cannot have the tier."""
        kind = _FORMATS[self.tier][form]
        ends: list[End] = []
        try:
            for node, role in (("ha", "home-agent"), ("mn", "mobile-node")):
                ends.insert(0, End.start(chain, node, role, self.tier, kind))
            chain.route_home_through(_DEVICE, _DEVICE)
            try:
                yield ends[0], ends[1]
            finally:
                chain.forget_home()
        finally:
            for end in ends:
                end.stop()


@dataclass(frozen=True, slots=True)
class End:
    """One benchmarks.endpoint."""

    process: subprocess.Popen[str]

    @classmethod
    def start(cls, chain: Chain, node: str, role: str, tier: Tier, kind: _Kind) -> End:
        encapsulation, outer = kind
        module = [sys.executable, "-m", "benchmarks.endpoint"]
        arguments = [role, tier.value, encapsulation.value, str(outer), _DEVICE]
        # `ip netns exec` replaces itself by the command, so the process we start is the one to measure.
        process = subprocess.Popen(
            chain.command(node, *module, *arguments),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=_ROOT,
        )
        end = cls(process)
        said = end._line()
        if said != "ready":
            process.communicate()
            raise Unavailable(said or f"the {role} did not start (exit status {process.wait()})")
        return end

    def swaps(self, times: int) -> list[float]:
        """Let it swap its path so many times; the microseconds that each took."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{times}\n")
        self.process.stdin.flush()
        took: list[float] = json.loads(self._line())
        return took

    def stop(self) -> None:
        """End its input, and say what it refused: with losses a figure is not of throughput alone."""
        report, _ = self.process.communicate(timeout=10)
        if not report:
            print(f"    an end has died (exit status {self.process.returncode})", file=sys.stderr)
            return
        drops = {reason: n for reason, n in json.loads(report)["drops"].items() if not _is_noise(reason)}
        if drops:
            print(f"    refused packets: {drops}", file=sys.stderr)

    def _line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()


def _is_noise(reason: str) -> bool:
    """Multicast that the hosts' own kernels send to every interface."""
    return reason == "link-local-or-multicast"
