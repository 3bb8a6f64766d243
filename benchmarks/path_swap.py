"""The path-swap benchmark: what a handover does to packets that are on their way, and how long it takes.

Performs I/O. The real daemons, and a mobile node with two links that is told to use the other one, again and
again. From the acknowledgement to the swap is judged from captures: until the first payload leaves by the new
link, while one is due every tenth of a millisecond (kernel) to half a millisecond (portable). Beside that,
`install()` of each tier is timed alone.
"""

from __future__ import annotations

import signal
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks import daemons
from benchmarks.chain import CARE_OF4, CN4, HOME4, Chain, chain
from benchmarks.figures import percentile
from benchmarks.machine import Occasion
from benchmarks.ours import Ours
from benchmarks.running import Unavailable
from benchmarks.workers import Worker
from lab.evidence import Kind, Observer, Sighting
from lab.pcap import GrowingCapture
from runtime.control import ControlError, ErrorKind
from tunnel.plane import Tier
from wire.profile import HOME_AGENT_PORT

SCHEMA = "mn-bench/path-swap/1"
Say = Callable[[str], None]
_LINKS = ("router", "other")
"""The mobile node's interfaces, called like the routers they lead to."""
_RATES = {Tier.KERNEL: 10000, Tier.OFFLOAD: 4000, Tier.PORTABLE: 2000}
"""Datagrams a second in each direction, which the tier carries without losses beside two captures."""
_SNAPSHOT = 120
_CALM_S = 0.3
_PATIENCE_S = 10.0


@dataclass(frozen=True, slots=True)
class Plan:
    """How often, and one swap in how many seconds."""

    swaps: int = 50
    installs: int = 200
    pace_s: float = 0.2

    @classmethod
    def quick(cls) -> Plan:
        return cls(swaps=10, installs=30)

    @property
    def seconds(self) -> float:
        """Of traffic for one row: with calm before and after the swaps."""
        return self.swaps * self.pace_s + 2 * _CALM_S


def run(plan: Plan, say: Say) -> dict[str, object]:
    """The document of benchmarks/results/path_swap.json."""
    occasion = Occasion.now()
    rows: list[dict[str, object]] = []
    installs: list[dict[str, object]] = []
    unavailable: dict[str, str] = {}
    for number, tier in enumerate(Tier, 1):
        say(f"{number}/{len(Tier)}  {tier.value}, about {5 * plan.seconds:.0f} s")
        try:
            installs.append(_installs(plan, tier))
            say(f"  install() alone: {installs[-1]['median_us']:.0f} us in the median")
            rows.append(_swaps(plan, tier, say))
            say(f"  {rows[-1]}")
        except Unavailable as reason:
            say(f"  {tier.value}: not here: {reason}")
            unavailable[tier.value] = str(reason)
    return occasion.result(SCHEMA, plan=asdict(plan), unavailable=unavailable, rows=rows, installs=installs)


def _installs(plan: Plan, tier: Tier) -> dict[str, object]:
    """`install()` from call to return, while datagrams go out."""
    with ExitStack() as stack:
        nodes = stack.enter_context(chain())
        nodes.ip("mn", f"addr add {CARE_OF4 + 1}/24 dev router")
        end, _ = stack.enter_context(Ours(tier).ends(nodes, "udp/ipv4"))
        sender = Worker.start(nodes, stack, "mn", "benchmarks.traffic")
        seconds = plan.installs * 0.012
        sender.ask(
            "send_numbered", source=str(HOME4), to=str(CN4), port=9, rate=_RATES[tier], seconds=seconds
        )
        took = sorted(end.swaps(plan.installs))
        sender.answer()
    return {
        "tier": tier.value,
        "n": len(took),
        "median_us": statistics.median(took),
        "p95_us": percentile(took, 95),
        "max_us": took[-1],
    }


