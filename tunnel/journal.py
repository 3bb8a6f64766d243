"""What the host was like before: the sysctls and the device that we changed, on disk before the change.

Performs I/O (/proc/sys and a small state file). So a fresh process can put everything back after a kill.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tunnel.kernel import KernelError, Sysctl
from tunnel.rtmessages import Device

_SCHEMA = "mn-agent/kernel/1"
_PROC = Path("/proc/sys")
_NOT_LINKS = frozenset({"all", "default", "lo"})


@dataclass(slots=True)
class _Entry:
    """One sysctl: its value before, the value that we set, and what the kernel changed along with it."""

    was: str
    is_now: str
    spread: dict[str, str] = field(default_factory=dict)


class Journal:
    """Remembers original values. `namespace` and the boot tell whether the file still speaks of this host."""

    __slots__ = ("_entries", "_identity", "_path", "device", "device_name")

    def __init__(self, path: Path, namespace: int) -> None:
        self._path = path
        self._identity = [_read(_PROC / "kernel/random/boot_id"), namespace]
        self._entries: dict[str, _Entry] = {}
        self.device_name = ""
        self.device: Device | None = None
        self._load()

    def remember_device(self, name: str, device: Device) -> None:
        """The state of the TUN device before we touch it; a new device of that name is remembered anew."""
        if name != self.device_name or self.device is None or device.index != self.device.index:
            self.device_name, self.device = name, device
            self._save()

    def apply(self, wanted: Iterable[Sysctl]) -> int:
        """Set what is wanted and restore what no longer is; how many values changed."""
        wanted = tuple(s for s in wanted if not s.unless or _read(_PROC / s.unless) is None)
        named = {sysctl.path for sysctl in wanted}
        first = {s.path: tuple(e for e in _expanded(s.beforehand) if e.path not in named) for s in wanted}
        keep = named.union(e.path for expanded in first.values() for e in expanded)
        restored = self._restore(path for path in reversed(self._entries) if path not in keep)
        due: list[Sysctl] = []
        for sysctl in filter(_differs, wanted):
            due += (*filter(_differs, first[sysctl.path]), sysctl)
        for sysctl in due:
            before = _read(_PROC / sysctl.path) or ""
            entry = self._entries.setdefault(sysctl.path, _Entry(before, sysctl.value, _spread(sysctl)))
            entry.is_now = sysctl.value
        if due or restored:
            self._save()
        for sysctl in due:
            _write(sysctl.path, sysctl.value)
        return len(due) + restored

    def restore(self) -> None:
        """Put every sysctl back, the last one changed first, and forget everything."""
        self._restore(reversed(tuple(self._entries)))
        self.device_name, self.device = "", None
        self._path.unlink(missing_ok=True)

    def _restore(self, paths: Iterable[str]) -> int:
        """A value that somebody else changed after us is theirs and stays."""
        gone = tuple(paths)
        for path in gone:
            entry = self._entries[path]
            if _read(_PROC / path) == entry.is_now:
                _write(path, entry.was)
                for other, was in entry.spread.items():
                    if _read(_PROC / other) not in (None, was):
                        _write(other, was)
            del self._entries[path]
        return len(gone)

    def _load(self) -> None:
        """A file that is missing, damaged, or speaks of another boot or namespace counts as empty."""
        try:
            data: dict[str, Any] = json.loads(self._path.read_text())
            if data["schema"] != _SCHEMA or data["host"] != self._identity:
                return
            self._entries = {path: _Entry(**entry) for path, entry in data["sysctls"].items()}
            self.device_name = data["device_name"]
            self.device = Device(**data["device"]) if data["device"] else None
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return

    def _save(self) -> None:
        data = {
            "schema": _SCHEMA,
            "host": self._identity,
            "device_name": self.device_name,
            "device": asdict(self.device) if self.device is not None else None,
            "sysctls": {path: asdict(entry) for path, entry in self._entries.items()},
        }
        draft = self._path.with_suffix(".new")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            draft.write_text(json.dumps(data, indent=1) + "\n")
            draft.replace(self._path)
        except OSError as error:
            raise KernelError(
                f"record in {self._path} what is about to change",
                os.strerror(error.errno or 0),
                "the directory must be writable and have room",
            ) from None


def _expanded(patterns: Iterable[Sysctl]) -> Iterable[Sysctl]:
    """One sysctl for each link that matches."""
    for pattern in patterns:
        for path in sorted(_PROC.glob(pattern.path)):
            if path.parent.name not in _NOT_LINKS:
                yield Sysctl(str(path.relative_to(_PROC)), pattern.value, pattern.when)


def _differs(sysctl: Sysctl) -> bool:
    present = _read(_PROC / sysctl.path)
    return present not in (None, sysctl.value) and (not sysctl.when or present in sysctl.when)


def _spread(sysctl: Sysctl) -> dict[str, str]:
    found = (path for pattern in sysctl.spreads for path in sorted(_PROC.glob(pattern)))
    values = ((str(path.relative_to(_PROC)), _read(path)) for path in found)
    return {path: value for path, value in values if value is not None and path != sysctl.path}


def _read(path: Path) -> str | None:
    """None if there is no such value: the link is gone, or the kernel has no such feature."""
    try:
        return path.read_text().strip()
    except OSError:
        return None


def _write(path: str, value: str) -> None:
    try:
        (_PROC / path).write_text(value)
    except FileNotFoundError:
        return
    except OSError as error:
        raise KernelError(
            f"set {path} to {value}",
            os.strerror(error.errno or 0),
            "run as root with a writable /proc/sys, or set it beforehand",
        ) from None
