"""A sleep is noticed by the kernel's word alone: with no event, no link and no timer that is due."""

from __future__ import annotations

import asyncio
import os
import time

import pytest

from mn_agent.events import Refresh, Resumed
from runtime.awakening import Awakening
from tests.machines.mobile_node_script import OFFICE6, Script, link

OFFICE = link("eth0", OFFICE6)


def test_the_kernel_takes_such_a_timer_and_what_it_says_is_passed_on_each_time() -> None:
    """A sleep, or a set clock, cannot be had in a test; the timer being due is read in the same place."""

    async def run() -> list[float]:
        told: list[float] = []
        awakening = Awakening(asyncio.get_running_loop(), lambda: told.append(time.monotonic()), 1)
        try:
            assert awakening._fd >= 0
            await asyncio.sleep(0.05)
            awakening._arm(1)
            await asyncio.sleep(0.05)
        finally:
            awakening.close()
        return told

    assert len(asyncio.run(run())) == 2


def test_armed_for_ever_it_wakes_nobody_and_leaves_no_descriptor() -> None:
    async def run() -> list[None]:
        told: list[None] = []
        before = len(os.listdir("/proc/self/fd"))
        awakening = Awakening(asyncio.get_running_loop(), lambda: told.append(None))
        await asyncio.sleep(0.05)
        awakening.close()
        awakening.close()
        assert len(os.listdir("/proc/self/fd")) == before
        return told

    assert asyncio.run(run()) == []


def test_who_is_bound_sends_an_update_on_waking_up() -> None:
    script = Script()
    script.bind(OFFICE)
    script.at(100.0).feed(Resumed(60.0)).one()


def test_who_has_just_begun_to_register_does_not_begin_again() -> None:
    script = Script().at(0.0).links(OFFICE)
    script.feed(Resumed(60.0)).nothing()


@pytest.mark.parametrize("asked", [Resumed(60.0), Refresh()])
def test_who_waits_between_tries_tries_at_once(asked: Resumed | Refresh) -> None:
    script = Script().at(0.0).links(OFFICE)
    while script.now < 20:
        script.sleep()
    script.at(25.0).feed(asked).one()


def test_without_a_network_waking_up_does_nothing_and_waits_for_nothing() -> None:
    script = Script()
    script.bind(OFFICE)
    script.at(5.0).links()
    script.at(9000.0).feed(Resumed(8000.0)).nothing()
    assert script.node.deadline() is None
