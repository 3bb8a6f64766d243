"""What the kernel said, and when an interface could be used."""

from __future__ import annotations

import struct
from ipaddress import ip_address

from lab.rtnetlink import Address, Carrier, DefaultRoute, changes
from lab.witness import Usable, Witnessed, first_usable, read_witness


def attribute(kind: int, value: bytes) -> bytes:
    padding = -len(value) % 4
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(padding)


def message(kind: int, body: bytes) -> bytes:
    return struct.pack("=IHHII", 16 + len(body), kind, 0, 0, 0) + body


def address_message(kind: int, address: str, flags: int, scope: int = 0) -> bytes:
    packed = ip_address(address).packed
    head = struct.pack("=BBBBI", 10 if len(packed) == 16 else 2, 64, 0, scope, 2)
    return message(kind, head + attribute(1, packed) + attribute(8, struct.pack("=I", flags)))


def route_message(kind: int, family: int, length: int = 0, table: int = 254) -> bytes:
    head = struct.pack("=BBBBBBBBI", family, length, 0, 0, table, 0, 0, 0, 0)
    return message(kind, head + attribute(4, struct.pack("=I", 2)))


def test_a_link_message_tells_of_the_carrier() -> None:
    up = message(16, struct.pack("=BxHiII", 0, 1, 2, 0x10043, 0) + attribute(3, b"eth0\0"))
    down = message(16, struct.pack("=BxHiII", 0, 1, 2, 0x1003, 0) + attribute(3, b"eth0\0"))
    assert list(changes(up + down)) == [Carrier(2, "eth0", True), Carrier(2, "eth0", False)]


def test_an_address_counts_once_it_may_be_used() -> None:
    tentative, optimistic, failed = 0x40, 0x44, 0x48
    data = address_message(20, "2001:db8::1", tentative) + address_message(20, "2001:db8::1", optimistic)
    data += address_message(20, "2001:db8::1", failed) + address_message(21, "2001:db8::1", 0)
    usable = [change.present for change in changes(data) if isinstance(change, Address)]
    assert usable == [False, True, False, False]


def test_link_local_addresses_and_routes_of_other_tables_do_not_count() -> None:
    data = address_message(20, "fe80::1", 0, scope=253) + route_message(24, 2, table=100)
    data += route_message(24, 2, length=24)
    assert list(changes(data)) == []
    assert list(changes(route_message(24, 10))) == [DefaultRoute(2, 6, True)]


def test_a_broken_datagram_ends_quietly() -> None:
    assert list(changes(b"\0" * 40)) == []
    assert list(changes(message(20, b"")[:10])) == []


def seen(*lines: tuple[int, str, str, bool, str]) -> list[Witnessed]:
    return [Witnessed(at, interface, what, present, detail) for at, interface, what, present, detail in lines]  # type: ignore[arg-type]


ARRIVAL = (
    (10, "eth0", "carrier", True, ""),
    (14, "eth0", "address", True, "2001:db8:2::9"),
    (15, "eth0", "route", True, "6"),
    (24, "eth0", "address", True, "192.0.2.9"),
    (25, "eth0", "route", True, "4"),
)


def test_an_interface_is_usable_with_the_first_family_that_has_address_and_route() -> None:
    assert first_usable(seen(*ARRIVAL), "eth0", 5, 100, cut="eth0") == Usable(10, 15)


def test_a_route_of_the_other_family_does_not_make_an_address_usable() -> None:
    lines = (ARRIVAL[0], ARRIVAL[3], ARRIVAL[2])
    assert first_usable(seen(*lines), "eth0", 5, 100, cut="eth0") == Usable(10, None)


def test_what_was_before_the_cable_was_pulled_does_not_count() -> None:
    gone = (30, "eth0", "carrier", False, "")
    later = tuple((at + 40, *rest) for at, *rest in ARRIVAL)
    lines = seen(*ARRIVAL, gone, *later)  # type: ignore[arg-type]
    assert first_usable(lines, "eth0", 29, 100, cut="eth0") == Usable(50, 55)


def test_a_link_that_was_there_all_the_time_is_usable_at_once() -> None:
    assert first_usable(seen(*ARRIVAL), "eth0", 40, 100, cut="wlan0") == Usable(None, 40)


def test_the_witness_is_read_while_it_writes() -> None:
    lines = [
        '{"at": 1.5, "interface": "eth0", "what": "address", "present": true, "address": "2001:db8::1"}\n',
        '{"at": 1.6, "interface": "eth0", "what": "route", "present": true, "family": 6}\n',
        '{"at": 1.7, "interface": "eth0", "wh',
    ]
    assert list(read_witness(lines)) == [
        Witnessed(1_500_000_000, "eth0", "address", True, "2001:db8::1"),
        Witnessed(1_600_000_000, "eth0", "route", True, "6"),
    ]
