"""OpenVPN in plaintext: what its loop of one packet at a time costs, without the cipher.

Performs I/O.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from benchmarks.chain import AGENT4, CARE_OF4, Chain
from benchmarks.machine import package_version
from benchmarks.peers.programs import bring_up, configuration, program, start
from benchmarks.running import Running

_DEVICE = "ovpn0"
_MTU = 1472
"""20 + 8 octets are around the inner packet; in this mode OpenVPN adds none."""


class Openvpn:
    """One openvpn at either end."""

    def formats(self) -> tuple[str, ...]:
        return ("udp-plaintext/ipv4",)

    def version(self) -> str:
        return package_version("openvpn")

    def start(self, chain: Chain, form: str) -> Iterator[Running]:
        with ExitStack() as stack:
            directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-openvpn-")))
            pids = []
            for node, local, remote in (("ha", AGENT4, CARE_OF4), ("mn", CARE_OF4, AGENT4)):
                path, log = directory / f"{node}.conf", directory / f"{node}.log"
                path.write_text(
                    configuration("openvpn.conf", device=_DEVICE, local=local, remote=remote, mtu=_MTU)
                )
                process = start(chain, stack, node, program("openvpn"), "--config", str(path), log=log)
                bring_up(chain, node, _DEVICE, _MTU, log)
                pids.append(process.pid)
            chain.route_home_through(_DEVICE, _DEVICE)
            stack.callback(chain.forget_home)
            yield Running(tuple(pids))
