"""home-agent: assembles the home agent, drives it, and answers `hactl`.

Performs I/O.
"""

from __future__ import annotations

import asyncio
import errno
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from ipaddress import IPv6Address
from pathlib import Path

import click

from home_agent.actions import Action
from home_agent.anycast import AnycastAnswers
from home_agent.config import Configuration, parse_configuration
from home_agent.control import Control
from home_agent.desired import endpoint
from home_agent.door import Door, door_for
from home_agent.events import ControlReceived, Event, SecondPortOpen, Start
from home_agent.lookout import Lookout
from home_agent.node import HomeAgent
from home_agent.proxy import HomeLink
from home_agent.second_port import SecondPort
from home_agent.shell import Shell
from home_agent.store import Store, StoreError
from runtime.clock import boottime
from runtime.control import ControlError
from runtime.control_server import ControlServer
from runtime.driver import Driver, Fault
from runtime.garbage import spare_what_is_there
from runtime.log import Log, log_to_stderr
from runtime.mailbox import Mailbox
from runtime.service import Notifier, Watchdog
from runtime.settings import ConfigError
from runtime.version import VERSION
from tunnel.alterations import Alterations
from tunnel.authentication import AuthenticationAssociation, Keys
from tunnel.endpoint import Endpoint, Role
from tunnel.kernel import MARK, KernelError, Owner
from tunnel.keyring import NO_KEYS
from tunnel.keys import KeyFileError, load_keys, needed_payload_key
from tunnel.path import Arrival
from tunnel.protection import PayloadKey
from tunnel.routing import STATE_FILE, KernelState, cleanup
from tunnel.tiers import Wiring, open_tunnel
from tunnel.underlay import Underlay, open_ipv4_underlay, open_ipv6_underlay
from wire.esp import UDP_PORT_NAT_TRAVERSAL

DEFAULT_CONFIGURATION = "/etc/home-agent/home-agent.toml"
DATABASE = "bindings.sqlite"
CONFIGURATION_INVALID = 7
ADDRESS_PATIENCE = 5.0
"""Seconds to wait for an own address that is still tentative, as right after boot."""
EPOCH = 1577836800
"""2020-01-01 in seconds since 1970: outbound ESP counters start at the seconds since then."""


