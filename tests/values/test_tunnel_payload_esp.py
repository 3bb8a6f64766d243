"""ESP around whole inner packets: scapy as the other author, and what must never happen to a nonce."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.config import conf

conf.route_autoload = False
conf.route6_autoload = False

from scapy.layers.inet import IP as ScapyIP  # noqa: E402
from scapy.layers.inet import UDP as ScapyUDP  # noqa: E402
from scapy.layers.ipsec import ESP as ScapyESP  # noqa: E402
from scapy.layers.ipsec import SecurityAssociation as ScapyAssociation  # noqa: E402

from tunnel.path import Drop  # noqa: E402
from tunnel.payload_esp import (  # noqa: E402
    WINDOW,
    AssociationExhausted,
    PayloadAssociation,
    PayloadOpener,
    PayloadSealer,
)
from tunnel.security import BAD_ICV, MALFORMED, REPLAYED  # noqa: E402
from wire.ip import IPv4Header, IPv6Header  # noqa: E402
from wire.udp import encode_udp  # noqa: E402

HOME6, HOME4 = IPv6Address("2001:db8:99::77"), IPv4Address("203.0.113.77")
CN6, CN4 = IPv6Address("2001:db8:9::9"), IPv4Address("192.0.2.9")
ASSOCIATION = PayloadAssociation(0x1234_5678, bytes(range(32)), b"salt")


def packet6(size: int = 100) -> bytes:
    return IPv6Header(HOME6, CN6, 17, size - 40).encode() + bytes(size - 40)


def packet4(size: int = 100) -> bytes:
    datagram = encode_udp(HOME4, CN4, 5000, 5001, bytes(size - 28))
    return IPv4Header(HOME4, CN4, 17, size).encode() + datagram


def sealer(instance: bytes = b"once") -> PayloadSealer:
    return PayloadSealer(ASSOCIATION, lambda size: instance[:size])


def opener() -> PayloadOpener:
    return PayloadOpener(ASSOCIATION)


def scapy_twin(seq_num: int = 1) -> Any:
    return ScapyAssociation(
        ScapyESP,
        spi=ASSOCIATION.spi,
        seq_num=seq_num,
        crypt_algo="AES-GCM",
        crypt_key=ASSOCIATION.key + ASSOCIATION.salt,  # RFC 4106 section 8.1: keying material
        tunnel_header=ScapyIP(src="192.168.7.2", dst="203.0.113.2"),
        nat_t_header=ScapyUDP(sport=4500, dport=4500),
    )


def test_the_layout_is_that_of_rfc_4303_and_rfc_4106() -> None:
    esp = sealer().seal(packet6(100))
    assert esp[:16] == bytes.fromhex("12345678 00000001") + b"once" + bytes.fromhex("00000001")
    # 100 octets and the two of the trailer are padded to 104; the ICV has 16.
    assert len(esp) == 8 + 8 + 104 + 16


@pytest.mark.requirement("R135")
@pytest.mark.parametrize("size", [*range(60, 68), 1438])
def test_scapy_reads_what_we_seal(size: int) -> None:
    esp = sealer().seal(packet4(size))
    datagram = ScapyIP(src="192.168.7.2", dst="203.0.113.2") / ScapyUDP(sport=4500, dport=4500)
    inner = scapy_twin().decrypt(ScapyIP(bytes(datagram / ScapyESP(esp))))
    assert bytes(inner) == packet4(size)


@pytest.mark.requirement("R135")
@pytest.mark.parametrize("size", [*range(60, 68), 1438])
def test_we_open_what_scapy_seals(size: int) -> None:
    outer = scapy_twin(7).encrypt(ScapyIP(packet4(size)), iv=b"eight oc")
    assert opener().open(bytes(outer[ScapyESP])) == (4, packet4(size))


@given(size=st.integers(40, 1500), six=st.booleans())
def test_whatever_goes_in_comes_out(size: int, six: bool) -> None:
    packet = packet6(size) if six else packet4(size)
    assert opener().open(sealer().seal(packet)) == (41 if six else 4, packet)


def test_an_empty_packet_is_a_dummy() -> None:
    esp = sealer().seal(b"")
    assert len(esp) == 36
    assert opener().open(esp) == (59, b"")


# ---- nonces: under one key none may ever come twice ------------------------------------------------------
def test_no_nonce_comes_twice() -> None:
    one = sealer()
    nonces = {one.seal(packet6())[4:16] for _ in range(1000)}
    assert len(nonces) == 1000


def test_even_two_sealers_of_one_key_would_differ() -> None:
    first, second = (PayloadSealer(ASSOCIATION).seal(packet6()) for _ in range(2))
    assert first[4:8] == second[4:8] == bytes.fromhex("00000001")
    assert first[8:16] != second[8:16]


def test_a_used_up_association_refuses_and_goes_on_refusing() -> None:
    one = sealer()
    one.next_sequence = 0xFFFFFFFF
    assert isinstance(opener().open(one.seal(packet6())), tuple)
    for _ in range(3):
        with pytest.raises(AssociationExhausted):
            one.seal(packet6())


# ---- what an attacker can do -----------------------------------------------------------------------------
@given(at=st.integers(0, 135), bit=st.integers(0, 7))
def test_no_octet_can_be_changed(at: int, bit: int) -> None:
    esp = bytearray(sealer().seal(packet6(100)))
    esp[at] ^= 1 << bit
    one = opener()
    verdict = one.open(bytes(esp))
    # A changed SPI would not have led to this opener; the sequence number may fall outside of the window.
    assert verdict in (BAD_ICV, REPLAYED)
    assert one.window.highest == 0


@given(octets=st.binary(max_size=120))
def test_octets_of_others_are_refused_and_move_nothing(octets: bytes) -> None:
    one = opener()
    assert isinstance(one.open(octets), Drop)
    assert one.window.highest == 0


def test_a_packet_opens_once() -> None:
    one, esp = opener(), sealer().seal(packet6())
    assert isinstance(one.open(esp), tuple)
    assert one.open(esp) is REPLAYED


def test_packets_may_overtake_each_other_within_the_window() -> None:
    one, sealing = opener(), sealer()
    sent = [sealing.seal(packet6()) for _ in range(WINDOW + 1)]
    assert isinstance(one.open(sent[-1]), tuple)
    assert one.newest
    assert isinstance(one.open(sent[1]), tuple)
    assert not one.newest, "an old packet says nothing about where the other end is now"
    assert one.open(sent[0]) is REPLAYED


def test_short_and_odd_packets_are_malformed() -> None:
    esp = sealer().seal(packet6())
    for cut in (0, 7, 15, 31, 35, len(esp) - 1, len(esp) - 2, len(esp) - 3):
        assert opener().open(esp[:cut]) is MALFORMED


def test_the_other_direction_has_another_key() -> None:
    other = PayloadAssociation(ASSOCIATION.spi, bytes(32), b"salt")
    assert PayloadOpener(other).open(sealer().seal(packet6())) is BAD_ICV


def test_keys_do_not_show() -> None:
    shown = repr(ASSOCIATION)
    assert str(ASSOCIATION.spi) in shown
    assert "salt" not in shown
    assert "key" not in shown


@pytest.mark.parametrize(
    ("spi", "key", "salt"), [(255, 32, 4), (0, 32, 4), (1 << 32, 32, 4), (256, 16, 4), (256, 32, 8)]
)
def test_an_association_that_cannot_be_is_refused(spi: int, key: int, salt: int) -> None:
    with pytest.raises(ValueError, match=r"spi|AES-256-GCM"):
        PayloadAssociation(spi, bytes(key), bytes(salt))
