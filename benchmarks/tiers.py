"""What is measured: each tier of the data plane, and a place for peers ("peer:NAME"), behind one shape.

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
from benchmarks.running import Running
from tunnel.path import Encapsulation

_DEVICE = "mip0"
_ROOT = Path(__file__).parent.parent


@dataclass(frozen=True, slots=True)
class Format:
    """How inner packets travel: encapsulation and family of the outer header."""

    encapsulation: Encapsulation
    outer: int

    def __str__(self) -> str:
        return f"{self.encapsulation.value}/ipv{self.outer}"


class Tier(Protocol):
    """Something that can carry the home addresses of the chain."""

    def formats(self) -> tuple[Format, ...]: ...

    def start(self, chain: Chain, form: Format) -> Iterator[Running]: ...


class Portable:
    """tunnel.portable.PortablePlane at both ends."""

    def formats(self) -> tuple[Format, ...]:
        return (
            Format(Encapsulation.UDP, 4),
            Format(Encapsulation.IP_IN_IP, 6),
            Format(Encapsulation.IP_IN_IP, 4),
            Format(Encapsulation.UDP_TLV, 4),
            Format(Encapsulation.UDP_TLV_DRAFT, 4),
            Format(Encapsulation.ESP_UDP, 4),
            Format(Encapsulation.ESP, 6),
        )

    def start(self, chain: Chain, form: Format) -> Iterator[Running]:
        ends = []
        try:
            for node, role in (("ha", "home-agent"), ("mn", "mobile-node")):
                ends.append(_start_end(chain, node, role, form))
            chain.route_home_through(_DEVICE, _DEVICE)
            try:
                yield Running(tuple(end.pid for end in ends))
            finally:
                chain.forget_home()
        finally:
            for end in ends:
                _stop_end(end)


TIERS: Mapping[str, Tier] = {"portable": Portable()}
"""By the name that a row carries. Faster tiers and peers are added here."""


@contextmanager
def up(chain: Chain, tier: Tier, form: Format) -> Iterator[Running]:
    """A tunnel for the duration of a `with` block."""
    yield from tier.start(chain, form)


def _start_end(chain: Chain, node: str, role: str, form: Format) -> subprocess.Popen[str]:
    module = [sys.executable, "-m", "benchmarks.endpoint"]
    arguments = [role, form.encapsulation.value, str(form.outer), _DEVICE]
    # `ip netns exec` replaces itself by the command, so the process we start is the one to measure.
    end = subprocess.Popen(
        chain.command(node, *module, *arguments),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=_ROOT,
    )
    assert end.stdout is not None
    if end.stdout.readline() != "ready\n":
        raise RuntimeError(f"the {role} did not start (exit status {end.wait()})")
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
