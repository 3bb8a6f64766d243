"""The kernel of a mobile node that comes home: addresses change place under open connections."""

from __future__ import annotations

import os
import random
import socket
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from pathlib import Path

import pytest

from movement.links import LinkReader
from tests.lab.patience import PATIENCE, wait_until
from tests.lab.test_routing_kernel import HOME4, HOME6, World, config, routes_to
from tunnel.home_kernel import at_home_kernel, returning_kernel
from tunnel.kernel import MARK, KernelConfig, RoutingMode
from tunnel.routing import cleanup

pytestmark = [
    pytest.mark.lab,
    pytest.mark.skipif(os.geteuid() != 0 or not Path("/dev/net/tun").exists(), reason="needs root and TUN"),
]

LEASE4, SLAAC6 = IPv4Address("203.0.113.10"), IPv6Address("2001:db8:99::1234")
PREFIXES = (IPv6Network("2001:db8:99::/64"), IPv4Network("203.0.113.0/24"))
ROUTERS = (IPv6Address("fe80::1"), IPv4Address("203.0.113.1"))


class HomeWorld(World):
    """e0 leads to the home link: `ap` is its router."""

    def __init__(self, tag: str, state_dir: Path) -> None:
        super().__init__(tag, state_dir)
        self.ap.sh("ip addr add 203.0.113.1/24 dev e0; ip -6 addr add 2001:db8:99::1/64 dev e0 nodad")
        self.mn.sh(
            "ip addr flush dev e0; ip -6 addr flush dev e0 scope global; "
            f"ip addr add {LEASE4}/24 dev e0; ip -6 addr add {SLAAC6}/64 dev e0 nodad; "
            "ip route replace default via 203.0.113.1; ip -6 route replace default via fe80::1 dev e0"
        )


@pytest.fixture
def world(tmp_path: Path) -> Iterator[HomeWorld]:
    made = HomeWorld(f"{os.getpid()}-{random.SystemRandom().randrange(16**4):04x}", tmp_path)
    try:
        yield made
    finally:
        made.close()


def away() -> KernelConfig:
    return config(care_of=(LEASE4, SLAAC6), local_prefixes=(), home_prefixes=PREFIXES)


def at_home(mode: RoutingMode = RoutingMode.LAN) -> KernelConfig:
    return at_home_kernel(
        "mip0",
        (HOME6, HOME4),
        1400,
        "e0",
        ROUTERS,
        PREFIXES,
        mode,
        care_of=(LEASE4, SLAAC6),
        uplinks=("e0",),
    )


def addresses(world: World, device: str) -> set[str]:
    said = world.mn.sh(f"ip -o addr show dev {device}")
    return {line.split()[3] for line in said.splitlines()}


def test_while_the_home_agent_has_not_answered_the_address_is_there_and_the_rules_are_those_of_abroad(
    world: HomeWorld,
) -> None:
    world.tun()
    state = world.state()
    world.apply(state, away())
    world.apply(state, returning_kernel(away(), HOME6, "e0"))
    assert "2001:db8:99::77/128" in addresses(world, "e0")
    assert "2001:db8:99::77/128" in addresses(world, "mip0")
    assert routes_to(world.mn, ["2001:db8:cc::1"], "from 2001:db8:99::77") == ["mip0"]
    assert "daddr 2001:db8:99::77 counter" in world.mn.sh("nft list table inet mn_agent")
    asked = world.ap.sh("ping -c1 -W1 2001:db8:99::77 || true; ip -6 neigh show 2001:db8:99::77")
    assert "100% packet loss" in asked, "nothing is taken in"
    assert "lladdr" in asked, "but whoever asks for the address learns where it is"
    world.apply(state, away())
    assert "2001:db8:99::77/128" not in addresses(world, "e0")


def test_at_home_addresses_are_on_the_link_and_nothing_is_tunnelled_or_guarded(world: HomeWorld) -> None:
    world.tun()
    state = world.state()
    world.apply(state, away())
    world.apply(state, at_home())
    assert {"2001:db8:99::77/128", "203.0.113.77/32"} <= addresses(world, "e0")
    assert addresses(world, "mip0") == set()
    everywhere = ["2001:db8:cc::1", "192.0.2.10", "203.0.113.2", "2001:db8:99::2"]
    assert set(routes_to(world.mn, everywhere)) == {"e0"}
    assert "src 203.0.113.77" in world.mn.sh("ip route get 192.0.2.10")
    assert "src 2001:db8:99::77" in world.mn.sh("ip route get 2001:db8:cc::1")
    assert "daddr 2001:db8:99::77" not in world.mn.sh("nft list table inet mn_agent")
    world.ap.sh("ping -c1 -w30 203.0.113.77; ping -c1 -w30 2001:db8:99::77")
    assert world.apply(state, at_home()) == 0, "nothing is left to change"


def test_without_a_carrier_the_kernel_itself_leads_payload_of_home_into_the_tunnel(world: HomeWorld) -> None:
    world.tun()
    state = world.state()
    world.apply(state, away())
    world.apply(state, at_home())
    far = {"192.0.2.10": HOME4, "2001:db8:cc::1": HOME6}
    for there, home in far.items():
        assert routes_to(world.mn, [there], f"from {home}") == ["e0"]
    world.ap.sh("ip link set e0 down")
    wait_until(
        lambda: all(routes_to(world.mn, [there], f"from {home}") == ["mip0"] for there, home in far.items()),
        "both are led into the tunnel",
    )


