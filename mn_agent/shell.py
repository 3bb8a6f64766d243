"""The hands of the mobile node: sockets, data plane, kernel, DNS, disk. It does what the node decides.

Performs I/O.
"""

from __future__ import annotations

import asyncio
import errno
import json
from collections.abc import Callable, Mapping
from functools import partial
from ipaddress import IPv4Address, IPv6Address
from typing import assert_never

from mn_agent.actions import (
    Action,
    AnnounceHome,
    AnnouncePath,
    AskDhcp,
    AskDns,
    AskNat64,
    AskPathUse,
    AskRouters,
    ConfigureEndpoint,
    ConfigureKernel,
    DeliverKept,
    ExpectLinks,
    FetchPage,
    Finished,
    InstallRoutes,
    KeepUnderlays,
    ListenOnLinks,
    ProbeLink,
    Remember,
    RememberNetworks,
    Report,
    SendAgain,
    SendControl,
    SendEcho,
    SendIcmp,
    SendOnLink,
    SendProbe,
    WatchLink,
)
from mn_agent.announcer import Announcer
from mn_agent.dhcp_inquirer import DhcpInquirer
from mn_agent.discovery import Query
from mn_agent.echoes import Echoes
from mn_agent.events import (
    Event,
    HomeAgentsFound,
    HomeAgentsUnknown,
    LinkUnusable,
    Nat64Found,
    NeighbourAnswered,
    PathLastUsed,
)
from mn_agent.payload_prober import PayloadProber
from mn_agent.resolver import ResolutionError, Resolver
from mn_agent.router_listener import RouterListener
from mn_agent.state_files import MEMORY, NETWORKS, StateFiles
from mn_agent.web import Web
from movement.policy import Attachment
from movement.probe import Prober
from runtime.log import Log
from tunnel.forwarding import ForwardingTable
from tunnel.kernel import MARK, KernelConfig, KernelError
from tunnel.link_filter import Watch
from tunnel.link_memory import LinkMemory
from tunnel.nat64_underlay import open_nat64_underlay
from tunnel.plane import DataPlane
from tunnel.prefixes import Network
from tunnel.routing import KernelState
from tunnel.underlay import Underlay, open_ipv4_underlay, open_ipv6_underlay
from wire.esp import UDP_PORT_NAT_TRAVERSAL
from wire.nat64 import IPV4_ONLY, prefixes_in

Place = tuple[str, IPv4Address | IPv6Address]


