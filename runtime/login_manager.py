"""The login manager's word that this host is about to sleep, or awake again, where D-Bus is there.

Performs I/O. org.freedesktop.login1.Manager.PrepareForSleep (logind, elogind): the agent listens, and asks
for no delay. Without a system bus nothing is loaded and nothing is opened. A bus that goes away, or never
answers, costs a later try; the kernel tells of a sleep as well (`awakening`).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import struct
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jeepney import Message

LOGIN_MANAGER = "org.freedesktop.login1"
MANAGER, PREPARE_FOR_SLEEP = "org.freedesktop.login1.Manager", "PrepareForSleep"
BUS = "org.freedesktop.DBus"
SOCKET = "/run/dbus/system_bus_socket"
FIRST_RETRY, MOST_RETRY = 60.0, 3600.0
"""Seconds after which a bus that went away is looked for again; doubles."""
PATIENCE = 10.0
"""Seconds for the bus to answer when it is greeted."""
LONGEST = 1 << 16
"""Octets: anybody on the bus may send us messages; longer ones are read past and never held."""
_FIXED = struct.Struct("<4xI4xI")
_FIXED_BIG = struct.Struct(">4xI4xI")


def bus_address(environment: Mapping[str, str] = os.environ, socket: str = SOCKET) -> str | None:
    """Of the system bus; None if there is none."""
    named = environment.get("DBUS_SYSTEM_BUS_ADDRESS", "")
    if named:
        return named
    return f"unix:path={socket}" if os.path.exists(socket) else None


class LoginManager:
    """Calls `prepared` in the event loop: True before the host sleeps, False when it is awake."""

    def __init__(
        self,
        address: str,
        prepared: Callable[[bool], None],
        problem: Callable[[str], None],
        *,
        first_retry: float = FIRST_RETRY,
    ) -> None:
        """`address` as D-Bus writes it. `problem` takes a sentence; nothing depends on it."""
        self._address = address
        self._prepared = prepared
        self._problem = problem
        self._first_retry = self._wait = first_retry
        self._owner: str | None = None
        """The unique name of the login manager: whoever else sends its signal is not believed."""
        self._asked_owner = 0
        self._serial = 0
        self._task = asyncio.get_running_loop().create_task(self._listen())

    def close(self) -> None:
        self._task.cancel()

    async def _listen(self) -> None:
        while True:
            try:
                await self._attend()
            except Exception as error:  # the library has many; a bus that speaks nonsense is as good as none
                what = str(error) or type(error).__name__
                self._problem(f"the login manager is not heard, next try in {self._wait:.0f} s: {what}")
            await asyncio.sleep(self._wait)
            self._wait = min(2 * self._wait, MOST_RETRY)

    async def _attend(self) -> None:
        """Until the connection ends, by an exception."""
        from jeepney.bus import get_bus

        async with asyncio.timeout(PATIENCE):
            reader, writer = await asyncio.open_unix_connection(get_bus(self._address))
        try:
            async with asyncio.timeout(PATIENCE):
                await _authenticate(reader, writer)
            self._greet(writer)
            self._wait = self._first_retry
            while True:
                message = await _next_message(reader)
                if message is not None:
                    self._take(message)
        finally:
            self._owner = None
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    def _greet(self, writer: asyncio.StreamWriter) -> None:
        """Say hello, ask for two signals, then who the login manager is: in this order nothing is missed."""
        from jeepney import MatchRule, message_bus

        sleep = MatchRule(type="signal", sender=LOGIN_MANAGER, interface=MANAGER, member=PREPARE_FOR_SLEEP)
        owner = MatchRule(type="signal", sender=BUS, interface=BUS, member="NameOwnerChanged")
        owner.add_arg_condition(0, LOGIN_MANAGER)
        calls = (
            message_bus.Hello(),
            message_bus.AddMatch(sleep),
            message_bus.AddMatch(owner),
            message_bus.GetNameOwner(LOGIN_MANAGER),
        )
        for call in calls:
            self._serial += 1
            writer.write(call.serialise(self._serial))
        self._asked_owner = self._serial

    def _take(self, message: Message) -> None:
        from jeepney import HeaderFields, MessageType

        fields: dict[Any, Any] = message.header.fields
        sender, body = fields.get(HeaderFields.sender), message.body
        is_signal = message.header.message_type is MessageType.signal
        what = fields.get(HeaderFields.interface), fields.get(HeaderFields.member)
        if sender == BUS and is_signal:
            if what == (BUS, "NameOwnerChanged") and body[0] == LOGIN_MANAGER:
                self._owner = body[2] or None
        elif sender == BUS:
            # An error in place of a name says that nobody has it yet.
            named = message.header.message_type is MessageType.method_return
            if named and fields.get(HeaderFields.reply_serial) == self._asked_owner:
                self._owner = body[0]
        elif is_signal and what == (MANAGER, PREPARE_FOR_SLEEP) and sender == self._owner and len(body) == 1:
            asyncio.get_running_loop().call_soon(self._prepared, body[0] is True)


async def _authenticate(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    from jeepney.auth import BEGIN, Authenticator

    conversation = Authenticator()
    for line in conversation:
        writer.write(line)
        answer = await reader.read(1024)
        if not answer:
            raise EOFError("the bus closed the connection")
        conversation.feed(answer)
    writer.write(BEGIN)


async def _next_message(reader: asyncio.StreamReader) -> Message | None:
    """None for one that is too long to be for us, or that nobody can read."""
    from jeepney import Parser

    start = await reader.readexactly(16)
    body, fields = (_FIXED if start[:1] == b"l" else _FIXED_BIG).unpack(start)
    rest = -(-fields // 8) * 8 + body
    if rest > LONGEST:
        while rest:
            rest -= len(await reader.readexactly(min(rest, LONGEST)))
        return None
    octets = start + await reader.readexactly(rest)
    try:
        return next(iter(Parser().feed(octets)), None)
    except Exception:  # the library has no one error; whoever wrote that, the next message begins behind it
        return None
