"""Where each key of a TOML text stands: key path -> line number.

Pure. Follows only texts that `tomllib` has already accepted, so it tracks the grammar without judging it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

KeyPath = tuple[str | int, ...]
"""Table and key names, with a 0-based index for each element of an array."""

_BARE = re.compile(r"[A-Za-z0-9_-]+")
_SPACE = re.compile(r"[ \t]*")
_BETWEEN = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_SCALAR = re.compile(r"[^,\]}#\n]*")
_STRINGS = (
    (re.compile(r'"""(?:[^\\]|\\.)*?"{3,5}', re.DOTALL), 3),
    (re.compile(r"'''.*?'{3,5}", re.DOTALL), 3),
    (re.compile(r'"((?:[^"\\]|\\.)*)"'), 1),
    (re.compile(r"'([^'\n]*)'"), 1),
)
_ESCAPE = re.compile(r"\\(?:u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8})|(.))")
_ESCAPED = {"b": "\b", "t": "\t", "n": "\n", "f": "\f", "r": "\r"}


def key_lines(text: str) -> Mapping[KeyPath, int]:
    """The 1-based line on which each table, key and array element of a valid TOML `text` first appears."""
    scanner = _Scanner(text)
    scanner.document()
    return scanner.lines


class _Scanner:
    def __init__(self, text: str) -> None:
        self.text = text.replace("\r\n", "\n")
        self.position = 0
        self.lines: dict[KeyPath, int] = {}
        self._array_lengths: dict[KeyPath, int] = {}
        self._counted_to = 0
        self._line = 1

    def document(self) -> None:
        table: KeyPath = ()
        self._skip(_BETWEEN)
        while self.position < len(self.text):
            if self.text[self.position] == "[":
                table = self._header()
            else:
                self._assignment(table)
            self._skip(_BETWEEN)

    def _header(self) -> KeyPath:
        array = self.text.startswith("[[", self.position)
        line = self._line_here()
        self.position += 2 if array else 1
        names = self._key()
        self.position += 2 if array else 1
        path: KeyPath = ()
        for name in names[:-1]:
            path = self._into(path, name, line)
        path = (*path, names[-1])
        if array:
            index = self._array_lengths.get(path, 0)
            self._array_lengths[path] = index + 1
            self.lines.setdefault(path, line)
            path = (*path, index)
        self.lines.setdefault(path, line)
        return path

    def _into(self, path: KeyPath, name: str, line: int) -> KeyPath:
        """Step into `name`: for an array of tables, into its latest element."""
        path = (*path, name)
        self.lines.setdefault(path, line)
        if path in self._array_lengths:
            path = (*path, self._array_lengths[path] - 1)
        return path

    def _assignment(self, table: KeyPath) -> None:
        line = self._line_here()
        names = self._key()
        path = table
        for name in names:
            path = (*path, name)
            self.lines.setdefault(path, line)
        self.position += 1  # the equals sign
        self._skip(_SPACE)
        self._value(path)

    def _key(self) -> list[str]:
        """A possibly dotted key; the position ends at the character after it and its blanks."""
        names: list[str] = []
        while True:
            self._skip(_SPACE)
            names.append(self._simple_key())
            self._skip(_SPACE)
            if not self.text.startswith(".", self.position):
                return names
            self.position += 1

    def _simple_key(self) -> str:
        if bare := _BARE.match(self.text, self.position):
            self.position = bare.end()
            return bare.group()
        quote = self.text[self.position]
        body = self._string()
        return _ESCAPE.sub(_unescape, body) if quote == '"' else body

    def _string(self) -> str:
        for pattern, quotes in _STRINGS:
            if found := pattern.match(self.text, self.position):
                self.position = found.end()
                return found.group()[quotes:-quotes]
        raise AssertionError("tomllib accepted a string that this scanner does not follow")

    def _value(self, path: KeyPath) -> None:
        match self.text[self.position]:
            case "[":
                self._elements(path)
            case "{":
                self._inline_table(path)
            case '"' | "'":
                self._string()
            case _:
                self._skip(_SCALAR)

    def _elements(self, path: KeyPath) -> None:
        self.position += 1
        index = 0
        self._skip(_BETWEEN)
        while self.text[self.position] != "]":
            self.lines.setdefault((*path, index), self._line_here())
            self._value((*path, index))
            index += 1
            self._comma()
        self.position += 1

    def _inline_table(self, path: KeyPath) -> None:
        self.position += 1
        self._skip(_BETWEEN)
        while self.text[self.position] != "}":
            self._assignment(path)
            self._comma()
        self.position += 1

    def _comma(self) -> None:
        self._skip(_BETWEEN)
        if self.text[self.position] == ",":
            self.position += 1
            self._skip(_BETWEEN)

    def _skip(self, pattern: re.Pattern[str]) -> None:
        if found := pattern.match(self.text, self.position):
            self.position = found.end()

    def _line_here(self) -> int:
        self._line += self.text.count("\n", self._counted_to, self.position)
        self._counted_to = self.position
        return self._line


def _unescape(found: re.Match[str]) -> str:
    short, long, simple = found.groups()
    if short or long:
        return chr(int(short or long, 16))
    return _ESCAPED.get(simple, simple)
