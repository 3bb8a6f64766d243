"""PlaneLoop: the thread of a data plane, and what every tier that reads packets itself has in common.

Performs I/O. One thread, one epoll; which descriptor is drained how is the tier's own. Other threads change
what is drained by orders that run between two drains, so no drain ever sees half a change.
"""

from __future__ import annotations

import contextlib
import os
import select
import sys
import threading
import time
from abc import abstractmethod
from collections.abc import Callable, Iterable
from functools import partial

from tunnel.carriers import Carriers, error_name
from tunnel.endpoint import Endpoint, EndpointConfig
from tunnel.forwarding import ForwardingTable
from tunnel.orders import HANDSHAKE, Orders
from tunnel.path import Drop, TunnelPath
from tunnel.plane import Carrier, Counters, DataPlane, Device, Intake, IntakeKind, OnFault

Drain = Callable[[Carrier, Intake], None]
"""Takes what a socket has, up to a batch; BlockingIOError when there is no more."""

BATCH = range(64)
"""Packets taken from one descriptor before the others get their turn."""
_SWITCH_INTERVAL = 0.0001


class PlaneLoop(DataPlane):
    """A DataPlane without its packets. See `tunnel.plane.DataPlane` for what each method means."""

    def __init__(self, device: Device, endpoint: Endpoint, on_fault: OnFault) -> None:
        self._endpoint = endpoint
        self._on_fault = on_fault
        self._tun = -1
        self._tun_name = ""
        self._carriers = Carriers()
        self._drains: dict[int, Callable[[], None]] = {}
        self._epoll = select.epoll()
        self._orders = Orders()
        self._epoll.register(self._orders.descriptor, select.EPOLLIN)
        self._drains[self._orders.descriptor] = self._orders.obey
        self._thread: threading.Thread | None = None
        self._running = False
        self._held_told = False
        self._rx_packets = self._rx_bytes = self._tx_packets = self._tx_bytes = 0
        self._received_at = 0.0
        self._use(device)

    @abstractmethod
    def _drain_tun(self) -> None:
        """One turn of the TUN device."""

    @abstractmethod
    def _drain_of(self, kind: IntakeKind) -> Drain:
        """How a socket of this kind is drained."""

    def start(self) -> None:
        # While one thread computes, the other gets the interpreter only once an interval, and this one asks
        # for it after every system call: with the default of 5 ms a busy daemon adds 7 ms to a round trip.
        sys.setswitchinterval(min(sys.getswitchinterval(), _SWITCH_INTERVAL))
        self._running = True
        self._thread = threading.Thread(target=self._run, name="data-plane", daemon=True)
        self._thread.start()

    def configure(self, config: EndpointConfig) -> None:
        same = config.keyring is self._endpoint.config.keyring
        self._endpoint.config = config
        if not same:
            self._order(self._endpoint.disconnect_lanes)

    def install(self, table: ForwardingTable) -> None:
        self._endpoint.table = table
        self._held_told = False

    def expect(self, interfaces: Iterable[str]) -> None:
        pass

    def attach(self, carrier: Carrier) -> None:
        self._order(partial(self._attach, carrier))

    def detach(self, carrier: Carrier) -> None:
        self._order(partial(self._detach, carrier))

    def renew(self, device: Device) -> None:
        self._order(partial(self._use, device))

    def counters(self) -> Counters:
        return Counters(
            self._rx_packets,
            self._rx_bytes,
            self._tx_packets,
            self._tx_bytes,
            self._endpoint.drops.copy(),
        )

    def last_sent(self, path: TunnelPath) -> float:
        return self._endpoint.last_sent(path)

    def last_received(self) -> float:
        return self._received_at

    def close(self) -> None:
        if self._thread is not None and self._running:
            self._order(self._stop)
            self._thread.join(HANDSHAKE)
            self._thread = None
        if not self._epoll.closed:
            self._drop_tun()
            self._epoll.close()
            self._orders.close()

    def _order(self, order: Callable[[], None]) -> None:
        self._orders.give(order, self._thread)

    def _post(self, order: Callable[[], None]) -> None:
        self._orders.post(order, self._thread)

    def _attach(self, carrier: Carrier) -> None:
        if carrier in self._carriers:
            return
        for intake in carrier.intakes:
            descriptor = intake.socket.fileno()
            self._drains[descriptor] = partial(self._drain, self._drain_of(intake.kind), carrier, intake)
            self._epoll.register(descriptor, select.EPOLLIN)
        self._carriers.append(carrier)
        self._endpoint.disconnect_lanes()

    def _detach(self, carrier: Carrier) -> None:
        if carrier not in self._carriers:
            return
        self._carriers.remove(carrier)
        for intake in carrier.intakes:
            self._forget(intake.socket.fileno())
        self._endpoint.disconnect_lanes()

    def _use(self, device: Device) -> None:
        self._drop_tun()
        # A descriptor of our own: nobody can close it under a drain and have the number mean another file.
        self._tun = os.dup(device.fileno())
        self._tun_name = device.name
        self._drains[self._tun] = self._drain_tun
        self._epoll.register(self._tun, select.EPOLLIN)

    def _drop_tun(self) -> None:
        if self._tun >= 0:
            self._forget(self._tun)
            os.close(self._tun)
            self._tun = -1

    def _forget(self, descriptor: int) -> None:
        if self._drains.pop(descriptor, None) is not None:
            with contextlib.suppress(OSError):  # closed by its owner already, which took it out of the set
                self._epoll.unregister(descriptor)

    def _stop(self) -> None:
        self._running = False

    # ---- the thread: everything below runs in it ---------------------------------------------------------
    def _run(self) -> None:
        poll, drains = self._epoll.poll, self._drains
        try:
            while self._running:
                received = self._rx_packets
                for descriptor, _ in poll():
                    drain = drains.get(descriptor)
                    if drain is not None:  # else an order of this very round has removed it
                        drain()
                if self._rx_packets != received:
                    self._received_at = time.clock_gettime(time.CLOCK_BOOTTIME)
        except Exception as error:  # a mistake of ours: say so, rather than be silent and deaf for ever
            self._running = False
            self._on_fault(f"the data plane has stopped: {error!r}")

    def _drain(self, drain: Drain, carrier: Carrier, intake: Intake) -> None:
        """One turn of a socket: until its batch is over or nothing is left to read."""
        try:
            drain(carrier, intake)
        except BlockingIOError:
            pass
        except OSError as error:
            self._receive_failed(error)

    def _tun_failed(self, error: OSError) -> None:
        """Say it once and stop listening: the descriptor would report the same for ever."""
        self._drop_tun()
        self._on_fault(f"TUN device {self._tun_name} is gone: {error.strerror}")

    def _receive_failed(self, error: OSError) -> None:
        """The kernel reports an asynchronous error (link down, say) by the next read; then it is cleared."""
        self._endpoint.drop(Drop(f"receive-{error_name(error)}"))
