"""A sleep as the login manager tells it, over a real bus; and that two witnesses of one sleep count once."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from jeepney import DBusAddress, HeaderFields, message_bus, new_method_call, new_signal
from jeepney.io.blocking import DBusConnection, open_dbus_connection

from runtime.driver import Driver
from runtime.login_manager import (
    LOGIN_MANAGER,
    LONGEST,
    MANAGER,
    PREPARE_FOR_SLEEP,
    LoginManager,
    bus_address,
)
from runtime.node import Deadline
from runtime.sleep_witnesses import SleepWitnesses

PATIENCE = 20.0
FROM = DBusAddress("/org/freedesktop/login1", interface=MANAGER)
BUS_CONFIGURATION = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <listen>unix:path={socket}</listen>
  <auth>EXTERNAL</auth>
  <policy context="default"><allow send_destination="*"/><allow receive_sender="*"/><allow own="*"/></policy>
</busconfig>
"""


class Bus:
    """A bus of our own, which can be stopped and started again."""

    def __init__(self, directory: Path) -> None:
        self.socket = directory / "bus"
        self.address = f"unix:path={self.socket}"
        self._configuration = directory / "bus.conf"
        self._configuration.write_text(BUS_CONFIGURATION.format(socket=self.socket))
        self.start()

    def start(self) -> None:
        command = ["dbus-daemon", "--nofork", "--print-address", f"--config-file={self._configuration}"]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        assert self._process.stdout.readline(), "the bus has come up"

    def stop(self) -> None:
        self._process.kill()
        self._process.communicate()
        self.socket.unlink(missing_ok=True)

    def join(self, name: str | None = LOGIN_MANAGER) -> DBusConnection:
        connection = open_dbus_connection(self.address)
        if name is not None:
            assert connection.send_and_get_reply(message_bus.RequestName(name), timeout=PATIENCE).body == (1,)
        return connection


@pytest.fixture
def bus(tmp_path: Path) -> Iterator[Bus]:
    bus = Bus(tmp_path)
    yield bus
    bus.stop()


def prepare(sender: DBusConnection, about_to_sleep: bool, to: str | None = None) -> None:
    signal = new_signal(FROM, PREPARE_FOR_SLEEP, "b", (about_to_sleep,))
    if to is not None:
        signal.header.fields[HeaderFields.destination] = to
    sender.send(signal)


class Listening:
    """A LoginManager, and what it has told."""

    def __init__(self, address: str) -> None:
        self.told: list[bool] = []
        self.problems: list[str] = []
        self.subject = LoginManager(address, self.told.append, self.problems.append, first_retry=0.05)

    async def until(self, done: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE):
            while not done():
                await asyncio.sleep(0.005)

    async def ready(self, owner: str | None) -> None:
        await self.until(lambda: self.subject._owner == owner)


@asynccontextmanager
async def listening(bus: Bus) -> AsyncIterator[Listening]:
    there = Listening(bus.address)
    try:
        yield there
    finally:
        there.subject.close()
        await asyncio.wait([there.subject._task])


def run(work: Awaitable[None]) -> None:
    async def whole() -> None:
        await work

    asyncio.run(whole())


def test_what_the_login_manager_says_is_told_in_order_whether_it_comes_before_or_after_us(bus: Bus) -> None:
    async def work() -> None:
        async with listening(bus) as there:
            with bus.join() as early:
                await there.ready(early.unique_name)
                prepare(early, True)
                prepare(early, False)
                await there.until(lambda: len(there.told) == 2)
            await there.ready(None)
            with bus.join() as later:
                await there.ready(later.unique_name)
                prepare(later, True)
                await there.until(lambda: len(there.told) == 3)
        assert there.told == [True, False, True]
        assert there.problems == []

    run(work())


def test_it_is_heard_when_it_was_there_first(bus: Bus) -> None:
    async def work() -> None:
        with bus.join() as manager:
            async with listening(bus) as there:
                await there.ready(manager.unique_name)
                prepare(manager, True)
                await there.until(lambda: there.told == [True])

    run(work())


def test_nobody_else_is_believed_and_neither_long_messages_nor_calls_end_the_listening(bus: Bus) -> None:
    async def work() -> None:
        async with listening(bus) as there:
            with bus.join() as manager, bus.join("org.example.mallory") as mallory:
                await there.ready(manager.unique_name)
                us = name_of_the_other(mallory, {manager.unique_name, mallory.unique_name})
                prepare(mallory, False, to=us)
                call = DBusAddress("/", bus_name=us, interface=MANAGER)
                mallory.send(new_method_call(call, PREPARE_FOR_SLEEP, "ay", (bytes(3 * LONGEST),)))
                mallory.send(new_method_call(call, PREPARE_FOR_SLEEP, "b", (True,)))
                mallory.send_and_get_reply(message_bus.GetId(), timeout=PATIENCE)
                prepare(manager, True)
                await there.until(lambda: bool(there.told))
        assert there.told == [True]
        assert there.problems == []

    run(work())


