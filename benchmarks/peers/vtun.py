"""vtun in UDP without cipher: the classic of tunnels in user space.

Performs I/O. Its server answers each session in a process of its own.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from benchmarks.chain import AGENT4, Chain
from benchmarks.machine import package_version
from benchmarks.peers.programs import (
    bring_up,
    children,
    configuration,
    listens,
    program,
    start,
    wait_until,
)
from benchmarks.running import Running

_DEVICE = "vtun0"
_PORT = 5000
_MTU = 1470
"""20 + 8 + 2 octets are around the inner packet."""


class Vtun:
    """A vtund that serves at the home agent, and one that calls it."""

    def formats(self) -> tuple[str, ...]:
        return ("udp-plaintext/ipv4",)

    def version(self) -> str:
        return package_version("vtun")

    def start(self, chain: Chain, form: str) -> Iterator[Running]:
        with ExitStack() as stack:
            directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-vtun-")))
            path = directory / "vtun.conf"
            path.write_text(
                configuration("vtun.conf", port=_PORT, device=_DEVICE, mtu=_MTU, ip=program("ip"))
            )
            common = (program("vtund"), "-n", "-f", str(path))
            logs = {node: directory / f"{node}.log" for node in ("ha", "mn")}
            server = start(chain, stack, "ha", *common, "-s", log=logs["ha"])
            # It calls once; whoever is not answered then gives up.
            wait_until(lambda: listens(server, _PORT), "an answer at vtund's port", logs["ha"])
            client = start(chain, stack, "mn", *common, "bench", str(AGENT4), log=logs["mn"])
            for node in ("ha", "mn"):
                bring_up(chain, node, _DEVICE, _MTU, logs[node])
            chain.route_home_through(_DEVICE, _DEVICE)
            stack.callback(chain.forget_home)
            yield Running((*children(server.pid), *children(client.pid)))
