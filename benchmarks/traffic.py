"""One end of the traffic that a tunnel is measured with: TCP flows, or small datagrams at a rate.

Performs I/O. Started as `python -m benchmarks.traffic` in a namespace; does what each line of JSON on its
standard input says. A receiver first answers with its port, and at the end with what it got between the end
of the warm-up and the end of its window, and with what processors worked meanwhile. Each flow has a thread,
since the kernel's work of a flow is done in it.
"""

from __future__ import annotations

import contextlib
import json
import select
import socket
import struct
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from threading import Thread

from benchmarks.machine import machine_cpu_seconds, process_cpu_seconds
from benchmarks.mmsg import Batch

_CHUNK = 256 << 10
_TIMEOUT = 10.0
_BATCH = 32
_TOTAL_RETRANS = 100
"""Where struct tcp_info has tcpi_total_retrans."""
_NUMBER = struct.Struct("!I60x")
_SILENCE_S = 1.5
_RESET = struct.pack("ii", 1, 0)
"""SO_LINGER: what was not sent when the window closes is nobody's business any more."""

Answer = dict[str, object]


def receive_tcp(address: str, flows: int, warmup: float, window: float, pids: Sequence[int]) -> Answer:
    """Octets of all flows together."""
    with _socket(address, socket.SOCK_STREAM) as listener:
        listener.bind((address, 0))
        listener.listen(flows)
        listener.settimeout(_TIMEOUT)
        _answer({"port": listener.getsockname()[1]})
        accepted = [listener.accept()[0] for _ in range(flows)]
    counts = [0] * flows

    def count(flow: int) -> None:
        buffer = memoryview(bytearray(_CHUNK))
        with contextlib.suppress(OSError):
            while size := accepted[flow].recv_into(buffer):
                counts[flow] += size

    threads = [Thread(target=count, args=(flow,), daemon=True) for flow in range(flows)]
    for thread in threads:
        thread.start()
    time.sleep(warmup)
    before, effort = sum(counts), Effort.now(pids)
    time.sleep(window)
    octets, worked = sum(counts) - before, Effort.now(pids).since(effort)
    for flow in accepted:
        flow.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        with contextlib.suppress(OSError):
            flow.shutdown(socket.SHUT_RDWR)
        flow.close()
    return {"octets": octets, **worked}


def send_tcp(source: str, to: str, port: int, flows: int) -> Answer:
    """Until the receiver has closed every flow; how many segments had to be sent again."""
    retransmitted = 0

    def send() -> None:
        nonlocal retransmitted
        with _socket(to, socket.SOCK_STREAM) as flow:
            with contextlib.suppress(OSError):
                flow.settimeout(_TIMEOUT)
                flow.bind((source, 0))
                flow.connect((to, port))
                flow.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                chunk = bytes(_CHUNK)
                while True:
                    flow.sendall(chunk)
            information = flow.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
            retransmitted += int.from_bytes(information[_TOTAL_RETRANS : _TOTAL_RETRANS + 4], sys.byteorder)

    threads = [Thread(target=send, daemon=True) for _ in range(flows)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {"retransmitted": retransmitted}


def receive_udp(address: str, warmup: float, window: float, pids: Sequence[int]) -> Answer:
    """Datagrams, counted in the window."""
    with _socket(address, socket.SOCK_DGRAM) as receiver:
        receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        receiver.bind((address, 0))
        _answer({"port": receiver.getsockname()[1]})
        _count(receiver, time.monotonic() + _TIMEOUT, 1)
        _count(receiver, time.monotonic() + warmup)
        effort = Effort.now(pids)
        packets = _count(receiver, time.monotonic() + window)
        return {"packets": packets, **Effort.now(pids).since(effort)}


def send_udp(source: str, to: str, port: int, size: int, rate: int, seconds: float) -> Answer:
    """Datagrams with `size` octets of payload, `rate` a second; 0 is as fast as they go."""
    batch = Batch(_BATCH, size)
    with _socket(to, socket.SOCK_DGRAM) as sender:
        sender.bind((source, 0))
        sender.connect((to, port))
        clock = time.perf_counter
        began, sent = clock(), 0
        while (now := clock() - began) < seconds:
            due = min(_BATCH, int(now * rate) - sent) if rate else _BATCH
            with contextlib.suppress(ConnectionRefusedError):  # the receiver has what it wanted, and is gone
                sent += batch.send(sender, due) if due > 0 else 0
    return {"sent": sent}


def send_numbered(source: str, to: str, port: int, rate: int, seconds: float) -> Answer:
    """Numbered datagrams, `rate` a second, one by one."""
    with _socket(to, socket.SOCK_DGRAM) as sender:
        sender.bind((source, 0))
        sender.connect((to, port))
        began, number = time.perf_counter(), 0
        while (now := time.perf_counter() - began) < seconds:
            if number >= now * rate:
                time.sleep(0.2 / rate)
                continue
            with contextlib.suppress(ConnectionRefusedError):  # nobody may be listening
                sender.send(_NUMBER.pack(number))
            number += 1
    return {"sent": number}


def receive_numbered(address: str) -> Answer:
    """Until nothing has come for a while: how many, and how many after one with a higher number."""
    received = misordered = 0
    highest = -1
    seen = set[int]()
    with _socket(address, socket.SOCK_DGRAM) as receiver:
        receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        receiver.bind((address, 0))
        _answer({"port": receiver.getsockname()[1]})
        receiver.settimeout(_TIMEOUT)
        with contextlib.suppress(TimeoutError):
            while True:
                (number,) = _NUMBER.unpack(receiver.recv(2048))
                receiver.settimeout(_SILENCE_S)
                received += 1
                misordered += number < highest
                highest = max(highest, number)
                seen.add(number)
    return {"received": len(seen), "twice": received - len(seen), "misordered": misordered}


class Effort:
    """What processors have worked: some processes, and all of the machine."""

    __slots__ = ("at", "machine", "processes")

    def __init__(self, at: float, processes: float, machine: float) -> None:
        self.at, self.processes, self.machine = at, processes, machine

    @classmethod
    def now(cls, pids: Sequence[int]) -> Effort:
        return cls(time.perf_counter(), process_cpu_seconds(pids), machine_cpu_seconds())

    def since(self, before: Effort) -> Mapping[str, float]:
        return {
            "seconds": self.at - before.at,
            "processes_cpu_s": self.processes - before.processes,
            "machine_cpu_s": self.machine - before.machine,
        }


def _count(receiver: socket.socket, until: float, enough: int = 1 << 62) -> int:
    """Datagrams that arrive before `until`, or until there are `enough`."""
    batch, packets = Batch(_BATCH, 1), 0
    while packets < enough and (left := until - time.monotonic()) > 0:
        if select.select([receiver], [], [], left)[0]:
            packets += batch.receive(receiver)
    return packets


def _socket(address: str, kind: socket.SocketKind) -> socket.socket:
    return socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, kind)


def _answer(answer: Mapping[str, object]) -> None:
    print(json.dumps(answer), flush=True)


def main() -> None:
    doers = (receive_tcp, send_tcp, receive_udp, send_udp, receive_numbered, send_numbered)
    abilities: dict[str, Callable[..., Answer]] = {doer.__name__: doer for doer in doers}
    _answer({})
    for line in sys.stdin:
        wish = json.loads(line)
        _answer(abilities[wish.pop("do")](**wish))


if __name__ == "__main__":
    main()