class Daemon:
    """One running home agent."""

    def __init__(
        self,
        configuration: Configuration,
        keys: Mapping[IPv6Address, Keys],
        payload_keys: Mapping[IPv6Address, PayloadKey],
        log: Log,
    ) -> None:
        self._configuration = configuration
        self._keys = keys
        self._payload_keys = payload_keys
        self._log = log
        self._runtime = Path(configuration.paths.runtime_directory)
        self._state = Path(configuration.paths.state_directory)
        self._notifier = Notifier.from_environment()

    async def run(self) -> None:
        """Until a signal. Bindings stay: the next start goes on with them."""
        configuration, own = self._configuration, self._configuration.home_agent
        self._runtime.mkdir(mode=0o755, parents=True, exist_ok=True)
        async with AsyncExitStack() as stack:
            link = HomeLink(
                own.interface,
                own.ipv6,
                lambda text: self._log.warning("home-link", text),
                configuration.overheard,
            )
            stack.callback(link.close)
            store = Store(self._state / DATABASE)
            stack.callback(store.close)
            agent = self._remembering(store, link.mtu)
            control = Control(
                agent,
                lambda event: driver.dispatch(event),
                lambda: tunnel.plane.counters(),
                lambda: tunnel.report,
                lambda: (
                    door.turned_away + second_door.turned_away + Counter({"mailbox-full": mailbox.dropped})
                ),
                lambda: shell.problems,
                lambda: driver.flight,
                VERSION,
            )
            server = ControlServer(
                Path(configuration.paths.control_socket),
                control.methods(),
                daemon="home-agent",
                event_schema="hactl/event/1",
                on_fault=lambda what, error: self._log.error("control", f"{what}: {error!r}"),
            )
            # Only one daemon can hold the socket; what a killed one left in the kernel goes after that.
            await server.start()
            stack.push_async_callback(server.close)
            cleanup(self._runtime, Owner.HOME_AGENT)
            door, second_door = door_for(self._keys.values()), door_for(self._keys.values())
            mailbox: Mailbox[Event] = Mailbox(lambda events: driver.dispatch(*events))

            def on_control(packet: bytes, arrival: Arrival) -> None:
                if door.admits(packet, arrival, boottime()):
                    mailbox.post(ControlReceived(packet, arrival))

            def report(event: str, fields: Mapping[str, object]) -> None:
                server.publish(event, **fields)
                self._tell(event, fields, len(agent.books.cache))

            loop = asyncio.get_running_loop()

            def renew_device() -> None:
                tunnel.renew_device()
                shell.repair()

            def plane_failed(reason: str) -> None:
                self._log.error("data-plane", reason)
                loop.call_soon_threadsafe(self._attempt, "renew the TUN device", renew_device)

            protected = len(self._payload_keys) == len(configuration.mobile_node)
            tlv = configuration.profile.tlv is not None
            wiring = Wiring(self._endpoint(), on_control, plane_failed, protected=protected, tlv=tlv)
            section = configuration.tunnel
            tunnel = open_tunnel(section.data_plane, section.device, link.mtu, wiring)
            stack.callback(tunnel.close)
            kernel = KernelState(self._runtime / STATE_FILE, Owner.HOME_AGENT)
            stack.callback(kernel.close)
            stack.callback(kernel.clear)
            stack.callback(tunnel.plane.close)
            shell = Shell(
                tunnel.plane,
                kernel,
                link,
                configuration.home_link.ipv6_prefix,
                store,
                lambda event: driver.dispatch(event),
                report,
                self._log,
            )
            stack.callback(shell.close)
            driver: Driver[Event, Action] = Driver(agent, shell.perform, on_fault=self._fault)
            stack.callback(driver.stop)
            driver.start()
            # What was bound is forwarded again before anything new is heard.
            driver.dispatch(Start())
            shell.flush()
            tunnel.plane.start()
            for underlay in await self._underlays():
                shell.use(underlay)
            second = self._second_port(
                second_door, lambda packet, arrival: mailbox.post(ControlReceived(packet, arrival))
            )
            if second is not None:
                shell.use_second(second)
                driver.dispatch(SecondPortOpen(second.port))
            self._answer_anycast(stack)
            alterations = Alterations(kernel.port)
            stack.callback(alterations.close)
            lookout = Lookout(alterations, shell.repair)
            stack.callback(lookout.close)
            await self._serve(control)

    def _remembering(self, store: Store, link_mtu: int) -> HomeAgent:
        configuration = self._configuration
        records, complaints = store.load()
        for complaint in complaints:
            self._log.warning("store", complaint)
        store.forget_all_but(node.home_address for node in configuration.mobile_node)
        first_sequence = max(int(time.time()) - EPOCH, 1)
        agent = HomeAgent(
            configuration,
            self._keys,
            records,
            boottime(),
            link_mtu=link_mtu,
            first_sequence=first_sequence,
            wall_offset=time.time() - boottime(),
            payload_keys=self._payload_keys,
        )
        self._log.info("start", "bindings remembered", bindings=len(agent.books.cache))
        return agent

    def _answer_anycast(self, stack: AsyncExitStack) -> None:
        """Home agent discovery is one of several ways: a host that cannot offer it offers the others."""
        configuration = self._configuration
        own, link = configuration.home_agent, configuration.home_link
        if not link.anycast:
            return
        mobile_routers = any(node.may_route for node in configuration.mobile_node)
        try:
            answers = AnycastAnswers(
                own.interface,
                link.ipv6_prefix,
                own.ipv6,
                mobile_routers,
                lambda text: self._log.warning("anycast", text),
            )
        except OSError as error:
            self._log.warning("anycast", f"no home agent discovery: {error.strerror}")
            return
        answers.start()
        stack.callback(answers.close)

    def _endpoint(self) -> Endpoint:
        return Endpoint(Role.HOME_AGENT, endpoint(self._configuration, NO_KEYS))

    async def _underlays(self) -> tuple[Underlay, Underlay]:
        own, protected = self._configuration.home_agent, bool(self._payload_keys)
        port = UDP_PORT_NAT_TRAVERSAL if protected else None

        def over_ipv4() -> Underlay:
            return open_ipv4_underlay(own.ipv4, own.port, None, MARK, port)

        def over_ipv6() -> Underlay:
            return open_ipv6_underlay(own.ipv6, None, MARK, protected)

        return await self._opened(over_ipv4, str(own.ipv4)), await self._opened(over_ipv6, str(own.ipv6))

    def _second_port(self, door: Door, received: Callable[[bytes, Arrival], None]) -> SecondPort | None:
        """Without it mobile nodes know a little less about their NATs, and nothing else is missing."""
        own = self._configuration.home_agent
        if own.second_port == "none":
            return None
        port = 0 if own.second_port == "any" else own.second_port
        try:
            return SecondPort(own.ipv4, port, door, received)
        except OSError as error:
            self._log.warning("second-port", f"no second port: {error.strerror}")
            return None

    async def _opened(self, open_underlay: Callable[[], Underlay], address: str) -> Underlay:
        until = boottime() + ADDRESS_PATIENCE
        while True:
            try:
                return open_underlay()
            except OSError as error:
                if error.errno != errno.EADDRNOTAVAIL or boottime() > until:
                    why = error.strerror or str(error)
                    raise OSError(error.errno, f"no sockets at {address}: {why}") from None
            await asyncio.sleep(0.1)

    async def _serve(self, control: Control) -> None:
        loop, stopped = asyncio.get_running_loop(), asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stopped.set)
        watchdog = Watchdog(self._notifier)
        watchdog.start()
        spare_what_is_there()
        control.state = "running"
        self._notifier.ready("running")
        self._log.info("ready", "serving", interface=self._configuration.home_agent.interface)
        try:
            await stopped.wait()
        finally:
            control.state = "stopping"
            self._notifier.stopping()
            watchdog.stop()

    def _tell(self, event: str, fields: Mapping[str, object], bindings: int) -> None:
        self._log.info(event, str(fields.get("change") or fields.get("text") or event), **dict(fields))
        self._notifier.status(f"running, {bindings} bindings")

    def _fault(self, fault: Fault) -> None:
        self._log.error("fault", fault.text)

    def _attempt(self, what: str, action: Callable[[], None]) -> None:
        try:
            action()
        except OSError as error:
            self._log.error("fault", f"cannot {what}: {error}")


