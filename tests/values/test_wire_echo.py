"""Echo requests and replies, with scapy as the second author."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import ICMP
from scapy.layers.inet6 import ICMPv6EchoReply, ICMPv6EchoRequest

from wire.echo import MAX_DATA, Echo, decode_reply
from wire.reader import DecodeError

ECHOES = st.builds(Echo, st.integers(0, 65535), st.integers(0, 65535), st.binary(max_size=MAX_DATA))


@given(ECHOES)
def test_scapy_reads_our_requests(echo: Echo) -> None:
    four = ICMP(echo.request(4))
    fields = (echo.identifier, echo.sequence, echo.data)
    assert (four.type, four.id, four.seq, bytes(four.payload)) == (8, *fields)
    assert bytes(ICMP(type=8, id=echo.identifier, seq=echo.sequence) / echo.data) == echo.request(4)
    six = ICMPv6EchoRequest(echo.request(6))
    assert (six.type, six.id, six.seq, six.data) == (128, *fields)


@given(ECHOES)
def test_we_read_the_replies_of_scapy(echo: Echo) -> None:
    four = bytes(ICMP(type=0, id=echo.identifier, seq=echo.sequence) / echo.data)
    assert decode_reply(four, 4) == echo
    six = bytes(ICMPv6EchoReply(id=echo.identifier, seq=echo.sequence, data=echo.data))
    assert decode_reply(six, 6) == echo


@pytest.mark.parametrize("version", [4, 6])
def test_what_is_no_reply_is_refused(version: int) -> None:
    request = Echo(7, 1, b"abc").request(version)
    for octets in (b"", request, request[:7], request + bytes(MAX_DATA)):
        with pytest.raises(DecodeError):
            decode_reply(octets, version)


def test_a_damaged_reply_is_refused() -> None:
    reply = bytearray(bytes(ICMP(type=0, id=7, seq=1) / b"abcdef"))
    reply[-1] ^= 1
    with pytest.raises(DecodeError):
        decode_reply(bytes(reply), 4)
