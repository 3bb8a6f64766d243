"""The stream programs tell the truth about what they sent and received."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from contextlib import ExitStack, suppress
from pathlib import Path
from random import SystemRandom

import pytest

from lab.streams.journal import RECORD
from tests.lab.conftest import ROOT
from tests.lab.patience import PATIENCE, wait_until

LOOPBACK = ["127.0.0.1", "::1"]


def start(module: str, *words: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-S", "-m", f"lab.streams.{module}", *words], cwd=ROOT)


def records(path: Path) -> list[tuple[int, int, int]]:
    return [(at, sent, number) for at, sent, number in RECORD.iter_unpack(path.read_bytes())]


def wait_for_records(path: Path, count: int) -> None:
    wait_until(lambda: path.exists() and path.stat().st_size >= count * RECORD.size, f"{count} in {path}")


def finish(*programs: subprocess.Popen[bytes]) -> None:
    for program in programs:
        program.send_signal(signal.SIGTERM)
    for program in programs:
        assert program.wait(PATIENCE) == 0


@pytest.fixture
def port() -> int:
    """Nobody's at this moment, and none that the kernel gives to those who do not ask for one."""
    for number in SystemRandom().sample(range(10000, 32000), 100):
        with ExitStack() as trial, suppress(OSError):
            for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
                for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                    trial.enter_context(socket.socket(family, kind)).bind((address, number))
            return number
    raise AssertionError("no port is free")


@pytest.mark.parametrize("address", LOOPBACK)
def test_a_bulk_transfer_sums_what_both_ends_sent(tmp_path: Path, address: str, port: int) -> None:
    common = (f"--address={address}", f"--port={port}", "--interval=2", "--size=3000")
    ends = [tmp_path / "accept", tmp_path / "connect"]
    files = [(f"--journal={end}", f"--result={end}.result") for end in ends]
    accept = start("bulk", "accept", *common, *files[0])
    connect = start("bulk", "connect", f"--to={address}", *common, *files[1])
    wait_for_records(tmp_path / "connect", 50)
    finish(connect)
    assert accept.wait(PATIENCE) == 0
    results = [json.loads((tmp_path / f"{end}.result").read_text()) for end in ("accept", "connect")]
    assert all(result["whole"] and result["error"] is None for result in results)
    assert results[0]["received"] == results[1]["sent"] == 3000 * len(records(tmp_path / "accept"))
    assert results[1]["received"] == results[0]["sent"] == 3000 * len(records(tmp_path / "connect"))


def test_a_broken_transfer_says_so(tmp_path: Path, port: int) -> None:
    common = ("--address=127.0.0.1", f"--port={port}", "--interval=2", "--size=3000")
    files = [(f"--journal={tmp_path / end}", f"--result={tmp_path / end}.result") for end in "ac"]
    accept = start("bulk", "accept", *common, *files[0])
    connect = start("bulk", "connect", "--to=127.0.0.1", *common, *files[1])
    wait_for_records(tmp_path / "c", 5)
    accept.kill()
    accept.wait()
    assert connect.wait(PATIENCE) == 0
    result = json.loads((tmp_path / "c.result").read_text())
    assert not result["whole"]
    assert result["error"]


@pytest.mark.parametrize("address", LOOPBACK)
def test_an_echo_hears_all_that_it_said(tmp_path: Path, address: str, port: int) -> None:
    accept = start("echo", "accept", f"--address={address}", f"--port={port}")
    words = (f"--address={address}", f"--to={address}", f"--port={port}", "--interval=2")
    files = (f"--journal={tmp_path / 'j'}", f"--result={tmp_path / 'r'}")
    connect = start("echo", "connect", *words, *files)
    wait_for_records(tmp_path / "j", 50)
    finish(connect)
    assert accept.wait(PATIENCE) == 0
    result = json.loads((tmp_path / "r").read_text())
    found = records(tmp_path / "j")
    assert (result["whole"], result["error"], result["received"]) == (True, None, 64 * len(found))
    assert [number for _, _, number in found] == list(range(len(found)))


@pytest.mark.parametrize("address", LOOPBACK)
def test_datagrams_arrive_with_the_instant_they_were_sent(tmp_path: Path, address: str, port: int) -> None:
    common = (f"--address={address}", f"--port={port}")
    receive = start("datagram", "receive", *common, f"--journal={tmp_path / 'in'}")
    words = (f"--to={address}", "--interval=2", f"--journal={tmp_path / 'out'}")
    send = start("datagram", "send", *common, *words)
    wait_for_records(tmp_path / "in", 50)
    finish(send, receive)
    sent = {number: at for at, _, number in records(tmp_path / "out")}
    for at, said, number in records(tmp_path / "in"):
        assert said == sent[number]
        assert at >= said


@pytest.mark.parametrize("address", LOOPBACK)
def test_a_ping_counts_its_own_replies(tmp_path: Path, address: str) -> None:
    words = (f"--address={address}", f"--to={address}", "--interval=2")
    ping = start("ping", *words, f"--sent={tmp_path / 'out'}", f"--received={tmp_path / 'in'}")
    wait_for_records(tmp_path / "in", 30)
    finish(ping)
    sent = {number: at for at, _, number in records(tmp_path / "out")}
    found = records(tmp_path / "in")
    assert len({number for _, _, number in found}) == len(found)
    assert all(sent[number] == said <= at for at, said, number in found)
