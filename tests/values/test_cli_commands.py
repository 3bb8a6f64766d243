"""mnctl and hactl against a daemon that answers as told: exit codes, errors, streams, start-up time."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import select
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from cli.hactl import hactl
from cli.mnctl import mnctl
from runtime.client import ControlError, ErrorKind
from runtime.control_server import ControlServer, Method
from tests.values.test_cli_schemas import documented, mistakes, schema_of

EXAMPLES = documented()
ROOT = Path(__file__).resolve().parents[2]


class Pretender:
    """A daemon whose answers the test chooses; an exception as an answer is raised."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.answers: dict[str, Any] = {}
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.loop = asyncio.new_event_loop()
        text_or_number: dict[str, type] = {"to": str, "family": int, "dry_run": bool}
        methods = {
            "status": self._method("status"),
            "roam": self._method("roam", text_or_number),
            "why": self._method("why"),
            "netcheck": self._method("netcheck"),
            "refresh": self._method("refresh"),
            "flight": self._method("flight"),
            "bindings": self._method("bindings", {"after": str}),
            "leases": self._method("leases", {"after": str}),
            "show": self._method("show", {"node": str}),
            "drop": self._method("drop", {"home_address": str}),
        }
        self.server = ControlServer(
            path, methods, daemon="mn-agent", event_schema="mnctl/event/1", on_fault=lambda what, error: None
        )
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()
        self.run(self.server.start())

    def _method(self, name: str, params: dict[str, type] | None = None) -> Method:
        def call(given: dict[str, Any]) -> dict[str, Any]:
            self.asked.append((name, given))
            answer = self.answers[name]
            if isinstance(answer, list):
                answer = answer.pop(0) if len(answer) > 1 else answer[0]
            if isinstance(answer, Exception):
                raise answer
            return dict(answer)

        return Method(False, call, params or {})

    def run(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(10)

    def publish(self, event: str, **fields: object) -> None:
        self.loop.call_soon_threadsafe(lambda: self.server.publish(event, **fields))

    def stop(self) -> None:
        self.run(self.server.close())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(10)
        self.loop.close()


@pytest.fixture
def daemon(monkeypatch: pytest.MonkeyPatch) -> Iterator[Pretender]:
    with tempfile.TemporaryDirectory(prefix="mn") as directory:
        running = Pretender(Path(directory, "control.sock"))
        monkeypatch.setenv("MNCTL_SOCKET", str(running.path))
        monkeypatch.setenv("HACTL_SOCKET", str(running.path))
        yield running
        running.stop()


def run(tool: Any, *arguments: str) -> Result:
    return CliRunner().invoke(tool, arguments, prog_name=tool.name)


def test_status_without_arguments_is_the_screen_and_code_0_when_bound(daemon: Pretender) -> None:
    daemon.answers["status"] = EXAMPLES["mnctl/status/1"]
    assert run(mnctl).output.startswith("● bound — ")
    assert run(mnctl).exit_code == 0
    assert run(mnctl, "status").output == run(mnctl).output


def test_status_not_bound_is_code_4(daemon: Pretender) -> None:
    daemon.answers["status"] = {"schema": "mnctl/status/1", "state": "resolving"}
    for arguments in ((), ("status", "--json"), ("status", "-g", "state")):
        assert run(mnctl, *arguments).exit_code == 4


def test_status_json_is_the_daemons_answer_on_one_line(daemon: Pretender) -> None:
    daemon.answers["status"] = EXAMPLES["mnctl/status/1"]
    output = run(mnctl, "status", "--json").output
    assert output.count("\n") == 1
    assert json.loads(output) == EXAMPLES["mnctl/status/1"]


def test_one_field(daemon: Pretender) -> None:
    daemon.answers["status"] = EXAMPLES["mnctl/status/1"]
    assert run(mnctl, "status", "-g", "path.care_of").output == "192.168.7.2\n"
    wrong = run(mnctl, "status", "-g", "path.coa")
    assert wrong.exit_code == 10
    assert "no field path.coa. Candidates: interface, care_of" in wrong.stderr


def test_roam_passes_what_was_asked_and_renders_the_result(daemon: Pretender) -> None:
    daemon.answers["roam"] = EXAMPLES["mnctl/roam/1"]
    done = run(mnctl, "roam", "--to", "wwan0", "--family", "4")
    assert (done.exit_code, daemon.asked) == (0, [("roam", {"to": "wwan0", "family": 4})])
    assert "✔ roamed wlan0 → wwan0" in done.output
    run(mnctl, "roam", "--dry-run")
    assert daemon.asked[-1] == ("roam", {"dry_run": True})


def test_a_failed_roam_is_code_5_also_with_json(daemon: Pretender) -> None:
    daemon.answers["roam"] = {"schema": "mnctl/roam/1", "result": "failed", "from": "wlan0", "to": "hotel0"}
    assert run(mnctl, "roam", "--to", "hotel0").exit_code == 5
    failed = run(mnctl, "roam", "--to", "hotel0", "--json")
    assert (failed.exit_code, json.loads(failed.stdout)["result"]) == (5, "failed")


def test_an_unknown_interface_is_code_10_with_candidates(daemon: Pretender) -> None:
    candidates = ("wlan0 (active)", "wwan0 (ready)", "eth0 (no carrier)")
    daemon.answers["roam"] = ControlError(ErrorKind.NOT_FOUND, "no interface eth9", candidates=candidates)
    failed = run(mnctl, "roam", "--to", "eth9", "--json")
    assert failed.exit_code == 10
    assert failed.stderr == (
        "mnctl: no interface eth9. Candidates: wlan0 (active), wwan0 (ready), eth0 (no carrier).\n"
    )
    error = json.loads(failed.stdout)
    assert (error["kind"], error["exit_code"]) == ("not-found", 10)
    assert list(mistakes(schema_of(error), error)) == []


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (ErrorKind.FAILED, 1),
        (ErrorKind.REFUSED, 1),
        (ErrorKind.INVALID_PARAMS, 2),
        (ErrorKind.TIMEOUT, 3),
        (ErrorKind.PERMISSION, 6),
        (ErrorKind.NOT_FOUND, 10),
    ],
)
def test_errors_of_the_daemon_keep_their_meaning(daemon: Pretender, kind: ErrorKind, code: int) -> None:
    daemon.answers["roam"] = ControlError(kind, "because", fix="do this")
    failed = run(mnctl, "roam")
    assert failed.exit_code == code
    assert failed.stderr == "mnctl: because.\n       do this\n"


