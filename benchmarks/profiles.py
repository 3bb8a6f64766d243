"""Profiles: what the links of the chain are like while a figure is taken.

Performs I/O.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum

from benchmarks.chain import Chain

_LINKS = (("mn", "router"), ("router", "mn"), ("router", "ha"), ("ha", "router"), ("ha", "cn"), ("cn", "ha"))
"""Node and interface of both ends of every link."""
_LIMITED = (("mn", "router"), ("router", "mn"))
_OFFLOADS = ("tso", "gso", "gro")


class Profile(Enum):
    """The value is what a row carries."""

    PLAIN = ""
    """veth as it comes: super-packets of 64 KiB pass whole, as between a host and its virtual machines."""
    WIRE = "wire"
    """No offload on any link: each packet goes alone, as through a network card that knows of no tunnels."""
    GIGABIT = "1gbit"
    HUNDRED_MEGABIT = "100mbit"
    """A token bucket on the mobile node's link, each way: what counts then is the processor time."""

    @property
    def rate(self) -> str | None:
        return {Profile.GIGABIT: "1gbit", Profile.HUNDRED_MEGABIT: "100mbit"}.get(self)


@contextmanager
def links_like(profile: Profile, chain: Chain) -> Iterator[None]:
    """The links of `chain` are so for the duration of a `with` block."""
    if profile is Profile.WIRE:
        _switch_offloads(chain, "off")
    for node, link in _LIMITED if profile.rate else ():
        command = f"tc qdisc add dev {link} root tbf rate {profile.rate} burst 128kb latency 20ms"
        subprocess.run(chain.command(node, *command.split()), check=True)
    try:
        yield
    finally:
        if profile is Profile.WIRE:
            _switch_offloads(chain, "on")
        for node, link in _LIMITED if profile.rate else ():
            subprocess.run(chain.command(node, "tc", "qdisc", "del", "dev", link, "root"), check=True)


def _switch_offloads(chain: Chain, state: str) -> None:
    for node, link in _LINKS:
        wanted = [word for offload in _OFFLOADS for word in (offload, state)]
        subprocess.run(chain.command(node, "ethtool", "-K", link, *wanted), check=True, capture_output=True)
