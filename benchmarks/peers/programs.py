"""Programs of a peer in the chain's namespaces: started with their configuration, found by pid, ended.

Performs I/O.
"""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from string import Template

from benchmarks.chain import Chain
from benchmarks.running import Unavailable

_HERE = Path(__file__).parent
_LOCAL = _HERE.parents[1] / "build" / "peers"
"""Where packaging/install-benchmark-peers puts what this Debian release does not have."""
_READY_WITHIN = 10.0


def program(name: str) -> str:
    """The path of a program. Unavailable if there is none."""
    local = _LOCAL / name
    found = str(local) if local.exists() else shutil.which(name, path="/usr/sbin:/usr/bin:/sbin:/bin")
    if found is None:
        raise Unavailable(f"{name} is not installed: run packaging/install-benchmark-peers")
    return found


def local_version(name: str) -> str:
    """The Debian version of a program that was taken from a newer release, or ""."""
    path = _LOCAL / f"{name}.version"
    return path.read_text().strip() if path.exists() else ""


def configuration(name: str, **values: object) -> str:
    """The text of the file `name` beside this module, with its $words replaced."""
    return Template((_HERE / name).read_text()).substitute(values)


def start(chain: Chain, stack: ExitStack, node: str, *command: str, log: Path) -> subprocess.Popen[bytes]:
    """Start a program on a node; `stack` ends it and whatever it has started."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            chain.command(node, *command),
            stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True,
        )  # fmt: skip
    stack.callback(_end, process)
    return process


def children(pid: int) -> tuple[int, ...]:
    """The process and everything that it has started, as of now."""
    pids = [pid]
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            pids += children(int(child))
    return tuple(pids)


def wait_until(ready: Callable[[], bool], what: str, log: Path) -> None:
    """Until it is so. Unavailable, with the last words of the program, if it is not within seconds.

    A run of twenty minutes does not end because one peer does not come up.
    """
    deadline = time.monotonic() + _READY_WITHIN
    while not ready():
        if time.monotonic() > deadline:
            raise Unavailable(f"{what} does not happen; last words: {log.read_text()[-2000:].strip()}")
        time.sleep(0.05)


def bring_up(chain: Chain, node: str, device: str, mtu: int, log: Path) -> None:
    """Wait for the program's device, then do what its user's script would: MTU, and up."""
    wait_until(lambda: has_device(chain, node, device), f"device {device} at {node}", log)
    chain.ip(node, f"link set {device} mtu {mtu} up")


def listens(process: subprocess.Popen[bytes], port: int) -> bool:
    """Whether somebody accepts TCP connections at this port in the network namespace of `process`."""
    sockets = Path(f"/proc/{process.pid}/net/tcp").read_text()
    return f":{port:04X} 00000000:0000 0A " in sockets


def has_device(chain: Chain, node: str, device: str) -> bool:
    command = ["ip", "-n", chain.names[node], "link", "show", device]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def _end(process: subprocess.Popen[bytes]) -> None:
    """A program may ignore SIGTERM or leave children: they are in its session, so nobody else is hit."""
    process.terminate()
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    subprocess.run(["pkill", "-KILL", "--session", str(process.pid)], check=False)
