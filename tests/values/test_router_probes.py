"""Frames that ask routers, and what comes back: golden octets, scapy as an independent author, nonsense."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, IPv6Network

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet6 import (
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    ICMPv6ND_RA,
    ICMPv6ND_RS,
    ICMPv6NDOptAdvInterval,
    ICMPv6NDOptDstLLAddr,
    ICMPv6NDOptMTU,
    ICMPv6NDOptPrefixInfo,
    ICMPv6NDOptSrcLLAddr,
    IPv6,
)
from scapy.layers.l2 import ARP, Ether

from wire.router_probes import (
    MAX_PREFIXES,
    ArpReply,
    NeighbourAdvertisement,
    RouterAdvertisement,
    answer_in,
    arp_request,
    neighbour_solicitation,
    router_solicitation,
)

OWN, ROUTER = bytes.fromhex("020000000077"), bytes.fromhex("020000000001")
OWN_TEXT, ROUTER_TEXT = OWN.hex(":"), ROUTER.hex(":")
GATEWAY, ADDRESS = IPv4Address("192.168.1.1"), IPv4Address("192.168.1.5")
ROUTER6, SOURCE6 = IPv6Address("fe80::1"), IPv6Address("fe80::77")


@pytest.mark.requirement("R112")
def test_the_arp_probe_is_a_unicast_request_of_42_octets_that_claims_nothing_to_others() -> None:
    frame = arp_request(GATEWAY, ROUTER, ADDRESS, OWN)
    assert frame.hex() == (
        "020000000001" "020000000077" "0806"
        "0001" "0800" "06" "04" "0001" "020000000077" "c0a80105" "000000000000" "c0a80101"
    )  # fmt: skip
    assert len(frame) == 42
    read = Ether(frame)
    assert (read.dst, read[ARP].psrc, read[ARP].pdst, read[ARP].op) == (
        ROUTER_TEXT,
        "192.168.1.5",
        "192.168.1.1",
        1,
    )


@pytest.mark.requirement("R112")
def test_a_reply_is_read_and_a_request_is_none() -> None:
    reply = ARP(op=2, hwsrc=ROUTER_TEXT, psrc="192.168.1.1", hwdst=OWN_TEXT, pdst="192.168.1.5")
    assert answer_in(bytes(Ether(dst=OWN_TEXT, src=ROUTER_TEXT) / reply)) == ArpReply(GATEWAY, ROUTER)
    reply.op = 1
    assert answer_in(bytes(Ether(dst=OWN_TEXT, src=ROUTER_TEXT) / reply)) is None


def test_a_neighbour_solicitation_goes_to_one_router_and_carries_our_hardware() -> None:
    read = Ether(neighbour_solicitation(ROUTER6, ROUTER, SOURCE6, OWN))
    assert (read.dst, read.src) == (ROUTER_TEXT, OWN_TEXT)
    assert (read[IPv6].src, read[IPv6].dst, read[IPv6].hlim) == ("fe80::77", "fe80::1", 255)
    assert read[ICMPv6ND_NS].tgt == "fe80::1"
    assert read[ICMPv6NDOptSrcLLAddr].lladdr == OWN_TEXT
    again = Ether(bytes(read))
    del again[ICMPv6ND_NS].cksum
    assert bytes(again) == bytes(read), "the checksum is right"


def test_a_router_solicitation_goes_to_all_routers_without_our_hardware() -> None:
    read = Ether(router_solicitation(SOURCE6, OWN))
    assert (read.dst, read[IPv6].dst, read[IPv6].hlim) == ("33:33:00:00:00:02", "ff02::2", 255)
    assert ICMPv6ND_RS in read
    assert ICMPv6NDOptSrcLLAddr not in read


def nd(message: object, hop_limit: int = 255, source: str = "fe80::1") -> bytes:
    return bytes(
        Ether(dst=OWN_TEXT, src=ROUTER_TEXT) / IPv6(src=source, dst="fe80::77", hlim=hop_limit) / message
    )


def test_neighbour_advertisements_are_read_with_and_without_the_hardware_in_them() -> None:
    plain = ICMPv6ND_NA(tgt="fe80::1", R=1, S=1, O=0)
    expected = NeighbourAdvertisement(ROUTER6, ROUTER, router=True, solicited=True)
    assert answer_in(nd(plain)) == expected
    told = answer_in(nd(plain / ICMPv6NDOptDstLLAddr(lladdr="02:00:00:00:00:99")))
    assert told == NeighbourAdvertisement(ROUTER6, bytes.fromhex("020000000099"), True, True)
    assert answer_in(nd(plain, hop_limit=254)) is None, "it came over a router"


def test_router_advertisements_are_read_with_prefixes_hardware_and_interval() -> None:
    message = (
        ICMPv6ND_RA(routerlifetime=1800)
        / ICMPv6NDOptSrcLLAddr(lladdr="02:00:00:00:00:99")
        / ICMPv6NDOptMTU(mtu=1480)
        / ICMPv6NDOptPrefixInfo(prefix="2001:db8:7::", prefixlen=64, A=1, L=1, validlifetime=600)
        / ICMPv6NDOptPrefixInfo(prefix="2001:db8:8::", prefixlen=64, A=0, L=1, validlifetime=600)
        / ICMPv6NDOptPrefixInfo(prefix="2001:db8:9::", prefixlen=64, A=1, L=1, validlifetime=0)
        / ICMPv6NDOptAdvInterval(advint=1500)
    )
    assert answer_in(nd(message)) == RouterAdvertisement(
        ROUTER6, bytes.fromhex("020000000099"), 1800, (IPv6Network("2001:db8:7::/64"),), 1.5
    )
    assert answer_in(nd(message, hop_limit=64)) is None
    assert answer_in(nd(message, source="2001:db8::1")) is None, "routers speak from link-local addresses"


def test_of_a_thousand_prefixes_few_are_looked_at() -> None:
    message = ICMPv6ND_RA()
    for number in range(40):
        message = message / ICMPv6NDOptPrefixInfo(prefix=f"2001:db8:{number:x}::", prefixlen=64, A=1)
    answer = answer_in(nd(message))
    assert isinstance(answer, RouterAdvertisement)
    assert len(answer.prefixes) == MAX_PREFIXES


@given(st.binary(max_size=200), st.sampled_from((b"\x08\x06", b"\x86\xdd", b"\x08\0")))
def test_nonsense_is_no_answer_and_no_exception(data: bytes, kind: bytes) -> None:
    answer_in(data)
    answer_in(bytes(12) + kind + data)


@given(st.integers(0, 200), st.integers(0, 7))
def test_a_frame_that_was_cut_or_bent_is_no_other_answer(at: int, bit: int) -> None:
    """The checksum covers all but the Ethernet header."""
    frame = nd(ICMPv6ND_NA(tgt="fe80::1", R=1, S=1) / ICMPv6NDOptDstLLAddr(lladdr=ROUTER_TEXT))
    assert answer_in(frame[: at % len(frame)]) is None
    where = 14 + at % (len(frame) - 14)
    bent = bytearray(frame)
    bent[where] ^= 1 << bit
    allowed = (None, answer_in(frame))
    assert answer_in(bytes(bent)) in allowed
