"""What the home agent remembers over a restart: one SQLite row for each mobile node.

Performs I/O. A write-ahead log: every commit is on disk before it returns, a kill at any instant loses
nothing that was committed, and a half-written commit never happened.
"""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Iterable
from ipaddress import IPv6Address
from pathlib import Path

import msgspec

from home_agent.records import Document, Record, from_document, to_document
from runtime.clock import boottime
from wire.text import text_of

_SCHEMA = """
CREATE TABLE IF NOT EXISTS mobile_node (
    home_address TEXT PRIMARY KEY,
    boot TEXT NOT NULL,          -- of the boot in which the row was written
    wall_minus_boot REAL NOT NULL, -- CLOCK_REALTIME less CLOCK_BOOTTIME at that moment
    document TEXT NOT NULL
) WITHOUT ROWID
"""
_VERSION = 1
_CACHE = 256
"""KiB of the database that are kept in memory: nothing is read after the start, and rows are written once."""
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class StoreError(Exception):
    """The database cannot be used: which file, why, and what to do about it."""

    def __init__(self, path: Path, why: str, fix: str) -> None:
        super().__init__(f"{path}: {why} ({fix})")


class Store:
    """The database at `path`. Not thread-safe: it belongs to the event loop's thread."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._boot = _boot_id()
        self._database = _open(path)

    def load(self) -> tuple[list[Record], list[str]]:
        """All records, their instants in today's CLOCK_BOOTTIME, and a complaint for each unreadable row."""
        records, complaints = [], []
        query = "SELECT home_address, boot, wall_minus_boot, document FROM mobile_node"
        for home, boot, wall_minus_boot, document in self._database.execute(query):
            try:
                record = from_document(msgspec.json.decode(document))
            except (ValueError, RecursionError) as error:
                complaints.append(f"{self.path}: what is remembered of {home} is unreadable: {error}")
                continue
            if boot != self._boot:
                record = _carried_over(record, wall_minus_boot - (time.time() - boottime()))
            records.append(record)
        return records, complaints

    def save(self, records: Iterable[Record]) -> None:
        """Write `records` in one commit; when this returns they are on disk. OSError if they are not."""
        offset = time.time() - boottime()
        rows = [
            (text_of(record.home_address), self._boot, offset, _written(to_document(record)))
            for record in records
        ]
        try:
            with self._database:
                self._database.executemany("INSERT OR REPLACE INTO mobile_node VALUES (?, ?, ?, ?)", rows)
        except sqlite3.Error as error:
            raise OSError(f"{self.path}: {error}") from None

    def forget_all_but(self, home_addresses: Iterable[IPv6Address]) -> None:
        """Remove rows of mobile nodes that are no longer configured."""
        kept = map(text_of, home_addresses)
        known = {row[0] for row in self._database.execute("SELECT home_address FROM mobile_node")}
        with self._database:
            gone = [(home,) for home in known.difference(kept)]
            self._database.executemany("DELETE FROM mobile_node WHERE home_address = ?", gone)

    def close(self) -> None:
        self._database.close()


def _open(path: Path) -> sqlite3.Connection:
    """Open or create; a database that is damaged is put aside, since a home agent has to run."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise StoreError(path, f"cannot create its directory: {error.strerror}", "check its owner") from None
    try:
        return _prepared(path)
    except sqlite3.DatabaseError as error:
        if isinstance(error, sqlite3.OperationalError):
            raise StoreError(path, str(error), "check owner, mode and free space") from None
        with contextlib.suppress(OSError):
            path.rename(path.with_suffix(".damaged"))
    try:
        return _prepared(path)
    except sqlite3.Error as error:
        raise StoreError(path, str(error), "remove it") from None


def _prepared(path: Path) -> sqlite3.Connection:
    database = sqlite3.connect(path, timeout=1.0, isolation_level="IMMEDIATE")
    try:
        path.chmod(0o600)
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = FULL")
        database.execute(f"PRAGMA cache_size = -{_CACHE}")
        version = int(database.execute("PRAGMA user_version").fetchone()[0])
        if version not in (0, _VERSION):
            raise sqlite3.OperationalError(f"written by another version of home-agent (format {version})")
        database.execute(_SCHEMA)
        database.execute(f"PRAGMA user_version = {_VERSION}")
        database.commit()
    except BaseException:
        database.close()
        raise
    return database


def _written(document: Document) -> str:
    return msgspec.json.encode(document).decode()


def _carried_over(record: Record, shift: float) -> Record:
    """A record of an earlier boot: CLOCK_BOOTTIME began anew, only the wall clock spans the gap.

    A wall clock that was set back must not make a binding last longer than it was granted for.
    """
    moved, now = record.shifted(shift), boottime()
    binding = moved.binding
    if binding is not None and binding.updated_at > now:
        return record.shifted(shift - (binding.updated_at - now))
    return moved


def _boot_id() -> str:
    try:
        return _BOOT_ID.read_text().strip()
    except OSError:
        return ""
