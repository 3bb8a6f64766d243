"""What a real DHCP server says of a captive portal to a host that has its address from somebody else."""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from ipaddress import IPv4Address

import pytest

from mn_agent.actions import AskDhcp
from mn_agent.dhcp_inquirer import DhcpInquirer
from mn_agent.events import DhcpSaid
from tests.lab.namespace import Namespace
from tunnel.kernel import MARK

pytestmark = [pytest.mark.lab, pytest.mark.skipif(os.geteuid() != 0, reason="needs root")]

API = "https://portal.example.net/api"
OWN = IPv4Address("192.168.7.23")


@pytest.fixture
def ends() -> Iterator[tuple[Namespace, Namespace]]:
    """A laptop and the router of the cafe."""
    tag = f"{os.getpid()}-{random.SystemRandom().randrange(16**4):04x}"
    with ExitStack() as stack:
        laptop, router = (Namespace(f"{name}-{tag}") for name in ("laptop", "router"))
        for one in (laptop, router):
            stack.callback(one.close)
        laptop.sh(f"ip link add e0 type veth peer name e0 netns {router.name}")
        laptop.sh(f"ip addr add {OWN}/24 dev e0; ip link set e0 up; ip link set lo up")
        router.sh("ip addr add 192.168.7.1/24 dev e0; ip link set e0 up")
        yield laptop, router


def serving(router: Namespace, option: str) -> subprocess.Popen[bytes]:
    words = f"ip netns exec {router.name} dnsmasq --keep-in-foreground --conf-file=/dev/null --port=0"
    words += " --user=root --interface=e0 --bind-interfaces --dhcp-range=192.168.7.10,192.168.7.60,1h"
    words += f" --dhcp-leasefile=/dev/null --pid-file= --log-facility=/dev/null {option}"
    return subprocess.Popen(words.split())


def asked(laptop: Namespace, tries: int) -> DhcpSaid | None:
    """Ask as often as it takes for the server to be there."""

    async def ask() -> DhcpSaid | None:
        heard: asyncio.Queue[DhcpSaid] = asyncio.Queue()
        inquirer = DhcpInquirer(MARK, heard.put_nowait)
        try:
            for _ in range(tries):
                assert inquirer.ask(AskDhcp("e0", OWN)) is None
                try:
                    return await asyncio.wait_for(heard.get(), 0.2)
                except TimeoutError:
                    continue
            return None
        finally:
            inquirer.close()

    return laptop.run(lambda: asyncio.run(ask()))


@pytest.mark.parametrize(
    ("option", "said"), [(f"--dhcp-option=114,{API}", API), ("", None)], ids=["a portal", "no portal"]
)
def test_a_dhcp_server_tells_of_its_portal(
    ends: tuple[Namespace, Namespace], option: str, said: str | None
) -> None:
    laptop, router = ends
    server = serving(router, option)
    try:
        assert asked(laptop, 150) == DhcpSaid("e0", said)
    finally:
        server.terminate()
        server.wait()


def test_where_nobody_answers_nothing_is_heard_and_an_interface_that_is_gone_is_said(
    ends: tuple[Namespace, Namespace],
) -> None:
    laptop, _ = ends
    assert asked(laptop, 1) is None

    async def ask() -> str | None:
        return DhcpInquirer(MARK, lambda said: None).ask(AskDhcp("e9", OWN))

    assert laptop.run(lambda: asyncio.run(ask())) == "No such device"
