"""A configuration text read strictly into a typed value: all of it is right, or every mistake is named.

Pure. Every message has the form `file:line: what is wrong`, with a suggestion where one is likely.
"""

from __future__ import annotations

import enum
import functools
import ipaddress
import json
import math
import re
import tomllib
import types
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

import msgspec

from runtime.toml_lines import KeyPath, key_lines

T = TypeVar("T", bound=msgspec.Struct)

_FROM_TEXT: Mapping[type, tuple[Callable[[str], object], str]] = {
    ipaddress.IPv4Address: (ipaddress.IPv4Address, "an IPv4 address"),
    ipaddress.IPv6Address: (ipaddress.IPv6Address, "an IPv6 address"),
    ipaddress.IPv4Network: (ipaddress.IPv4Network, "an IPv4 prefix"),
    ipaddress.IPv6Network: (ipaddress.IPv6Network, "an IPv6 prefix"),
    ipaddress.IPv4Interface: (ipaddress.IPv4Interface, "an IPv4 address with its prefix length"),
    ipaddress.IPv6Interface: (ipaddress.IPv6Interface, "an IPv6 address with its prefix length"),
    Path: (Path, "a path"),
}
_SCALARS: Mapping[type, str] = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}
_AT = re.compile(r" \(at (?:line (\d+), column \d+|end of document)\)$")


class ConfigError(ValueError):
    """A configuration that is not used; `errors` has one line for each mistake, in the order of the file."""

    def __init__(self, errors: Iterable[str]) -> None:
        self.errors: tuple[str, ...] = tuple(errors)
        super().__init__("\n".join(self.errors))


def decode_toml(text: str, name: str, type: type[T]) -> T:
    """Read TOML `text` into the msgspec Struct `type`; `name` is the file name that messages begin with.

    Fields may be numbers, text, booleans, Literal, Enum, Path, the `ipaddress` classes, Structs, tuples,
    lists, frozensets, `dict[str, X]`, unions of all these, and be narrowed by `msgspec.Meta`. Unknown keys
    are mistakes. A ValueError from `__post_init__` is one mistake at the line of its table.
    """
    document = _parse(text, name)
    reading = _Reading(_owners(type))
    value = reading.struct(type, document, ())
    if isinstance(value, _Bad):
        raise ConfigError(reading.in_file_order(name, key_lines(text)))
    assert isinstance(value, type)
    return value


def decode_toml_bytes(data: bytes, name: str, type: type[T]) -> T:
    """`decode_toml` for the bytes of a file, which must be UTF-8."""
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError([f"{name}:{line}: not UTF-8 text (octet 0x{data[error.start]:02x})"]) from None
    return decode_toml(text.removeprefix("\ufeff"), name, type)


