"""Keys for payload: what both ends compute from one key and two shares, and which sessions live when."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address

import pytest
from cryptography.hazmat.primitives.hashes import SHA256, Hash
from cryptography.hazmat.primitives.hmac import HMAC

from tunnel.forwarding import Peer
from tunnel.keyring import ADDRESSES_HEARD, NO_KEYS, Keyring, PayloadPair, Sessions
from tunnel.lane import Lane
from tunnel.path import Encapsulation, TunnelPath
from tunnel.payload_esp import PayloadOpener, PayloadSealer
from tunnel.protection import PayloadKey, PayloadKeys, derive, is_usable
from wire.options import UnknownOption
from wire.vendor import Protection, interruption_option, protection_in, protection_option

HOME = IPv6Address("2001:db8:99::77")
AGENT4 = IPv4Address("203.0.113.2")
NAT = IPv4Address("192.0.2.100")
KEY = PayloadKey(bytes(range(32)))
MN = Protection(0x1111_1111, b"m" * 16)
HA = Protection(0x2222_2222, b"h" * 16, MN.spi)
PACKET = b"\x60" + bytes(39)


def keys() -> PayloadKeys:
    return derive(KEY, HOME, MN, HA)


def pair_at_home_agent(of: PayloadKeys, stand_in: int = 0) -> PayloadPair:
    return PayloadPair(of.to_mobile_node, of.to_home_agent, stand_in)


# ---- the option ------------------------------------------------------------------------------------------
def test_the_octets_of_a_share() -> None:
    share = Protection(0x01020304, b"0123456789abcdef", 0x0A0B0C0D)
    octets = "00007ed9 03 01020304" + b"0123456789abcdef".hex() + "0a0b0c0d"
    assert protection_option(share) == UnknownOption(19, bytes.fromhex(octets))
    assert protection_in((interruption_option(1.0), protection_option(share))) == share
    assert protection_in((interruption_option(1.0),)) is None
    with pytest.raises(ValueError, match="16 octets"):
        protection_option(Protection(0x100, b"short"))


def test_a_share_with_a_reserved_spi_is_not_usable() -> None:
    assert is_usable(MN)
    assert not is_usable(replace(MN, spi=255))


# ---- derivation ------------------------------------------------------------------------------------------
def test_the_keys_are_those_of_rfc_5869() -> None:
    """By hand: extract with both nonces as salt, expand with label, receiver, address and SPIs."""

    def hmac(key: bytes, data: bytes) -> bytes:
        digest = HMAC(key, SHA256())
        digest.update(data)
        return digest.finalize()

    extracted = hmac(MN.nonce + HA.nonce, KEY.octets)
    spis = bytes.fromhex("11111111 22222222")
    for receiver, association in (
        (b"home agent", keys().to_home_agent),
        (b"mobile node", keys().to_mobile_node),
    ):
        info = b"DSMIPv6 protected payload, AES-256-GCM\0" + receiver + b"\0" + HOME.packed + spis
        first = hmac(extracted, info + b"\x01")
        assert association.key == first
        assert association.salt == hmac(extracted, first + info + b"\x02")[:4]


def test_the_first_keys_of_a_key_file_never_change() -> None:
    """A version of this software that derives other keys could not talk with this one."""
    digest = Hash(SHA256())
    for one in (keys().to_home_agent, keys().to_mobile_node):
        digest.update(one.spi.to_bytes(4, "big") + one.key + one.salt)
    assert digest.finalize().hex() == "23f1bf99365c00b89a32258f03d889a0bf13e2e0b5bfb92968ddb31cdbf40e51"


def test_whatever_differs_makes_other_keys() -> None:
    others = [
        derive(PayloadKey(bytes(32)), HOME, MN, HA),
        derive(KEY, IPv6Address("2001:db8:99::78"), MN, HA),
        derive(KEY, HOME, replace(MN, nonce=b"M" * 16), HA),
        derive(KEY, HOME, MN, replace(HA, nonce=b"H" * 16)),
        derive(KEY, HOME, replace(MN, spi=0x1111_1112), HA),
        derive(KEY, HOME, MN, replace(HA, spi=0x2222_2223)),
        keys(),
    ]
    seen = [one.key for pair in others for one in (pair.to_home_agent, pair.to_mobile_node)]
    assert len(set(seen)) == len(seen)


def test_each_direction_has_the_spi_of_its_receiver() -> None:
    assert (keys().to_home_agent.spi, keys().to_mobile_node.spi) == (HA.spi, MN.spi)
    same = derive(KEY, HOME, MN, replace(HA, spi=MN.spi))
    assert same.to_home_agent.key != same.to_mobile_node.key


def test_keys_show_nowhere() -> None:
    shown = repr(KEY) + repr(keys()) + repr(Keyring([pair_at_home_agent(keys())]))
    for secret in (KEY.octets, keys().to_home_agent.key, keys().to_mobile_node.key):
        assert repr(secret)[2:-1] not in shown
        assert secret.hex() not in shown
    assert "0x22222222" in shown


def test_a_key_has_32_octets() -> None:
    with pytest.raises(ValueError, match="32 octets long, not 16"):
        PayloadKey(bytes(16))


# ---- keyring and sessions --------------------------------------------------------------------------------
def test_a_keyring_is_changed_by_making_another() -> None:
    pair = pair_at_home_agent(keys())
    keyring = NO_KEYS.changed((), pair)
    assert (len(NO_KEYS), len(keyring)) == (0, 1)
    assert HA.spi in keyring
    assert keyring.find(HA.spi) is pair
    assert keyring == Keyring([pair])
    assert hash(keyring) == hash(Keyring([pair]))
    assert keyring.changed((HA.spi, 5)) == NO_KEYS


def test_a_session_lasts_as_long_as_its_pair() -> None:
    sessions = Sessions()
    sessions.keyring = Keyring([pair_at_home_agent(keys())])
    first = sessions.find(HA.spi)
    assert first is not None
    first.sealer.seal(PACKET)
    # An equal keyring, as it comes with every new configuration of the endpoint: the numbers go on.
    sessions.keyring = Keyring([pair_at_home_agent(derive(KEY, HOME, MN, HA))])
    assert sessions.find(HA.spi) is first
    # Other keys under the same SPI, as after a restart of the other end.
    sessions.keyring = Keyring([pair_at_home_agent(derive(KEY, HOME, replace(MN, nonce=bytes(16)), HA))])
    second = sessions.find(HA.spi)
    assert second is not None
    assert second is not first
    assert second.sealer.next_sequence == 1
    sessions.keyring = NO_KEYS
    assert sessions.find(HA.spi) is None


def test_sessions_that_ended_are_forgotten() -> None:
    sessions = Sessions()
    for number in range(200):
        share = replace(HA, spi=1000 + number)
        sessions.keyring = Keyring([pair_at_home_agent(derive(KEY, HOME, MN, share))])
        assert sessions.find(share.spi) is not None
    assert len(sessions._used) < 40


def heard(sessions: Sessions, of: PayloadKeys, sealer: PayloadSealer, peer: Peer) -> bool:
    """A packet of the mobile node arrives from `peer`: does it change how to send back?"""
    session = sessions.find(of.to_home_agent.spi)
    assert session is not None
    assert isinstance(session.opener.open(sealer.seal(b"")), tuple)
    lane = Lane(path(of.to_home_agent.spi))
    sessions.connected(lane)
    lane.send = print
    session.hear(peer)
    return lane.send is None


def path(spi: int = HA.spi) -> TunnelPath:
    return TunnelPath(AGENT4, NAT, Encapsulation.ESP_UDP, 0, 4500, spi=spi)


@pytest.mark.requirement("R136b")
def test_until_something_authentic_was_heard_the_port_is_4500() -> None:
    sessions = Sessions()
    assert sessions.port_of(path()) == 4500
    sessions.keyring = Keyring([pair_at_home_agent(keys())])
    assert sessions.port_of(path()) == 4500
    sealer = PayloadSealer(keys().to_home_agent)
    assert heard(sessions, keys(), sealer, (str(NAT), 40123))
    assert sessions.port_of(path()) == 40123
    assert not heard(sessions, keys(), sealer, (str(NAT), 40123))
    assert heard(sessions, keys(), sealer, (str(NAT), 40124)), "the NAT has made a new mapping"
    assert sessions.port_of(path()) == 40124


def test_a_packet_that_was_overtaken_does_not_move_the_port_back() -> None:
    sessions = Sessions()
    sessions.keyring = Keyring([pair_at_home_agent(keys())])
    sealer = PayloadSealer(keys().to_home_agent)
    late = sealer.seal(b"")
    heard(sessions, keys(), sealer, (str(NAT), 2222))
    session = sessions.find(HA.spi)
    assert session is not None
    assert isinstance(session.opener.open(late), tuple)
    session.hear((str(NAT), 1111))
    assert sessions.port_of(path()) == 2222


def test_ports_are_kept_by_address_and_only_a_few() -> None:
    """On a move packets of the old path go on coming while the new one has said where it is."""
    sessions = Sessions()
    sessions.keyring = Keyring([pair_at_home_agent(keys())])
    sealer = PayloadSealer(keys().to_home_agent)
    heard(sessions, keys(), sealer, (str(NAT), 1000))
    heard(sessions, keys(), sealer, ("198.51.100.9", 2000))
    heard(sessions, keys(), sealer, (str(NAT), 1000))
    assert sessions.port_of(path()) == 1000
    assert sessions.port_of(replace(path(), remote=IPv4Address("198.51.100.9"))) == 2000
    assert sessions.port_of(replace(path(), remote=IPv4Address("198.51.100.10"))) == 4500
    for last in range(1, 30):
        heard(sessions, keys(), sealer, (f"198.51.100.{last}", 3000))
    session = sessions.find(HA.spi)
    assert session is not None
    assert len(session.ports) == ADDRESSES_HEARD


def test_new_keys_seal_only_after_the_other_end_has_used_them() -> None:
    """The acknowledgement that brings them may be lost; until then the old ones reach the other end."""
    sessions = Sessions()
    old, new = keys(), derive(KEY, HOME, replace(MN, spi=0x3333, nonce=b"n" * 16), replace(HA, spi=0x4444))
    pairs = (pair_at_home_agent(old), pair_at_home_agent(new, stand_in=HA.spi))
    sessions.keyring = Keyring(pairs)
    heard(sessions, old, PayloadSealer(old.to_home_agent), (str(NAT), 40123))
    sender = sessions.sender(0x4444)
    assert sender is not None
    assert isinstance(PayloadOpener(old.to_mobile_node).open(sender.sealer.seal(PACKET)), tuple)
    assert sessions.port_of(path(0x4444)) == 40123, "what is known of the other end is not lost"
    assert heard(sessions, new, PayloadSealer(new.to_home_agent), (str(NAT), 40123))
    sender = sessions.sender(0x4444)
    assert sender is not None
    assert isinstance(PayloadOpener(new.to_mobile_node).open(sender.sealer.seal(PACKET)), tuple)


def test_without_its_stand_in_a_new_session_seals_itself() -> None:
    sessions = Sessions()
    sessions.keyring = Keyring([pair_at_home_agent(keys(), stand_in=0x9999)])
    sender = sessions.sender(HA.spi)
    assert sender is not None
    assert isinstance(PayloadOpener(keys().to_mobile_node).open(sender.sealer.seal(PACKET)), tuple)
    assert sessions.sender(0x9999) is None
