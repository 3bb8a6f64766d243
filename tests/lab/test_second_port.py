"""The home agent's second UDP port: a real socket, on the loopback interface."""

from __future__ import annotations

import asyncio
import socket
from ipaddress import IPv4Address, IPv6Address

from home_agent.door import UNKNOWN_SPI, UNPROTECTED, Door
from home_agent.second_port import SLICE, SecondPort
from tunnel.path import Arrival
from wire.ip import PROTOCOL_ESP, PROTOCOL_UDP, IPv6Header

HERE = IPv4Address("127.0.0.1")
HOME, AGENT = IPv6Address("2001:db8:99::77"), IPv6Address("2001:db8:99::2")
SPI = 0x1077


def packet(spi: int, number: int, protocol: int = PROTOCOL_ESP) -> bytes:
    payload = spi.to_bytes(4, "big") + number.to_bytes(4, "big") + bytes(24)
    return IPv6Header(HOME, AGENT, protocol, len(payload)).encode() + payload


async def arrived(received: list[tuple[bytes, Arrival]], count: int) -> None:
    while len(received) < count:
        await asyncio.sleep(0.001)


async def scene() -> None:
    received: list[tuple[bytes, Arrival]] = []
    door = Door([SPI])
    second = SecondPort(HERE, 0, door, lambda octets, arrival: received.append((octets, arrival)))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as node:
        node.bind((str(HERE), 0))
        node.connect((str(HERE), second.port))
        for stranger in (b"", b"hello", packet(SPI + 1, 0), packet(SPI, 0, PROTOCOL_UDP), bytes(3000)):
            node.send(stranger)
        asked = [packet(SPI, number) for number in range(2 * SLICE)]
        for one in asked[:4]:
            node.send(one)
        await arrived(received, 4)
        assert door.turned_away == {UNPROTECTED: 4, UNKNOWN_SPI: 1}
        for one in asked[4:]:
            node.send(one)
        await arrived(received, len(asked))
        assert [octets for octets, _ in received] == asked
        via = received[0][1]
        assert via == Arrival(HERE, HERE, second.port, node.getsockname()[1])
        assert second.send(b"an answer", via) is None
        node.setblocking(False)
        loop = asyncio.get_running_loop()
        assert await loop.sock_recv(node, 100) == b"an answer", "from the port that was asked"
        second.close()
        second.close()
    await asyncio.sleep(0)


def test_only_who_may_be_a_mobile_node_is_heard_and_answers_leave_from_the_same_port() -> None:
    asyncio.run(asyncio.wait_for(scene(), 30.0))
