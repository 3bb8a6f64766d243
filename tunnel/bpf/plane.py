"""KernelPlane: the data plane in which programs of the kernel carry packets, and user space the rest.

Performs I/O. What programs decline goes to another DataPlane: control, protected payload, packets that are
too big, all that is to be refused and counted, and everything while there is no path.
"""

from __future__ import annotations

import contextlib
import select
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from ipaddress import IPv4Network, IPv6Network

from tunnel.bpf import layout
from tunnel.bpf.again import SecondSender, offload_header
from tunnel.bpf.devices import Devices
from tunnel.bpf.layout import TLV_CODE
from tunnel.bpf.memory import Remembered
from tunnel.bpf.programs import Programs
from tunnel.bpf.ways import Ways
from tunnel.carriers import Carriers, reason_not_sent
from tunnel.endpoint import Endpoint, EndpointConfig, Role
from tunnel.forwarding import ForwardingTable
from tunnel.kernel import MARK, KernelError
from tunnel.link_sender import send_on_link
from tunnel.offload.single import single_packets
from tunnel.orders import HANDSHAKE, Orders
from tunnel.path import HELD, Drop, TunnelPath
from tunnel.plane import Carrier, Counters, DataPlane, Device, OnFault, OnSilence
from tunnel.recent import OLDEST, Concern
from tunnel.rtmessages import forget_neighbour
from tunnel.rtnetlink import Rtnetlink
from tunnel.silence import PATIENCE, Silence

AGAIN = MARK + 1
"""Mark of packets that are sent a second time; it never leaves this host."""
_LOOK_AROUND = 1.0
"""Seconds between looks at which links a home agent has."""

_NOT_LET_GO = Drop("waiting-packets-not-let-go")

SlowPlane = Callable[[OnFault, OnSilence | None], DataPlane]
"""Makes the plane for what programs decline, which tells of faults and of silence."""


