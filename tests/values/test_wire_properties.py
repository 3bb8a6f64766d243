"""Laws of the codec: decode inverts encode, alignment holds, any bytes are a value or a refusal."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz import strategies
from tests.fuzz.targets import HOME, HOME_AGENT, with_mobility_checksum
from wire.icmp import (
    DestinationUnreachable,
    HomeAgentDiscoveryReply,
    HomeAgentDiscoveryRequest,
    IcmpMessage,
    MobilePrefixAdvertisement,
    MobilePrefixSolicitation,
    PacketTooBig,
    ParameterProblem,
    PrefixInformation,
    UnknownIcmp,
    decode_icmp6,
    encode_icmp6,
)
from wire.ip import IPv4Header, IPv6Header
from wire.mobility import MAX_LIFETIME, BindingAck, Message, decode_message, encode_message
from wire.options import BindingRefreshAdvice
from wire.profile import PROFILES, Profile
from wire.reader import DecodeError

LAWS = settings(max_examples=150, deadline=None, derandomize=True)

ALIGNMENT = {2: (0, 2), 3: (6, 8), 4: (0, 2), 5: (2, 8), 6: (4, 8), 9: (1, 4), 10: (2, 8)} | dict.fromkeys(
    (29, 30, 31, 32), (0, 4)
)
FIRST_OPTION = {0: 8, 1: 16, 2: 16, 3: 24, 4: 24, 5: 12, 6: 12, 7: 24}


@pytest.mark.parametrize("profile", PROFILES, ids=lambda profile: profile.name)
@given(data=st.data())
@LAWS
def test_decode_is_the_inverse_of_encode(profile: Profile, data: st.DataObject) -> None:
    message: Message = data.draw(strategies.messages(profile))
    octets = encode_message(message, HOME, HOME_AGENT, profile)

    assert decode_message(octets, HOME, HOME_AGENT, profile) == message


@pytest.mark.parametrize("profile", PROFILES, ids=lambda profile: profile.name)
@given(data=st.data())
@LAWS
def test_messages_fill_units_of_eight_octets_with_every_option_aligned(
    profile: Profile, data: st.DataObject
) -> None:
    octets = encode_message(data.draw(strategies.messages(profile)), HOME, HOME_AGENT, profile)

    assert len(octets) == (octets[1] + 1) * 8
    assert octets[0] == 59
    if octets[2] not in FIRST_OPTION:
        return
    position = FIRST_OPTION[octets[2]]
    while position < len(octets):
        if octets[position] == 0:
            position += 1
            continue
        number, length = octets[position], octets[position + 1]
        residue, modulus = ALIGNMENT.get(number, (0, 1))
        if number == 35:
            residue, modulus = (2, 8) if length > 4 else (0, 2)
        assert position % modulus == residue, f"option {number} at octet {position}"
        position += 2 + length
    assert position == len(octets)


@given(kind=st.integers(0, 7), octets=st.binary(min_size=2, max_size=200))
@LAWS
def test_any_bytes_with_a_right_checksum_are_a_message_or_refused(kind: int, octets: bytes) -> None:
    body = octets[: (len(octets) - 2) // 8 * 8 + 2]
    data = with_mobility_checksum(bytes((59, len(body) // 8, kind, 0, 0, 0)) + body)
    reasons = [refusal(data, profile) for profile in PROFILES]

    assert len(set(reasons)) == 1, "no profile refuses what another accepts"
    assert reasons[0] != "mobility header checksum is wrong"


def refusal(data: bytes, profile: Profile) -> str | None:
    try:
        decode_message(data, HOME, HOME_AGENT, profile)
    except DecodeError as error:
        return error.reason
    return None


@given(
    header=st.builds(
        IPv6Header,
        strategies.addresses6,
        strategies.addresses6,
        strategies.octet,
        st.integers(0, 60),
        strategies.octet,
        strategies.octet,
        st.integers(0, 0xFFFFF),
    )
)
@LAWS
def test_ipv6_headers_survive_a_round_trip(header: IPv6Header) -> None:
    assert IPv6Header.decode(header.encode() + bytes(60)) == header


@given(
    header=st.builds(
        IPv4Header,
        strategies.addresses4,
        strategies.addresses4,
        strategies.octet,
        st.integers(60, 100),
        strategies.octet,
        strategies.octet,
        strategies.u16,
        st.booleans(),
        st.booleans(),
        st.integers(0, 0x1FFF),
        st.integers(0, 10).flatmap(lambda words: st.binary(min_size=4 * words, max_size=4 * words)),
    )
)
@LAWS
def test_ipv4_headers_survive_a_round_trip(header: IPv4Header) -> None:
    assert IPv4Header.decode(header.encode() + bytes(100)) == header


prefix_information = st.builds(
    PrefixInformation,
    strategies.addresses6,
    st.integers(0, 128),
    st.booleans(),
    st.booleans(),
    st.booleans(),
    strategies.u32,
    strategies.u32,
)
icmp_messages: st.SearchStrategy[IcmpMessage] = st.one_of(
    st.builds(HomeAgentDiscoveryRequest, strategies.u16, st.booleans()),
    st.builds(
        HomeAgentDiscoveryReply,
        strategies.u16,
        st.lists(strategies.addresses6, max_size=9).map(tuple),
        st.booleans(),
    ),
    st.builds(MobilePrefixSolicitation, strategies.u16),
    st.builds(
        MobilePrefixAdvertisement,
        strategies.u16,
        st.booleans(),
        st.booleans(),
        st.lists(prefix_information, max_size=5).map(tuple),
    ),
    st.builds(DestinationUnreachable, strategies.octet, st.binary(max_size=60)),
    st.builds(PacketTooBig, strategies.u32, st.binary(max_size=60)),
    st.builds(ParameterProblem, strategies.octet, strategies.u32, st.binary(max_size=60)),
    st.builds(UnknownIcmp, st.integers(148, 255), strategies.octet, st.binary(max_size=60)),
)


@given(message=icmp_messages)
@LAWS
def test_icmpv6_messages_survive_a_round_trip(message: IcmpMessage) -> None:
    assert decode_icmp6(encode_icmp6(message, HOME, HOME_AGENT), HOME, HOME_AGENT) == message


@given(interval=st.integers(0, 10**7))
@LAWS
def test_intervals_are_rounded_down_to_what_the_wire_can_say(interval: int) -> None:
    message = BindingAck(0, 1, interval, options=(BindingRefreshAdvice(interval),))
    octets = encode_message(message, HOME, HOME_AGENT, PROFILES[0])
    decoded = decode_message(octets, HOME, HOME_AGENT, PROFILES[0])

    expected = min(interval, MAX_LIFETIME) // 4 * 4
    assert isinstance(decoded, BindingAck)
    assert decoded.lifetime == expected
    assert decoded.options == (BindingRefreshAdvice(expected),)
