"""Colour, where somebody sees it: on a terminal, and NO_COLOR obeyed.

Pure, apart from asking whether standard output is a terminal.
"""

from __future__ import annotations

import os
import sys

import click


class Paint:
    """Colours text, or leaves it as it is."""

    def __init__(self, enabled: bool = False) -> None:
        self.enabled = enabled

    def good(self, text: str) -> str:
        return self._style(text, "green")

    def fair(self, text: str) -> str:
        return self._style(text, "yellow")

    def bad(self, text: str) -> str:
        return self._style(text, "red")

    def strong(self, text: str) -> str:
        return click.style(text, bold=True) if self.enabled else text

    def faint(self, text: str) -> str:
        return click.style(text, dim=True) if self.enabled else text

    def _style(self, text: str, colour: str) -> str:
        return click.style(text, fg=colour) if self.enabled else text


def paint_for_stdout() -> Paint:
    """no-color.org: any non-empty NO_COLOR turns colour off."""
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    return Paint(not plain and sys.stdout.isatty())
