"""The hands of the home agent: sockets, data plane, kernel, home link, disk. It does what the node decides.

Performs I/O.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from ipaddress import IPv4Address, IPv6Address, IPv6Network
from typing import assert_never

from home_agent.actions import (
    Action,
    ConfigureEndpoint,
    ConfigureKernel,
    Defend,
    InstallTable,
    ProbeAddresses,
    Remember,
    Report,
    SendAgain,
    SendControl,
    SendOnLink,
)
from home_agent.events import Probed
from home_agent.proxy import HomeLink
from home_agent.records import Record
from home_agent.second_port import SecondPort
from home_agent.store import Store
from runtime.log import Log
from tunnel.forwarding import ForwardingTable
from tunnel.kernel import KernelConfig, KernelError
from tunnel.persistent import PersistentMap
from tunnel.plane import DataPlane
from tunnel.routing import KernelState
from tunnel.underlay import Underlay

SETTLED = 0.05
"""Seconds after which the neighbours on the home link know who has an address now. Ours."""


class Shell:
    """Performs actions; what it learns meanwhile goes to `dispatch` as events.

    What is decided while the loop runs once is done together: data plane, kernel and home link get the last
    desired state, the disk one commit, and only then do the answers of that round leave. So a burst of
    Binding Updates costs one wait for each of them, and no answer is ever ahead of it.
    """

    def __init__(
        self,
        plane: DataPlane,
        kernel: KernelState,
        link: HomeLink,
        home_prefix: IPv6Network,
        store: Store,
        dispatch: Callable[[Probed], None],
        report: Callable[[str, Mapping[str, object]], None],
        log: Log,
    ) -> None:
        self._plane = plane
        self._kernel = kernel
        self._link = link
        self._home_prefix = home_prefix
        self._store = store
        self._dispatch = dispatch
        self._report = report
        self._log = log
        self._underlays: dict[IPv4Address | IPv6Address, Underlay] = {}
        self._second: SecondPort | None = None
        self._table_wanted: ForwardingTable | None = None
        self._unrepeated: list[SendAgain] = []
        self._come_home: list[SendOnLink] = []
        self._kernel_wanted: KernelConfig | None = None
        self._defence_wanted: PersistentMap[IPv4Address | IPv6Address, bool] | None = None
        self._unwritten: dict[IPv6Address, Record] = {}
        self._unsent: list[SendControl] = []
        self._flush_due = False
        self._probes: set[asyncio.Task[None]] = set()
        self.problems: dict[str, str] = {}
        """What is wrong right now, by a stable code."""

    def use(self, underlay: Underlay) -> None:
        """Receive and send through `underlay`, which is closed with this shell.

        What was to be sent before there was any leaves now: a start calls mobile nodes whose keys are gone.
        """
        self._underlays[underlay.local] = underlay
        self._plane.attach(underlay)
        self._flush_soon()

    def use_second(self, second: SecondPort) -> None:
        """What arrives at that port is answered from there; it is closed with this shell."""
        self._second = second

    def perform(self, action: Action) -> None:
        match action:
            case Remember(record):
                self._unwritten[record.home_address] = record
                self._flush_soon()
            case SendControl():
                self._unsent.append(action)
                self._flush_soon()
            case Report(event, fields):
                self._report(event, fields)
            case SendAgain():
                self._unrepeated.append(action)
                self._flush_soon()
            case SendOnLink():
                self._come_home.append(action)
                self._flush_soon()
            case ConfigureEndpoint(config):
                self._plane.configure(config)
            case InstallTable(table):
                self._table_wanted = table
                self._flush_soon()
            case ConfigureKernel(config):
                self._kernel_wanted = config
                self._flush_soon()
            case Defend(addresses):
                self._defence_wanted = addresses
                self._flush_soon()
            case ProbeAddresses():
                probe = asyncio.get_running_loop().create_task(self._probe(action))
                self._probes.add(probe)
                probe.add_done_callback(self._probes.discard)
            case _:
                assert_never(action)

    def repair(self) -> None:
        """Somebody else may have changed what is ours in the kernel: make it as it should be."""
        try:
            changed = self._kernel.repair()
        except KernelError as error:
            self._kernel_failed(error)
            return
        self.problems.pop("kernel", None)
        if changed:
            self._log.warning(
                "kernel-repaired", "somebody changed what is ours in the kernel", objects=changed
            )

    def close(self) -> None:
        """Write and send what is left, then close every socket."""
        for probe in self._probes:
            probe.cancel()
        self.flush()
        for underlay in self._underlays.values():
            self._plane.detach(underlay)
            underlay.close()
        self._underlays.clear()
        if self._second is not None:
            self._second.close()
            self._second = None

    def flush(self) -> None:
        """Settle data plane, host and home link, write what is to be remembered, then send what waits.

        The data plane comes first: payload may follow its Binding Update at once. What is sent again comes
        last, because it can be much, and each answer ends somebody's handover.
        """
        self._flush_due = False
        if self._table_wanted is not None:
            self._plane.install(self._table_wanted)
            self._table_wanted = None
        if self._kernel_wanted is not None:
            self._configure(self._kernel_wanted)
            self._kernel_wanted = None
        if self._defence_wanted is not None:
            self._link.defend(self._defence_wanted)
            self._defence_wanted = None
        if self._unwritten:
            self._write()
        if self._underlays:
            unsent, self._unsent = self._unsent, []
            for action in unsent:
                self._send(action)
        self._send_again()

    def _send_again(self) -> None:
        """Into the tunnel to who left a network, or the home link; onto the home link to who came back."""
        unrepeated, self._unrepeated = self._unrepeated, []
        for again in unrepeated:
            self._plane.send_again(again.homes, again.since)
            self._carry_overheard(again)
        come_home, self._come_home = self._come_home, []
        for one in come_home:
            self._plane.send_on_link(one.homes, one.since, self._link.interface)

    def _carry_overheard(self, again: SendAgain) -> None:
        """What was sent to who has left the home link, until the neighbours there knew.

        They need a moment to take in that the address is here now.
        """
        self._carry(again)
        asyncio.get_running_loop().call_later(SETTLED, self._carry, again)

    def _carry(self, again: SendAgain) -> None:
        if overheard := self._link.overheard(again.homes, again.since):
            self._plane.carry(overheard)

    def _flush_soon(self) -> None:
        if not self._flush_due:
            self._flush_due = True
            asyncio.get_running_loop().call_soon(self.flush)

    def _write(self) -> None:
        """A full disk must not end anybody's sessions: go on, and try again with the next record."""
        try:
            self._store.save(self._unwritten.values())
        except OSError as error:
            self.problems["not-remembered"] = f"bindings would not survive a restart: {error}"
            self._log.error("not-remembered", str(error))
            return
        self._unwritten.clear()
        self.problems.pop("not-remembered", None)

    def _send(self, action: SendControl) -> None:
        via = action.via
        if isinstance(via.remote, IPv6Address) and via.remote in self._home_prefix:
            # At home the address may still be routed into the tunnel, where the answer must not go.
            problem = self._link.send(action.packet, via.remote)
        elif self._second is not None and via.local_port == self._second.port:
            problem = self._second.send(action.packet, via)
        else:
            underlay = self._underlays.get(via.local)
            if underlay is None:
                return  # a binding of an address that this home agent no longer has
            problem = underlay.send_control(via.remote, via.remote_port, action.packet)
        if problem is not None:
            self._log.warning("answer-not-sent", f"no answer sent to {via.remote}: {problem}")

    def _configure(self, config: KernelConfig) -> None:
        try:
            self._kernel.apply(config)
        except KernelError as error:
            self._kernel_failed(error)
        else:
            self.problems.pop("kernel", None)

    def _kernel_failed(self, error: KernelError) -> None:
        self.problems["kernel"] = str(error)
        self._log.error("kernel", str(error))

    async def _probe(self, action: ProbeAddresses) -> None:
        in_use = await self._link.probe(action.addresses)
        for address in in_use:
            self._log.warning("duplicate", f"somebody else on the home link has {address}")
        self._dispatch(Probed(action.home_address, action.addresses, in_use))
