"""Requests, replies and events <-> lines: strict, bounded, and never a crash whatever comes."""

from __future__ import annotations

import json
from contextlib import suppress
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.control import (
    MAX_DEPTH,
    MAX_LINE,
    MAX_REPLY,
    BadLine,
    ControlError,
    ErrorKind,
    LineBuffer,
    Notification,
    Reply,
    Request,
    decode_reply,
    decode_request,
    encode_error,
    encode_event,
    encode_request,
    encode_result,
)

_JSON = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**70), 2**70),
        st.floats(allow_nan=False, allow_infinity=False),
        st.text(),
    ),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@settings(deadline=None)
@given(
    st.one_of(st.integers(-(2**63) + 1, 2**63 - 1), st.text(max_size=128)),
    st.text(min_size=1, max_size=64),
    st.dictionaries(st.text(), _JSON, max_size=4),
)
def test_a_request_survives_the_line(identity: str | int, method: str, params: dict[str, object]) -> None:
    line = encode_request(Request(identity, method, params))
    assert line.count(b"\n") == 1
    assert decode_request(line) == Request(identity, method, params)


@settings(max_examples=500, deadline=None)
@given(st.binary(max_size=300))
def test_any_octets_are_a_request_or_a_told_mistake(line: bytes) -> None:
    match decode_request(line):
        case BadLine(_, error):
            assert error.kind in (ErrorKind.MALFORMED, ErrorKind.INVALID_REQUEST)
            assert error.message
        case Request():
            pass


@settings(max_examples=500, deadline=None)
@given(_JSON, st.binary(min_size=1, max_size=3), st.integers(0, 200))
def test_mutated_json_never_escapes_as_another_exception(value: object, noise: bytes, at: int) -> None:
    good = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "status", "params": {"a": value}}).encode()
    line = good[:at] + noise + good[at + len(noise) :]
    assert isinstance(decode_request(line), Request | BadLine)
    with suppress(ControlError):
        assert isinstance(decode_reply(line), Reply | Notification)


@pytest.mark.parametrize(
    ("line", "kind", "words"),
    [
        (b"", ErrorKind.MALFORMED, "not JSON"),
        (b"\xff\xfe", ErrorKind.MALFORMED, "not JSON"),
        (b"[" * 60000, ErrorKind.MALFORMED, "not JSON"),
        (b'{"a":' * 10000, ErrorKind.MALFORMED, "not JSON"),
        (b'{"id":' + b"[" * MAX_DEPTH + b"]" * MAX_DEPTH + b"}", ErrorKind.MALFORMED, "deeper than"),
        (b'{"id":1,"id":1}', ErrorKind.MALFORMED, "twice"),
        (b'{"id":NaN}', ErrorKind.MALFORMED, "NaN"),
        (b'{"id":1e999}', ErrorKind.MALFORMED, "too large"),
        (b'{"id":' + b"9" * 5000 + b"}", ErrorKind.MALFORMED, "not JSON"),
        (b" " * (MAX_LINE + 1), ErrorKind.MALFORMED, "at most 65536"),
        (b'[{"jsonrpc":"2.0","id":1,"method":"status"}]', ErrorKind.INVALID_REQUEST, "batch"),
        (b"7", ErrorKind.INVALID_REQUEST, "object"),
        (b'{"jsonrpc":"2.0","method":"status"}', ErrorKind.INVALID_REQUEST, "id is required"),
        (b'{"jsonrpc":"2.0","id":true,"method":"status"}', ErrorKind.INVALID_REQUEST, "id is required"),
        (b'{"jsonrpc":"2.0","id":1.5,"method":"status"}', ErrorKind.INVALID_REQUEST, "id is required"),
        (b'{"id":1,"method":"status"}', ErrorKind.INVALID_REQUEST, "jsonrpc"),
        (b'{"jsonrpc":"1.0","id":1,"method":"status"}', ErrorKind.INVALID_REQUEST, "jsonrpc"),
        (b'{"jsonrpc":"2.0","id":1}', ErrorKind.INVALID_REQUEST, "method"),
        (b'{"jsonrpc":"2.0","id":1,"method":""}', ErrorKind.INVALID_REQUEST, "method"),
        (b'{"jsonrpc":"2.0","id":1,"method":"a","params":[]}', ErrorKind.INVALID_REQUEST, "by name"),
        (b'{"jsonrpc":"2.0","id":1,"method":"a","parms":{}}', ErrorKind.INVALID_REQUEST, "parms"),
    ],
)
def test_each_mistake_is_named(line: bytes, kind: ErrorKind, words: str) -> None:
    bad = decode_request(line)
    assert isinstance(bad, BadLine)
    assert bad.error.kind is kind
    assert words in bad.error.message