def _parse(text: str, name: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise ConfigError([f"{name}:1: nested too deeply"]) from None
    except ValueError as error:
        reason = str(error)
        at = _AT.search(reason)
        line = int(at[1]) if at and at[1] else text.count("\n") + 1 if at else 1
        raise ConfigError([f"{name}:{line}: not TOML: {_AT.sub('', reason)[:120]}"]) from None


class _Bad(enum.Enum):
    BAD = enum.auto()


_BAD = _Bad.BAD


@dataclass(slots=True)
class _Reading:
    """One pass over a document: returns values or `_BAD`, and gathers the mistakes on the way."""

    owners: Mapping[str, tuple[str, ...]]
    errors: list[tuple[KeyPath, str]] = field(default_factory=list)

    def in_file_order(self, name: str, lines: Mapping[KeyPath, int]) -> list[str]:
        found = [(line_of(path, lines), message) for path, message in self.errors]
        return [f"{name}:{line}: {message}" for line, message in sorted(found, key=lambda one: one[0])]

    def struct(self, cls: type[msgspec.Struct], table: object, path: KeyPath) -> object:
        if not isinstance(table, dict):
            return self._mistake(path, f"{_dotted(path)} = {_shown(table)} is not a table")
        fields = _fields(cls)
        before = len(self.errors)
        values: dict[str, object] = {}
        unknown = [key for key in table if key not in fields]
        for key in unknown:
            self._mistake((*path, key), self._unknown(key, path, fields))
        misspelt = {_nearest(key, fields) for key in unknown}
        for key, info in fields.items():
            if key in table:
                values[info.name] = self.value(info.type, table[key], (*path, key))
            elif info.required and key not in misspelt:
                self._mistake(path, _missing(key, info.type, path))
        if len(self.errors) > before:
            return _BAD
        try:
            return cls(**values)
        except (ValueError, TypeError) as error:
            return self._mistake(path, f"{_place(path)}{error}")

    def value(self, kind: Any, value: object, path: KeyPath) -> object:
        bare = _without_meta(kind)
        origin = get_origin(bare)
        if origin in (Union, types.UnionType):
            return self._one_of(kind, bare, value, path)
        if isinstance(bare, type) and issubclass(bare, msgspec.Struct):
            return self.struct(bare, value, path)
        if origin is dict and isinstance(value, dict):
            item = get_args(bare)[1]
            pairs = {key: self.value(item, one, (*path, key)) for key, one in value.items()}
            return _BAD if _BAD in pairs.values() else pairs
        if origin in (tuple, list, frozenset) and isinstance(value, list):
            return self._elements(kind, bare, value, path)
        if origin in (dict, tuple, list, frozenset):
            shape = "a table" if origin is dict else "a list"
            return self._mistake(path, f"{_dotted(path)} = {_shown(value)} is not {shape}")
        if bare in _FROM_TEXT:
            return self._from_text(bare, value, path)
        return self._leaf(kind, value, path)

    def _one_of(self, kind: Any, bare: Any, value: object, path: KeyPath) -> object:
        members = [m for m in get_args(bare) if m is not types.NoneType]
        attempts: list[list[tuple[KeyPath, str]]] = []
        for member in members:
            attempt = _Reading(self.owners)
            result = attempt.value(member, value, path)
            if result is not _BAD:
                return result
            attempts.append(attempt.errors)
        if len(members) == 1:
            self.errors += attempts[0]
            return _BAD
        deeper = [errors for errors, member in zip(attempts, members, strict=True) if _fits(member, value)]
        if len(deeper) == 1:
            self.errors += deeper[0]
            return _BAD
        return self._mistake(path, f"{_dotted(path)} = {_shown(value)} is not {_describe(kind)}")

    def _elements(self, kind: Any, bare: Any, value: list[object], path: KeyPath) -> object:
        item = get_args(bare)[0]
        items = [self.value(item, one, (*path, index)) for index, one in enumerate(value)]
        if _BAD in items:
            return _BAD
        for meta in _metas(kind):
            if meta.min_length is not None and len(items) < meta.min_length:
                return self._mistake(path, f"{_dotted(path)} needs at least {meta.min_length} entries")
            if meta.max_length is not None and len(items) > meta.max_length:
                return self._mistake(path, f"{_dotted(path)} may have at most {meta.max_length} entries")
        origin = get_origin(bare)
        assert origin is not None
        return origin(items)

    def _from_text(self, kind: type, value: object, path: KeyPath) -> object:
        convert, description = _FROM_TEXT[kind]
        wrong = f"{_dotted(path)} = {_shown(value)} is not {description}"
        if not isinstance(value, str) or not value or "\0" in value or (kind is not Path and "%" in value):
            return self._mistake(path, wrong)
        try:
            return convert(value)
        except ValueError as error:
            if "host bits" in str(error):
                prefix = ipaddress.ip_network(value, strict=False)
                wrong = f'{_dotted(path)} = {_shown(value)} has host bits set — did you mean "{prefix}"?'
            return self._mistake(path, wrong)

    def _leaf(self, kind: Any, value: object, path: KeyPath) -> object:
        finite = not isinstance(value, float) or math.isfinite(value)
        try:
            if finite:
                result: object = msgspec.convert(value, kind, strict=True)
                return result
        except msgspec.ValidationError:
            pass
        suggestion = _suggest(value, _choices(kind)) if isinstance(value, str) else ""
        wrong = f"{_dotted(path)} = {_shown(value)} is not {_describe(kind)}"
        return self._mistake(path, wrong + suggestion)

    def _unknown(self, key: str, path: KeyPath, fields: Mapping[str, object]) -> str:
        what = f"unknown key {_shown(key)} in {_table(path)}" if path else f"unknown key {_shown(key)}"
        if suggestion := _suggest(key, fields):
            return what + suggestion
        if elsewhere := self.owners.get(key):
            return f"{what} — it belongs in {' or '.join(elsewhere)}"
        known = ", ".join(fields)
        return f"{what} — known: {known}"

    def _mistake(self, path: KeyPath, message: str) -> _Bad:
        self.errors.append((path, message))
        return _BAD


def line_of(path: KeyPath, lines: Mapping[KeyPath, int]) -> int:
    """The line of the nearest thing around `path` that stands in the text."""
    while path and path not in lines:
        path = path[:-1]
    return lines.get(path, 1)


@functools.cache
def _fields(cls: type[msgspec.Struct]) -> Mapping[str, Any]:
    """By the name that a file has for each; asked once for each class, since it takes a millisecond."""
    return {info.encode_name: info for info in msgspec.structs.fields(cls)}


def _missing(key: str, kind: Any, path: KeyPath) -> str:
    bare = _without_meta(kind)
    if isinstance(bare, type) and issubclass(bare, msgspec.Struct):
        return f"the table {_table((*path, key))} is missing"
    return f"{_place(path)}{key} is missing ({_describe(kind)})"


def _place(path: KeyPath) -> str:
    return f"{_table(path)}: " if path else ""


def _table(path: KeyPath) -> str:
    names = ".".join(str(part) for part in path if isinstance(part, str))
    return f"[[{names}]]" if path and isinstance(path[-1], int) else f"[{names}]"


def _dotted(path: KeyPath) -> str:
    return ".".join(str(part) for part in path if isinstance(part, str))


def _shown(value: object) -> str:
    match value:
        case str():
            shown = json.dumps(value, ensure_ascii=False)
        case bool():
            shown = "true" if value else "false"
        case dict():
            shown = "{...}" if value else "{}"
        case list():
            shown = f"[{', '.join(_shown(one) for one in value[:4])}{', ...' if len(value) > 4 else ''}]"
        case _:
            shown = str(value)
    return shown if len(shown) <= 64 else shown[:60] + "..."


def _suggest(word: str, known: Iterable[str]) -> str:
    near = _nearest(word, known)
    return f" — did you mean {_shown(near)}?" if near is not None else ""


def _nearest(word: str, known: Iterable[str]) -> str | None:
    import difflib  # only who made a mistake pays for it

    by_folded = {one.casefold(): one for one in known}
    near = difflib.get_close_matches(word.casefold(), list(by_folded), n=1, cutoff=0.6)
    return by_folded[near[0]] if near else None


def _without_meta(kind: Any) -> Any:
    return get_args(kind)[0] if get_origin(kind) is Annotated else kind


def _metas(kind: Any) -> list[msgspec.Meta]:
    if get_origin(kind) is not Annotated:
        return []
    return [extra for extra in get_args(kind)[1:] if isinstance(extra, msgspec.Meta)]


def _choices(kind: Any) -> list[str]:
    bare = _without_meta(kind)
    if get_origin(bare) is Literal:
        return [choice for choice in get_args(bare) if isinstance(choice, str)]
    if isinstance(bare, type) and issubclass(bare, enum.Enum):
        return [str(member.value) for member in bare]
    return []


def _fits(kind: Any, value: object) -> bool:
    """Whether `value` has the outer shape of `kind`, so that mistakes inside it are worth telling."""
    bare = _without_meta(kind)
    if get_origin(bare) in (tuple, list, frozenset):
        return isinstance(value, list)
    if get_origin(bare) is dict or (isinstance(bare, type) and issubclass(bare, msgspec.Struct)):
        return isinstance(value, dict)
    return False


def _describe(kind: Any) -> str:
    bare = _without_meta(kind)
    origin = get_origin(bare)
    if origin in (Union, types.UnionType):
        return " or ".join(_describe(m) for m in get_args(bare) if m is not types.NoneType)
    if origin is Literal or _choices(bare):
        choices = [_shown(c) for c in (get_args(bare) if origin is Literal else _choices(bare))]
        return choices[0] if len(choices) == 1 else f"one of {', '.join(choices)}"
    if bare in _FROM_TEXT:
        return _FROM_TEXT[bare][1]
    if origin in (tuple, list, frozenset):
        return f"a list ({_describe(get_args(bare)[0])}, ...)"
    return _SCALARS.get(bare, "a table") + _limits(kind)


def _limits(kind: Any) -> str:
    words: list[str] = []
    for meta in _metas(kind):
        low = meta.ge if meta.ge is not None else meta.gt
        high = meta.le if meta.le is not None else meta.lt
        low_word = f"{'above ' if meta.ge is None else ''}{low}"
        high_word = f"{'below ' if meta.le is None else ''}{high}"
        if low is not None and high is not None:
            words.append(f"from {low_word} to {high_word}")
        elif low is not None:
            words.append(f"above {low}" if meta.ge is None else f"of at least {low}")
        elif high is not None:
            words.append(f"below {high}" if meta.le is None else f"of at most {high}")
        if meta.pattern is not None:
            words.append(f"matching {meta.pattern}")
        if meta.min_length is not None:
            words.append(f"of at least {meta.min_length} characters")
        if meta.max_length is not None:
            words.append(f"of at most {meta.max_length} characters")
    return "".join(f" {word}" for word in words)


def _owners(cls: type[msgspec.Struct], path: KeyPath = ()) -> dict[str, tuple[str, ...]]:
    """Which tables know a key of that name: for the user who wrote it in the wrong one."""
    owners: dict[str, tuple[str, ...]] = {}
    for info in msgspec.structs.fields(cls):
        if path:
            owners[info.encode_name] = (*owners.get(info.encode_name, ()), _table(path))
        for inner, step in _structs_in(info.type):
            for key, tables in _owners(inner, (*path, info.encode_name, *step)).items():
                owners[key] = (*owners.get(key, ()), *tables)
    return owners


def _structs_in(kind: Any) -> list[tuple[type[msgspec.Struct], KeyPath]]:
    bare = _without_meta(kind)
    if isinstance(bare, type) and issubclass(bare, msgspec.Struct):
        return [(bare, ())]
    step: KeyPath = (0,) if get_origin(bare) in (tuple, list, frozenset) else ()
    return [(inner, (*step, *deeper)) for arg in get_args(bare) for inner, deeper in _structs_in(arg)]