def test_wrong_usage_is_code_2() -> None:
    for line in ("roam --family 5", "statsu", "wait --for rain", "events --history -1", "roam wlan0"):
        assert run(mnctl, *line.split()).exit_code == 2
    assert "Did you mean 'status'?" in run(mnctl, "statsu").stderr


def test_no_daemon_is_code_8_with_the_commands_that_help(tmp_path: Path) -> None:
    failed = run(mnctl, "--socket", str(tmp_path / "none.sock"))
    assert failed.exit_code == 8
    assert failed.stderr == (
        f"mnctl: mn-agent is not running (no socket at {tmp_path}/none.sock).\n"
        "       start it:  sudo systemctl start mn-agent      why it stopped:  journalctl -u mn-agent -n 20\n"
    )
    failed = run(hactl, "--socket", str(tmp_path / "none.sock"), "bindings")
    assert failed.exit_code == 8
    assert "home-agent is not running" in failed.stderr


def test_another_version_is_told_apart(daemon: Pretender) -> None:
    daemon.answers["status"] = {"schema": "mnctl/status/2", "state": "bound"}
    failed = run(mnctl, "status", "--json")
    assert failed.exit_code == 1
    assert json.loads(failed.stdout)["kind"] == "version-skew"
    assert "mnctl/status/2" in failed.stderr
    assert "upgrade" in failed.stderr


def test_refresh_says_what_came_back(daemon: Pretender) -> None:
    daemon.answers["refresh"] = {
        "schema": "mnctl/refresh/1", "result": "ok", "sequence": 7, "rtt_ms": 41.0, "lifetime_s": 420,
    }  # fmt: skip
    assert run(mnctl, "refresh").output == "✔ refreshed: seq 7, answered in 41 ms, lifetime 420 s\n"
    daemon.answers["refresh"] = {"schema": "mnctl/refresh/1", "result": "failed", "message": "no answer"}
    failed = run(mnctl, "refresh")
    assert (failed.exit_code, failed.stderr) == (1, "mnctl: no answer.\n")
    assert run(mnctl, "refresh", "--json").exit_code == 1


