"""Numbers and values as people read them, and the way into a result that may lack anything.

Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

_SIZES = ("B", "kB", "MB", "GB", "TB", "PB")


def at(tree: object, field: str) -> Any:
    """The value at a dotted path such as `path.care_of` or `standby.0.interface`; None if it is not there."""
    for step in field.split("."):
        if isinstance(tree, Mapping):
            tree = tree.get(step)
        elif isinstance(tree, Sequence) and not isinstance(tree, str) and step.isdecimal():
            tree = tree[int(step)] if int(step) < len(tree) else None
        else:
            return None
    return tree


def number_at(tree: object, field: str) -> float | None:
    value = at(tree, field)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def text_at(tree: object, field: str) -> str:
    """The text at `field`, safe for a terminal; empty when it is unknown."""
    value = at(tree, field)
    return "" if value is None or isinstance(value, Mapping | list) else clean(str(value))


def items_at(tree: object, field: str) -> list[Any]:
    value = at(tree, field)
    return list(value) if isinstance(value, list | tuple) else []


def clean(text: str) -> str:
    """`text` without anything that moves a cursor: names come from networks and peers."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def seconds(value: float) -> str:
    """0.4 s, 187 s, 12 min, 3 h 5 min, 3 d 4 h."""
    if value < 0:
        return f"-{seconds(-value)}"
    if value < 10 and round(value, 1) != round(value):
        return f"{value:.1f} s"
    if value < 600:
        return f"{value:.0f} s"
    minutes = int(value // 60)
    if minutes < 120:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours} h" if hours else f"{days} d"


def milliseconds(value: float) -> str:
    """0.4 ms, 41 ms, 1.25 s."""
    if value >= 1000:
        return f"{value / 1000:.2f} s"
    return f"{value:.1f} ms" if value < 10 and value != round(value) else f"{value:.0f} ms"


def size(octets: float) -> str:
    """812 B, 1.5 kB, 96 MB."""
    power = 0
    while octets >= 999.5 and power < len(_SIZES) - 1:
        octets /= 1000
        power += 1
    return f"{octets:.{1 if power > 0 and octets < 10 else 0}f} {_SIZES[power]}"


def count(number: float, one: str, many: str | None = None) -> str:
    """1 packet, 3 packets."""
    return f"{number:.0f} {one if number == 1 else many or one + 's'}"


def attachment(name: str) -> str:
    """`wlan0/v4-nat` -> `wlan0 (IPv4 behind NAT)`."""
    interface, _, family = name.partition("/")
    words = {"v6": "IPv6", "v4": "IPv4", "v4-nat": "IPv4 behind NAT", "home": "at home"}.get(family, family)
    return f"{interface} ({words})" if words else interface


def data_plane(status: object) -> str:
    """Which tier carries the packets, and why not a faster one; nothing if the tool was not told."""
    tier, why = text_at(status, "data_plane.tier"), text_at(status, "data_plane.why")
    return f"{tier}   ({why})" if tier and why else tier


def columns(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A table: each column as wide as its widest cell, no trailing blanks."""
    table = [header, *rows]
    widths = [max(len(row[i]) for row in table) for i in range(len(header))]
    padded = [[cell.ljust(width) for cell, width in zip(row, widths, strict=True)] for row in table]
    return ["  ".join(row).rstrip() for row in padded]


def paragraphs(*blocks: Sequence[str]) -> str:
    """Blocks of lines with an empty line between them; blocks without lines vanish."""
    return "\n\n".join("\n".join(line.rstrip() for line in block) for block in blocks if block)