class Shell:
    """Performs actions; what it learns meanwhile goes to `dispatch` as events."""

    def __init__(
        self,
        plane: DataPlane,
        kernel: KernelState,
        files: StateFiles,
        dispatch: Callable[[Event], None],
        report: Callable[[str, Mapping[str, object]], None],
        log: Log,
        *,
        device: str,
        protected: bool = False,
    ) -> None:
        """`device`: the TUN device. `protected`: underlays take in protected payload, too."""
        self._plane = plane
        self._kernel = kernel
        self._files = files
        self._dispatch = dispatch
        self._report = report
        self._log = log
        self._protected = protected
        self._resolver = Resolver(MARK)
        self._announcer = Announcer(lambda text: log.warning("home-link", text))
        self._echoes = Echoes(MARK, dispatch)
        self._routers = RouterListener(MARK, dispatch)
        self._dhcp = DhcpInquirer(MARK, dispatch)
        self._web = Web(MARK, self._resolver, dispatch)
        self._prober = Prober(
            lambda interface, answer: dispatch(NeighbourAnswered(interface, answer)),
            lambda text: log.warning("routers", text),
        )
        self._payload_prober = PayloadProber(device, dispatch)
        self._memory: LinkMemory | None = None
        self._kept: LinkMemory | None = None
        """The memory before, which is closed."""
        self._underlays: dict[Place, Underlay] = {}
        self._questions: set[asyncio.Task[None]] = set()
        self.finished = asyncio.Event()
        self.kernel_problem: KernelError | None = None

    def perform(self, action: Action) -> None:
        """Do one action. Failures become events, or are kept for `mnctl status`."""
        match action:
            case KeepUnderlays(attachments=attachments):
                self._keep(attachments)
            case ExpectLinks(interfaces=interfaces):
                self._plane.expect(interfaces)
            case AnnouncePath(path=path, idle=idle):
                self._plane.announce(path, idle)
            case ConfigureEndpoint(config=config):
                self._plane.configure(config)
            case InstallRoutes(routes=routes):
                self._plane.install(ForwardingTable(routes))
            case SendAgain(homes=homes, since=since):
                self._carry_kept(homes, since)
                self._plane.send_again(homes, since)
            case WatchLink(watch=watch):
                self._watch(watch)
            case SendOnLink(homes=homes, since=since, interface=interface):
                self._plane.send_on_link(homes, since, interface)
            case DeliverKept(homes=homes):
                self._deliver_kept(homes)
            case ConfigureKernel(config=config):
                self._configure(config)
            case AnnounceHome(interface=interface, addresses=addresses):
                self._announcer.announce(interface, addresses)
            case SendControl():
                self._send(action)
            case SendIcmp():
                self._send_icmp(action)
            case SendEcho():
                self._echoes.send(action)
            case AskRouters(interface=interface):
                self._routers.ask(interface)
            case AskDhcp():
                self._ask_dhcp(action)
            case AskNat64(interface=interface):
                self._ask_nat64(interface)
            case FetchPage():
                self._web.fetch(action)
            case SendProbe():
                self._probe(action)
            case AskDns(query=query):
                self._ask(query)
            case AskPathUse(path=path):
                self._dispatch(PathLastUsed(self._plane.last_sent(path), self._plane.last_received()))
            case ListenOnLinks(interfaces=interfaces):
                self._prober.listen(interfaces)
            case ProbeLink(interface=interface, ask=ask):
                self._prober.ask(interface, ask)
            case Remember(state=state):
                self._files.write(MEMORY, json.dumps(state).encode())
            case RememberNetworks(document=document):
                self._files.write(NETWORKS, document)
            case Report(event=event, fields=fields):
                self._report(event, fields)
            case Finished():
                self.finished.set()
            case _:
                assert_never(action)

    def repair(self) -> None:
        """Somebody else changed what is ours in the kernel: make it as it should be."""
        try:
            self._kernel.repair()
        except KernelError as error:
            self._kernel_failed(error)

    def close(self) -> None:
        """Close every socket and leave questions unanswered."""
        for question in self._questions:
            question.cancel()
        self._announcer.close()
        self._prober.close()
        self._echoes.close()
        self._routers.close()
        self._dhcp.close()
        self._web.close()
        self._payload_prober.close()
        self._watch(None)
        self._keep(())

    def _ask_nat64(self, interface: str) -> None:
        task = asyncio.get_running_loop().create_task(self._find_nat64(interface))
        self._questions.add(task)
        task.add_done_callback(self._questions.discard)

    async def _find_nat64(self, interface: str) -> None:
        answers = await self._resolver.addresses(IPV4_ONLY, "AAAA")
        prefixes = prefixes_in(IPv6Address(answer) for answer in answers)
        self._dispatch(Nat64Found(interface, prefixes))

    def _keep(self, attachments: tuple[Attachment, ...]) -> None:
        wanted = {(a.interface, a.care_of): a for a in attachments}
        for place in [place for place in self._underlays if place not in wanted]:
            underlay = self._underlays.pop(place)
            self._plane.detach(underlay)
            underlay.close()
        for place, attachment in wanted.items():
            if place not in self._underlays:
                self._open(place, attachment)

    def _open(self, place: Place, attachment: Attachment) -> None:
        care_of = attachment.care_of
        try:
            underlay = self._opened(attachment)
        except OSError as error:
            why = error.strerror or str(error)
            self._log.warning("no-sockets", f"no sockets at {care_of} on {attachment.interface}: {why}")
            self._dispatch(LinkUnusable(care_of, why))
            return
        self._underlays[place] = underlay
        self._plane.attach(underlay)

    def _opened(self, attachment: Attachment) -> Underlay:
        care_of, interface, through = attachment.care_of, attachment.interface, attachment.through
        if isinstance(care_of, IPv6Address):
            return open_ipv6_underlay(
                care_of, interface, MARK, self._protected, icmp=True, believe_routers=False
            )
        open_at: Callable[..., Underlay] = partial(
            open_ipv4_underlay, care_of, 0, interface, MARK, believe_routers=False
        )
        if through is not None:
            open_at = partial(
                open_nat64_underlay, care_of, through.source, through.prefix, interface, MARK
            )
        if not self._protected:
            return open_at()
        try:
            return open_at(esp_port=UDP_PORT_NAT_TRAVERSAL)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            # An IKE daemon has that port. The home agent answers to any, once it has heard from it.
            return open_at(esp_port=0)

    def _send(self, action: SendControl) -> None:
        underlay = next((u for (_, local), u in self._underlays.items() if local == action.care_of), None)
        if underlay is None:
            return  # its sockets could not be opened: the node has been told
        problem = underlay.send_control(action.remote, action.port, action.packet)
        if problem is not None:
            self._log.warning("update-not-sent", f"binding update not sent from {action.care_of}: {problem}")
            self._dispatch(LinkUnusable(action.care_of, problem))

    def _send_icmp(self, action: SendIcmp) -> None:
        """Nothing depends on it but a question, which is repeated."""
        underlay = next((u for (_, local), u in self._underlays.items() if local == action.care_of), None)
        problem = "no sockets"
        if underlay is not None:
            problem = underlay.send_control(action.remote, action.port, action.packet) or ""
        if problem:
            self._log.warning("question-not-sent", f"not sent from {action.care_of}: {problem}")

    def _ask_dhcp(self, action: AskDhcp) -> None:
        problem = self._dhcp.ask(action)
        if problem is not None:
            self._log.debug("dhcp-not-asked", f"DHCP servers on {action.interface} not asked: {problem}")

    def _probe(self, action: SendProbe) -> None:
        """Not sent is as good as lost: the next round asks again."""
        problem = self._payload_prober.send(action)
        if problem is not None:
            self._log.debug("probe-not-sent", f"probe of {action.probe.size} octets not sent: {problem}")

    def _watch(self, watch: Watch | None) -> None:
        """Nothing depends on it but packets of a moment."""
        if self._memory is not None:
            self._memory.close()
        self._kept, self._memory = self._memory, None
        if watch is None:
            return
        try:
            self._memory = LinkMemory(watch)
        except OSError as error:
            self._log.warning("home-link", f"cannot watch {watch.interface}: {error.strerror or error}")

    def _carry_kept(self, homes: tuple[Network, ...], since: float) -> None:
        """What left on the home link when that was gone already."""
        kept, self._kept = self._kept, None
        if kept is not None and kept.watch.by_source:
            self._plane.carry(kept.take(homes, since))

    def _deliver_kept(self, homes: tuple[Network, ...]) -> None:
        """What the guard has refused; all that came later the kernel has taken in."""
        kept, self._kept = self._kept, None
        if kept is not None and not kept.watch.by_source:
            self._plane.deliver(kept.take(homes, 0.0, self._kernel.guard_changed_at))

    def _configure(self, config: KernelConfig) -> None:
        try:
            self._kernel.apply(config)
            self.kernel_problem = None
        except KernelError as error:
            self._kernel_failed(error)

    def _kernel_failed(self, error: KernelError) -> None:
        self.kernel_problem = error
        self._log.error("kernel", str(error))

    def _ask(self, query: Query) -> None:
        question = asyncio.get_running_loop().create_task(self._find(query))
        self._questions.add(question)
        question.add_done_callback(self._questions.discard)

    async def _find(self, query: Query) -> None:
        try:
            home_agents = await self._resolver.find(query)
        except ResolutionError as error:
            self._log.warning("discovery", f"home agent discovery: {error}")
            self._dispatch(HomeAgentsUnknown(str(error)))
        else:
            self._dispatch(HomeAgentsFound(home_agents))
