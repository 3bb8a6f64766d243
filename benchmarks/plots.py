"""Result files -> pictures beside them.

Pure.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from lab.svg import Drawing

Document = Mapping[str, Any]
_STYLE = """
text{font:12px sans-serif;fill:#1f2328}.title{font-size:15px;font-weight:600}
.small{font-size:11px;fill:#59636e}
.paper{fill:#fff}.grid{stroke:#d0d7de}.up{fill:#0969da}.down{fill:#54aeff}.peerUp{fill:#8c959f}
.peerDown{fill:#c8cfd6}.ours{fill:#0969da}.floor{fill:#1a7f37}.other{fill:#8c959f}.range{stroke:#59636e}
"""
_WIDTH, _LEFT, _RIGHT, _TOP = 900.0, 260.0, 60.0, 70.0
_BAR, _GAP = 9.0, 8.0


def data_plane(document: Document) -> str:
    """Bars of the ratio to the raw path, one flow, IPv4 inside; the axis is logarithmic."""
    rows: dict[str, dict[str, float]] = {}
    for row in document["rows"]:
        if "profile" not in row and (row["inner"], row["flows"]) == (4, 1):
            name = f"{row['tier']}, {row['format']}"
            rows.setdefault(name, {})[row["direction"]] = row["ratio_raw"]
    order = sorted(rows, key=lambda name: -min(rows[name].values()))
    height = _TOP + len(order) * (2 * _BAR + _GAP) + 30
    drawing = Drawing(_WIDTH, height)
    drawing.text(20, 26, "TCP throughput as a share of the raw path (one flow, IPv4 inside)", "title")
    drawing.text(20, 46, "dark: up, light: down; blue: this product, grey: others", "small")
    scale = _Logarithmic(0.01, 1.0)
    scale.grid(drawing, _TOP - 6, height - 24, (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0))
    for index, name in enumerate(order):
        y = _TOP + index * (2 * _BAR + _GAP)
        drawing.text(_LEFT - 8, y + _BAR + 4, name, "", "end")
        styles = ("peerUp", "peerDown") if name.startswith("peer:") else ("up", "down")
        for offset, (direction, style) in enumerate(zip(("up", "down"), styles, strict=True)):
            value = rows[name].get(direction)
            if value is not None:
                end = scale.x(value)
                drawing.rectangle(_LEFT, y + offset * _BAR, end - _LEFT, _BAR, style, f"{direction} {value}")
                drawing.text(end + 4, y + offset * _BAR + 8, f"{value:.3f}", "small")
    return drawing.document(_STYLE)


def handover(document: Document) -> str:
    """Median outages with a stroke to the 95th percentile, by kind of move, for both directions."""
    kinds = list(dict.fromkeys(row["kind"] for row in document["rows"]))
    shown = [row for row in document["rows"] if row["stream"].startswith("bidirectional")]
    groups: dict[tuple[str, str, str], list[Mapping[str, Any]]] = {}
    for row in sorted(shown, key=lambda row: kinds.index(row["kind"])):
        groups.setdefault((row["kind"], row["from"], row["to"]), []).append(row)
    height = _TOP + sum(len(rows) * _BAR + _GAP for rows in groups.values()) + 30
    drawing = Drawing(_WIDTH, height)
    drawing.text(20, 26, "Outage of a move, once the new address can be used (milliseconds)", "title")
    legend = (
        "median, stroke to the 95th percentile; blue: mn-agent, green: a bare UDP socket, grey: wireguard-go"
    )
    drawing.text(20, 46, f"{legend}; up, then down", "small")
    scale = _Logarithmic(0.5, 1000.0)
    scale.grid(drawing, _TOP - 6, height - 24, (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000))
    y = _TOP
    for (kind, origin, target), rows in groups.items():
        drawing.text(_LEFT - 8, y + _BAR + 2, f"{kind}: {origin} to {target}", "", "end")
        for row in rows:
            _outage(drawing, scale, y, row)
            y += _BAR
        y += _GAP
    return drawing.document(_STYLE)


def _outage(drawing: Drawing, scale: _Logarithmic, y: float, row: Mapping[str, Any]) -> None:
    style = {"": "ours", "floor": "floor"}.get(row.get("peer", ""), "other")
    end, far = scale.x(row["median_ms"]), scale.x(row["p95_ms"])
    title = f"{row.get('peer', 'mn-agent')} {row['stream']}: {row['median_ms']} ms, p95 {row['p95_ms']} ms"
    drawing.rectangle(_LEFT, y, end - _LEFT, _BAR - 1, style, title)
    drawing.line(end, y + _BAR / 2, far, y + _BAR / 2, "range")


class _Logarithmic:
    """Values -> places on the paper; what lies beyond an end is put at it."""

    def __init__(self, least: float, most: float) -> None:
        self._least, self._most = least, most

    def x(self, value: float) -> float:
        value = min(max(value, self._least), self._most)
        share = math.log(value / self._least) / math.log(self._most / self._least)
        return _LEFT + share * (_WIDTH - _RIGHT - _LEFT)

    def grid(self, drawing: Drawing, top: float, bottom: float, values: Sequence[float]) -> None:
        for value in values:
            drawing.line(self.x(value), top, self.x(value), bottom, "grid")
            drawing.text(self.x(value), bottom + 14, f"{value:g}", "small", "middle")
