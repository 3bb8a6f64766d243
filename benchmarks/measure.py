"""Single measurements between the two ends of the chain: TCP throughput, round trips, small packets.

Performs I/O.
"""

from __future__ import annotations

import json
import re
import statistics
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from ipaddress import IPv4Address, IPv6Address
from typing import Any

from benchmarks.chain import CARE_OF4, CARE_OF6, CN4, CN6, HOME4, HOME6, Chain

_PORT = 5201
_SMALL_PACKET = 64  # octets of the inner IP packet
_HEADERS = {4: 28, 6: 48}  # IP and UDP
_SMALL_RATES = (40, 60, 80, 100, 120, 0)
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


@contextmanager
def throughput_server(chain: Chain) -> Iterator[None]:
    """An iperf3 server at the correspondent node."""
    command = chain.command("cn", "iperf3", "--server", "--port", str(_PORT))
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        time.sleep(0.3)
        yield
    finally:
        server.terminate()
        server.wait()


def tcp_gbps(chain: Chain, ends: Ends, direction: Direction, flows: int, seconds: int) -> float:
    """What the receivers of all flows got together, in Gbit/s."""
    result = _iperf(chain, ends, direction, seconds, "--parallel", str(flows))
    return float(result["end"]["sum_received"]["bits_per_second"]) / 1e9


def best_small_packet_rate(chain: Chain, ends: Ends, direction: Direction) -> int:
    """The offered rate, in kpps (0: as fast as possible), at which most 64-octet packets arrive.

    A sender that floods takes a core from the tunnel it measures, so the best is usually below that.
    """
    return max(_SMALL_RATES, key=lambda rate: small_packet_kpps(chain, ends, direction, 1, rate))


def small_packet_kpps(chain: Chain, ends: Ends, direction: Direction, seconds: int, rate: int) -> float:
    """Thousands of 64-octet packets a second that arrive when one sender offers `rate` thousands."""
    payload = _SMALL_PACKET - _HEADERS[ends.mobile.version]
    options = ["--udp", "--bitrate", str(rate * 1000 * payload * 8), "--length", str(payload)]
    result = _iperf(chain, ends, direction, seconds, *options)
    received = result["end"].get("sum_received") or result["end"]["sum"]
    arrived = received["packets"] - received["lost_packets"]
    return float(arrived) / float(received["seconds"]) / 1000


def round_trips_us(chain: Chain, ends: Ends, count: int) -> float:
    """The median round trip of `count` pings, 2 ms apart, in microseconds."""
    command = chain.command(
        "mn", "ping", "-n", "-i", "0.002", "-c", str(count), "-I", str(ends.mobile), str(ends.correspondent)
    )
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return statistics.median(float(ms) * 1000 for ms in _ROUND_TRIP.findall(done.stdout))


def _iperf(chain: Chain, ends: Ends, direction: Direction, seconds: int, *options: str) -> dict[str, Any]:
    command = ["iperf3", "--json", "--client", str(ends.correspondent), "--bind", str(ends.mobile)]
    command += ["--port", str(_PORT), "--time", str(seconds), *options]
    if direction is Direction.DOWN:
        command.append("--reverse")
    last = ""
    for _ in range(3):  # the server may still be busy with saying goodbye to the last client
        done = subprocess.run(
            chain.command("mn", *command), capture_output=True, text=True, timeout=seconds + 30
        )
        result: dict[str, Any] = json.loads(done.stdout or "{}")
        if done.returncode == 0 and "error" not in result:
            return result
        last = result.get("error", done.stderr)
        time.sleep(0.5)
    raise RuntimeError(f"iperf3 {ends}: {last}")
