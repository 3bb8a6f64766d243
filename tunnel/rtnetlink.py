"""One rtnetlink socket: what is ours in the kernel read as sets, and changed in batches.

Performs I/O. RFC 3549.

The send of a batch returns when the kernel has done all of it.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterable, Iterator, Sequence
from errno import EACCES, EAFNOSUPPORT, ENOENT, EOPNOTSUPP, EPERM
from functools import cache, partial
from itertools import islice
from typing import Any, TypeVar

from tunnel import rtmessages
from tunnel.kernel import Address, AddressOnLink, KernelError, KernelRoute, Owner, ProxyNeighbour, Rule
from tunnel.rtmessages import Change, Device
from wire.netlink import DONE, ERROR, numbered, split

T = TypeVar("T")

_SOL_NETLINK, _CAP_ACK, _STRICT_CHECK = 270, 10, 12
_SO_NETNS_COOKIE = 71
_BATCH = 64
"""Messages in one send: their acknowledgements fit into a socket's default receive buffer."""
_TIMEOUT = 2.0
_NOTHING_THERE = frozenset({ENOENT, EAFNOSUPPORT, EOPNOTSUPP})


class Rtnetlink:
    """A socket in the network namespace of the thread that makes it."""

    __slots__ = ("_decoded", "_interfaces", "_sequence", "_socket")

    def __init__(self) -> None:
        self._sequence = 0
        self._interfaces: list[tuple[int, str]] = []
        self._decoded: dict[bytes, dict[bytes, Any]] = {}
        try:
            self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0)
            self._socket.bind((0, 0))
            self._socket.settimeout(_TIMEOUT)
            self._socket.setsockopt(_SOL_NETLINK, _CAP_ACK, 1)
            self._socket.setsockopt(_SOL_NETLINK, _STRICT_CHECK, 1)
        except OSError as error:
            raise explained("open an rtnetlink socket", error.errno) from None

    def close(self) -> None:
        self._socket.close()

    @property
    def port(self) -> int:
        """The port id that notifications about our own changes carry."""
        port: int = self._socket.getsockname()[0]
        return port

    @property
    def namespace(self) -> int:
        """A number no other network namespace has or had since the host started; 0 before Linux 5.14."""
        try:
            return int.from_bytes(self._socket.getsockopt(socket.SOL_SOCKET, _SO_NETNS_COOKIE, 8), "little")
        except OSError:
            return 0

    def rules(self, owner: Owner) -> frozenset[Rule]:
        """The policy rules with our protocol number at the owner's priorities."""
        found = self._read(rtmessages.list_rules(), rtmessages.our_rule)
        return frozenset(rule for rule in found if rule.priority in owner.priorities)

    def routes(self, owner: Owner) -> Iterator[KernelRoute]:
        """The routes with our protocol number in the owner's tables."""
        read = partial(rtmessages.our_route, name=cache(_name))
        found = self._read(rtmessages.list_routes(), read, remember=owner is Owner.MOBILE_NODE)
        return (route for route in found if owner.has(route))

    def proxies(self) -> Iterator[ProxyNeighbour]:
        """The proxied neighbours with our protocol number."""
        read = partial(rtmessages.our_proxy, name=cache(_name))
        return self._read(rtmessages.list_proxies(), read, remember=False)

    def addresses(self, index: int) -> frozenset[tuple[Address, int]]:
        """Address and prefix length of everything on the device with this index."""
        read = partial(rtmessages.device_address, index=index)
        return frozenset(self._read(rtmessages.list_addresses(index), read))

    def addresses_on_links(self) -> frozenset[AddressOnLink]:
        """The addresses with our protocol number."""
        read = partial(rtmessages.our_address_on_link, name=_name)
        return frozenset(self._read(rtmessages.list_all_addresses(), read))

    def unresolved_neighbours(self) -> frozenset[tuple[Address, int]]:
        """Addresses whose link-layer address is being asked for, each with the index of its interface."""
        return frozenset(self._read(rtmessages.list_neighbours(), rtmessages.unresolved_neighbour))

    def device(self, name: str) -> Device | None:
        """The device of this name, if there is one."""
        index = interface_index(name)
        if index is None:
            return None
        self._sequence += 1
        try:
            self._socket.send(numbered([rtmessages.get_device(index)], self._sequence))
            for answer in split(self._socket.recv(65536)):
                return None if answer.kind == ERROR else rtmessages.device_state(answer.body)
        except OSError as error:
            raise explained(f"read the state of {name}", error.errno) from None
        return None

    def execute(self, changes: Iterable[Change]) -> int:
        """Make all changes, in order, and return how many there were. An error does not stop the others.

        Raises KernelError for the first that failed.
        """
        rest = iter(changes)
        failed: tuple[Change, int] | None = None
        count = 0
        while batch := list(islice(rest, _BATCH)):
            for change, number in zip(batch, self._transact(batch), strict=True):
                if number and number not in change.fine and failed is None:
                    failed = change, number
            count += len(batch)
        if failed is not None:
            raise explained(failed[0].what, failed[1])
        return count

    def _transact(self, batch: Sequence[Change]) -> list[int]:
        """Send all messages at once; the error number of each, 0 for success."""
        first = self._sequence + 1
        self._sequence += len(batch)
        results: dict[int, int] = {}
        try:
            self._socket.send(numbered([change.message for change in batch], first))
            while len(results) < len(batch):
                for answer in split(self._socket.recv(65536)):
                    if answer.kind == ERROR and answer.sequence >= first:
                        results[answer.sequence] = answer.error
        except OSError as error:
            raise explained("change the kernel's configuration", error.errno) from None
        return [results[number] for number in range(first, first + len(batch))]

    def _read(
        self, queries: Iterable[bytes], read: Callable[[bytes], T | None], *, remember: bool = True
    ) -> Iterator[T]:
        """What the answers to the queries say, without what is not ours.

        Decoding costs more than the dump. A message whose bytes were seen before says the same, as long
        as interfaces have the same names: so the cost is that of what is new, not of what there is. Where
        there may be thousands, memory is dearer than time: they are not remembered.
        """
        if not remember:
            found = (read(body) for query in queries for body in self._ask(query))
            yield from (value for value in found if value is not None)
            return
        interfaces = socket.if_nameindex()
        if interfaces != self._interfaces:
            self._interfaces = interfaces
            self._decoded.clear()
        for query in queries:
            known = self._decoded.get(query, {})
            self._decoded[query] = fresh = {
                body: known[body] if body in known else read(body) for body in self._ask(query)
            }
            yield from (value for value in fresh.values() if value is not None)

    def _ask(self, query: bytes) -> Iterator[bytes]:
        """What the messages that answer a dump request say; nothing if there is no such table or family."""
        self._sequence += 1
        answer: list[bytes] = []
        try:
            self._socket.send(numbered([query], self._sequence))
            while True:
                for message in split(self._socket.recv(65536)):
                    if message.sequence != self._sequence:
                        continue
                    if message.kind not in (ERROR, DONE):
                        answer.append(message.body)
                    elif message.error and message.error not in _NOTHING_THERE:
                        raise OSError(message.error, os.strerror(message.error))
                    else:
                        return iter(answer)
        except OSError as error:
            raise explained("read the kernel's configuration", error.errno) from None


def interface_index(name: str) -> int | None:
    try:
        return socket.if_nametoindex(name)
    except OSError:
        return None


def explained(what: str, number: int | None) -> KernelError:
    """A KernelError for an errno, with what a person can do about it."""
    fix = {
        EPERM: "run as root, or with CAP_NET_ADMIN",
        EACCES: "run as root, or with CAP_NET_ADMIN; net.ipv6.conf.*.disable_ipv6 must be 0",
        EAFNOSUPPORT: "this kernel runs without IPv6 (ipv6.disable=1?), which mobility needs",
        EOPNOTSUPP: "the kernel needs CONFIG_IP_MULTIPLE_TABLES and CONFIG_IPV6_MULTIPLE_TABLES",
    }.get(number or 0, "compare `ip -d route show table all`, `ip rule` and dmesg")
    return KernelError(what, os.strerror(number) if number else "the kernel does not answer", fix)


def _name(index: int) -> str:
    """The name of an interface; one that vanished since the dump keeps its number."""
    try:
        return socket.if_indextoname(index)
    except OSError:
        return f"#{index}"
