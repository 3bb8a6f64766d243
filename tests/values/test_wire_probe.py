"""Probes and the answers to them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet6 import ICMPv6EchoRequest

from wire.probe import LEAST_SIZE, Probe
from wire.reader import DecodeError

probes = st.builds(
    Probe,
    st.integers(0, 0xFFFF),
    st.integers(0, 0xFFFF),
    st.binary(min_size=8, max_size=8),
    st.integers(LEAST_SIZE, 2000),
)


@given(probes)
def test_the_answer_to_a_request_is_what_was_asked(probe: Probe) -> None:
    request = probe.request()
    assert 40 + len(request) == probe.size
    assert Probe.of_reply(bytes((129,)) + request[1:]) == probe


def test_a_request_as_somebody_else_reads_it() -> None:
    request = ICMPv6EchoRequest(Probe(0x1234, 7, b"12345678", 100).request())
    assert (request.type, request.code, request.id, request.seq) == (128, 0, 0x1234, 7)
    assert bytes(request.data) == b"12345678" + bytes(44)


@pytest.mark.parametrize("message", [b"", b"\x81\0\0\0\0\1\0\2short", Probe(1, 2, bytes(8), 80).request()])
def test_what_is_no_answer_is_refused(message: bytes) -> None:
    with pytest.raises(DecodeError):
        Probe.of_reply(message)


@pytest.mark.parametrize("probe", [Probe(1, 1, bytes(8), LEAST_SIZE - 1), Probe(1, 1, bytes(7), 100)])
def test_an_impossible_request_is_a_mistake(probe: Probe) -> None:
    with pytest.raises(ValueError, match="nonce"):
        probe.request()