class KernelPlane(DataPlane):
    """See `tunnel.plane.DataPlane` for what each method means.

    Programs are put on links by a thread of its own, which else waits for the bell. The kernel answers only
    when no processor can still be in what was there before (RCU), which takes longer than all else in a
    handover: so it is done as soon as a link is there, and nobody waits for a program to be taken off.
    """

    def __init__(
        self,
        device: Device,
        endpoint: Endpoint,
        on_fault: OnFault,
        on_silence: OnSilence | None,
        slow: SlowPlane,
    ) -> None:
        """OSError if the kernel does not take part; nothing is left of the attempt then."""
        self._endpoint = endpoint
        self._on_fault = on_fault
        self._on_silence = on_silence
        self._device = device.name
        self._carriers = Carriers()
        self._expected: frozenset[str] = frozenset()
        """Links that have a program before there is a carrier."""
        self._silence = Silence()
        self._holds = False
        self._changing = threading.Lock()
        """Held while routes of the programs or carriers change, which two threads do."""
        self._looks_around = False
        self._looked_around = 0.0
        self._thread: threading.Thread | None = None
        self._running = False
        with contextlib.ExitStack() as stack:
            self._ways = Ways(MARK)
            stack.callback(self._ways.close)
            self._netlink = Rtnetlink()
            stack.callback(self._netlink.close)
            self._second = SecondSender(AGAIN)
            stack.callback(self._second.close)
            patience = PATIENCE if on_silence is not None else 0.0
            self._programs = Programs(endpoint.role, self._ways, MARK, AGAIN, patience)
            stack.callback(self._programs.close)
            self._devices = Devices(self._programs)
            stack.callback(self._devices.close)
            self.slow = slow(self._slow_has_a_fault, self._slow_is_silent if on_silence is not None else None)
            stack.callback(self.slow.close)
            self._use(device)
            self._configure(endpoint.config)
            self._epoll = select.epoll()
            stack.callback(self._epoll.close)
            self._orders = Orders()
            stack.callback(self._orders.close)
            self._waits_for = {
                self._orders.descriptor: self._orders.obey,
                self._programs.bell.descriptor: self._hear,
                self._ways.descriptor: self._reroute,
            }
            for descriptor in self._waits_for:
                self._epoll.register(descriptor, select.EPOLLIN)
            self._open = stack.pop_all()

    # ---- what the daemons ask ------------------------------------------------------------------------------
    def start(self) -> None:
        self._running = True
        self._thread = threading.Thread(target=self._run, name="kernel-plane", daemon=True)
        self._thread.start()
        self.slow.start()

    def configure(self, config: EndpointConfig) -> None:
        self.slow.configure(config)
        self._configure(config)

    def install(self, table: ForwardingTable) -> None:
        self.slow.install(table)
        if self._on_silence is not None:
            self._holds = any(way.path.interface == HELD for way in table.ways())
        # Here and now: to wait for another thread would take longer than the rest of a handover.
        with self._changing:
            self._programs.routes.install(table, self._carriers)
        if self._looks_around and time.monotonic() - self._looked_around > _LOOK_AROUND:
            self._post(self._listen)

    def send_again(self, homes: Iterable[IPv4Network | IPv6Network], since: float) -> None:
        self._post(partial(self._send_again, tuple(homes), since, _now()))

    def send_on_link(self, homes: Iterable[IPv4Network | IPv6Network], since: float, interface: str) -> None:
        self._post(partial(self._send_on_link, tuple(homes), since, _now(), interface))

    def carry(self, packets: Sequence[bytes]) -> None:
        self.slow.carry(packets)

    def deliver(self, packets: Sequence[bytes]) -> None:
        self.slow.deliver(packets)

    def announce(self, path: TunnelPath, idle: float) -> None:
        self.slow.announce(path, idle)

    def expect(self, interfaces: Iterable[str]) -> None:
        self._expected = frozenset(interfaces)
        self._post(self._listen)

    def attach(self, carrier: Carrier) -> None:
        self.slow.attach(carrier)
        with self._changing:
            if carrier in self._carriers:
                return
            self._carriers.append(carrier)
            self._programs.routes.resolve(self._carriers)
        # Without its program a link would bring user space packets that are not finished: on veth and between
        # virtual machines checksums are made by whoever needs them.
        if not self._devices.hears(carrier.interface):
            self._order(self._listen)

    def detach(self, carrier: Carrier) -> None:
        with self._changing:
            if carrier in self._carriers:
                self._carriers.remove(carrier)
                self._programs.routes.resolve(self._carriers)
        self._post(self._listen)
        self.slow.detach(carrier)

    def renew(self, device: Device) -> None:
        self.slow.renew(device)
        self._order(partial(self._use, device))

    def counters(self) -> Counters:
        slow, lanes = self.slow.counters(), self._programs.routes.lanes
        refused = lanes.total(layout.REFUSED)
        return Counters(
            slow.rx_packets + lanes.total(layout.RX_PACKETS),
            slow.rx_bytes + lanes.total(layout.RX_OCTETS),
            slow.tx_packets + lanes.total(layout.TX_PACKETS),
            slow.tx_bytes + lanes.total(layout.TX_OCTETS),
            {**slow.drops, **({"kernel-refused": refused} if refused else {})},
        )

    def last_sent(self, path: TunnelPath) -> float:
        return max(self.slow.last_sent(path), self._programs.routes.lanes.sent_at(path))

    def last_received(self) -> float:
        return max(self.slow.last_received(), self._programs.routes.lanes.latest(layout.RECEIVED_AT))

    def close(self) -> None:
        if self._thread is not None and self._running:
            self._order(self._stop)
            self._thread.join(HANDSHAKE)
            self._thread = None
        self._open.close()

    # ---- in its thread -------------------------------------------------------------------------------------
    def _order(self, order: Callable[[], None]) -> None:
        self._orders.give(order, self._thread)

    def _post(self, order: Callable[[], None]) -> None:
        self._orders.post(order, self._thread)

    def _run(self) -> None:
        try:
            while self._running:
                for descriptor, _ in self._epoll.poll():
                    self._waits_for[descriptor]()
        except Exception as error:  # a mistake of ours: say so, rather than be deaf for ever
            self._running = False
            self._on_fault(f"the kernel data plane is not looked after any more: {error!r}")

    def _stop(self) -> None:
        self._running = False

    def _use(self, device: Device) -> None:
        self._device = device.name
        self._programs.switch(layout.TUN_IFINDEX, self._devices.use_tun(device.name))

    def _configure(self, config: EndpointConfig) -> None:
        self._programs.switch(layout.TLV, TLV_CODE[config.tlv])

    def _reroute(self) -> None:
        with self._changing:
            if self._ways.changed():
                self._programs.routes.resolve(self._carriers)

    def _listen(self) -> None:
        with self._changing:
            interfaces = self._expected | {carrier.interface for carrier in self._carriers}
        self._looked_around = time.monotonic()
        self._looks_around = "" in interfaces
        self._devices.listen(interfaces, self._device)

    def _send_again(self, homes: tuple[IPv4Network | IPv6Network, ...], since: float, until: float) -> None:
        self._let_go()
        for remembered in self._remembered(homes, since, until):
            try:
                self._second.send(self._device, remembered)
            except OSError as error:
                self._endpoint.drop(reason_not_sent(error))
        self.slow.send_again(homes, since)  # after ours: it has what could not leave any more

    def _send_on_link(
        self, homes: tuple[IPv4Network | IPv6Network, ...], since: float, until: float, interface: str
    ) -> None:
        for remembered in self._remembered(homes, since, until):
            described = offload_header(remembered.packet, remembered.segment)
            for refusal in send_on_link(single_packets(described, remembered.packet), interface):
                self._endpoint.drop(refusal)
        self.slow.send_on_link(homes, since, interface)

    def _remembered(
        self, homes: tuple[IPv4Network | IPv6Network, ...], since: float, until: float
    ) -> Iterator[Remembered]:
        """What left after `until` has left by the new path."""
        concerns = Concern(homes, by_source=self._endpoint.role is Role.MOBILE_NODE)
        remembered = self._programs.remembered(max(since, until - OLDEST), until)
        return (one for one in remembered if concerns(one.packet))

    def _slow_has_a_fault(self, reason: str) -> None:
        """The TUN device is gone, as a rule: what comes in is refused and counted until there is another."""
        self._programs.switch(layout.TUN_IFINDEX, 0)
        self._on_fault(reason)

    def _let_go(self) -> None:
        """Of packets that wait for neighbours of a link that was left.

        They are packets of this host, as it made them: as long as one waits TCP takes it for sent, and does
        not repeat it.
        """
        if self._endpoint.role is not Role.MOBILE_NODE:
            return
        try:
            waited_for = self._netlink.unresolved_neighbours()
            self._netlink.execute(forget_neighbour(*neighbour) for neighbour in waited_for)
        except KernelError:
            self._endpoint.drop(_NOT_LET_GO)

    # ---- silence -------------------------------------------------------------------------------------------
    def _hear(self) -> None:
        """Packets have left by a lane for a while, and nothing came back."""
        lanes = self._programs.routes.lanes
        for lane in self._programs.bell.rung():
            asked, received = (lanes.at(lane, field) / 1e9 for field in (layout.ASKED_AT, layout.RECEIVED_AT))
            received = max(received, self.slow.last_received())
            self._silence.sent(asked, received)
            now = _now()
            if self._silence.sent(now, received) and self._on_silence is not None:
                self._on_silence()

    def _slow_is_silent(self) -> None:
        """What the slow plane cannot know: programs may have heard from the other end all the time."""
        heard = self._programs.routes.lanes.latest(layout.RECEIVED_AT)
        silent = _now() - heard > PATIENCE
        if self._on_silence is not None and (silent or self._holds):
            self._on_silence()


def _now() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)
