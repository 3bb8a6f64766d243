"""Namespaces: the process that everything in a lab dies with, and one machine after another inside it.

Performs I/O. A lab is one PID namespace, and its first process is the supervisor: when that ends, however
it ends, the kernel kills whatever runs in the lab, and with the last process of a network namespace go its
interfaces, addresses, rules and mounts. There is no name anywhere that could be left behind.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

STATE = Path("/run/mn-lab")
"""A directory in memory, seen by all machines of the lab and by nobody else."""

_CLONE_NEWNS = 0x00020000
_CLONE_NEWUTS = 0x04000000
_CLONE_NEWIPC = 0x08000000
_CLONE_NEWPID = 0x20000000
_CLONE_NEWNET = 0x40000000
_MS_NOSUID_NODEV_NOEXEC = 2 | 4 | 8
_MS_REC_PRIVATE = 0x4000 | 0x40000
_PR_SET_PDEATHSIG = 1

_libc = ctypes.CDLL(None, use_errno=True)


def unshare_processes() -> None:
    """The next child of this process becomes the first process of a new PID namespace."""
    _checked(_libc.unshare(_CLONE_NEWPID), "unshare")


def become_first_process(die_with_parent: bool) -> None:
    """In that child: leave the mounts, network and host name of the machine, and mount what a lab needs."""
    if die_with_parent:
        _checked(_libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0), "prctl")
    _checked(_libc.unshare(_CLONE_NEWNS | _CLONE_NEWNET | _CLONE_NEWUTS | _CLONE_NEWIPC), "unshare")
    _mount("none", "/", None, _MS_REC_PRIVATE, "")
    _mount("proc", "/proc", "proc", _MS_NOSUID_NODEV_NOEXEC, "")
    # A /run of the lab's own: a directory made in the real one would outlive the lab.
    _mount("tmpfs", "/run", "tmpfs", 0, "mode=755")
    STATE.mkdir()


def environment() -> dict[str, str]:
    """What programs in a lab find in their environment: our scripts and packages first."""
    scripts = str(Path(sys.executable).parent)
    system = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    path = ":".join((scripts, os.environ.get("PATH", system), "/usr/sbin", "/sbin"))
    packages = ":".join(filter(None, (str(Path(__file__).parent.parent), os.environ.get("PYTHONPATH"))))
    return {**os.environ, "PATH": path, "PYTHONPATH": packages}


# Each machine has its own /run, /var/lib and /etc, so that every program finds its usual paths; the overlay
# keeps what the real /etc says (a copy of it where the kernel has no overlayfs). sysfs shows the interfaces
# of the network namespace in which it was mounted.
_MACHINE = """
set -e
hostname "$1"
mkdir -p "$2/machines/$1"
mount -n -t tmpfs -o mode=755 tmpfs "$2/machines/$1"
cd "$2/machines/$1"
mkdir mn-lab .etc .work
mount -n --bind "$2" mn-lab
mount -n -t overlay -o lowerdir=/etc,upperdir=.etc,workdir=.work overlay /etc 2>/dev/null ||
    { cp -a /etc/. .etc/ && mount -n --bind .etc /etc; }
mount -n --move . /run
mount -n -t tmpfs -o mode=755 tmpfs /var/lib
umount -n -l /sys 2>/dev/null || true
mount -n -t sysfs sysfs /sys
cd /
mkdir -p /var/lib/misc
while read -r key value; do
    # Some settings exist only with some modules.
    [ ! -e "/proc/sys/$key" ] || printf %s "$value" > "/proc/sys/$key"
done
ip link set lo up
echo ready
exec sleep infinity >/dev/null 2>&1
"""


@dataclass(frozen=True, slots=True)
class Namespace:
    """One machine of a lab, alive as long as the process `pid` is (seen from inside the lab)."""

    name: str
    pid: int
    holder: subprocess.Popen[str] = field(repr=False)

    def command(self, arguments: Sequence[str]) -> list[str]:
        """The same command, entered into this machine."""
        return [*enter(f"/proc/{self.pid}/ns"), "--", *arguments]

    def spawn(self, arguments: Sequence[str], log: Path, cwd: str = "/") -> subprocess.Popen[bytes]:
        """Start a program that runs until it is stopped; what it prints goes to `log`."""
        with log.open("ab") as file:
            return subprocess.Popen(
                self.command(arguments),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                cwd=cwd,
                env=environment(),
            )

    def run(self, arguments: Sequence[str], text: str = "") -> str:
        """Run a program to its end and return what it printed; raises LabError with its complaint."""
        return run(self.command(arguments), text)

    def shell(self, script: str) -> None:
        """Run a shell script to its end, stopping at the first command that fails."""
        run(self.command(["sh", "-e"]), script)

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        """Write a file, replacing a link of that name instead of following it out of the machine."""
        run(self.command(["install", "-D", "-m", f"{mode:o}", "/dev/stdin", path]), text)


class LabError(Exception):
    """Something of the lab itself failed: a message for the person who runs it."""


def create(names: Mapping[str, Mapping[str, int]]) -> dict[str, Namespace]:
    """Create machines side by side; each name comes with the kernel settings for interfaces to come."""
    script = ["unshare", "--net", "--mount", "--uts", "--", "sh", "-c", _MACHINE, "sh"]
    started: dict[str, subprocess.Popen[str]] = {}
    for name, settings in names.items():
        holder = subprocess.Popen(
            [*script, name, str(STATE)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(),
        )
        assert holder.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            holder.stdin.writelines(f"{key.replace('.', '/')} {value}\n" for key, value in settings.items())
            holder.stdin.close()
        started[name] = holder
    for name, holder in started.items():
        assert holder.stdout is not None
        assert holder.stderr is not None
        if holder.stdout.readline() != "ready\n":
            raise LabError(f"machine {name} cannot be made: {holder.stderr.read().strip()}")
    return {name: Namespace(name, holder.pid, holder) for name, holder in started.items()}


def enter(namespaces: str) -> list[str]:
    """nsenter(1) into the namespaces of a machine, given its /proc/PID/ns directory."""
    return ["nsenter", *(f"--{kind}={namespaces}/{file}" for kind, file in _KINDS)]


_KINDS = (("net", "net"), ("mount", "mnt"), ("uts", "uts"))


def run(arguments: Sequence[str], text: str = "") -> str:
    """Run a program to its end in the supervisor's own namespaces."""
    try:
        done = subprocess.run(
            arguments, input=text, capture_output=True, text=True, check=False, env=environment(), timeout=60
        )
    except FileNotFoundError as error:
        raise LabError(f"{error.filename} is not installed") from None
    except subprocess.TimeoutExpired:
        raise LabError(f"{arguments[0]} did not end within a minute") from None
    if done.returncode != 0:
        words = done.stderr.strip() or done.stdout.strip() or f"exit code {done.returncode}"
        raise LabError(f"{_name(arguments)}: {words}")
    return done.stdout


def _name(arguments: Sequence[str]) -> str:
    inner = arguments[arguments.index("--") + 1 :] if "--" in arguments else arguments
    return " ".join(inner[:4])


def _mount(source: str, target: str, kind: str | None, flags: int, data: str) -> None:
    kind_octets = None if kind is None else kind.encode()
    result = _libc.mount(source.encode(), target.encode(), kind_octets, flags, data.encode())
    _checked(result, f"mount {target}")


def _checked(result: int, what: str) -> None:
    if result != 0:
        error = ctypes.get_errno()
        raise LabError(f"{what}: {os.strerror(error)} (a lab needs root)")