def test_connections_survive_coming_home_and_leaving_again(world: HomeWorld) -> None:
    world.tun()
    state = world.state()
    world.apply(state, at_home())
    for family, home, peer in (
        (socket.AF_INET, str(HOME4), "203.0.113.1"),
        (socket.AF_INET6, str(HOME6), "2001:db8:99::1"),
    ):
        near, far = _connected(world, family, home, peer)
        with near, far:
            _talk(near, far)
            world.apply(state, away())
            world.apply(state, returning_kernel(away(), HOME6, "e0"))
            world.apply(state, at_home())
            _talk(near, far)


def test_what_waits_for_neighbours_of_the_link_that_was_left_is_let_go(world: HomeWorld) -> None:
    """TCP does not send again what it believes to be still in a queue of this host."""
    world.tun()
    state = world.state()
    world.apply(state, at_home())
    world.mn.sh("ping -c1 -W1 2001:db8:99::dead || true; ping -c1 -W1 203.0.113.99 || true")
    assert "INCOMPLETE" in world.mn.sh("ip neigh; ip -6 neigh")
    world.apply(state, away())
    assert "INCOMPLETE" not in world.mn.sh("ip neigh; ip -6 neigh")


def test_what_waits_for_neighbours_of_the_tunnel_that_was_left_is_let_go(world: HomeWorld) -> None:
    """A program that wraps packets hands them to the link as TCP made them."""
    world.tun()
    state = world.state()
    world.apply(state, away())
    world.apply(state, returning_kernel(away(), HOME6, "e0"))
    for care_of, nobody in ((SLAAC6, "2001:db8:99::dead"), (LEASE4, "203.0.113.99")):
        world.mn.sh(f"ping -c1 -W1 -m {MARK} -I {care_of} {nobody} || true")
    asked_for = world.mn.sh("ip neigh show nud incomplete; ip -6 neigh show nud incomplete")
    assert "203.0.113.99" in asked_for
    assert "2001:db8:99::dead" in asked_for
    world.apply(state, at_home())
    assert "INCOMPLETE" not in world.mn.sh("ip neigh; ip -6 neigh")


@pytest.mark.parametrize("mode", list(RoutingMode))
def test_leaving_home_restores_tunnel_and_guard_and_takes_the_addresses_off_the_link(
    world: HomeWorld, mode: RoutingMode
) -> None:
    world.tun()
    state = world.state()
    world.apply(state, at_home(mode))
    world.apply(state, away())
    assert {"2001:db8:99::77/128", "203.0.113.77/32"} == addresses(world, "mip0")
    assert not {"2001:db8:99::77/128", "203.0.113.77/32"} & addresses(world, "e0")
    assert routes_to(world.mn, ["192.0.2.10"], "from 203.0.113.77") == ["mip0"]
    assert "daddr 203.0.113.77" in world.mn.sh("nft list table inet mn_agent")


def test_what_a_killed_agent_left_at_home_is_removed_and_what_others_put_there_stays(
    world: HomeWorld,
) -> None:
    world.tun()
    world.mn.sh("ip -6 addr add 2001:db8:99::abcd/128 dev e0 nodad; ip addr add 203.0.113.200/32 dev e0")
    world.apply(world.state(), at_home())
    world.mn.run(lambda: cleanup(world.state_dir))
    left = addresses(world, "e0")
    assert not {"2001:db8:99::77/128", "203.0.113.77/32"} & left
    assert {"2001:db8:99::abcd/128", "203.0.113.200/32", "203.0.113.10/24"} <= left
    assert "191" not in world.mn.sh(
        "ip rule; ip -6 rule; ip route show table all; ip -6 route show table all"
    )


def test_a_lost_carrier_is_counted_even_if_no_snapshot_shows_the_link_down(world: HomeWorld) -> None:
    reader = world.mn.run(LinkReader)
    try:
        before = reader.read().link("e0")
        world.ap.sh("ip link set e0 down; ip link set e0 up")
        after = reader.read().link("e0")
    finally:
        reader.close()
    assert before is not None
    assert after is not None
    assert after.carrier_losses == before.carrier_losses + 1


def _connected(
    world: HomeWorld, family: socket.AddressFamily, home: str, peer: str
) -> tuple[socket.socket, socket.socket]:
    def listen() -> socket.socket:
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.bind((peer, 0))
        listener.listen()
        return listener

    def connect(port: int) -> socket.socket:
        opened = socket.socket(family, socket.SOCK_STREAM)
        opened.bind((home, 0))
        opened.settimeout(PATIENCE)
        opened.connect((peer, port))
        return opened

    with world.ap.run(listen) as listener:
        listener.settimeout(PATIENCE)
        near = world.mn.run(lambda: connect(listener.getsockname()[1]))
        far, _ = listener.accept()
        far.settimeout(PATIENCE)
        return near, far


def _talk(near: socket.socket, far: socket.socket) -> None:
    near.sendall(b"here")
    assert far.recv(4) == b"here"
    far.sendall(b"there")
    assert near.recv(5) == b"there"
