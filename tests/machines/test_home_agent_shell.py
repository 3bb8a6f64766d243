"""The hands of the home agent at its start: what is decided before there are sockets."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Network
from typing import Any, cast

from home_agent.actions import SendControl
from home_agent.shell import Shell
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


def test_what_is_said_before_there_are_sockets_leaves_as_soon_as_there_are_some() -> None:
    """After a crash the home agent calls every mobile node whose payload keys it has forgotten, at once."""

    async def start() -> list[tuple[object, int, bytes]]:
        shell = Shell(
            *cast(tuple[Any, Any, Any], (Anything(), Anything(), Anything())),
            IPv6Network("2001:db8:99::/64"),
            *cast(tuple[Any, Any, Any, Any], (Anything(), print, print, Anything())),
        )
        shell.perform(SendControl(b"come for new keys", Arrival(HERE, THERE, 4191, 40001)))
        shell.flush()
        sockets = Sockets()
        shell.use(cast(Any, sockets))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return sockets.sent

    assert asyncio.run(start()) == [(THERE, 40001, b"come for new keys")]
