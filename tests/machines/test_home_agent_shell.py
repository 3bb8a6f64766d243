"""The hands of the home agent: before there are sockets, and where there is no room on the disk."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv6Address, IPv6Network
from pathlib import Path
from typing import Any, cast

from home_agent.actions import Remember, SendControl
from home_agent.shell import Shell
from home_agent.store import Store
from tests.machines.ha_script import LAPTOP, HomeScript, over_ipv6
from tunnel.path import Arrival

HERE, THERE = IPv4Address("203.0.113.2"), IPv4Address("198.51.100.9")


@dataclass(slots=True)
class Sockets:
    """An underlay that notes what leaves."""

    local: IPv4Address = HERE
    sent: list[tuple[object, int, bytes]] = field(default_factory=list)

    def send_control(self, remote: object, port: int, packet: bytes) -> str | None:
        self.sent.append((remote, port, packet))
        return None


class Anything:
    """A plane, a kernel, a link or a store of which nothing is asked here but that it takes part."""

    def __getattr__(self, name: str) -> Any:
        return lambda *_: None


def shell_with(store: object) -> Shell:
    return Shell(
        *cast(tuple[Any, Any, Any], (Anything(), Anything(), Anything())),
        IPv6Network("2001:db8:99::/64"),
        *cast(tuple[Any, Any, Any, Any], (store, print, print, Anything())),
    )


def test_what_is_said_before_there_are_sockets_leaves_as_soon_as_there_are_some() -> None:
    """After a crash the home agent calls every mobile node whose payload keys it has forgotten, at once."""

    async def start() -> list[tuple[object, int, bytes]]:
        shell = shell_with(Anything())
        shell.perform(SendControl(b"come for new keys", Arrival(HERE, THERE, 4191, 40001)))
        shell.flush()
        sockets = Sockets()
        shell.use(cast(Any, sockets))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return sockets.sent

    assert asyncio.run(start()) == [(THERE, 40001, b"come for new keys")]


def test_on_a_full_disk_answers_leave_all_the_same_and_what_was_not_written_is_when_there_is_room(
    tmp_path: Path,
) -> None:
    script = HomeScript()
    script.feed(script.laptop.native(over_ipv6(script.laptop)))
    record = script.records[LAPTOP]
    many = [replace(record, home_address=IPv6Address(int(LAPTOP) + number)) for number in range(500)]
    store = Store(tmp_path / "ha.sqlite")

    async def run() -> None:
        shell, sockets = shell_with(store), Sockets()
        shell.use(cast(Any, sockets))
        store._database.execute("PRAGMA max_page_count = 1")
        for one in many:
            shell.perform(Remember(one))
        shell.perform(SendControl(b"an answer", Arrival(HERE, THERE, 4191, 40001)))
        shell.flush()
        assert sockets.sent == [(THERE, 40001, b"an answer")]
        assert "full" in shell.problems["not-remembered"]
        store._database.execute("PRAGMA max_page_count = 100000")
        shell.perform(Remember(many[0]))
        shell.flush()
        assert shell.problems == {}

    asyncio.run(run())
    assert len(store.load()[0]) == len(many)
