"""Home agent discovery by DNS, always through the physical link: its sockets carry the agent's mark.

Performs I/O. Draft section 2.1, RFC 2782 (order and weight of SRV records), RFC 5026 section 5.1.2.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address
from typing import Any, assert_never

from mn_agent.binding_update_list import HomeAgent
from mn_agent.discovery import MAX_HOME_AGENTS, ByName, ByService, Query, pair_addresses

SERVER_TIMEOUT = 0.7
"""Seconds for one name server before the next one is asked."""
LOOKUP_TIMEOUT = 3.0


class ResolutionError(Exception):
    """DNS gave no usable home agent; the text says for which question."""


class Resolver:
    """Asks the name servers of /etc/resolv.conf, read anew each time since they change with the network."""

    def __init__(self, mark: int) -> None:
        self._mark = mark
        self.problems: list[str] = []

    async def find(self, query: Query) -> tuple[HomeAgent, ...]:
        """Home agents, best first. Raises ResolutionError."""
        self.problems = []
        match query:
            case ByName(name=name, port=port):
                targets = [(name, port)]
            case ByService(domain=domain, services=services, port=port):
                targets = await self._service_targets(domain, services, port)
            case _:
                assert_never(query)
        found = await asyncio.gather(*(self._home_agent(name, port) for name, port in targets))
        home_agents = tuple(agent for agent in found if agent is not None)
        if not home_agents:
            names = ", ".join(name for name, _ in targets)
            why = "; ".join(self.problems) or "there is no AAAA record"
            raise ResolutionError(f"no IPv6 address for {names}: {why}")
        return home_agents

    async def _service_targets(
        self, domain: str, services: Iterable[str], port: int
    ) -> list[tuple[str, int]]:
        problems = []
        for service in services:
            question = f"{service}.{domain}"
            try:
                answer = await self._ask(question, "SRV")
            except ResolutionError as error:
                problems.append(str(error))
                continue
            records = [record for record in answer.rrset.processing_order() if str(record.target) != "."]
            if records:
                chosen = records[:MAX_HOME_AGENTS]
                return [(str(r.target).rstrip("."), r.port or port) for r in chosen]
            problems.append(f"{question}: the service is not offered there")
        raise ResolutionError("; ".join(problems))

    async def _home_agent(self, name: str, port: int) -> HomeAgent | None:
        """Both addresses of one name; a missing A record is no error, a missing AAAA record is."""
        ipv6, ipv4 = await asyncio.gather(self.addresses(name, "AAAA"), self.addresses(name, "A"))
        if not ipv6 and not ipv4:
            return None
        return pair_addresses(
            name, tuple(IPv6Address(text) for text in ipv6), tuple(IPv4Address(text) for text in ipv4), port
        )

    async def addresses(self, name: str, record: str) -> list[str]:
        """Of one kind, "A" or "AAAA"; none if DNS says none, or nothing."""
        try:
            return [answer.address for answer in await self._ask(name, record)]
        except ResolutionError as error:
            self.problems.append(str(error))
            return []

    async def _ask(self, name: str, record: str) -> Any:
        return await asyncio.to_thread(self._ask_blocking, name, record)

    def _ask_blocking(self, name: str, record: str) -> Any:
        # dnspython costs 70 ms and 10 MiB to import: only who asks DNS pays.
        import dns.exception
        import dns.query
        import dns.resolver

        dns.query.socket_factory = self._socket
        try:
            resolver = dns.resolver.Resolver()
            resolver.timeout = SERVER_TIMEOUT
            return resolver.resolve(name, record, lifetime=LOOKUP_TIMEOUT, search=False)
        except (dns.exception.DNSException, OSError) as error:
            raise ResolutionError(f"{name} {record}: {error}") from error

    def _socket(self, family: int, kind: int, protocol: int = 0) -> socket.socket:
        marked = socket.socket(family, kind, protocol)
        try:
            marked.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, self._mark)
        except OSError:
            marked.close()
            raise
        return marked