def _swaps(plan: Plan, tier: Tier, say: Say) -> dict[str, object]:
    """Handovers of the real daemons under datagrams both ways, then under TCP; each with and without them."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-path-swap-")))
        nodes = stack.enter_context(_chain_with_two_links())
        tunnel = f'data_plane = "{tier.value}"'
        agent = daemons.start_home_agent(nodes, stack, directory, tunnel=tunnel)
        mobile = daemons.start_mobile_node(nodes, stack, directory, tunnel)
        for daemon in (agent, mobile):
            if (plane := daemons.plane_of(daemon)) != tier.value:
                raise Unavailable(f"the daemon uses {plane}")
        # A worker does one thing at a time, and two go on in each direction.
        at_mobile = [Worker.start(nodes, stack, "mn", "benchmarks.traffic") for _ in range(2)]
        at_correspondent = [Worker.start(nodes, stack, "cn", "benchmarks.traffic") for _ in range(2)]
        seconds = plan.seconds
        ways = {
            "up": (at_mobile[0], at_correspondent[0], str(HOME4), str(CN4)),
            "down": (at_correspondent[1], at_mobile[1], str(CN4), str(HOME4)),
        }

        def datagrams(meanwhile: Callable[[], int]) -> dict[str, int]:
            for way in ways.values():
                _numbered(*way, _RATES[tier], seconds)
            time.sleep(_CALM_S)
            meanwhile()
            return {
                f"{what}_{name}": n
                for name, (sender, receiver, *_) in ways.items()
                for what, n in _counted(sender, receiver).items()
            }

        say("  datagrams without swaps")
        calm = datagrams(lambda: 0)
        say(f"  datagrams with {plan.swaps} swaps")
        with _captured(nodes, directory) as captures:
            counted = datagrams(lambda: _roam(mobile, plan))
        delays = sorted(_from_answer_to_payload(captures))
        say(f"  from the answer to the swap: {' '.join(f'{delay:.2f}' for delay in delays)} ms")
        say("  TCP with swaps, and without")
        with_swaps = _tcp(at_mobile[0], at_correspondent[0], seconds, lambda: _roam(mobile, plan))
        without = _tcp(at_mobile[0], at_correspondent[0], seconds, lambda: 0)
    return {
        "tier": tier.value,
        "n": plan.swaps,
        "seen": len(delays),
        "answer_to_swapped_median_ms": round(statistics.median(delays), 3) if delays else None,
        "answer_to_swapped_p95_ms": round(percentile(delays, 95), 3) if delays else None,
        "packets_per_s": _RATES[tier],
        "with_swaps": counted,
        "without_swaps": calm,
        "tcp_retransmitted": with_swaps,
        "tcp_retransmitted_without_swaps": without,
    }


@contextmanager
def _chain_with_two_links() -> Iterator[Chain]:
    """The chain, and a second way between mobile node and home agent by a router of its own."""
    with ExitStack() as stack:
        nodes = stack.enter_context(chain())
        daemons.prepare(nodes)
        nodes.add_node(stack, "other")
        nodes.connect("mn", 2, "other", 1, 4)
        nodes.connect("other", 1, "ha", 2, 5)
        subprocess.run(nodes.command("other", "sysctl", "-qw", "net.ipv4.ip_forward=1"), check=True)
        nodes.ip("mn", "route add default via 10.4.0.1 metric 200")
        nodes.ip("other", "route add default via 10.5.0.2")
        nodes.ip("ha", "route add 10.4.0.0/24 via 10.5.0.1")
        yield nodes


def _roam(mobile: daemons.Daemon, plan: Plan) -> int:
    """To the other link and back, and so on; how many times it was done."""
    for number in range(plan.swaps):
        began = time.monotonic()
        _roam_to(mobile, _LINKS[(number + 1) % 2])
        time.sleep(max(0.0, began + plan.pace_s - time.monotonic()))
    return plan.swaps


def _roam_to(mobile: daemons.Daemon, link: str) -> None:
    """As soon as the agent has time for it: on a busy machine it may be on the move by itself."""
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        try:
            mobile.control.call("roam", {"to": link}, timeout=_PATIENCE_S)
        except ControlError as error:
            if error.kind is not ErrorKind.REFUSED or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            return


def _numbered(sender: Worker, receiver: Worker, source: str, to: str, rate: int, seconds: float) -> None:
    receiver.ask("receive_numbered", address=to)
    port = receiver.answer()["port"]
    sender.ask("send_numbered", source=source, to=to, port=port, rate=rate, seconds=seconds)


def _counted(sender: Worker, receiver: Worker) -> dict[str, int]:
    sent, got = sender.answer()["sent"], receiver.answer()
    lost = sent - got["received"]
    return {"sent": sent, "lost": lost, "misordered": got["misordered"], "twice": got["twice"]}


def _tcp(sender: Worker, receiver: Worker, seconds: float, meanwhile: Callable[[], int]) -> int:
    """Segments that one saturating flow had to send again while something else happened."""
    receiver.ask("receive_tcp", address=str(CN4), flows=1, warmup=_CALM_S, window=seconds, pids=[])
    port = receiver.answer()["port"]
    sender.ask("send_tcp", source=str(HOME4), to=str(CN4), port=port, flows=1)
    time.sleep(_CALM_S)
    meanwhile()
    receiver.answer()
    return int(sender.answer()["retransmitted"])


@contextmanager
def _captured(nodes: Chain, directory: Path) -> Iterator[dict[str, list[Sighting]]]:
    """What passes each link of the mobile node, in the returned mapping when the block has ended."""
    found: dict[str, list[Sighting]] = {}
    programs = []
    for link in _LINKS:
        options = ["-n", "-i", link, "-s", str(_SNAPSHOT), "--time-stamp-precision=nano", "-B", "32768"]
        command = ["tcpdump", *options, "-Z", "root", "-w", str(directory / f"{link}.pcap"), "ip"]
        programs.append(subprocess.Popen(nodes.command("mn", *command), stderr=subprocess.DEVNULL))
    try:
        time.sleep(_CALM_S)
        yield found
    finally:
        for program in programs:
            program.send_signal(signal.SIGINT)
        for program in programs:
            program.wait()
    observer = Observer((daemons.AGENT4, daemons.AGENT6), HOME_AGENT_PORT)
    for link in _LINKS:
        frames = GrowingCapture().feed((directory / f"{link}.pcap").read_bytes())
        found[link] = [seen for frame in frames if (seen := observer.observe(frame)) is not None]


def _from_answer_to_payload(captures: dict[str, list[Sighting]]) -> Iterator[float]:
    """Milliseconds from each acknowledgement that moved payload to the first packet on that link."""
    for sightings in captures.values():
        for index, one in enumerate(sightings):
            if one.kind is Kind.ACK and _was_silent(sightings[:index], one.at_ns):
                after = next((later.at_ns for later in sightings[index:] if _is_payload_out(later)), None)
                if after is not None:
                    yield (after - one.at_ns) / 1e6


def _is_payload_out(one: Sighting) -> bool:
    return one.kind is Kind.PAYLOAD and one.outbound


def _was_silent(before: Sequence[Sighting], at_ns: int, for_ns: int = 20_000_000) -> bool:
    """Whether no payload left by this link shortly before: the acknowledgement is of a move to it."""
    for one in reversed(before):
        if one.at_ns < at_ns - for_ns:
            return True
        if _is_payload_out(one):
            return False
    return True
