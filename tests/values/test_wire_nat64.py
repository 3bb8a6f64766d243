"""IPv4 addresses inside IPv6 ones, and the prefix of a NAT64 read from what DNS answers."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, IPv6Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wire.nat64 import LENGTHS, WELL_KNOWN, embedded, prefixes_in, synthesise

HOST = IPv4Address("192.0.2.33")
RFC_6052 = [
    ("2001:db8::/32", "2001:db8:c000:221::"),
    ("2001:db8:100::/40", "2001:db8:1c0:2:21::"),
    ("2001:db8:122::/48", "2001:db8:122:c000:2:2100::"),
    ("2001:db8:122:300::/56", "2001:db8:122:3c0:0:221::"),
    ("2001:db8:122:344::/64", "2001:db8:122:344:c0:2:2100::"),
    ("2001:db8:122:344::/96", "2001:db8:122:344::192.0.2.33"),
    ("64:ff9b::/96", "64:ff9b::192.0.2.33"),
]
PREFIXES = st.builds(
    lambda number, length: IPv6Network((IPv6Address(number), length), strict=False),
    st.integers(0, 2**128 - 1),
    st.sampled_from(LENGTHS),
)
IPV4 = st.integers(0, 2**32 - 1).map(IPv4Address)


@pytest.mark.parametrize(("prefix", "address"), RFC_6052)
def test_the_examples_of_rfc_6052(prefix: str, address: str) -> None:
    assert synthesise(IPv6Network(prefix), HOST) == IPv6Address(address)
    assert embedded(IPv6Network(prefix), IPv6Address(address)) == HOST


@given(PREFIXES, IPV4)
def test_what_was_synthesised_is_read_again(prefix: IPv6Network, address: IPv4Address) -> None:
    if prefix.prefixlen == 96 and prefix.network_address.packed[8]:
        return  # bits 64 to 71 of such a prefix are not zero, which RFC 6052 forbids
    assert embedded(prefix, synthesise(prefix, address)) == address


@given(PREFIXES, st.integers(0, 2**128 - 1).map(IPv6Address))
def test_an_address_outside_the_prefix_holds_none(prefix: IPv6Network, address: IPv6Address) -> None:
    assert address in prefix or embedded(prefix, address) is None


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("known", WELL_KNOWN)
def test_the_prefix_is_found_at_every_length(length: int, known: IPv4Address) -> None:
    prefix = IPv6Network((IPv6Address("2001:db8:122:344::"), length), strict=False)
    assert prefixes_in([synthesise(prefix, known)]) == (prefix,)


def test_both_well_known_addresses_tell_one_prefix_and_foreign_answers_none() -> None:
    prefix = IPv6Network("64:ff9b::/96")
    assert prefixes_in([synthesise(prefix, known) for known in WELL_KNOWN]) == (prefix,)
    assert prefixes_in([IPv6Address("2001:db8::1"), synthesise(prefix, HOST)]) == ()


def test_an_answer_in_which_the_known_address_stands_twice_tells_nothing() -> None:
    octets = bytearray(synthesise(IPv6Network("2001:db8::/32"), WELL_KNOWN[0]).packed)
    octets[12:] = WELL_KNOWN[1].packed
    assert prefixes_in([IPv6Address(bytes(octets))]) == ()


@given(st.lists(st.integers(0, 2**128 - 1).map(IPv6Address), max_size=40))
def test_any_answers_are_read(answers: list[IPv6Address]) -> None:
    assert len(prefixes_in(answers)) <= 16
