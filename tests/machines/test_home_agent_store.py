"""The memory of the home agent: what a killed one leaves behind, and what is made of damaged files."""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import signal
import sqlite3
import time
from ipaddress import IPv6Address
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from home_agent import store as store_module
from home_agent.records import Record
from home_agent.store import Store, StoreError
from tests.machines.ha_script import DYNAMIC, LAPTOP, TABLET, HomeScript, home4, over_ipv4, over_ipv6


@pytest.fixture
def records() -> list[Record]:
    ha = HomeScript(now=time.clock_gettime(time.CLOCK_BOOTTIME))
    ha.feed(ha.laptop.native(over_ipv6(ha.laptop, home4())))
    ha.feed(ha.tablet.udp(over_ipv4(ha.tablet, home4(DYNAMIC))))
    return list(ha.records.values())


def by_home(records: list[Record]) -> dict[IPv6Address, Record]:
    return {record.home_address: record for record in records}


def test_what_is_saved_is_loaded(tmp_path: Path, records: list[Record]) -> None:
    store = Store(tmp_path / "deep" / "ha.sqlite")
    store.save(records)
    store.save(records[:1])
    store.close()
    loaded, complaints = Store(tmp_path / "deep" / "ha.sqlite").load()
    assert by_home(loaded) == by_home(records)
    assert complaints == []


def test_the_file_is_for_its_owner_only(tmp_path: Path) -> None:
    Store(tmp_path / "ha.sqlite").close()
    assert (tmp_path / "ha.sqlite").stat().st_mode & 0o077 == 0


def _save_for_ever(path: Path, records: list[Record], pipe: Connection) -> None:
    store, number = Store(path), 0
    while True:
        number += 1
        memory = dataclasses.replace(records[0].memory, highest=number)
        store.save([dataclasses.replace(record, memory=memory) for record in records])
        pipe.send(number)


def test_every_commit_survives_a_kill_at_any_moment(tmp_path: Path, records: list[Record]) -> None:
    for attempt in range(5):
        path = tmp_path / f"{attempt}.sqlite"
        ours, theirs = multiprocessing.get_context("fork").Pipe(duplex=False)
        process = multiprocessing.get_context("fork").Process(
            target=_save_for_ever, args=(path, records, theirs)
        )
        process.start()
        assert ours.poll(10)
        time.sleep(0.003 * attempt)
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        theirs.close()
        told = 0
        while ours.poll(0):
            try:
                told = ours.recv()
            except EOFError:
                break
        loaded, complaints = Store(path).load()
        assert complaints == []
        assert len({record.memory.highest for record in loaded}) == 1, "a commit is all or nothing"
        assert loaded[0].memory.highest >= told >= 1


def test_after_a_reboot_the_lifetime_goes_on_by_the_wall_clock(
    tmp_path: Path, records: list[Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "ha.sqlite"
    Store(path).save(records)
    before = by_home(records)[LAPTOP].binding
    assert before is not None
    # The machine was off for 100 s, and CLOCK_BOOTTIME is at 30 s.
    elapsed = 100.0
    monkeypatch.setattr(store_module, "_boot_id", lambda: "another boot")
    wall, boot = time.time(), time.clock_gettime(time.CLOCK_BOOTTIME)
    monkeypatch.setattr(store_module, "boottime", lambda: 30.0)
    monkeypatch.setattr("home_agent.store.time.time", lambda: wall + elapsed)
    loaded, _ = Store(path).load()
    after = by_home(loaded)[LAPTOP].binding
    assert after is not None
    assert after.expires_at - 30.0 == pytest.approx(before.expires_at - boot - elapsed, abs=0.5)


def test_a_wall_clock_that_was_set_back_lengthens_no_binding(
    tmp_path: Path, records: list[Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "ha.sqlite"
    Store(path).save(records)
    monkeypatch.setattr(store_module, "_boot_id", lambda: "another boot")
    monkeypatch.setattr("home_agent.store.time.time", lambda: 86400.0)
    monkeypatch.setattr(store_module, "boottime", lambda: 30.0)
    loaded, _ = Store(path).load()
    binding = by_home(loaded)[LAPTOP].binding
    assert binding is not None
    assert binding.expires_at <= 30.001 + binding.lifetime


def test_rows_of_mobile_nodes_that_are_gone_are_removed(tmp_path: Path, records: list[Record]) -> None:
    store = Store(tmp_path / "ha.sqlite")
    store.save(records)
    store.forget_all_but([TABLET])
    assert by_home(store.load()[0]).keys() == {TABLET}


def test_an_unreadable_row_is_complained_about_and_hurts_no_other(
    tmp_path: Path, records: list[Record]
) -> None:
    path = tmp_path / "ha.sqlite"
    Store(path).save(records)
    with sqlite3.connect(path) as database:
        database.execute("UPDATE mobile_node SET document = '{' WHERE home_address = ?", [str(LAPTOP)])
    loaded, complaints = Store(path).load()
    assert by_home(loaded).keys() == {TABLET}
    assert len(complaints) == 1


def test_a_damaged_database_is_put_aside(tmp_path: Path, records: list[Record]) -> None:
    path = tmp_path / "ha.sqlite"
    path.write_bytes(b"this is no database at all, however you look at it" * 100)
    store = Store(path)
    store.save(records)
    assert len(store.load()[0]) == 2
    assert (tmp_path / "ha.damaged").exists()


def test_a_database_of_another_version_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "ha.sqlite"
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA user_version = 99")
    with pytest.raises(StoreError, match="another version"):
        Store(path)


def test_a_directory_in_the_way_is_an_error_in_words(tmp_path: Path) -> None:
    (tmp_path / "ha.sqlite").mkdir()
    with pytest.raises(StoreError):
        Store(tmp_path / "ha.sqlite")


def test_a_full_disk_is_an_os_error(tmp_path: Path, records: list[Record]) -> None:
    store = Store(tmp_path / "ha.sqlite")
    store._database.execute("PRAGMA max_page_count = 1")
    many = [
        dataclasses.replace(records[0], home_address=IPv6Address(int(LAPTOP) + number))
        for number in range(500)
    ]
    with pytest.raises(OSError, match="full"):
        store.save(many)
