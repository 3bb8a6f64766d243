"""Single measurements between the two ends of the chain: TCP throughput, round trips, small packets.

Performs I/O.
"""

from __future__ import annotations

import re
import statistics
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from enum import Enum
from ipaddress import IPv4Address, IPv6Address
from typing import Any

from benchmarks.chain import CARE_OF4, CARE_OF6, CN4, CN6, HOME4, HOME6, Chain
from benchmarks.workers import Worker

_SMALL_PACKET = 64  # octets of the inner IP packet
_HEADERS = {4: 28, 6: 48}  # IP and UDP
_SMALL_RATES = (80, 120, 200, 0)
"""Thousands a second; 0 is as fast as they go."""
_TRIES = 3
_WARMUP = 0.1
_SMALL_WARMUP = 0.05
"""Seconds: TCP has to find its rate first, a generator of datagrams only its process."""
_ROUND_TRIP = re.compile(r"time=([0-9.]+) ms")


class Direction(Enum):
    """As seen from the mobile node."""

    UP = "up"
    DOWN = "down"


@dataclass(frozen=True, slots=True)
class Ends:
    """Addresses to measure between: the home address for the tunnel, the care-of address for the raw path."""

    mobile: IPv4Address | IPv6Address
    correspondent: IPv4Address | IPv6Address


def tunnelled(inner: int) -> Ends:
    return Ends(HOME4, CN4) if inner == 4 else Ends(HOME6, CN6)


def raw(inner: int) -> Ends:
    return Ends(CARE_OF4, CN4) if inner == 4 else Ends(CARE_OF6, CN6)


@dataclass(frozen=True, slots=True)
class Flow:
    """TCP as its receiver saw it. Processor seconds a gigabyte: of the tunnel's processes, of the machine."""

    gbps: float
    cpu_s_per_gb: float
    machine_cpu_s_per_gb: float


class Meter:
    """A worker at either end of the chain."""

    def __init__(self, chain: Chain, mobile: Worker, correspondent: Worker) -> None:
        self._chain = chain
        self._mobile = mobile
        self._correspondent = correspondent

    def tcp(
        self, ends: Ends, direction: Direction, flows: int, window: float, pids: Sequence[int] = ()
    ) -> Flow:
        """What the receivers of all flows got together in `window` seconds, after a warm-up.

        A flow that stands still all the while has lost its first segments, as on a machine with too much
        other work: that is no figure, so it is tried again. RuntimeError if it never moves.
        """
        for _ in range(_TRIES):
            got = self._tcp(ends, direction, flows, window, pids)
            if got["octets"]:
                gigabytes = got["octets"] / 1e9
                return Flow(
                    gigabytes * 8 / got["seconds"],
                    got["processes_cpu_s"] / gigabytes,
                    got["machine_cpu_s"] / gigabytes,
                )
        raise RuntimeError(f"nothing arrives at {ends.correspondent} or {ends.mobile} from the other")

    def _tcp(
        self, ends: Ends, direction: Direction, flows: int, window: float, pids: Sequence[int]
    ) -> dict[str, Any]:
        sender, receiver, source, to = self._roles(ends, direction)
        receiver.ask("receive_tcp", address=to, flows=flows, warmup=_WARMUP, window=window, pids=list(pids))
        port = receiver.answer()["port"]
        sender.ask("send_tcp", source=source, to=to, port=port, flows=flows)
        got = receiver.answer()
        sender.answer()
        return got

    def best_small_packet_rate(self, ends: Ends, direction: Direction, window: float) -> int:
        """The offered rate, in kpps (0: as fast as possible), at which most 64-octet packets arrive.

        A sender that floods takes a core from the tunnel it measures, so the best may be below that.
        """
        return max(_SMALL_RATES, key=lambda rate: self.small_packet_kpps(ends, direction, window, rate))

    def small_packet_kpps(self, ends: Ends, direction: Direction, window: float, rate: int) -> float:
        """Thousands of 64-octet packets a second that arrive when one sender offers `rate` thousands."""
        sender, receiver, source, to = self._roles(ends, direction)
        receiver.ask("receive_udp", address=to, warmup=_SMALL_WARMUP, window=window, pids=[])
        wish = {
            "size": _SMALL_PACKET - _HEADERS[ends.mobile.version],
            "rate": rate * 1000,
            "seconds": 2 * _SMALL_WARMUP + window,
        }
        sender.ask("send_udp", source=source, to=to, port=receiver.answer()["port"], **wish)
        got = receiver.answer()
        sender.answer()
        return float(got["packets"]) / float(got["seconds"]) / 1000

    def round_trip_us(self, ends: Ends, count: int) -> float:
        """The median round trip of `count` pings, 1 ms apart, in microseconds."""
        command = self._chain.command(
            "mn",
            *("ping", "-n", "-i", "0.001", "-c", str(count)),
            *("-I", str(ends.mobile), str(ends.correspondent)),
        )
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        trips = [float(ms) * 1000 for ms in _ROUND_TRIP.findall(done.stdout)]
        if not trips:
            raise RuntimeError(f"no answer from {ends.correspondent} to {ends.mobile}: {done.stderr}")
        return statistics.median(trips)

    def _roles(self, ends: Ends, direction: Direction) -> tuple[Worker, Worker, str, str]:
        """Sender, receiver, source address, destination address."""
        mobile, correspondent = str(ends.mobile), str(ends.correspondent)
        if direction is Direction.UP:
            return self._mobile, self._correspondent, mobile, correspondent
        return self._correspondent, self._mobile, correspondent, mobile


@contextmanager
def meter(chain: Chain) -> Iterator[Meter]:
    """Both workers, for the duration of a `with` block."""
    with ExitStack() as stack:
        ends = [Worker.start(chain, stack, node, "benchmarks.traffic") for node in ("mn", "cn")]
        yield Meter(chain, *ends)
