"""A lab comes and goes as a whole, however it ends."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.access import LAN, UPLINK
from lab.namespaces import STATE
from lab.plan import SWITCH, far_end
from lab.registry import Entry, running_labs
from tests.lab.conftest import MNCTL_LAB, ROOT, LabUnderTest, mnctl_lab, unique_name
from tests.lab.patience import PATIENCE, wait_until


def traces() -> list[str]:
    """What of any lab can be seen in the machine's own namespaces: interfaces, mounts, runtime files."""
    links = subprocess.run(["ip", "-br", "link"], capture_output=True, text=True, check=True).stdout
    ours = {LAN, SWITCH, UPLINK, far_end("mn", "eth0"), far_end("mn", "wlan0")}
    found = [name for line in links.splitlines() if (name := line.split()[0].split("@")[0]) in ours]
    found += [line for line in Path("/proc/self/mounts").read_text().splitlines() if STATE.name in line]
    return found + [str(path) for path in (STATE, Path("/etc/home-agent/keys")) if path.exists()]


def processes_in(namespace: str) -> list[int]:
    """Processes whose PID namespace it is."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                if os.readlink(f"/proc/{entry}/ns/pid") == namespace:
                    found.append(int(entry))
            except OSError:
                continue
    return found


def begun_by(pid: int) -> list[Entry]:
    """The labs whose supervisor descends from that process."""
    return [lab for lab in running_labs() if pid in ancestors(lab.pid)]


def ancestors(pid: int) -> Iterator[int]:
    while pid > 1:
        try:
            pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        except OSError:  # it has ended meanwhile
            return
        yield pid


def entry(name: str) -> Entry | None:
    return next((lab for lab in running_labs() if lab.name == name), None)


def up(topology: Path) -> str:
    name = unique_name()
    done = mnctl_lab("up", "--name", name, "--topology", str(topology))
    assert done.returncode == 0, done.stderr
    return name


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_nothing_is_left_when_the_supervisor_ends(plain_topology: Path, number: signal.Signals) -> None:
    name = up(plain_topology)
    lab = entry(name)
    assert lab is not None
    namespace = os.readlink(f"/proc/{lab.pid}/ns/pid")
    assert len(processes_in(namespace)) > 10
    os.kill(lab.pid, number)
    wait_until(lambda: not processes_in(namespace), "every process has ended")
    assert entry(name) is None
    assert traces() == []


def test_down_takes_a_lab_down_and_the_next_down_finds_none(plain_topology: Path) -> None:
    name = up(plain_topology)
    assert mnctl_lab("down", "--lab", name).returncode == 0
    assert entry(name) is None
    done = mnctl_lab("down", "--lab", name)
    assert (done.returncode, done.stderr) == (10, f"mnctl: no lab {name} is running\n")


def test_several_labs_live_side_by_side(plain_topology: Path, plain_lab: LabUnderTest) -> None:
    other = LabUnderTest(up(plain_topology))
    try:
        plain_lab.plug("eth0", "mobile")
        other.plug("eth0", "cafe")
        for lab in (plain_lab, other):
            lab.wait_for("mn", "ping", "-c", "1", "-W", "0.3", "192.0.2.10")
        unclear = mnctl_lab("exec", "mn", "--", "true")
        assert unclear.returncode == 1
        assert "several labs are running" in unclear.stderr
    finally:
        mnctl_lab("down", "--lab", other.name)


def test_exec_keeps_input_output_and_exit_code(plain_lab: LabUnderTest) -> None:
    done = plain_lab.run("cn", "sh", "-c", "cat; echo problem >&2; exit 7", text="hello")
    assert (done.returncode, done.stdout, done.stderr) == (7, "hello", "problem\n")


def test_exec_dies_with_the_lab(plain_topology: Path) -> None:
    lab = LabUnderTest(up(plain_topology))
    sleeper = subprocess.Popen([*MNCTL_LAB, "exec", "--lab", lab.name, "mn", "--", "sleep", "60"], cwd=ROOT)
    lab.wait_for("mn", "pgrep", "-f", "^sleep 60$")
    mnctl_lab("down", "--lab", lab.name)
    assert sleeper.wait(PATIENCE) != 0


def test_the_list_shows_labs_and_scenarios(plain_lab: LabUnderTest) -> None:
    plain_lab.plug("eth0", "cafe")
    shown = mnctl_lab("list").stdout
    assert plain_lab.name in shown
    assert "mn eth0 in cafe" in shown
    assert "office-cafe" in shown


def test_orders_that_make_no_sense_are_refused_in_words(plain_lab: LabUnderTest) -> None:
    for words, message in (
        (("plug", "eth9", "cafe"), "mn has no interface eth9"),
        (("plug", "eth0", "moon"), "no network moon"),
        (("exec", "moon", "--", "true"), "no machine moon"),
    ):
        done = mnctl_lab(words[0], "--lab", plain_lab.name, *words[1:])
        assert done.returncode == 1
        assert message in done.stderr


@pytest.mark.parametrize(
    ("name", "text", "code", "message"),
    [
        ("moon", None, 10, "no scenario moon"),
        ("moon.toml", None, 10, "no file"),
        ("bad.toml", 'title = "t"\nstep = [{ move = "moon" }]', 7, "bad.toml:2: there is no network 'moon'"),
    ],
)
def test_a_scenario_that_cannot_be_played_is_told_at_once(
    tmp_path: Path, name: str, text: str | None, code: int, message: str
) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    done = mnctl_lab("run", str(tmp_path / name) if name.endswith(".toml") else name)
    assert done.returncode == code
    assert message in done.stderr


def test_a_service_that_does_not_start_is_told(plain_topology: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.toml"
    text = plain_topology.read_text()
    old = 'command = "dhcpcd --nobackground --config /etc/dhcpcd.conf eth0 wlan0"'
    assert old in text
    broken.write_text(text.replace(old, 'command = "ls /no/such/file", ready = "/run/never"'))
    done = mnctl_lab("up", "--topology", str(broken))
    assert done.returncode == 1
    assert "ls on mn does not start" in done.stderr
    assert "/no/such/file" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_run_that_is_interrupted_leaves_nothing(
    plain_topology: Path, tmp_path: Path, number: signal.Signals
) -> None:
    scenario = tmp_path / "wait.toml"
    scenario.write_text(f'title = "t"\ntopology = "{plain_topology}"\nstep = [{{ wait = 30 }}]')
    run = subprocess.Popen(
        [*MNCTL_LAB, "run", str(scenario)], cwd=ROOT, stdout=subprocess.DEVNULL, start_new_session=True
    )
    wait_until(lambda: bool(begun_by(run.pid)), "the lab is there")
    (lab,) = begun_by(run.pid)
    namespace = os.readlink(f"/proc/{lab.pid}/ns/pid")
    # Ctrl-C goes to the whole process group of the terminal; the others go to one process.
    os.killpg(run.pid, number) if number is signal.SIGINT else run.send_signal(number)
    assert run.wait(PATIENCE) != 0
    wait_until(lambda: not processes_in(namespace), "every process has ended")
    assert traces() == []