def name_of_the_other(connection: DBusConnection, known: set[str]) -> str:
    names = connection.send_and_get_reply(message_bus.ListNames(), timeout=PATIENCE).body[0]
    (other,) = (name for name in names if name.startswith(":") and name not in known)
    return str(other)


def test_a_bus_that_goes_away_is_found_again_when_it_is_back(bus: Bus) -> None:
    async def work() -> None:
        async with listening(bus) as there:
            await there.until(lambda: there.subject._asked_owner > 0)
            bus.stop()
            await there.until(lambda: bool(there.problems))
            assert "next try" in there.problems[0]
            bus.start()
            with bus.join() as manager:
                await there.ready(manager.unique_name)
                prepare(manager, False)
                await there.until(lambda: there.told == [False])

    run(work())


def test_closed_it_leaves_nothing_open(bus: Bus) -> None:
    async def work() -> None:
        async with listening(bus) as there:
            with bus.join() as manager:
                await there.ready(manager.unique_name)
        before = len(os.listdir("/proc/self/fd"))
        async with listening(bus) as there, asyncio.timeout(PATIENCE):
            with bus.join() as manager:
                await there.ready(manager.unique_name)
        assert len(os.listdir("/proc/self/fd")) == before

    run(work())


def test_without_a_system_bus_there_is_no_address_to_listen_at(tmp_path: Path) -> None:
    socket = tmp_path / "system_bus_socket"
    assert bus_address({}, str(socket)) is None
    socket.touch()
    assert bus_address({}, str(socket)) == f"unix:path={socket}"
    assert (
        bus_address({"DBUS_SYSTEM_BUS_ADDRESS": "unix:path=/elsewhere"}, str(socket))
        == "unix:path=/elsewhere"
    )


# ---- two witnesses -------------------------------------------------------------------------------
class Idle:
    """A node that waits for nothing."""

    def handle(self, event: object, now: float) -> list[object]:
        return []

    def tick(self, now: float) -> list[object]:
        return []

    def deadline(self) -> Deadline | None:
        return None


class NoTimer:
    def arm(self, at: float | None) -> None:
        pass

    def close(self) -> None:
        pass


class Host:
    """A host with its two witnesses; `asleep` is how far CLOCK_BOOTTIME is ahead of CLOCK_MONOTONIC."""

    def __init__(self) -> None:
        self.now = 100.0
        self.asleep = 0.0
        self.done: list[float | str] = []
        self.witnesses = SleepWitnesses(
            lambda: self.now,
            lambda: self.driver.wake(),
            lambda: self.done.append("remembered"),
            self.done.append,
        )
        self.driver: Driver[object, object] = Driver(
            Idle(),
            lambda action: None,
            on_fault=lambda fault: None,
            on_slept=self.witnesses.told_by_clock,
            timer=NoTimer(),
            clock=lambda: self.now,
            time_asleep=lambda: self.asleep,
        )

    def sleeps(self, seconds: float, *, shown_by_clock: bool = True) -> None:
        self.now += seconds
        self.asleep += seconds if shown_by_clock else 0.0


@pytest.mark.parametrize("first", ["clock", "login manager"])
def test_a_sleep_that_both_tell_is_one(first: str) -> None:
    host = Host()
    host.witnesses.told_by_login_manager(True)
    host.sleeps(60.0)
    if first == "clock":
        host.driver.wake()
    host.witnesses.told_by_login_manager(False)
    host.driver.wake()
    assert host.done == ["remembered", 60.0]


def test_a_sleep_that_the_clock_does_not_show_is_told_by_the_login_manager_alone() -> None:
    host = Host()
    host.witnesses.told_by_login_manager(True)
    host.sleeps(5.0, shown_by_clock=False)
    host.witnesses.told_by_login_manager(False)
    host.witnesses.told_by_login_manager(False)
    assert host.done == ["remembered", 5.0]


def test_without_a_login_manager_the_clock_tells_every_sleep() -> None:
    host = Host()
    for _ in range(2):
        host.sleeps(60.0)
        host.driver.wake()
    assert host.done == [60.0, 60.0]
