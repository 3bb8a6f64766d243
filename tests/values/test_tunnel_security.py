"""ESP: RFC vectors, scapy as the other author, and what an attacker can do to a packet."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.config import conf

conf.route_autoload = False
conf.route6_autoload = False

from scapy.layers.inet6 import IPv6 as ScapyIPv6  # noqa: E402
from scapy.layers.ipsec import ESP as ScapyESP  # noqa: E402
from scapy.layers.ipsec import SecurityAssociation as ScapyAssociation  # noqa: E402
from scapy.packet import Raw  # noqa: E402

from tunnel.path import Drop  # noqa: E402
from tunnel.replay import ReplayWindow  # noqa: E402
from tunnel.security import (  # noqa: E402
    BAD_ICV,
    DUMMY,
    MALFORMED,
    REPLAYED,
    UNKNOWN_SPI,
    Encryption,
    Integrity,
    Opener,
    Sealer,
    SecurityAssociation,
    SequenceExhausted,
)

SUITES = [(integrity, encryption) for integrity in Integrity for encryption in Encryption]
SCAPY_INTEGRITY = {Integrity.HMAC_SHA1_96: "HMAC-SHA1-96", Integrity.HMAC_SHA256_128: "SHA2-256-128"}
SCAPY_ENCRYPTION = {Encryption.NULL: "NULL", Encryption.AES_CBC: "AES-CBC"}


def association(
    integrity: Integrity = Integrity.HMAC_SHA256_128,
    encryption: Encryption = Encryption.AES_CBC,
    spi: int = 0x1001,
) -> SecurityAssociation:
    cipher_key = bytes(range(32)) if encryption is Encryption.AES_CBC else b""
    return SecurityAssociation(spi, integrity, bytes(range(integrity.key_size)), encryption, cipher_key)


def opener(of: SecurityAssociation) -> Opener:
    return Opener(of, ReplayWindow())


def scapy_twin(of: SecurityAssociation) -> Any:
    return ScapyAssociation(
        ScapyESP,
        spi=of.spi,
        crypt_algo=SCAPY_ENCRYPTION[of.encryption],
        crypt_key=of.encryption_key,
        auth_algo=SCAPY_INTEGRITY[of.integrity],
        auth_key=of.integrity_key,
    )


def test_the_icv_is_that_of_rfc_2202_and_rfc_4868() -> None:
    sha1 = SecurityAssociation(256, Integrity.HMAC_SHA1_96, b"\x0c" * 20)
    assert sha1.icv(b"Test With Truncation") == bytes.fromhex("4c1a03424b55e07fe7f27be1")
    sha256 = SecurityAssociation(256, Integrity.HMAC_SHA256_128, b"\x0b" * 32)
    assert sha256.icv(b"Hi There") == bytes.fromhex("198a607eb44bfbc69903a0f1cf2bbdc5")


def test_the_ciphertext_is_that_of_rfc_3602_case_5() -> None:
    ping = bytes.fromhex("08000ebda70a00008e9c083db95b0700") + bytes(range(8, 0x38))
    key = bytes.fromhex("90d382b410eeba7ad938c46cec1a82bf")
    iv = bytes.fromhex("e96e8c08ab465763fd098d45dd3ff893")
    of = SecurityAssociation(4321, Integrity.HMAC_SHA1_96, bytes(20), Encryption.AES_CBC, key)
    sealed = Sealer(of, iv_source=lambda size: iv).seal(1, ping)
    assert sealed[:-12].hex() == (
        "000010e100000001e96e8c08ab465763fd098d45dd3ff893"
        "f663c25d325c18c6a9453e194e120849a4870b66cc6b9965330013b4898dc856"
        "a4699e523a55db080b59ec3a8e4b7e52775b07d1db34ed9c538ab50c551b874a"
        "a269add047ad2d5913ac19b7cfbad4a6"
    )


@pytest.mark.requirement("R134")
@pytest.mark.parametrize(("integrity", "encryption"), SUITES)
def test_scapy_opens_what_we_seal(integrity: Integrity, encryption: Encryption) -> None:
    of = association(integrity, encryption)
    payload = bytes(range(48))
    esp = Sealer(of, next_sequence=7).seal(135, payload)
    packet = ScapyIPv6(src="2001:db8::1", dst="2001:db8::2", nh=50) / ScapyESP(esp)
    opened = scapy_twin(of).decrypt(packet)
    assert opened.nh == 135
    assert bytes(opened.payload) == payload


@pytest.mark.requirement("R134")
@pytest.mark.parametrize(("integrity", "encryption"), SUITES)
def test_we_open_what_scapy_seals(integrity: Integrity, encryption: Encryption) -> None:
    of = association(integrity, encryption)
    payload = bytes(range(56))
    packet = ScapyIPv6(src="2001:db8::1", dst="2001:db8::2", nh=135) / Raw(payload)
    sealed = bytes(scapy_twin(of).encrypt(packet, seq_num=9)[ScapyESP])
    assert opener(of).open(sealed) == (135, payload)


@pytest.mark.parametrize(("integrity", "encryption"), SUITES)
@given(payload=st.binary(max_size=300), next_header=st.integers(0, 255).filter(lambda n: n != 59))
def test_opening_undoes_sealing(
    integrity: Integrity, encryption: Encryption, payload: bytes, next_header: int
) -> None:
    of = association(integrity, encryption)
    sealed = Sealer(of).seal(next_header, payload)
    assert len(sealed) % 4 == 0
    assert opener(of).open(sealed) == (next_header, payload)


@given(position=st.integers(0, 10**6), change=st.integers(1, 255))
def test_no_octet_of_a_packet_can_be_changed(position: int, change: int) -> None:
    for integrity, encryption in SUITES:
        of = association(integrity, encryption)
        sealed = bytearray(Sealer(of, 5).seal(135, bytes(40)))
        sealed[position % len(sealed)] ^= change
        receiving = opener(of)
        assert isinstance(receiving.open(bytes(sealed)), Drop)
        assert receiving.window.highest == 0, "a forgery must not move the window"


@given(st.binary(max_size=200))
def test_any_octets_are_opened_or_dropped(octets: bytes) -> None:
    for integrity, encryption in SUITES:
        assert isinstance(opener(association(integrity, encryption)).open(octets), Drop)


@given(st.binary(max_size=100))
def test_an_authentic_packet_with_any_body_is_opened_or_dropped(body: bytes) -> None:
    for integrity, encryption in SUITES:
        of = association(integrity, encryption)
        authenticated = of.spi.to_bytes(4, "big") + (1).to_bytes(4, "big") + body
        verdict = opener(of).open(authenticated + of.icv(authenticated))
        assert isinstance(verdict, Drop | tuple)


def test_each_refusal_has_its_reason() -> None:
    of = association()
    receiving = opener(of)
    sealed = Sealer(of).seal(135, bytes(40))
    assert receiving.open(sealed[:20]) is MALFORMED
    assert receiving.open(b"\0\0\1\0" + sealed[4:]) is UNKNOWN_SPI
    assert receiving.open(sealed[:-1] + bytes((sealed[-1] ^ 1,))) is BAD_ICV
    assert receiving.open(sealed) == (135, bytes(40))
    assert receiving.open(sealed) is REPLAYED
    assert receiving.open(Sealer(of, 2).seal(59, b"nobody")) is DUMMY


def test_packets_of_one_key_are_refused_under_another() -> None:
    sealed = Sealer(association()).seal(135, bytes(40))
    other = SecurityAssociation(
        0x1001, Integrity.HMAC_SHA256_128, b"k" * 32, Encryption.AES_CBC, bytes(range(32))
    )
    assert opener(other).open(sealed) is BAD_ICV


def test_every_packet_has_its_own_number_and_vector() -> None:
    sealer = Sealer(association())
    packets = [sealer.seal(135, bytes(40)) for _ in range(50)]
    assert [int.from_bytes(packet[4:8], "big") for packet in packets] == list(range(1, 51))
    assert len({packet[8:24] for packet in packets}) == 50
    assert sealer.next_sequence == 51


def test_an_association_ends_with_its_numbers() -> None:
    sealer = Sealer(association(), next_sequence=0xFFFFFFFF)
    sealer.seal(135, b"last")
    with pytest.raises(SequenceExhausted, match="new keys"):
        sealer.seal(135, b"one too many")


def test_keys_never_show() -> None:
    of = SecurityAssociation(
        0x1001, Integrity.HMAC_SHA256_128, b"canary-integrity".ljust(32), Encryption.AES_CBC, b"canary" * 4
    )
    assert "canary" not in repr(of)
    assert b"canary".hex() not in repr(of)


@pytest.mark.parametrize(
    ("spi", "integrity_key", "encryption_key", "complaint"),
    [
        (0, bytes(32), bytes(32), "spi"),
        (255, bytes(32), bytes(32), "spi"),
        (1 << 32, bytes(32), bytes(32), "spi"),
        (256, bytes(20), bytes(32), "32 octets, not 20"),
        (256, bytes(32), bytes(31), "16 or 24 or 32 octets, not 31"),
        (256, bytes(32), b"", "not 0"),
    ],
)
def test_an_association_refuses_what_does_not_fit(
    spi: int, integrity_key: bytes, encryption_key: bytes, complaint: str
) -> None:
    with pytest.raises(ValueError, match=complaint):
        SecurityAssociation(spi, Integrity.HMAC_SHA256_128, integrity_key, Encryption.AES_CBC, encryption_key)
