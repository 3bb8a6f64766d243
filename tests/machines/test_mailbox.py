"""The way from the data plane's thread into the event loop: in order, all at once, and bounded."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

from runtime.mailbox import Mailbox


def delivered(posts: Callable[[Mailbox[int]], None], capacity: int = 256) -> tuple[list[list[int]], int]:
    """What the loop was given, lot by lot, that another thread has posted; how many were lost."""
    lots: list[list[int]] = []

    async def run() -> int:
        mailbox: Mailbox[int] = Mailbox(lots.append, capacity)
        thread = threading.Thread(target=posts, args=(mailbox,))
        thread.start()
        thread.join()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return mailbox.dropped

    return lots, asyncio.run(run())


def test_all_that_waits_is_delivered_at_once_and_in_order() -> None:
    def posts(mailbox: Mailbox[int]) -> None:
        for number in range(100):
            mailbox.post(number)

    assert delivered(posts) == ([list(range(100))], 0)


def test_a_flood_costs_a_bounded_amount_of_memory_and_is_counted() -> None:
    def posts(mailbox: Mailbox[int]) -> None:
        for number in range(100):
            mailbox.post(number)

    assert delivered(posts, capacity=8) == ([list(range(8))], 92)


def test_who_posts_while_a_lot_is_delivered_is_heard_of_as_well() -> None:
    lots: list[list[int]] = []

    async def run() -> None:
        mailbox: Mailbox[int] = Mailbox(lambda lot: take(lot))

        def take(lot: list[int]) -> None:
            lots.append(lot)
            if len(lots) < 3:
                mailbox.post(len(lots))

        mailbox.post(0)
        for _ in range(8):
            await asyncio.sleep(0)

    asyncio.run(run())
    assert lots == [[0], [1], [2]]


def test_after_the_loop_has_ended_nothing_is_delivered_and_nothing_fails() -> None:
    lots: list[list[int]] = []

    async def make() -> Mailbox[int]:
        return Mailbox(lots.append)

    mailbox = asyncio.run(make())
    mailbox.post(1)
    mailbox.post(2)
    assert lots == []
