"""A network namespace for a test: run a shell line or a Python function inside it."""

from __future__ import annotations

import ctypes
import subprocess
import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
CLONE_NEWNET = 0x40000000


def called_inside(namespace: str, function: Callable[[], T]) -> T:
    """What `function` returns in that network namespace (its file), in a thread of its own."""
    results: list[T] = []
    errors: list[BaseException] = []

    def body() -> None:
        try:
            with open(namespace) as file:
                assert ctypes.CDLL(None, use_errno=True).setns(file.fileno(), CLONE_NEWNET) == 0
            results.append(function())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]


class Namespace:
    """A network namespace of a test's own."""

    def __init__(self, name: str) -> None:
        self.name = name
        subprocess.run(["ip", "netns", "add", name], check=True)

    def sh(self, script: str, text: str | None = None) -> str:
        done = subprocess.run(
            ["ip", "netns", "exec", self.name, "sh", "-ec", script],
            input=text, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{script}\n{done.stderr}"
        return done.stdout

    def run(self, function: Callable[[], T]) -> T:
        """Call `function` inside the namespace, in a thread of its own."""
        return called_inside(f"/run/netns/{self.name}", function)

    def everything(self) -> str:
        """All that `clear` must put back, as text."""
        return self.sh(
            "ip -d addr; ip -d link; ip -4 rule; ip -6 rule; ip -d -4 route show table all; "
            "ip -d -6 route show table all; ip neigh show proxy; ip -6 neigh show proxy; "
            "ip maddr; nft list ruleset; "
            "sysctl -a 2>/dev/null | grep '^net\\.ip' | grep -v -e nf_conntrack_count"
        )

    def close(self) -> None:
        subprocess.run(["ip", "netns", "del", self.name], check=False)
