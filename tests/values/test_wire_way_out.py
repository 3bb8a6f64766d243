"""What router advertisements and web servers say about the way out of a network."""

from __future__ import annotations

import contextlib
import json
from ipaddress import IPv6Address, IPv6Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.advertise import advertisement
from movement.captive import from_api, from_probe
from wire.advertisement import NO_PORTAL, WayOut, decode_way_out
from wire.http import MAX_ANSWER, Answer, Page, decode_answer, page_of, request_for
from wire.reader import DecodeError

API = "https://portal.example.net/api?x=1"
BITS = st.integers(0, 2**128 - 1).map(IPv6Address)


# ---- advertisements -------------------------------------------------------------------------
@given(BITS, st.sampled_from((32, 40, 48, 56, 64, 96)))
def test_the_prefix_of_a_nat64_is_read_at_every_length(address: IPv6Address, length: int) -> None:
    prefix = IPv6Network((address, length), strict=False)
    assert decode_way_out(advertisement(prefix, None)) == WayOut(None, (prefix,))


def test_the_api_of_a_portal_is_read_beside_it_and_the_first_one_counts() -> None:
    prefix = IPv6Network("64:ff9b::/96")
    said = advertisement(prefix, API) + advertisement(None, "http://other/")[16:]
    assert decode_way_out(said) == WayOut(API, (prefix,))
    assert decode_way_out(advertisement(None, NO_PORTAL)) == WayOut("")


@pytest.mark.parametrize("url", ["javascript:alert(1)", "http://a b/", "ftp://x/", "http://\x1b[2J/", ""])
def test_what_is_no_url_of_a_web_page_is_no_portal(url: str) -> None:
    assert decode_way_out(advertisement(None, url)).portal is None


def test_a_prefix_without_lifetime_or_of_an_unknown_length_is_none() -> None:
    said = bytearray(advertisement(IPv6Network("64:ff9b::/96"), None))
    for scaled in (b"\0\0", b"\x07\x0f"):
        said[18:20] = scaled
        assert decode_way_out(bytes(said)).nat64 == ()


def test_an_option_without_length_spoils_the_advertisement() -> None:
    for octets in (b"", advertisement(None, None)[:15], advertisement(None, API)[:-1], bytes(16)):
        with pytest.raises(DecodeError):
            decode_way_out(octets)
    with pytest.raises(DecodeError):
        decode_way_out(advertisement(None, None) + b"\x25\0" + bytes(6))


@given(st.binary(max_size=300))
def test_any_octets_are_read_or_refused(octets: bytes) -> None:
    with contextlib.suppress(DecodeError):
        decode_way_out(b"\x86\0" + octets)
    with contextlib.suppress(DecodeError):
        decode_answer(octets)


# ---- web servers ----------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("url", "page", "authority"),
    [
        ("http://192.0.2.1:8080/a?b", Page(False, "192.0.2.1", 8080, "/a?b"), "192.0.2.1:8080"),
        ("https://[2001:db8::1]", Page(True, "2001:db8::1", 443, "/"), "[2001:db8::1]"),
        ("http://example.net/", Page(False, "example.net", 80, "/"), "example.net"),
    ],
)
def test_a_url_says_whom_to_ask_for_what(url: str, page: Page, authority: str) -> None:
    assert page_of(url) == page
    assert f"Host: {authority}\r\n".encode() in request_for(page, "*/*")


@pytest.mark.parametrize(
    "url", ["", "example.net", "ftp://x/", "http://", "http://u@x/", "http://x/\r\nA: b", "http://x:99999/"]
)
def test_a_url_that_would_break_a_request_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        page_of(url)


def test_an_answer_is_read_as_far_as_it_goes_and_no_further() -> None:
    octets = b"HTTP/1.1 302 Found\r\nX: y\r\nLOCATION:  http://p/ \r\nLocation: http://q/\r\n\r\nbody"
    assert decode_answer(octets) == Answer(302, "http://p/", b"body")
    assert decode_answer(b"HTTP/1.0 204\r\n\r\n") == Answer(204, None, b"")
    assert len(decode_answer(b"HTTP/1.0 200 OK\r\n\r\n" + bytes(99999)).body) < MAX_ANSWER
    for wrong in (b"", b"SSH-2.0", b"HTTP/1.0 2x4 OK\r\n\r\n", b"HTTP/1.0 99999\r\n\r\n"):
        with pytest.raises(DecodeError):
            decode_answer(wrong)


def test_the_api_says_whether_we_are_captive() -> None:
    url = "https://portal.example.net/login"
    said = json.dumps({"captive": True, "user-portal-url": url}).encode()
    assert (from_api(Answer(200, None, said)).captive, from_api(Answer(200, None, said)).url) == (True, url)
    assert from_api(Answer(200, None, b'{"captive": false}')).captive is False
    for nothing in (b"", b"[1]", b'{"captive": 1}', b"[" * 9000, b"\xff"):
        assert from_api(Answer(200, None, nothing)).captive is None
    assert from_api(Answer(404, None, said)).captive is None
    bad = json.dumps({"captive": True, "user-portal-url": "javascript:x"}).encode()
    assert from_api(Answer(200, None, bad)).url is None


@pytest.mark.parametrize(
    ("answer", "expected", "captive"),
    [
        (Answer(204, None, b""), "204", False),
        (Answer(200, None, b"<html>"), "204", True),
        (Answer(302, "http://p/", b""), "204", True),
        (Answer(511, None, b""), "hello", True),
        (Answer(200, None, b"say hello"), "hello", False),
        (Answer(200, None, b"log in"), "hello", True),
        (Answer(503, None, b""), "hello", None),
    ],
)
def test_a_page_that_is_known_shows_who_answers(answer: Answer, expected: str, captive: bool | None) -> None:
    assert from_probe(answer, expected).captive is captive
