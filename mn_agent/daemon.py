"""mn-agent: assembles the mobile node, drives it, and answers `mnctl`.

Performs I/O.
"""

from __future__ import annotations

import asyncio
import random
import signal
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

import click

from mn_agent.actions import Action
from mn_agent.config import Configuration
from mn_agent.control import Control
from mn_agent.desired import UNBOUND_MTU
from mn_agent.events import ControlReceived, Event, NetworkChanged, PathSilent, Resumed, Stop
from mn_agent.memory import recall
from mn_agent.node import MobileNode
from mn_agent.shell import Shell
from mn_agent.state_files import StateFiles
from movement.snapshot import Snapshot
from movement.sources import Ours, Watcher
from runtime.awakening import Awakening
from runtime.clock import boottime
from runtime.control import ControlError
from runtime.control_server import ControlServer
from runtime.driver import Driver, Fault
from runtime.garbage import spare_what_is_there
from runtime.log import Log, log_to_stderr
from runtime.login_manager import LoginManager, bus_address
from runtime.mailbox import Mailbox
from runtime.service import Notifier, Watchdog
from runtime.settings import ConfigError
from runtime.settings_file import read_settings
from runtime.sleep_witnesses import SleepWitnesses
from runtime.version import VERSION
from tunnel.authentication import protection
from tunnel.endpoint import Endpoint, Role
from tunnel.kernel import PROTOCOL, KernelError, Owner
from tunnel.keys import KeyFileError, load_keys, needed_payload_key
from tunnel.path import Arrival
from tunnel.protection import PayloadKey
from tunnel.routing import STATE_FILE, KernelState, cleanup
from tunnel.tiers import Tunnel, Wiring, open_tunnel

DEFAULT_CONFIGURATION = "/etc/mn-agent/mn-agent.toml"
CONFIGURATION_INVALID = 7


class Daemon:
    """One running mobile node agent."""

    def __init__(self, configuration: Configuration, log: Log) -> None:
        self._configuration = configuration
        self._log = log
        self._runtime = Path(configuration.paths.runtime_directory)
        self._state = Path(configuration.paths.state_directory)
        self._notifier = Notifier.from_environment()

    async def run(self) -> None:
        """Until a signal, or until the user asks for the end."""
        configuration = self._configuration
        keys, payload_key = load_keys(configuration.security.key_file), load_payload_key(configuration)
        for directory in (self._runtime, self._state):
            directory.mkdir(mode=0o755, parents=True, exist_ok=True)
        files = StateFiles(self._state, self._log)
        memory = recall(files.memory(), random.getrandbits(16), time.time())
        wall_offset = time.time() - boottime()
        networks = files.networks(boottime(), wall_offset)
        rng = random.SystemRandom()
        node = MobileNode(configuration, keys, memory, rng, boottime(), wall_offset, payload_key, networks)
        async with AsyncExitStack() as stack:
            control = Control(
                node,
                lambda event: driver.dispatch(event),
                lambda: tunnel.plane.counters(),
                lambda: tunnel.report,
                lambda: shell.kernel_problem,
                lambda: driver.flight,
                protection(keys),
                VERSION,
            )
            server = ControlServer(
                Path(configuration.paths.control_socket),
                control.methods(),
                daemon="mn-agent",
                event_schema="mnctl/event/1",
                on_fault=lambda what, error: self._log.error("control", f"{what}: {error!r}"),
            )
            # Only one agent can hold the socket; what a killed one left in the kernel goes after that.
            await server.start()
            stack.push_async_callback(server.close)
            cleanup(self._runtime)
            for warning in misplaced_home_addresses(configuration):
                self._log.warning("home-address", warning)
            mailbox: Mailbox[Event] = Mailbox(lambda events: driver.dispatch(*events))
            loop = asyncio.get_running_loop()

            def on_control(packet: bytes, arrival: Arrival) -> None:
                mailbox.post(ControlReceived(packet, arrival))

            def plane_failed(reason: str) -> None:
                self._log.error("data-plane", reason)
                loop.call_soon_threadsafe(self._renew_device, tunnel, lambda: shell.repair())

            def path_silent() -> None:
                mailbox.post(PathSilent())

            wiring = Wiring(
                Endpoint(Role.MOBILE_NODE),
                on_control,
                plane_failed,
                path_silent,
                payload_key is not None,
                configuration.tunnel.tlv,
                configuration.router is not None,
            )
            section = configuration.tunnel
            tunnel = open_tunnel(section.data_plane, section.device, UNBOUND_MTU, wiring)
            stack.callback(tunnel.close)
            kernel = KernelState(self._runtime / STATE_FILE)
            stack.callback(kernel.close)
            stack.callback(kernel.clear)

            def report(event: str, fields: Mapping[str, object]) -> None:
                server.publish(event, **fields)
                control.reported(event, fields)
                self._tell(event, fields)

            stack.callback(tunnel.plane.close)
            shell = Shell(
                tunnel.plane,
                kernel,
                files,
                lambda event: driver.dispatch(event),
                report,
                self._log,
                device=tunnel.device.name,
                protected=payload_key is not None,
            )
            stack.callback(shell.close)

            def snapshot_taken(snapshot: Snapshot, hinted_at: float) -> None:
                driver.dispatch(NetworkChanged(snapshot, hinted_at, tunnel.plane.last_received()))

            def changed_by_others(what: str) -> None:
                self._log.warning("repair", f"{what}; repaired")
                shell.repair()

            def awake(seconds: float) -> None:
                """The links come first, so that nothing is sent through one that is gone."""
                self._log.info("resume", f"this host slept for {seconds:.0f} s")
                try:
                    snapshot_taken(watcher.read(), boottime())
                finally:
                    driver.dispatch(Resumed(seconds))

            sleep = SleepWitnesses(boottime, lambda: driver.wake(), files.settle, awake)
            driver: Driver[Event, Action] = Driver(
                node, shell.perform, on_fault=self._fault, on_slept=sleep.told_by_clock
            )
            stack.callback(driver.stop)
            ours = Ours(tunnel.device.name, PROTOCOL, Owner.MOBILE_NODE.value, kernel.port)
            watcher = Watcher(snapshot_taken, ours, changed_by_others, shell.repair)
            stack.callback(watcher.close)
            tunnel.plane.start()
            driver.start()
            stack.callback(Awakening(loop, driver.wake).close)
            if (bus := bus_address()) is not None:
                unheard = partial(self._log.debug, "login-manager")
                stack.callback(LoginManager(bus, sleep.told_by_login_manager, unheard).close)
            await self._serve(driver, shell, watcher)

    async def _serve(self, driver: Driver[Event, Action], shell: Shell, watcher: Watcher) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, driver.dispatch, Stop())

        watchdog = Watchdog(self._notifier)
        try:
            watcher.start()
            watchdog.start()
            spare_what_is_there()
            self._notifier.ready()
            await shell.finished.wait()
        finally:
            self._notifier.stopping()
            watchdog.stop()

    def _tell(self, event: str, fields: Mapping[str, object]) -> None:
        if event == "state":
            reason = f": {fields['reason']}" if fields["reason"] else ""
            self._notifier.status(f"{fields['state']}{reason}")
            self._log.info("state", f"{fields['state']}{reason}")
        elif event == "not-as-router":
            why = f"{fields['text']} ({fields['status']})"
            self._log.warning("router", f"{fields['home_agent']} takes no mobile router: {why}")
        elif event == "handover":
            outcome = f"{fields['from']} -> {fields['to']}: {fields['result']}"
            self._log.info("handover", outcome, number=fields["id"], outage_ms=fields["outage_ms"])

    def _renew_device(self, tunnel: Tunnel, repair: Callable[[], None]) -> None:
        """Somebody deleted the TUN device: another one gets its addresses and routes."""
        try:
            tunnel.renew_device()
        except OSError as error:
            self._log.error("data-plane", f"cannot renew the TUN device: {error}")
            return
        repair()

    def _fault(self, fault: Fault) -> None:
        self._log.error("fault", fault.text)


