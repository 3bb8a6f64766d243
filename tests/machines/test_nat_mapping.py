"""Keepalives as often as a NAT needs them, and no oftener."""

from __future__ import annotations

from ipaddress import IPv4Address
from itertools import count

import pytest

from mn_agent.events import PathLastUsed
from mn_agent.status import Clocks, status
from tests.machines.mobile_node_script import CAFE4, Script, configuration
from tests.machines.test_path_watch import gone, network
from tunnel.plane import Counters
from wire.options import NO_KEEPALIVE
from wire.vendor import observed_option

PUBLIC = IPv4Address("192.0.2.100")
DAY = 86400.0


class Nat:
    """Forgets a mapping that was idle for `lifetime` seconds, and gives another port then."""

    def __init__(self, script: Script, lifetime: float, refresh: int = 110) -> None:
        self.script, self.lifetime, self.refresh = script, lifetime, refresh
        self._ports = count(40000)
        self._port = next(self._ports)
        self._used_at = script.now
        self.periods: list[float] = []
        """Seconds between the Binding Updates."""

    def answer(self) -> None:
        """The home agent answers the update that has just left, and says where it came from."""
        now = self.script.now
        if now - self._used_at > self.lifetime:
            self._port = next(self._ports)
        self.periods.append(now - self._used_at)
        self._used_at = now
        seen = observed_option(PUBLIC, self._port)
        self.script.answer(self.script.one(), refresh=self.refresh, options=(seen,))

    def idle(self, updates: int) -> list[float]:
        """Nobody sends anything; how long it took to each of the next updates."""
        self.periods.clear()
        while len(self.periods) < updates:
            self.script.sleep()
            binding = self.script.node.registration.binding
            if not self.script.sent and binding is not None:
                self.script.feed(PathLastUsed(0.0, 0.0))
            if self.script.sent:
                self.answer()
        return self.periods


def behind(lifetime: float, refresh: int = 110, more: str = "") -> tuple[Script, Nat]:
    script = Script(configuration(more=more))
    nat = Nat(script, lifetime, refresh)
    script.links(network(CAFE4))
    nat.answer()
    return script, nat


@pytest.mark.requirement("R093")
def test_a_nat_that_remembers_is_asked_no_oftener_than_the_home_agent_says() -> None:
    _, nat = behind(lifetime=125.0)
    assert all(98.0 < period <= 110.0 for period in nat.idle(6))


@pytest.mark.parametrize("lifetime", [2.0, 15.0, 30.0, 60.0, 90.0])
def test_the_period_falls_below_the_lifetime_of_mappings_in_five_steps_and_stays(lifetime: float) -> None:
    _, nat = behind(lifetime)
    periods = nat.idle(20)
    steps = sum(period > lifetime for period in periods)
    assert 1 <= steps <= 5
    assert all(period <= lifetime for period in periods[steps:])
    assert periods[-1] > lifetime / 5, "and no battery is wasted"


def test_what_was_learnt_is_remembered_for_the_network_and_tried_again_after_a_day() -> None:
    script, nat = behind(lifetime=60.0)
    short = nat.idle(4)[-1]
    assert short < 60.0
    script.links(gone(1))
    script.links(network(CAFE4, losses=2))
    nat.answer()
    assert nat.idle(1) == [pytest.approx(short, abs=0.1)]
    script.links(gone(3))
    script.now += DAY
    script.node.tick(script.now)
    script.links(network(CAFE4, losses=4))
    nat.answer()
    assert nat.idle(1)[0] > 95.0


def test_a_flush_in_the_middle_of_traffic_teaches_nothing() -> None:
    script, nat = behind(lifetime=1000.0)
    script.sleep()
    now = script.now
    script.feed(PathLastUsed(now - 3.0, now - 200.0))
    nat._port = next(nat._ports)
    nat.answer()
    assert all(98.0 < period <= 110.0 for period in nat.idle(3))


def test_a_nat_with_a_new_port_every_time_is_not_asked_for_ever() -> None:
    _, nat = behind(lifetime=0.0)
    periods = nat.idle(12)
    assert min(periods) < 5.0
    assert periods[-1] > 50.0


def test_the_user_may_say_how_often() -> None:
    _, nat = behind(lifetime=1000.0, more="[binding]\nnat_keepalive = 30.0")
    assert nat.idle(2) == [pytest.approx(30.0), pytest.approx(30.0)]


@pytest.mark.requirement("R081", "R094")
def test_all_ones_means_none_whatever_was_learnt() -> None:
    script, nat = behind(lifetime=60.0)
    nat.idle(3)
    script.links(gone(1))
    script.links(network(CAFE4, losses=2))
    nat.refresh = NO_KEEPALIVE
    nat.answer()
    binding = script.node.registration.binding
    assert binding is not None
    assert binding.keepalive is None
    due = script.node.deadline()
    assert due is not None
    assert due.reason == "binding refresh"


def test_the_status_says_what_was_learnt() -> None:
    script, nat = behind(lifetime=60.0)
    nat.idle(3)
    told = status(script.node, Counters(0, 0, 0, 0, {}), "", "", Clocks(script.now, 0.0))
    path = told["path"]
    assert isinstance(path, dict)
    assert path["nat_lifetime_s"] == path["keepalive_s"] < 60.0
