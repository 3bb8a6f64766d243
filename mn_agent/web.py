"""Asks one web server through one link, and reads no more than a little of the answer.

Performs I/O. The sockets carry the agent's mark and are bound to link and care-of address, as what is asked
about is that network, and nothing that goes home.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from ipaddress import ip_address

from mn_agent.actions import FetchPage
from mn_agent.events import WebAnswered
from mn_agent.resolver import Resolver
from wire.http import MAX_ANSWER, Answer, Page, decode_answer, request_for
from wire.reader import DecodeError

WITHIN = 3.0
MOST = 8
"""Questions under way at once."""


class Web:
    """Answers, or None where there was none, go to `answered`."""

    def __init__(self, mark: int, resolver: Resolver, answered: Callable[[WebAnswered], None]) -> None:
        self._mark = mark
        self._resolver = resolver
        self._answered = answered
        self._tasks: set[asyncio.Task[None]] = set()

    def fetch(self, action: FetchPage) -> None:
        if len(self._tasks) >= MOST:
            return  # whoever asked gives up by itself
        task = asyncio.get_running_loop().create_task(self._fetch(action))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def close(self) -> None:
        for task in self._tasks:
            task.cancel()

    async def _fetch(self, action: FetchPage) -> None:
        answer: Answer | None
        try:
            async with asyncio.timeout(WITHIN):
                answer = decode_answer(await self._exchange(action))
        except (OSError, DecodeError, ValueError):  # TimeoutError and those of TLS are OSErrors
            answer = None
        self._answered(WebAnswered(action.number, answer))

    async def _exchange(self, action: FetchPage) -> bytes:
        page, place = action.page, action.attachment
        address = await self._address(page, place.care_of.version)
        family = socket.AF_INET if place.care_of.version == 4 else socket.AF_INET6
        with socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as opened:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, self._mark)
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, place.interface.encode())
            opened.bind((str(place.care_of), 0))
            await asyncio.get_running_loop().sock_connect(opened, (address, page.port))
            reader, writer = await asyncio.open_connection(
                sock=opened,
                ssl=ssl.create_default_context() if page.secure else None,
                server_hostname=page.host if page.secure else None,
                limit=MAX_ANSWER,
            )
            try:
                writer.write(request_for(page, action.accept))
                return await _read(reader)
            finally:
                writer.close()

    async def _address(self, page: Page, version: int) -> str:
        try:
            return str(ip_address(page.host))
        except ValueError:
            pass
        found = await self._resolver.addresses(page.host, "A" if version == 4 else "AAAA")
        if not found:
            raise OSError(f"{page.host} has no IPv{version} address")
        return found[0]


async def _read(reader: asyncio.StreamReader) -> bytes:
    octets = b""
    while len(octets) < MAX_ANSWER and (more := await reader.read(MAX_ANSWER - len(octets))):
        octets += more
    return octets
