"""Real ARP and neighbour discovery between namespaces: Linux as the router that is asked."""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import Callable, Iterator
from ipaddress import ip_address

import pytest

from movement.known_networks import KnownNetworks
from movement.learning import learn
from movement.probe import Prober
from movement.snapshot import Snapshot
from movement.sources import Watcher
from movement.visit import Visit
from tests.lab.namespace import Namespace
from tests.lab.patience import PATIENCE
from wire.router_probes import NeighbourAnswer

pytestmark = pytest.mark.lab

FOUR, SIX = ip_address("192.168.7.2"), ip_address("2001:db8:7::5")


@pytest.fixture
def ends() -> Iterator[tuple[Namespace, Namespace]]:
    """A host and its router. The host has addresses as DHCP and advertisements give them, and keeps them."""
    name = f"prb-{os.getpid()}-{random.SystemRandom().randrange(16**4):04x}"
    host, router = Namespace(name), Namespace(f"{name}-r")
    try:
        # A switch with another port that stays up: what the router has outlives the carrier of the host.
        router.sh(
            "ip link add r0 address 02:00:00:00:00:01 type bridge; "
            "ip link add other type veth peer name end; "
            "sysctl -qw net.ipv6.conf.r0.accept_dad=0 net.ipv6.conf.r0.addr_gen_mode=1; "
            "ip link set other master r0 up; ip link set end up; ip link set r0 up; "
            "ip addr add 192.168.7.1/24 dev r0; ip addr add fe80::1/64 dev r0 nodad"
        )
        host.sh(
            "sysctl -qw net.ipv6.conf.default.accept_dad=0; "
            f"ip link add e0 type veth peer name port netns {router.name}"
        )
        router.sh("ip link set port master r0 up")
        host.sh(
            "ip link set e0 up; ip addr add 192.168.7.2/24 dev e0 valid_lft 600 preferred_lft 600; "
            "ip addr add 2001:db8:7::5/64 dev e0 nodad valid_lft 600 preferred_lft 600; "
            "ip route add default via 192.168.7.1; ip -6 route add default via fe80::1 dev e0"
        )
        yield host, router
    finally:
        host.close()
        router.close()


class Laptop:
    """The modules that recognise networks, around a real link, without the rest of a mobile node."""

    def __init__(self) -> None:
        self.known = KnownNetworks()
        self.visit = Visit(191)
        self.confirmed: list[str] = []
        self.problems: list[str] = []
        self._prober = Prober(self._heard, self.problems.append)
        self._watcher = Watcher(self._seen)

    async def run(self, body: Callable[[Laptop], object]) -> None:
        self._watcher.start()
        try:
            await body(self)  # type: ignore[misc]
        finally:
            self._watcher.close()
            self._prober.close()

    def _seen(self, snapshot: Snapshot, _: float) -> None:
        now = time.clock_gettime(time.CLOCK_BOOTTIME)
        self.known = learn(self.known, snapshot, now)
        link = snapshot.link("e0")
        assert link is not None
        ask = self.visit.seen(link, self.known, now)
        self._prober.listen(("e0",) if self.visit.asking else ())
        self._prober.ask("e0", ask)

    def _heard(self, interface: str, answer: NeighbourAnswer) -> None:
        now = time.clock_gettime(time.CLOCK_BOOTTIME)
        if self.visit.heard(answer, now):
            self.confirmed.append(self.visit.confirmations[-1].by)


async def until(condition: Callable[[], bool], limit: float = PATIENCE) -> None:
    deadline = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < deadline, "nothing happened in time"
        await asyncio.sleep(0.005)


async def blink(router: Namespace, meanwhile: str = "true") -> None:
    """The cable is pulled and plugged in again. The router answers from the first moment."""
    await asyncio.to_thread(router.sh, f"ip link set port down; {meanwhile}; ip link set port up")


@pytest.mark.requirement("R112")
def test_addresses_are_confirmed_by_the_router_they_came_from_and_not_by_one_that_looks_alike(
    ends: tuple[Namespace, Namespace],
) -> None:
    host, router = ends

    async def body(laptop: Laptop) -> None:
        await asyncio.to_thread(
            host.sh, "bash -c 'for a in 192.168.7.1 fe80::1%e0; do echo > /dev/udp/$a/9; done'"
        )
        await until(lambda: len(laptop.known.entries) == 2)
        assert laptop.visit.doubtful == ()
        await asyncio.sleep(1.0)  # one test a second
        laptop.confirmed.clear()
        await blink(router)
        await until(lambda: set(laptop.confirmed) == {"arp", "na"})
        assert laptop.visit.doubtful == ()
        await asyncio.sleep(1.0)
        laptop.confirmed.clear()
        await blink(router, "ip link set r0 address 02:00:00:00:00:66")
        await until(lambda: set(laptop.visit.doubtful) == {FOUR, SIX})
        await asyncio.sleep(0.8)
        assert laptop.confirmed == []
        assert set(laptop.visit.doubtful) == {FOUR, SIX}
        assert laptop.problems == []

    host.run(lambda: asyncio.run(Laptop().run(body)))
