"""Messages of rtnetlink and nfnetlink: there and back, and beside those of pyroute2 by another author."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv4Address, IPv6Address, ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyroute2.netlink.nfnetlink import NFNL_SUBSYS_NFTABLES
from pyroute2.netlink.nfnetlink.nftsocket import NFPROTO_INET, NFT_MSG_DELTABLE, nft_table_msg
from pyroute2.netlink.rtnl.fibmsg import fibmsg
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.ndmsg import ndmsg
from pyroute2.netlink.rtnl.rtmsg import rtmsg

from tunnel import rtmessages
from tunnel.kernel import PROTOCOL, AddressOnLink, KernelRoute, ProxyNeighbour, RouteType, Rule
from tunnel.rtmessages import Device
from wire.netlink import (
    ACK,
    CREATE,
    DONE,
    EXCLUSIVE,
    REQUEST,
    attributes,
    message,
    number_in,
    numbered,
    split,
    text,
    text_in,
)
from wire.nfnetlink import table_removal

INET, INET6 = 2, 10
HOME4, HOME6 = IPv4Address("203.0.113.77"), IPv6Address("2001:db8:99::77")
RULES = (
    Rule(4, 5190, 254, mark=0x4D4E),
    Rule(6, 5191, None, mark=0x4D4E),
    Rule(6, 5192, 4191, source=ip_network("2001:db8:99::77/128")),
    Rule(4, 5192, 4191, destination=ip_network("10.9.0.0/17")),
    Rule(6, 5194, 254, out_interface="wlan0"),
)
ROUTES = (
    KernelRoute(ip_network("::/0"), "mip0", 4191, source=HOME6),
    KernelRoute(ip_network("0.0.0.0/0"), None, 4191, RouteType.UNREACHABLE, 0xFFFFFFFF),
    KernelRoute(ip_network("192.168.7.0/24"), "eth0", 4192, metric=1, source=IPv4Address("192.168.7.2")),
    KernelRoute(ip_network("::/0"), "eth0", 254, gateway=IPv6Address("fe80::1")),
)


def theirs(
    codec: Any, kind: int, flags: int, fields: Mapping[str, int], said: list[tuple[str, Any]]
) -> bytes:
    """The message as pyroute2 writes it."""
    built = codec()
    for name, value in fields.items():
        built[name] = value
    built["attrs"] = said
    built["header"] = {"type": kind, "flags": flags, "sequence_number": 0}
    built.encode()
    return bytes(built.data)


def name(index: int) -> str:
    return {7: "mip0", 8: "eth0"}[index]


def body(request: bytes) -> bytes:
    (one,) = split(request)
    return one.body


@pytest.mark.parametrize("rule", RULES, ids=rtmessages.rule_text)
def test_a_rule_is_read_as_it_was_written(rule: Rule) -> None:
    assert rtmessages.our_rule(body(rtmessages.add_rule(rule).message)) == rule


@pytest.mark.parametrize("route", ROUTES, ids=rtmessages.route_text)
def test_a_route_is_read_as_it_was_written(route: KernelRoute) -> None:
    index = {"mip0": 7, "eth0": 8, None: None}[route.device]
    assert rtmessages.our_route(body(rtmessages.add_route(route, index).message), name) == route


def test_what_carries_another_protocol_number_is_not_ours() -> None:
    rule = body(rtmessages.add_rule(RULES[0]).message).replace(
        bytes((5, 0, 21, 0, PROTOCOL)), b"\5\0\x15\0\2"
    )
    route = bytearray(body(rtmessages.add_route(ROUTES[0], 7).message))
    route[5] = 2
    assert rtmessages.our_rule(rule) is None
    assert rtmessages.our_route(bytes(route), name) is None


def test_neighbours_and_addresses_are_read_as_they_were_written() -> None:
    proxy = ProxyNeighbour(HOME6, "eth0")
    placed = AddressOnLink(HOME4, "eth0", 24)
    assert rtmessages.our_proxy(body(rtmessages.add_proxy(proxy, 8).message), name) == proxy
    on_link = body(rtmessages.add_on_link(placed, 8, 0.0).message)
    assert rtmessages.our_address_on_link(on_link, name) == placed
    address = body(rtmessages.add_address(HOME6, 128, 7).message)
    assert rtmessages.device_address(address, 7) == (HOME6, 128)
    assert rtmessages.device_address(address, 8) is None


def test_only_neighbours_that_are_asked_for_are_unresolved() -> None:
    def neighbour(state: int) -> bytes:
        fields = {"family": INET6, "ifindex": 8, "state": state}
        return body(theirs(ndmsg, 28, REQUEST, fields, [("NDA_DST", str(HOME6))]))

    asked, reachable, failed = 0x01, 0x02, 0x20
    assert rtmessages.unresolved_neighbour(neighbour(asked)) == (HOME6, 8)
    assert rtmessages.unresolved_neighbour(neighbour(reachable)) is None
    assert rtmessages.unresolved_neighbour(neighbour(failed)) is None


def test_a_device_is_read_as_it_was_written() -> None:
    device = Device(7, 1472, up=True)
    assert rtmessages.device_state(body(rtmessages.set_device(device).message)) == device


def test_rules_are_those_of_pyroute2() -> None:
    mine = rtmessages.add_rule(RULES[2]).message
    said = [("FRA_PRIORITY", 5192), ("FRA_PROTOCOL", PROTOCOL), ("FRA_TABLE", 4191), ("FRA_SRC", str(HOME6))]
    flags = REQUEST | ACK | CREATE | EXCLUSIVE
    assert mine == theirs(fibmsg, 32, flags, {"family": INET6, "action": 1, "src_len": 128}, said)
    marked = [("FRA_PRIORITY", 5191), ("FRA_PROTOCOL", PROTOCOL)]
    marked += [("FRA_FWMARK", 0x4D4E), ("FRA_FWMASK", 0xFFFFFFFF)]
    assert rtmessages.delete_rule(RULES[1]).message == theirs(
        fibmsg, 33, REQUEST | ACK, {"family": INET6, "action": 7}, marked
    )


def test_routes_are_those_of_pyroute2() -> None:
    fields = {"family": INET, "dst_len": 24, "proto": PROTOCOL, "scope": 253, "type": 1}
    said = [("RTA_DST", "192.168.7.0"), ("RTA_TABLE", 4192), ("RTA_PRIORITY", 1), ("RTA_OIF", 8)]
    said.append(("RTA_PREFSRC", "192.168.7.2"))
    mine = rtmessages.add_route(ROUTES[2], 8).message
    assert mine == theirs(rtmsg, 24, REQUEST | ACK | CREATE, fields, said)


def test_neighbours_addresses_and_links_are_those_of_pyroute2() -> None:
    proxied = {"family": INET6, "ifindex": 8, "state": 0x80, "flags": 0x8}
    said = [("NDA_DST", str(HOME6)), ("NDA_PROTOCOL", PROTOCOL)]
    mine = rtmessages.add_proxy(ProxyNeighbour(HOME6, "eth0"), 8).message
    assert mine == theirs(ndmsg, 28, REQUEST | ACK | CREATE, proxied, said)
    fields = {"family": INET6, "prefixlen": 128, "index": 7, "flags": 2}
    both = [("IFA_LOCAL", str(HOME6)), ("IFA_ADDRESS", str(HOME6))]
    mine = rtmessages.add_address(HOME6, 128, 7).message
    assert mine == theirs(ifaddrmsg, 20, REQUEST | ACK | CREATE | EXCLUSIVE, fields, both)
    up = {"index": 7, "flags": 1, "change": 1}
    mine = rtmessages.set_device(Device(7, 1472, up=True)).message
    assert mine == theirs(ifinfmsg, 16, REQUEST | ACK, up, [("IFLA_MTU", 1472)])


@given(
    st.lists(
        st.tuples(st.integers(0, 0xFFFF), st.dictionaries(st.integers(0, 0x3FFF), st.binary(max_size=9))),
        max_size=4,
    )
)
def test_messages_and_attributes_come_back_as_they_went(sent: list[tuple[int, dict[int, bytes]]]) -> None:
    buffer = numbered([message(kind, REQUEST, bytes(4), said.items()) for kind, said in sent], 41)
    got = [(one.kind, one.sequence, attributes(one.body, 4)) for one in split(buffer)]
    assert got == [(kind, number, said) for number, (kind, said) in enumerate(sent, 41)]


def test_what_is_cut_short_ends_the_reading() -> None:
    whole = message(DONE, 0, bytes(4), [(3, text("eth0")), (4, b"\x10\0\0\0")])
    assert not list(split(whole[:-1]))
    assert attributes(body(whole)[:-1], 4) == {3: b"eth0\0"}


def test_an_attribute_that_is_not_there_has_no_number_and_no_text() -> None:
    assert number_in(None) is None
    assert text_in(None) == ""
    assert text_in(text("eth0")) == "eth0"


def test_the_removal_of_a_table_is_a_batch_of_one_deletion_that_is_answered() -> None:
    begin, deletion, end = split(table_removal("mn_agent"))
    assert [one.sequence for one in (begin, deletion, end)] == [1, 2, 3]
    assert [one.kind for one in (begin, end)] == [16, 17], "NFNL_MSG_BATCH_BEGIN and _END"
    assert begin.body == end.body == bytes((0, 0, 0, NFNL_SUBSYS_NFTABLES))
    assert deletion.kind == NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_DELTABLE
    assert deletion.flags == REQUEST | ACK
    fields, said = {"nfgen_family": NFPROTO_INET}, [("NFTA_TABLE_NAME", "mn_agent")]
    assert theirs(nft_table_msg, deletion.kind, deletion.flags, fields, said)[16:] == deletion.body
