"""DHCPINFORM and its answer: scapy as an independent author, and what is not an answer of ours."""

from __future__ import annotations

from ipaddress import IPv4Address

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.dhcp import BOOTP, DHCP

from wire.advertisement import NO_PORTAL
from wire.dhcp import CAPTIVE_PORTAL, decode_portal, encode_inform
from wire.reader import DecodeError

ADDRESS, NUMBER = IPv4Address("192.168.7.23"), 0x12345678
HARDWARE = bytes.fromhex("020000000017")
API = "https://portal.example.net/api"


def answer(*options: object, **fields: object) -> bytes:
    head = {"op": 2, "xid": NUMBER, "ciaddr": str(ADDRESS), "chaddr": HARDWARE, **fields}
    return bytes(BOOTP(**head) / DHCP(options=[("message-type", "ack"), *options, "end"]))


def portal(url: str) -> tuple[int, bytes]:
    return CAPTIVE_PORTAL, url.encode()


def test_the_question_is_one_that_scapy_reads() -> None:
    said = encode_inform(ADDRESS, HARDWARE, NUMBER)
    assert len(said) == 300
    read = BOOTP(said)
    assert (read.op, read.xid, read.ciaddr, read.hlen) == (1, NUMBER, str(ADDRESS), 6)
    assert read.chaddr[:6] == HARDWARE
    assert dict(option for option in read[DHCP].options if isinstance(option, tuple)) == {
        "message-type": 8,
        "param_req_list": [CAPTIVE_PORTAL],
    }


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ((portal(API),), API),
        ((portal(API[:9]), portal(API[9:])), API),
        ((portal(NO_PORTAL),), ""),
        ((), None),
        ((portal("ftp://portal.example.net"),), None),
    ],
    ids=["a portal", "in two parts", "none, it says", "nothing", "nonsense"],
)
def test_what_the_network_says(options: tuple[object, ...], said: str | None) -> None:
    assert decode_portal(answer(*options), ADDRESS, NUMBER) == said


@pytest.mark.parametrize(
    "other",
    [{"op": 1}, {"xid": NUMBER + 1}, {"ciaddr": "192.168.7.24"}],
    ids=["a question", "to another question", "to another host"],
)
def test_what_answers_something_else_is_refused(other: dict[str, object]) -> None:
    with pytest.raises(DecodeError):
        decode_portal(answer(portal(API), **other), ADDRESS, NUMBER)


def test_an_offer_is_no_answer() -> None:
    offer = bytes(
        BOOTP(op=2, xid=NUMBER, ciaddr=str(ADDRESS)) / DHCP(options=[("message-type", "offer"), "end"])
    )
    with pytest.raises(DecodeError):
        decode_portal(offer, ADDRESS, NUMBER)


@given(st.integers(0, 290), st.binary(max_size=40))
def test_a_damaged_answer_is_refused_or_read(cut: int, tail: bytes) -> None:
    damaged = answer(portal(API))[:cut] + tail
    try:
        said = decode_portal(damaged, ADDRESS, NUMBER)
    except DecodeError:
        return
    assert said is None or said.isprintable()
