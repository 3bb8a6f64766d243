"""The vendor-specific options of our own (RFC 5094)."""

from __future__ import annotations

from ipaddress import IPv4Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wire.options import UnknownOption
from wire.vendor import (
    interruption_in,
    interruption_option,
    observed_in,
    observed_option,
    path_mtu_in,
    path_mtu_option,
    second_port_in,
    second_port_option,
)

SEEN = (IPv4Address("198.51.100.7"), 10022)


def test_the_octets_are_vendor_subtype_and_data() -> None:
    assert observed_option(*SEEN) == UnknownOption(19, bytes.fromhex("00007ed9 01 c6336407 2726"))
    assert interruption_option(0.25) == UnknownOption(19, bytes.fromhex("00007ed9 02 00fa"))
    assert second_port_option(40191) == UnknownOption(19, bytes.fromhex("00007ed9 05 9cff"))
    assert path_mtu_option(1400) == UnknownOption(19, bytes.fromhex("00007ed9 04 0578"))


def test_each_is_found_among_others() -> None:
    options = (UnknownOption(19, b"short"), interruption_option(1.5), observed_option(*SEEN))
    assert observed_in(options) == SEEN
    assert interruption_in(options) == 1.5
    assert observed_in(options[:2]) is None
    assert path_mtu_in((*options, path_mtu_option(65535))) == 65535
    assert path_mtu_in(options) is None
    assert interruption_in(()) is None


def test_the_option_of_another_vendor_is_not_ours() -> None:
    assert interruption_in((UnknownOption(19, bytes.fromhex("00007eda 02 00fa")),)) is None


@pytest.mark.parametrize(("seconds", "read"), [(-1.0, 0.0), (0.0, 0.0), (70.0, 65.535), (1e9, 65.535)])
def test_durations_that_do_not_fit_are_cut(seconds: float, read: float) -> None:
    assert interruption_in((interruption_option(seconds),)) == read


@pytest.mark.parametrize("octets", [-1, 65536])
def test_a_path_mtu_that_does_not_fit_is_a_mistake(octets: int) -> None:
    with pytest.raises(ValueError, match="path MTU"):
        path_mtu_option(octets)


@pytest.mark.parametrize("port", [-1, 0, 65536])
def test_a_second_port_that_is_none_is_a_mistake(port: int) -> None:
    with pytest.raises(ValueError, match="UDP port"):
        second_port_option(port)


@given(st.integers(1, 0xFFFF))
def test_every_second_port_is_read_as_it_was_written(port: int) -> None:
    assert second_port_in((path_mtu_option(port), second_port_option(port))) == port


@given(st.binary(max_size=12))
def test_a_second_port_from_octets_of_anybody_is_a_port_or_none(data: bytes) -> None:
    port = second_port_in((UnknownOption(19, data),))
    assert port is None or second_port_option(port) == UnknownOption(19, data)


def test_port_zero_is_no_second_port() -> None:
    assert second_port_in((UnknownOption(19, bytes.fromhex("00007ed9 05 0000")),)) is None