def load_payload_key(configuration: Configuration) -> PayloadKey | None:
    """From which those for payload are derived; KeyFileError if it is to be protected and there is none."""
    wanted = configuration.tunnel.protect_payload
    return needed_payload_key(configuration.security.key_file) if wanted else None


def misplaced_home_addresses(configuration: Configuration) -> list[str]:
    """One sentence for each home address that somebody else has put on an interface of this host.

    It would be taken for an address of the network that is visited, or be in the way of the tunnel's.
    """
    from movement.addresses import in_use

    homes = (configuration.home.ipv6, configuration.requested_ipv4)
    found = in_use([home for home in homes if home is not None], configuration.tunnel.device)
    return [
        f"the home address {address} is on {interface} already: take it out of the network configuration, "
        "mn-agent puts it where it belongs"
        for address, interface in found.items()
    ]


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--config", "path", default=DEFAULT_CONFIGURATION, show_default=True, help="Configuration file."
)
@click.option("--check", is_flag=True, help="Check configuration and key file, then end.")
@click.option("--cleanup", "clean", is_flag=True, help="Remove what a killed agent left in the kernel.")
@click.version_option(package_name="mn-agent")
def main(path: str, check: bool, clean: bool) -> None:
    """Keep the home addresses of this host while it moves between networks (Dual-Stack Mobile IPv6)."""
    try:
        configuration = read_settings(Path(path), Configuration)
        if clean:
            cleanup(Path(configuration.paths.runtime_directory))
            return
        if check:
            load_keys(configuration.security.key_file)
            load_payload_key(configuration)
            click.echo(f"{path}: good")
            for warning in misplaced_home_addresses(configuration):
                click.echo(f"{path}: {warning}", err=True)
            return
        asyncio.run(Daemon(configuration, log_to_stderr(configuration.log.level)).run())
    except (ConfigError, KeyFileError) as error:
        _fail(str(error), CONFIGURATION_INVALID)
    except (ControlError, KernelError, OSError) as error:
        _fail(str(error), 1)


def _fail(message: str, code: int) -> None:
    click.echo(f"mn-agent: {message}", err=True)
    sys.exit(code)
