"""nft tables in the kernel: nft installs and lists them, one message of ours takes them away.

Performs I/O (nft, nfnetlink). To start nft takes ten milliseconds and more. To clean up needs no nft at all,
so it also works where that has been removed meanwhile.
"""

from __future__ import annotations

import os
import socket
import subprocess
from errno import ENOENT, EOPNOTSUPP, EPROTONOSUPPORT, ETIMEDOUT

from tunnel.kernel import KernelError
from wire.netlink import ERROR, split
from wire.nfnetlink import PROTOCOL, table_removal

_TIMEOUT = 10.0
_NOTHING_THERE = frozenset({ENOENT, EOPNOTSUPP, EPROTONOSUPPORT})
"""No such table, or a kernel that has no tables at all."""


def install(table: str, text: str) -> None:
    """Put `text`, which defines the inet table of that name, in the place of what is there."""
    script = f"table inet {table}\ndelete table inet {table}\n{text}"
    done = _nft(["-f", "-"], script)
    if done.returncode:
        why = next(iter(done.stderr.strip().splitlines()), f"nft exits with {done.returncode}")
        advice = "the kernel needs nf_tables with fib and exthdr; run as root"
        raise KernelError("install the guard", why, advice)


def listed(table: str) -> str:
    """The table as nft shows it, without counters; empty if it does not exist."""
    done = _nft(["--stateless", "list", "table", "inet", table], "")
    return done.stdout if done.returncode == 0 else ""


def remove(table: str) -> bool:
    """Take the inet table away; whether it was there. Needs no nft."""
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, PROTOCOL) as opened:
            opened.settimeout(_TIMEOUT)
            opened.send(table_removal(table))
            problem = next(one.error for one in split(opened.recv(65536)) if one.kind == ERROR)
    except OSError as error:
        problem = error.errno or ETIMEDOUT
    if problem and problem not in _NOTHING_THERE:
        raise KernelError("remove the guard", os.strerror(problem), "run as root, or see dmesg")
    return not problem


def _nft(arguments: list[str], text: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            ["nft", *arguments], input=text, capture_output=True, text=True, timeout=_TIMEOUT, check=False
        )
    except FileNotFoundError:
        raise KernelError("run nft", "it is not installed", "apt-get install nftables") from None
    except (OSError, subprocess.TimeoutExpired) as error:
        raise KernelError("run nft", str(error), "see dmesg") from None
