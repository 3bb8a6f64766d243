"""What the mobile node writes down for its next start. Never a key.

Pure. RFC 6275 section 11.7.1 (sequence numbers), RFC 4303 section 3.3.3, threats: replay across restarts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv6Address
from typing import Any

from mn_agent.binding_update_list import HomeAgent
from mn_agent.discovery import MAX_HOME_AGENTS, Discovery
from tunnel.replay import ReplayWindow
from wire.serial import is_newer16

RESERVED = 64
"""Sequence numbers written down ahead of use, so that not every Binding Update costs a write."""
ESP_EPOCH = 1_577_836_800
"""2020-01-01: ESP sequence numbers start at the seconds since then, if memory is lost.

With less than one protected message a second on average, a node that has forgotten everything still
begins above every number it ever used, so the home agent's replay window accepts it.
"""


@dataclass(frozen=True, slots=True)
class Seen:
    """The replay window of one home agent's answers. Each home agent counts for itself."""

    home_agent: IPv6Address
    highest: int
    bitmap: int

    def window(self) -> ReplayWindow:
        return ReplayWindow(self.highest, self.bitmap)


@dataclass(frozen=True, slots=True)
class Memory:
    """`next_*` are safe to use: everything below may have been used by an earlier run."""

    next_sequence: int
    next_esp_sequence: int
    seen: tuple[Seen, ...] = ()
    home_agents: tuple[HomeAgent, ...] = ()

    def renew(
        self, sequence: int, esp_sequence: int | None, seen: tuple[Seen, ...] | None, discovery: Discovery
    ) -> Memory | None:
        """The memory to write now, or None while what is written still holds.

        Without ESP there are no `esp_sequence` and `seen`, and what is known of them is kept.
        """
        known = discovery.home_agents if discovery.source != "configuration" else ()
        written = (
            is_newer16(self.next_sequence, sequence)
            and (esp_sequence is None or self.next_esp_sequence > esp_sequence)
            and (seen is None or self.seen == seen)
            and self.home_agents == known
        )
        if written:
            return None
        reserved = self.next_esp_sequence if esp_sequence is None else esp_sequence + RESERVED
        return replace(
            self,
            next_sequence=(sequence + RESERVED) & 0xFFFF,
            next_esp_sequence=reserved,
            seen=self.seen if seen is None else seen,
            home_agents=known,
        )

    def as_json(self) -> dict[str, object]:
        """Plain values for a file."""
        return {
            "next_sequence": self.next_sequence,
            "next_esp_sequence": self.next_esp_sequence,
            "seen": [[str(s.home_agent), s.highest, s.bitmap] for s in self.seen],
            "home_agents": [
                {"name": a.name, "ipv6": _text(a.ipv6), "ipv4": _text(a.ipv4), "port": a.port}
                for a in self.home_agents
            ],
        }


def recall(document: Mapping[str, Any], random_sequence: int, wall_clock: float) -> Memory:
    """Memory from what `as_json` wrote; whatever is missing or damaged starts afresh."""
    least = max(1, int(wall_clock) - ESP_EPOCH)
    return Memory(
        next_sequence=_integer(document, "next_sequence", random_sequence, 0xFFFF),
        next_esp_sequence=max(least, _integer(document, "next_esp_sequence", 1, 0xFFFFFFFF)),
        seen=_seen(document.get("seen")),
        home_agents=_home_agents(document.get("home_agents")),
    )


def _integer(document: Mapping[str, Any], key: str, default: int, most: int) -> int:
    value = document.get(key)
    return value if isinstance(value, int) and 0 <= value <= most else default


def _seen(entries: object) -> tuple[Seen, ...]:
    if not isinstance(entries, list):
        return ()
    known = []
    for entry in entries[:MAX_HOME_AGENTS]:
        try:
            address, highest, bitmap = entry
            known.append(Seen(IPv6Address(address), int(highest) & 0xFFFFFFFF, int(bitmap) & (1 << 64) - 1))
        except (TypeError, ValueError):
            return ()
    return tuple(known)


def _home_agents(entries: object) -> tuple[HomeAgent, ...]:
    if not isinstance(entries, list):
        return ()
    known = []
    for entry in entries:
        try:
            ipv4 = None if entry["ipv4"] is None else IPv4Address(entry["ipv4"])
            known.append(HomeAgent(str(entry["name"]), IPv6Address(entry["ipv6"]), ipv4, int(entry["port"])))
        except (KeyError, TypeError, ValueError):
            return ()
    return tuple(known)


def _text(address: IPv4Address | IPv6Address | None) -> str | None:
    return None if address is None else str(address)