def load_configuration(path: Path) -> Configuration:
    """Read and check a configuration file; ConfigError names everything that is wrong with it."""
    try:
        return parse_configuration(path.read_text(encoding="utf-8"), str(path))
    except OSError as error:
        raise ConfigError([f"{path}: cannot be read: {error.strerror}"]) from None
    except UnicodeDecodeError:
        raise ConfigError([f"{path}: is not UTF-8 text"]) from None


def load_all_keys(configuration: Configuration) -> dict[IPv6Address, Keys]:
    """The keys of every mobile node. KeyFileError for an unusable file, ConfigError for a shared SPI."""
    keys: dict[IPv6Address, Keys] = {}
    owners: dict[int, str] = {}
    for node in configuration.mobile_node:
        secret = keys[node.home_address] = load_keys(node.key_file)
        if isinstance(secret, AuthenticationAssociation):
            continue  # found by home address, so these SPIs may be the same
        other = owners.setdefault(secret.update.spi, node.label)
        if other != node.label:
            raise ConfigError([f"{node.key_file}: its [update] spi is that of {other} already"])
    return keys


def load_payload_keys(configuration: Configuration) -> dict[IPv6Address, PayloadKey]:
    """Those of the mobile nodes whose payload is protected; KeyFileError for a file without one."""
    protects = configuration.protects_payload
    nodes = (node for node in configuration.mobile_node if protects(node))
    return {node.home_address: needed_payload_key(node.key_file) for node in nodes}


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--config", "path", default=DEFAULT_CONFIGURATION, show_default=True, help="Configuration file."
)
@click.option("--check", is_flag=True, help="Check configuration and key files, then end.")
@click.option("--cleanup", "clean", is_flag=True, help="Remove what a killed daemon left in the kernel.")
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    help="Instead of the configured one.",
)
@click.version_option(package_name="mn-agent")
def main(path: str, check: bool, clean: bool, log_level: str | None) -> None:
    """Receive and forward the traffic of mobile nodes that are away (Dual-Stack Mobile IPv6)."""
    try:
        configuration = load_configuration(Path(path))
        if clean:
            cleanup(Path(configuration.paths.runtime_directory), Owner.HOME_AGENT)
            return
        keys, payload_keys = load_all_keys(configuration), load_payload_keys(configuration)
        if check:
            click.echo(f"{path}: good, {len(keys)} mobile nodes")
            return
        log = log_to_stderr(log_level or configuration.log.level)
        asyncio.run(Daemon(configuration, keys, payload_keys, log).run())
    except (ConfigError, KeyFileError) as error:
        _fail(str(error), CONFIGURATION_INVALID)
    except (ControlError, KernelError, StoreError, OSError) as error:
        _fail(str(error), 1)


def _fail(message: str, code: int) -> None:
    click.echo(f"home-agent: {message}", err=True)
    sys.exit(code)
