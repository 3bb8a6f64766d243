"""fastd with its null method: a lean loop of one packet at a time in C.

Performs I/O.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from benchmarks.chain import AGENT4, CARE_OF4, Chain
from benchmarks.machine import package_version
from benchmarks.peers.programs import bring_up, configuration, program, start
from benchmarks.running import Running

_DEVICE = "fastd0"
_PORT = 10000
_MTU = 1471
"""20 + 8 + 1 octets are around the inner packet."""


class Fastd:
    """One fastd at either end."""

    def formats(self) -> tuple[str, ...]:
        return ("udp-null/ipv4",)

    def version(self) -> str:
        return package_version("fastd")

    def start(self, chain: Chain, form: str) -> Iterator[Running]:
        secrets = {node: _keys() for node in ("mn", "ha")}
        with ExitStack() as stack:
            directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-fastd-")))
            pids = []
            ends = (("ha", "mn", AGENT4, CARE_OF4), ("mn", "ha", CARE_OF4, AGENT4))
            for node, other, local, remote in ends:
                path, log = directory / f"{node}.conf", directory / f"{node}.log"
                text = configuration(
                    "fastd.conf", device=_DEVICE, mtu=_MTU, local=local, port=_PORT, remote=remote,
                    secret=secrets[node][0], peer_key=secrets[other][1],
                )  # fmt: skip
                path.write_text(text)
                process = start(chain, stack, node, program("fastd"), "--config", str(path), log=log)
                bring_up(chain, node, _DEVICE, _MTU, log)
                pids.append(process.pid)
            chain.route_home_through(_DEVICE, _DEVICE)
            stack.callback(chain.forget_home)
            yield Running(tuple(pids))


def _keys() -> tuple[str, str]:
    """Secret and public key, fresh."""
    command = [program("fastd"), "--generate-key"]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    secret, public = re.findall(r"\b[0-9a-f]{64}\b", text)
    return secret, public
