"""What a daemon tells its service manager and its log."""

from __future__ import annotations

import asyncio
import io
import json
import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime.log import BURST, REFILL, Level, Log, Shape, log_to_stderr
from runtime.service import Notifier, Watchdog


@pytest.fixture
def manager() -> Iterator[tuple[socket.socket, str]]:
    with tempfile.TemporaryDirectory(prefix="mn") as directory:
        path = str(Path(directory, "notify"))
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.bind(path)
            sock.setblocking(False)
            yield sock, path


def heard(sock: socket.socket) -> list[str]:
    messages = []
    while True:
        try:
            messages.append(sock.recv(4096).decode())
        except BlockingIOError:
            return messages


def test_the_manager_hears_ready_status_and_stopping(manager: tuple[socket.socket, str]) -> None:
    sock, path = manager
    notifier = Notifier.from_environment({"NOTIFY_SOCKET": path})
    notifier.ready("bound via wlan0")
    notifier.status("bound via wwan0")
    notifier.status("bound via wwan0")
    notifier.reloading(12.5)
    notifier.stopping()
    assert heard(sock) == [
        "READY=1\nSTATUS=bound via wlan0",
        "STATUS=bound via wwan0",
        "RELOADING=1\nMONOTONIC_USEC=12500000",
        "STOPPING=1",
    ]


def test_a_status_cannot_smuggle_another_assignment(manager: tuple[socket.socket, str]) -> None:
    sock, path = manager
    Notifier(path).status("fine\nMAINPID=1\nFDSTORE=1")
    assert heard(sock) == ["STATUS=fine MAINPID=1 FDSTORE=1"]


def test_an_abstract_socket_is_reached() -> None:
    name = f"mn-agent-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind("\0" + name)
        sock.setblocking(False)
        Notifier.from_environment({"NOTIFY_SOCKET": "@" + name}).ready()
        assert heard(sock) == ["READY=1"]


def test_no_manager_or_a_dead_one_is_no_trouble() -> None:
    for address in ("", "relative", "/nonexistent/notify", "@gone", "/" + "x" * 300):
        notifier = Notifier.from_environment({"NOTIFY_SOCKET": address})
        notifier.ready("x")
        notifier.alive()


@pytest.mark.parametrize(
    ("variables", "interval"),
    [
        ({"WATCHDOG_USEC": "20000000"}, 10.0),
        ({"WATCHDOG_USEC": "20000000", "WATCHDOG_PID": str(os.getpid())}, 10.0),
        ({"WATCHDOG_USEC": "20000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "no"}, None),
        ({}, None),
    ],
)
def test_the_watchdog_interval_is_half_of_what_the_manager_allows(
    variables: dict[str, str], interval: float | None
) -> None:
    notifier = Notifier.from_environment({"NOTIFY_SOCKET": "/run/x", **variables})
    assert notifier.watchdog_interval == interval


def test_the_watchdog_falls_silent_when_something_is_ill(manager: tuple[socket.socket, str]) -> None:
    sock, path = manager
    ill = False

    async def scenario() -> tuple[int, int, int]:
        nonlocal ill
        watchdog = Watchdog(Notifier(path, watchdog_interval=0.01), lambda: not ill)
        watchdog.start()
        well = 0
        while well < 2:
            await asyncio.sleep(0.01)
            well += len(heard(sock))
        ill = True
        await asyncio.sleep(0.05)
        while_ill = len(heard(sock))
        ill = False
        watchdog.stop()
        await asyncio.sleep(0.03)
        return well, while_ill, len(heard(sock))

    well, while_ill, stopped = asyncio.run(scenario())
    assert well >= 2
    assert (while_ill, stopped) == (0, 0)


def test_without_a_watchdog_in_the_unit_nothing_is_sent_or_scheduled() -> None:
    Watchdog(Notifier("/run/x")).start()  # outside any event loop: scheduling would raise


def test_a_log_line_has_message_id_and_fields() -> None:
    stream = io.StringIO()
    Log(stream).info("ba-accepted", "binding accepted", sequence=5, via="wlan 0", empty="", took=0.0412)
    line = stream.getvalue()
    assert 'INFO    binding accepted [ba-accepted] sequence=5 via="wlan 0" empty="" took=0.041\n' in line


def test_the_journal_gets_priorities_and_machines_get_json() -> None:
    journal, machine = io.StringIO(), io.StringIO()
    Log(journal, shape=Shape.JOURNAL).warning("x", "careful")
    Log(machine, shape=Shape.JSON).error("x", "broken", path=Path("/a"), n=1)
    assert journal.getvalue() == "<4>careful [x]\n"
    shown = json.loads(machine.getvalue())
    assert (shown["level"], shown["event"], shown["path"], shown["n"]) == ("error", "x", "/a", 1)


def test_a_message_that_repeats_is_thinned_out_and_counted() -> None:
    now = 0.0
    stream = io.StringIO()
    log = Log(stream, shape=Shape.JOURNAL, clock=lambda: now)
    for _ in range(1000):
        log.info("forged", "forged BA")
        log.debug("quiet", "not shown at all")
    log.info("other", "another")
    assert len(stream.getvalue().splitlines()) == BURST + 1
    now = REFILL
    log.info("forged", "forged BA")
    assert stream.getvalue().splitlines()[-1] == f"<6>forged BA [forged] suppressed={1000 - BURST}"


def test_a_peer_cannot_write_lines_or_escapes_into_the_log() -> None:
    stream = io.StringIO()
    Log(stream).info("id", "name \x1b[2J\nforged", who="a\nb")
    assert stream.getvalue().count("\n") == 1
    assert "\x1b" not in stream.getvalue()


def test_a_closed_stream_does_not_stop_the_daemon() -> None:
    stream = io.StringIO()
    stream.close()
    Log(stream).info("id", "nobody reads")


def test_the_shape_follows_the_environment() -> None:
    status = os.fstat(2)
    assert log_to_stderr(environment={"MN_AGENT_LOG": "json"})._shape is Shape.JSON
    journal = {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"}
    assert log_to_stderr(environment=journal)._shape is Shape.JOURNAL
    assert log_to_stderr("debug", environment={})._level is Level.DEBUG