def test_the_id_of_a_bad_request_is_saved_for_the_answer() -> None:
    assert decode_request(b'{"jsonrpc":"2.0","id":"x","method":5}')[0] == "x"


def test_errors_come_back_with_kind_candidates_and_fix() -> None:
    candidates = ("wlan0", "wwan0")
    sent = ControlError(ErrorKind.NOT_FOUND, "no interface eth9", fix="mnctl status", candidates=candidates)
    reply = decode_reply(encode_error(7, sent))
    assert isinstance(reply, Reply)
    assert reply.id == 7
    assert reply.error is not None
    assert (reply.error.kind, reply.error.message) == (ErrorKind.NOT_FOUND, "no interface eth9")
    assert (reply.error.fix, reply.error.candidates) == ("mnctl status", candidates)


@pytest.mark.parametrize("kind", [kind for kind in ErrorKind if kind.code < 0])
def test_every_kind_of_error_crosses_the_socket(kind: ErrorKind) -> None:
    reply = decode_reply(encode_error(None, ControlError(kind, "why")))
    assert isinstance(reply, Reply)
    assert reply.error is not None
    assert reply.error.kind is kind


def test_a_result_that_fits_no_line_becomes_an_error() -> None:
    for result in ({"x": "y" * MAX_REPLY}, {"x": b"no json"}, {"x": float("inf")}):
        reply = decode_reply(encode_result(1, result))
        assert isinstance(reply, Reply)
        assert reply.error is not None
        assert reply.error.kind is ErrorKind.FAILED


def test_an_error_is_always_small_enough_for_a_line() -> None:
    long = "\0" * 100000
    error = ControlError(ErrorKind.FAILED, long, fix=long, candidates=(long,) * 1000)
    assert len(encode_error("i" * 128, error)) <= MAX_LINE


def test_an_event_is_a_notification_and_a_huge_one_is_refused() -> None:
    line = encode_event({"event": "ba", "seq": 1})
    assert line is not None
    assert decode_reply(line) == Notification("event", {"event": "ba", "seq": 1})
    assert encode_event({"x": "y" * MAX_LINE}) is None


@settings(deadline=None)
@given(st.binary(max_size=400), st.lists(st.integers(0, 400), max_size=8))
def test_lines_do_not_depend_on_how_the_octets_arrive(data: bytes, cuts: list[int]) -> None:
    whole = LineBuffer(64)
    expected = whole.feed(data) + whole.rest()
    edges = [0, *sorted(cuts), len(data)]
    parts = LineBuffer(64)
    lines = [line for a, b in pairwise(edges) for line in parts.feed(data[a:b])] + parts.rest()
    if not whole.overrun and not parts.overrun:
        assert lines == expected
    assert whole.overrun == parts.overrun


def test_the_longest_line_passes_and_one_octet_more_does_not() -> None:
    buffer = LineBuffer()
    assert buffer.feed(b"x" * (MAX_LINE - 1)) == []
    assert buffer.feed(b"\n") == [b"x" * (MAX_LINE - 1)]
    assert not buffer.overrun
    assert buffer.feed(b"first\n" + b"x" * MAX_LINE + b"\nsecond\n") == [b"first"]
    assert buffer.overrun
    assert buffer.feed(b"third\n") == []