def test_wait_ends_with_the_event_that_brings_the_state(
    daemon: Pretender, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cli.watch_commands._LOOK_AGAIN", 60.0)
    daemon.answers["status"] = {"schema": "mnctl/status/1", "state": "registering"}

    def bind() -> None:
        time.sleep(0.15)
        daemon.answers["status"] = {"schema": "mnctl/status/1", "state": "bound", "at_home": False}
        daemon.publish("state", state="bound")

    binding = threading.Thread(target=bind)
    started = time.monotonic()
    binding.start()
    reached = run(mnctl, "wait", "--for", "away", "--timeout", "60", "--json")
    binding.join()
    assert (reached.exit_code, json.loads(reached.output)["state"]) == (0, "bound")
    assert time.monotonic() - started < 20


def test_wait_gives_up_with_code_3(daemon: Pretender) -> None:
    daemon.answers["status"] = {"schema": "mnctl/status/1", "state": "bound", "at_home": False}
    assert run(mnctl, "wait", "--timeout", "0").exit_code == 0
    late = run(mnctl, "wait", "--for", "home", "--timeout", "0.1")
    assert (late.exit_code, late.stderr) == (3, "mnctl: not home within 0.1 s.\n       mnctl status\n")


def test_wait_waits_for_the_daemon_itself(tmp_path: Path) -> None:
    started = time.monotonic()
    assert run(mnctl, "--socket", str(tmp_path / "s"), "wait", "--timeout", "0.3").exit_code == 3
    assert 0.3 <= time.monotonic() - started < 10


def test_events_stream_as_lines_until_the_daemon_ends(daemon: Pretender) -> None:
    for number in range(3):
        daemon.publish("ba", seq=number)

    def end() -> None:
        time.sleep(0.2)
        daemon.run(daemon.server.close())

    ending = threading.Thread(target=end)
    ending.start()
    stream = run(mnctl, "events", "--history", "2", "--json")
    ending.join()
    events = [json.loads(line) for line in stream.stdout.splitlines()]
    assert [event.get("seq") for event in events[:2]] == [1, 2]
    assert all(list(mistakes(schema_of(event), event)) == [] for event in events[:2])
    assert stream.exit_code == 8


def test_flight_shows_one_line_a_record(daemon: Pretender) -> None:
    daemon.answers["flight"] = {
        "schema": "control/flight/1",
        "clock": "boottime",
        "now": 12.0,
        "records": [
            {"now": 10.0, "event": {"is": "Tick", "reason": "refresh"}, "actions": []},
            {"now": 11.5, "event": {"is": "Roam", "to": "w"}, "actions": [{"is": "Send", "data": "00" * 99}]},
        ],
    }
    assert run(mnctl, "flight").output.splitlines() == [
        "    -2.000 s  Tick(reason=refresh)  →  nothing",
        "    -0.500 s  Roam(to=w)  →  Send()",
    ]


def test_bindings_of_many_parts_are_put_together(daemon: Pretender) -> None:
    part = EXAMPLES["hactl/bindings/1"]
    daemon.answers["bindings"] = [{**part, "next": "a"}, {**part, "next": "b"}, {**part, "next": None}]
    output = run(hactl, "bindings").output
    assert output.splitlines()[-1] == "3 bindings"
    assert [params for _, params in daemon.asked] == [{}, {"after": "a"}, {"after": "b"}]
    daemon.answers["bindings"] = [part]
    result = json.loads(run(hactl, "bindings", "--json").output)
    assert list(mistakes(schema_of(result), result)) == []


def test_the_other_commands_of_hactl(daemon: Pretender) -> None:
    daemon.answers["status"] = EXAMPLES["hactl/status/1"]
    assert run(hactl).output.startswith("● running — 2 bindings")
    daemon.answers["leases"] = EXAMPLES["hactl/leases/1"]
    assert "1 of 62 used" in run(hactl, "leases").output
    daemon.answers["show"] = EXAMPLES["hactl/show/1"]
    assert run(hactl, "show", "laptop").output.startswith("laptop  ")
    assert daemon.asked[-1] == ("show", {"node": "laptop"})
    daemon.answers["drop"] = EXAMPLES["hactl/drop/1"]
    assert run(hactl, "drop", "2001:db8:99::77").output == "dropped the binding of 2001:db8:99::77\n"
    assert daemon.asked[-1] == ("drop", {"home_address": "2001:db8:99::77"})
    for command in (("leases",), ("show", "laptop"), ("drop", "laptop"), ("status",)):
        result = json.loads(run(hactl, *command, "--json").output)
        assert list(mistakes(schema_of(result), result)) == []
    daemon.answers["status"] = {**EXAMPLES["hactl/status/1"], "state": "starting"}
    assert run(hactl).exit_code == 4


def test_config_check_names_every_mistake_and_needs_no_daemon(tmp_path: Path) -> None:
    file = tmp_path / "mn-agent.toml"
    home = '[home]\nipv6 = "2001:db8::1"\n'
    file.write_text(home + 'ipv5 = 1\n[home_agent]\nname = 5\n[security]\nkey_file = "k"\n')
    failed = run(mnctl, "config", "check", str(file))
    assert failed.exit_code == 7
    assert failed.stderr.splitlines() == [
        f'{file}:3: unknown key "ipv5" in [home] — did you mean "ipv6"?',
        f"{file}:5: home_agent.name = 5 is not text",
        "2 errors, nothing loaded (a running daemon is unchanged)",
    ]
    report = json.loads(run(mnctl, "config", "check", str(file), "--json").stdout)
    assert len(report["errors"]) == 2
    assert list(mistakes(schema_of(report), report)) == []
    file.write_text(home + '[home_agent]\nname = "ha.example.net"\n[security]\nkey_file = "/k"\n')
    assert run(mnctl, "config", "check", str(file)).output == f"{file}: all is right\n"
    assert run(hactl, "config", "check", str(file)).exit_code == 7


def test_config_check_of_what_is_no_text_or_no_file(tmp_path: Path) -> None:
    file = tmp_path / "binary"
    file.write_bytes(b"a = 1\n\xff")
    assert run(mnctl, "config", "check", str(file)).stderr.startswith(f"{file}:2: not UTF-8 text")
    missing = run(mnctl, "config", "check", str(tmp_path / "none"))
    assert missing.exit_code == 7
    assert "cannot be read: No such file" in missing.stderr


def test_keygen_writes_private_keys_once(tmp_path: Path) -> None:
    file = tmp_path / "keys.toml"
    assert run(mnctl, "keygen", str(file)).exit_code == 0
    assert file.stat().st_mode & 0o777 == 0o600
    before = file.read_text()
    again = run(hactl, "keygen", str(file))
    assert again.exit_code == 1
    assert again.stderr.startswith(f"hactl: {file} exists already")
    assert file.read_text() == before
    key = before.split('integrity_key = "')[1][:64]
    assert key not in run(mnctl, "keygen", str(tmp_path / "other.toml")).output


def test_keygen_makes_keys_for_either_method(tmp_path: Path) -> None:
    file = tmp_path / "keys.toml"
    assert run(mnctl, "keygen", "--method", "authentication", str(file)).exit_code == 0
    assert file.read_text().startswith("[authentication]")
    assert run(mnctl, "keygen", "--method", "none", str(tmp_path / "other.toml")).exit_code == 2


def test_schema_prints_what_is_shipped() -> None:
    assert json.loads(run(mnctl, "schema", "status").output)["$id"] == "mnctl/status/1"
    assert json.loads(run(hactl, "schema", "bindings").output)["$id"] == "hactl/bindings/1"
    assert "roam" in run(mnctl, "schema").output.split()
    assert run(mnctl, "schema", "../x").exit_code == 10


def test_completion_scripts_for_each_shell(monkeypatch: pytest.MonkeyPatch) -> None:
    for shell in ("bash", "zsh", "fish"):
        assert "_MNCTL_COMPLETE" in run(mnctl, "completion", shell).output
    monkeypatch.setenv("SHELL", "/bin/sh")
    assert run(hactl, "completion").exit_code == 2


def test_every_command_explains_itself() -> None:
    for tool in (mnctl, hactl):
        for name in tool.commands_at:
            shown = run(tool, name, "--help")
            assert shown.exit_code == 0
            assert "Usage:" in shown.output


# ---- as separate processes: terminals, pipes, time -----------------------------------------


COMMAND = [sys.executable, "-c", "from cli.mnctl import main; main()"]


def environment(**variables: str) -> dict[str, str]:
    """This one, which names the pretender's socket, and the way to our packages."""
    return {**os.environ, "PYTHONPATH": str(ROOT), **variables}


def process(*arguments: str, **variables: str) -> subprocess.Popen[bytes]:
    pipe = subprocess.PIPE
    return subprocess.Popen([*COMMAND, *arguments], env=environment(**variables), stdout=pipe, stderr=pipe)


def test_a_terminal_gets_colour_unless_no_color(daemon: Pretender) -> None:
    daemon.answers["status"] = EXAMPLES["mnctl/status/1"]
    shown = {}
    for no_color in ("", "1"):
        main, side = pty.openpty()
        variables = environment(NO_COLOR=no_color, TERM="xterm")
        subprocess.run(COMMAND, env=variables, stdout=side, check=True, timeout=30)
        os.close(side)
        shown[no_color] = os.read(main, 10000)
        os.close(main)
    assert b"\x1b[" in shown[""]
    assert b"\x1b[" not in shown["1"]


def test_a_plain_encoding_costs_signs_but_no_crash(daemon: Pretender) -> None:
    daemon.answers["status"] = EXAMPLES["mnctl/status/1"]
    output, errors = process(PYTHONIOENCODING="latin-1").communicate(timeout=30)
    assert output.startswith(b"? bound ? home addresses reachable")
    assert errors == b""


def test_a_reader_that_leaves_is_no_traceback(daemon: Pretender) -> None:
    """However long `mnctl` takes to begin: it has been read from, and then it writes to nobody."""
    with process("events") as running:
        assert running.stdout is not None
        assert running.stderr is not None
        reader = running.stdout
        publish_until(daemon, lambda: bool(select.select([reader], [], [], 0)[0]))
        assert b" ba " in reader.readline()
        reader.close()
        publish_until(daemon, lambda: running.poll() is not None)
        assert b"Traceback" not in running.stderr.read()


def publish_until(daemon: Pretender, done: Callable[[], bool]) -> None:
    given_up_at = time.monotonic() + 60
    while not done():
        assert time.monotonic() < given_up_at
        daemon.publish("ba", seq=1)
        time.sleep(0.05)


def test_status_imports_neither_rich_nor_msgspec_nor_a_daemon(daemon: Pretender) -> None:
    daemon.answers["status"] = EXAMPLES["mnctl/status/1"]
    code = (
        "import sys\nfrom cli.mnctl import mnctl\n"
        "mnctl(['status'], standalone_mode=False)\n"
        "print(sorted(m for m in sys.modules if m.split('.')[0] in sys.argv[1:]), file=sys.stderr)\n"
    )
    heavy = ["rich", "msgspec", "asyncio", "tomllib", "cryptography", "mn_agent", "lab", "tunnel", "movement"]
    arguments = [sys.executable, "-c", code, *heavy]
    done = subprocess.run(arguments, env=environment(), capture_output=True, timeout=30, check=True)
    assert done.stderr == b"[]\n"


def test_why_and_roam_explain_show_the_candidates_and_the_rule(daemon: Pretender) -> None:
    reason = EXAMPLES["mnctl/why/1"]
    daemon.answers["why"] = reason
    output = run(mnctl, "why").output
    assert "wlan0 (IPv4)" in output
    assert "no answer within 250 ms" in output
    assert "[handover 118]" in output
    assert "scores: wlan0/v4 1,123 (23 ms), eth0/v6 4,000,073" in output
    assert "[handover 118]" not in run(mnctl, "why", "--last", "0").output
    assert json.loads(run(mnctl, "why", "--json").output) == reason
    daemon.answers["roam"] = {**EXAMPLES["mnctl/roam/1"], "explained": reason}
    explained = run(mnctl, "roam", "--to", "192.168.7.2", "--explain").output
    assert "no answer within 250 ms" in explained
    assert "✔ roamed" in explained
    assert "no answer within 250 ms" not in run(mnctl, "roam", "--to", "wwan0").output


def test_netcheck_shows_every_interface_or_one(daemon: Pretender) -> None:
    checked = EXAMPLES["mnctl/netcheck/1"]
    daemon.answers["netcheck"] = checked
    output = run(mnctl, "netcheck").output
    assert output.startswith("● wlan0 — in-use: bound through it, udp4")
    assert "seen as 198.51.100.7:10022" in output
    assert "! race: no answer within 250 ms" in output
    assert "one mapping for every port of the home agent, seen as" in output
    assert "?       IP in IP: payload goes by another way here" in output
    assert json.loads(run(mnctl, "netcheck", "wlan0", "--json").output) == checked
    wrong = run(mnctl, "netcheck", "eth9")
    assert wrong.exit_code == 10
    assert "wlan0" in wrong.output
