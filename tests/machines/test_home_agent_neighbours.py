"""Frames on the home link: what is sent, and whose claims are believed."""

from __future__ import annotations

import random
from ipaddress import IPv4Address, IPv6Address

import pytest

from wire.neighbours import announcement, claimed_in, probe, solicited_node

OURS = bytes.fromhex("02000000aa01")
THEIRS = bytes.fromhex("02000000bb02")
HOME4, HOME6 = IPv4Address("203.0.113.77"), IPv6Address("2001:db8:99::12:3477")
AGENT = IPv6Address("2001:db8:99::2")


def test_the_solicited_node_group_ends_in_the_last_three_octets() -> None:
    assert solicited_node(HOME6) == IPv6Address("ff02::1:ff12:3477")


@pytest.mark.requirement("R115")
def test_probes_and_announcements_are_what_scapy_reads() -> None:
    scapy = pytest.importorskip("scapy.all")
    arp_probe = scapy.Ether(probe(HOME4, OURS))[scapy.ARP]
    assert (arp_probe.op, arp_probe.psrc, arp_probe.pdst) == (1, "0.0.0.0", str(HOME4))
    gratuitous = scapy.Ether(announcement(HOME4, OURS, AGENT, router=False))[scapy.ARP]
    assert (gratuitous.psrc, gratuitous.pdst, gratuitous.hwsrc) == (
        str(HOME4),
        str(HOME4),
        "02:00:00:00:aa:01",
    )

    solicitation = scapy.Ether(probe(HOME6, OURS))
    assert solicitation.dst == "33:33:ff:12:34:77"
    assert (solicitation[scapy.IPv6].src, solicitation[scapy.IPv6].hlim) == ("::", 255)
    assert solicitation[scapy.ICMPv6ND_NS].tgt == str(HOME6)

    for router in (False, True):
        advertisement = scapy.Ether(announcement(HOME6, OURS, AGENT, router))
        told = advertisement[scapy.ICMPv6ND_NA]
        assert (told.tgt, told.R, told.S, told.O) == (str(HOME6), int(router), 0, 1)
        assert told[scapy.ICMPv6NDOptDstLLAddr].lladdr == "02:00:00:00:aa:01"
        assert (advertisement.dst, advertisement[scapy.IPv6].dst) == ("33:33:00:00:00:01", "ff02::1")
        checksum = told.cksum
        del advertisement[scapy.ICMPv6ND_NA].cksum
        assert scapy.Ether(bytes(advertisement))[scapy.ICMPv6ND_NA].cksum == checksum


@pytest.mark.parametrize("address", [HOME4, HOME6])
def test_a_claim_of_somebody_else_is_seen_and_an_own_one_is_not(address: IPv4Address | IPv6Address) -> None:
    for frame in (announcement(address, THEIRS, AGENT, router=False), probe(address, THEIRS)):
        assert claimed_in(frame, OURS) == address
        assert claimed_in(frame, THEIRS) is None


def test_an_advertisement_from_beyond_the_link_is_not_believed() -> None:
    frame = bytearray(announcement(HOME6, THEIRS, AGENT, router=False))
    frame[14 + 7] = 254
    assert claimed_in(bytes(frame), OURS) is None


def test_any_octets_are_a_claim_or_nothing() -> None:
    chance = random.Random(826)
    frames = [announcement(HOME6, THEIRS, AGENT, router=False), probe(HOME4, THEIRS)]
    for _ in range(5000):
        frame = bytearray(chance.choice(frames)[: chance.randrange(100)])
        for _ in range(chance.randrange(3)):
            if frame:
                frame[chance.randrange(len(frame))] = chance.randrange(256)
        claimed = claimed_in(bytes(frame), OURS)
        assert claimed is None or isinstance(claimed, IPv4Address | IPv6Address)
