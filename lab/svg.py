"""Just enough SVG for a picture of lanes, ticks and labels.

Pure.
"""

from __future__ import annotations

from collections.abc import Iterable
from xml.sax.saxutils import escape


class Drawing:
    """Collects elements in the order in which they are painted."""

    def __init__(self, width: float, height: float) -> None:
        self.width = width
        self.height = height
        self._elements: list[str] = []

    def rectangle(self, x: float, y: float, width: float, height: float, style: str, title: str = "") -> None:
        """`style` is a class of the style sheet."""
        inner = f"<title>{escape(title)}</title>" if title else ""
        self._elements.append(
            f'<rect class="{style}" x="{x:.1f}" y="{y:.1f}" width="{max(width, 0.5):.1f}"'
            f' height="{height:.1f}">{inner}</rect>'
        )

    def line(self, x: float, y: float, x2: float, y2: float, style: str) -> None:
        self._elements.append(f'<path class="{style}" d="M{x:.1f} {y:.1f}L{x2:.1f} {y2:.1f}"/>')

    def ticks(self, xs: Iterable[float], y: float, height: float, style: str) -> None:
        """Upright strokes; those that would fall on the same tenth of a pixel are painted once."""
        places = sorted({round(x, 1) for x in xs})
        if places:
            strokes = "".join(f"M{x:g} {y:g}v{height:g}" for x in places)
            self._elements.append(f'<path class="{style}" d="{strokes}"/>')

    def polygon(self, points: Iterable[tuple[float, float]], style: str) -> None:
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        self._elements.append(f'<polygon class="{style}" points="{path}"/>')

    def text(self, x: float, y: float, words: str, style: str = "", anchor: str = "start") -> None:
        self._elements.append(
            f'<text class="{style}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'
        )

    def document(self, style_sheet: str) -> str:
        """The whole file."""
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.width:.0f} {self.height:.0f}"'
            f' width="{self.width:.0f}" height="{self.height:.0f}">\n<style>{style_sheet}</style>\n'
            f'<rect class="paper" x="0" y="0" width="{self.width:.0f}" height="{self.height:.0f}"/>\n'
            + "\n".join(self._elements)
            + "\n</svg>\n"
        )
