"""Hypothesis strategies for every mobility option and message that can be encoded."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, IPv6Network

from hypothesis import strategies as st

from wire.mobility import (
    MAX_LIFETIME,
    BindingAck,
    BindingError,
    BindingRefreshRequest,
    BindingUpdate,
    CareOfTest,
    CareOfTestInit,
    HomeTest,
    HomeTestInit,
    Message,
    UnknownMessage,
)
from wire.options import (
    AlternateCareOfAddress,
    Authentication,
    BindingAuthorization,
    BindingIdentifier,
    BindingRefreshAdvice,
    Ipv4AddressAck,
    Ipv4CareOfAddress,
    Ipv4HomeAddress,
    MessageIdentification,
    MobileNetworkPrefix,
    MobileNodeIdentifier,
    MobileNodeLinkLayerAddress,
    NatDetection,
    NonceIndices,
    Option,
    UnknownOption,
)
from wire.profile import AckFlag, Profile, UpdateFlag
from wire.status import binding_status

KNOWN_OPTIONS = (*range(11), 29, 30, 31, 32, 35)
KNOWN_MESSAGES = range(8)

octet = st.integers(0, 0xFF)
u16 = st.integers(0, 0xFFFF)
u32 = st.integers(0, 0xFFFF_FFFF)
u64 = st.integers(0, 0xFFFF_FFFF_FFFF_FFFF)
addresses4 = st.builds(IPv4Address, u32)
addresses6 = st.builds(IPv6Address, st.integers(0, 2**128 - 1))
prefixes6 = st.builds(
    lambda address, length: IPv6Network((address, length), strict=False), addresses6, st.integers(0, 128)
)
prefix_lengths4 = st.integers(1, 32)
lifetimes = st.integers(0, MAX_LIFETIME // 4).map(lambda units: units * 4)
eight = st.binary(min_size=8, max_size=8)

address_acks = st.one_of(
    st.builds(Ipv4AddressAck, st.integers(0, 127), addresses4, prefix_lengths4),
    st.builds(Ipv4AddressAck, st.integers(128, 255), addresses4, st.just(0)),
)
options: st.SearchStrategy[Option] = st.one_of(
    st.builds(BindingRefreshAdvice, lifetimes),
    st.builds(AlternateCareOfAddress, addresses6),
    st.builds(NonceIndices, u16, u16),
    st.builds(MobileNetworkPrefix, prefixes6),
    st.builds(MobileNodeLinkLayerAddress, st.binary(max_size=20)),
    st.builds(MobileNodeIdentifier, octet, st.binary(max_size=40)),
    st.builds(Authentication, octet, u32, st.binary(max_size=33)),
    st.builds(MessageIdentification, u64),
    st.builds(Ipv4HomeAddress, addresses4, prefix_lengths4, st.booleans()),
    address_acks,
    st.builds(NatDetection, st.booleans(), u32),
    st.builds(Ipv4CareOfAddress, addresses4),
    st.builds(BindingIdentifier, u16, octet, st.booleans(), st.one_of(st.none(), addresses4, addresses6)),
    st.builds(
        UnknownOption, octet.filter(lambda number: number not in KNOWN_OPTIONS), st.binary(max_size=40)
    ),
)
authorizations = st.builds(BindingAuthorization, st.binary(min_size=12, max_size=12))
option_lists = st.builds(
    lambda body, last: (*body, *last), st.lists(options, max_size=8), st.lists(authorizations, max_size=1)
)


def updates(profile: Profile) -> st.SearchStrategy[BindingUpdate]:
    """Every BindingUpdate that the profile can express, unknown flags included."""
    known = sum(profile.update_flags.values())
    flags = st.lists(st.sampled_from(list(profile.update_flags))).map(
        lambda chosen: UpdateFlag(0) if not chosen else _union(chosen)
    )
    return st.builds(BindingUpdate, u16, lifetimes, flags, option_lists, u16.map(lambda bits: bits & ~known))


def acks(profile: Profile) -> st.SearchStrategy[BindingAck]:
    """Every BindingAck that the profile can express, unknown flags included."""
    known = sum(profile.ack_flags.values())
    flags = st.lists(st.sampled_from(list(profile.ack_flags))).map(
        lambda chosen: AckFlag(0) if not chosen else _union_ack(chosen)
    )
    unknown = octet.map(lambda bits: bits & ~known)
    return st.builds(BindingAck, octet.map(binding_status), u16, lifetimes, flags, option_lists, unknown)


def messages(profile: Profile) -> st.SearchStrategy[Message]:
    """Every mobility message that the profile can express."""
    return st.one_of(
        st.builds(BindingRefreshRequest, option_lists),
        st.builds(HomeTestInit, eight, option_lists),
        st.builds(CareOfTestInit, eight, option_lists),
        st.builds(HomeTest, u16, eight, eight, option_lists),
        st.builds(CareOfTest, u16, eight, eight, option_lists),
        updates(profile),
        acks(profile),
        st.builds(BindingError, octet, addresses6, option_lists),
        st.builds(
            UnknownMessage,
            octet.filter(lambda number: number not in KNOWN_MESSAGES),
            st.integers(0, 20).flatmap(lambda n: st.binary(min_size=8 * n + 2, max_size=8 * n + 2)),
        ),
    )


def _union(flags: list[UpdateFlag]) -> UpdateFlag:
    union = UpdateFlag(0)
    for flag in flags:
        union |= flag
    return union


def _union_ack(flags: list[AckFlag]) -> AckFlag:
    union = AckFlag(0)
    for flag in flags:
        union |= flag
    return union
