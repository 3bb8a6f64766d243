"""The control socket as real clients meet it: other users, floods, silence, restarts."""

from __future__ import annotations

import asyncio
import grp
import json
import os
import socket
import stat
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

import pytest

from runtime.client import ControlClient, ControlError, ErrorKind
from runtime.control import MAX_LINE, Request, encode_request
from runtime.control_server import HISTORY, ControlServer, Method
from tests.lab.patience import PATIENCE

NOBODY = 65534
GROUP = "daemon"

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")


class Daemon:
    """A control server in a thread of its own, and what its methods saw."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.changes: list[dict[str, Any]] = []
        self.under_way = threading.Event()
        self.faults: list[str] = []
        self.loop = asyncio.new_event_loop()
        methods = {
            "status": Method(False, lambda _: {"schema": "test/status/1", "changes": len(self.changes)}),
            "set": Method(True, self._set, {"value": int, "name": str, "flag": bool}),
            "roam": Method(lambda p: p.get("dry_run") is not True, self._set, {"dry_run": bool}),
            "slow": Method(False, self._slow, {"seconds": float}),
            "breaks": Method(False, self._breaks),
            "huge": Method(False, lambda _: {"text": "x" * 900_000}),
            "endless": Method(False, lambda _: {"text": "x" * 2_000_000}),
        }
        self.server = ControlServer(
            path,
            methods,
            daemon="mn-agent",
            event_schema="mnctl/event/1",
            on_fault=lambda what, error: self.faults.append(f"{what}: {error}"),
            group=GROUP,
        )
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()
        self.run(self.server.start())

    def run(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(10)

    def publish(self, event: str, **fields: object) -> None:
        async def now() -> None:
            self.server.publish(event, **fields)

        self.run(now())

    def stop(self) -> None:
        self.run(self.server.close())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(10)
        self.loop.close()

    def _set(self, params: dict[str, Any]) -> dict[str, object]:
        self.changes.append(params)
        return {"ok": True}

    async def _slow(self, params: dict[str, Any]) -> dict[str, object]:
        self.under_way.set()
        await asyncio.sleep(params.get("seconds") or 0.05)
        return {"ok": True}

    def _breaks(self, params: dict[str, Any]) -> dict[str, object]:
        raise RuntimeError("secret detail")


@pytest.fixture
def path() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="mn") as directory:
        os.chmod(directory, 0o755)
        yield Path(directory, "run", "control.sock")


@pytest.fixture
def daemon(path: Path) -> Iterator[Daemon]:
    umask = os.umask(0o077)
    try:
        running = Daemon(path)
    finally:
        os.umask(umask)
    yield running
    if running.loop.is_running():
        running.stop()


def raw(path: Path) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.settimeout(PATIENCE)
    sock.connect(str(path))
    return sock


def lines_of(sock: socket.socket) -> list[Any]:
    """All lines until the daemon closes, with or without having read everything."""
    lines = []
    with sock.makefile("rb") as file, suppress(ConnectionResetError):
        for line in file:
            lines.append(json.loads(line))
    return lines


def ask_as(uid: int, path: Path, method: str, groups: tuple[int, ...] = (), **params: object) -> Any:
    """Ask from a forked process of another user; its result, or the kind of its error."""
    readable, writable = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups(groups)
            os.setgid(uid)
            os.setuid(uid)
            answer: Any = ControlClient(path).call(method, params)
        except ControlError as error:
            answer = {"kind": error.kind.value}
        except BaseException as error:
            answer = {"escaped": repr(error)}
        os.write(writable, json.dumps(answer).encode())
        os._exit(0)
    os.close(writable)
    os.waitpid(child, 0)
    with open(readable, "rb") as file:
        return json.loads(file.read())


def error_of(call: Callable[[], object]) -> ControlError:
    with pytest.raises(ControlError) as caught:
        call()
    return caught.value


@as_root
def test_any_user_reads_and_none_but_root_and_the_group_changes(daemon: Daemon) -> None:
    assert ask_as(NOBODY, daemon.path, "status") == {"schema": "test/status/1", "changes": 0}
    assert ask_as(NOBODY, daemon.path, "set", value=1)["kind"] == "permission"
    assert daemon.changes == []
    group = grp.getgrnam(GROUP).gr_gid
    assert ask_as(NOBODY, daemon.path, "set", (group,), value=2) == {"ok": True}
    assert ControlClient(daemon.path).call("set", {"value": 3}) == {"ok": True}
    assert daemon.changes == [{"value": 2}, {"value": 3}]


@as_root
def test_a_dry_run_is_for_everyone_and_the_deed_is_not(daemon: Daemon) -> None:
    assert ask_as(NOBODY, daemon.path, "roam", dry_run=True) == {"ok": True}
    assert ask_as(NOBODY, daemon.path, "roam", dry_run=False)["kind"] == "permission"
    assert ask_as(NOBODY, daemon.path, "roam", dry_run=None)["kind"] == "permission"
    assert ask_as(NOBODY, daemon.path, "roam")["kind"] == "permission"
    assert daemon.changes == [{"dry_run": True}]


def test_the_socket_is_open_to_all_whatever_the_umask(daemon: Daemon) -> None:
    assert stat.S_IMODE(daemon.path.stat().st_mode) == 0o666
    assert stat.S_IMODE(daemon.path.parent.stat().st_mode) == 0o755


def test_parameters_are_checked_before_the_method_sees_them(daemon: Daemon) -> None:
    client = ControlClient(daemon.path)
    for params in ({"value": "1"}, {"value": True}, {"vlaue": 1}, {"flag": 1}, {"name": 5}, {"value": 1.0}):
        assert error_of(lambda p=params: client.call("set", p)).kind is ErrorKind.INVALID_PARAMS
    assert daemon.changes == []
    assert client.call("set", {"value": None, "flag": True, "name": "x"}) == {"ok": True}


def test_an_unknown_method_is_version_skew_to_the_client(daemon: Daemon) -> None:
    error = error_of(lambda: ControlClient(daemon.path).call("teleport"))
    assert error.kind is ErrorKind.VERSION_SKEW
    assert "teleport" in error.message
    assert "restart" in error.fix


def test_a_failing_method_is_told_to_the_daemon_in_full_and_to_the_caller_in_brief(daemon: Daemon) -> None:
    error = error_of(lambda: ControlClient(daemon.path).call("breaks"))
    assert error.kind is ErrorKind.FAILED
    assert "secret" not in error.message
    assert daemon.faults == ["breaks: secret detail"]


def test_large_replies_pass_up_to_a_mebibyte(daemon: Daemon) -> None:
    client = ControlClient(daemon.path)
    assert len(client.call("huge")["text"]) == 900_000
    assert error_of(lambda: client.call("endless")).kind is ErrorKind.FAILED


def test_requests_of_one_connection_are_answered_in_order(daemon: Daemon) -> None:
    sock = raw(daemon.path)
    methods = ["slow", "status", "breaks", "slow", "status"] * 20
    for number, method in enumerate(methods):
        params = {"seconds": 0.001} if method == "slow" else {}
        sock.sendall(encode_request(Request(number, method, params)))
    sock.shutdown(socket.SHUT_WR)
    assert [reply["id"] for reply in lines_of(sock)] == list(range(100))


def test_a_last_line_without_newline_is_answered(daemon: Daemon) -> None:
    sock = raw(daemon.path)
    sock.sendall(b'{"jsonrpc":"2.0","id":1,"method":"status"}')
    sock.shutdown(socket.SHUT_WR)
    assert [reply["id"] for reply in lines_of(sock)] == [1]


def test_a_line_of_64_kib_is_read_and_a_longer_one_ends_the_connection(daemon: Daemon) -> None:
    head, tail = b'{"jsonrpc":"2.0","id":1,"method":"status","params":{"x":"', b'"}}\n'
    for spare, code in ((0, -32602), (1, -32700)):
        sock = raw(daemon.path)
        sock.sendall(head + b"x" * (MAX_LINE - len(head) - len(tail) + spare) + tail)
        sock.shutdown(socket.SHUT_WR)
        assert [reply["error"]["code"] for reply in lines_of(sock)] == [code]


def test_an_endless_line_is_cut_off(daemon: Daemon) -> None:
    sock = raw(daemon.path)
    with pytest.raises((BrokenPipeError, ConnectionResetError)):
        sock.sendall(b"x" * 10_000_000)
    assert ControlClient(daemon.path).call("status")["changes"] == 0


def test_ten_thousand_random_frames_leave_the_daemon_well_and_unchanged(daemon: Daemon) -> None:
    random = Random(22)
    good = b'{"jsonrpc":"2.0","id":1,"method":"set","params":{"value":1}}'
    for _ in range(20):
        sock = raw(daemon.path)
        frames = []
        for _ in range(500):
            frame = bytearray(good.replace(b'"set"', b'"sit"'))
            for _ in range(random.randrange(4)):
                frame[random.randrange(len(frame))] = random.randrange(256)
            frames.append(bytes(frame) if random.random() < 0.8 else random.randbytes(random.randrange(200)))
        reader = threading.Thread(target=lines_of, args=(sock,))
        reader.start()
        sock.sendall(b"\n".join(frames))
        sock.shutdown(socket.SHUT_WR)
        reader.join(20)
        assert not reader.is_alive()
    assert daemon.faults == []
    assert ControlClient(daemon.path).call("status")["changes"] == 0


def test_a_client_that_asks_without_reading_does_not_stop_the_others(daemon: Daemon) -> None:
    deaf = raw(daemon.path)
    deaf.setblocking(False)
    request = b'{"jsonrpc":"2.0","id":1,"method":"huge"}\n' * 50
    sent = 0
    for _ in range(200):
        try:
            sent += deaf.send(request)
        except BlockingIOError:
            break
    started = time.monotonic()
    for _ in range(20):
        ControlClient(daemon.path).call("status")
    assert time.monotonic() - started < 2


def test_a_subscriber_gets_history_and_news_without_a_gap(daemon: Daemon) -> None:
    for number in range(5):
        daemon.publish("ba", seq=number)
    events = ControlClient(daemon.path).events(history=3)
    first = next(events)
    daemon.publish("ba", seq=5)
    seen = [first, *(next(events) for _ in range(3))]
    assert [event["seq"] for event in seen] == [2, 3, 4, 5]
    assert {event["schema"] for event in seen} == {"mnctl/event/1"}
    assert all(event["t"].endswith("Z") for event in seen)


def test_a_subscriber_that_does_not_read_loses_the_oldest_and_is_told_how_many(daemon: Daemon) -> None:
    deaf = raw(daemon.path)
    deaf.sendall(b'{"jsonrpc":"2.0","id":1,"method":"subscribe"}\n')
    file = deaf.makefile("rb")
    assert json.loads(file.readline())["result"]["schema"] == "control/subscribe/1"
    total = 2000
    for number in range(total):
        daemon.publish("big", number=number, padding="x" * 2000)
    seen = []
    while not seen or seen[-1].get("number") != total - 1:
        seen.append(json.loads(file.readline())["params"])
    lost = sum(event["count"] for event in seen if event["event"] == "lost")
    numbers = [event["number"] for event in seen if event["event"] == "big"]
    assert lost > 0
    assert lost + len(numbers) == total
    assert numbers == sorted(numbers)
    assert numbers[-HISTORY:] == list(range(total - HISTORY, total))


def test_an_event_that_is_no_json_is_a_fault_and_nothing_else(daemon: Daemon) -> None:
    daemon.publish("bad", value=b"octets")
    daemon.publish("good", value=1)
    events = ControlClient(daemon.path).events(history=2)
    assert next(events)["event"] == "good"
    assert len(daemon.faults) == 1


def test_one_user_cannot_take_all_connections(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(daemon.server, "may_change", lambda peer: False)
    held = [raw(daemon.path) for _ in range(16)]
    time.sleep(0.1)
    error = error_of(lambda: ControlClient(daemon.path).call("status"))
    assert error.kind is ErrorKind.BUSY
    monkeypatch.undo()
    assert ControlClient(daemon.path).call("status")
    for sock in held:
        sock.close()


def test_nobody_there_is_told_apart_from_silence_and_from_a_stranger(path: Path) -> None:
    missing = error_of(lambda: ControlClient(path).call("status"))
    assert (missing.kind, missing.fix) == (ErrorKind.NOT_RUNNING, "sudo systemctl start mn-agent")
    path.parent.mkdir()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        refused = error_of(lambda: ControlClient(path).call("status"))
        assert refused.kind is ErrorKind.NOT_RUNNING
        assert "no listener" in refused.message
        listener.listen()
        silent = error_of(lambda: ControlClient(path, timeout=0.1).call("status"))
        assert silent.kind is ErrorKind.TIMEOUT
        answering = threading.Thread(target=lambda: listener.accept()[0].sendall(b"220 mail.example.net\n"))
        listener.accept()[0].close()
        answering.start()
        stranger = error_of(lambda: ControlClient(path).call("status"))
        assert stranger.kind is ErrorKind.VERSION_SKEW
        answering.join(PATIENCE)


@as_root
def test_a_directory_that_cannot_be_entered_is_a_matter_of_permission(daemon: Daemon) -> None:
    daemon.path.parent.chmod(0o700)
    assert ask_as(NOBODY, daemon.path, "status")["kind"] == "permission"


def test_a_late_answer_is_not_taken_for_the_next_one(daemon: Daemon) -> None:
    client = ControlClient(daemon.path)
    late = error_of(lambda: client.call("slow", {"seconds": 0.3}, timeout=0.05))
    assert late.kind is ErrorKind.TIMEOUT
    assert client.call("status")["schema"] == "test/status/1"


def test_a_dead_daemons_socket_is_replaced_and_a_live_ones_is_not(daemon: Daemon, path: Path) -> None:
    second = error_of(lambda: Daemon(path))
    assert second.kind is ErrorKind.REFUSED
    assert "already" in second.message
    assert ControlClient(path).call("status")
    daemon.stop()
    assert not path.exists()
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    revived = Daemon(path)
    assert ControlClient(path).call("status")
    revived.stop()


def test_what_is_no_socket_is_never_removed(path: Path) -> None:
    path.parent.mkdir()
    path.write_text("precious")
    assert error_of(lambda: Daemon(path)).kind is ErrorKind.REFUSED
    assert path.read_text() == "precious"


def test_a_method_under_way_hears_of_the_stop(daemon: Daemon) -> None:
    answers: list[ErrorKind] = []

    def ask() -> None:
        answers.append(error_of(lambda: ControlClient(daemon.path).call("slow", {"seconds": 30.0})).kind)

    asking = threading.Thread(target=ask)
    asking.start()
    assert daemon.under_way.wait(PATIENCE)
    daemon.stop()
    asking.join(PATIENCE)
    assert answers == [ErrorKind.REFUSED]
