"""Configuration text -> value: all mistakes at once, each with its line and what was probably meant."""

from __future__ import annotations

import enum
import re
import string
import tomllib
from ipaddress import IPv4Address, IPv6Address, IPv6Network
from pathlib import Path
from random import Random
from typing import Annotated, Literal

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.settings import ConfigError, decode_toml, decode_toml_bytes
from runtime.settings_file import read_settings
from runtime.toml_lines import KeyPath, key_lines


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Home(msgspec.Struct, frozen=True):
    ipv6: IPv6Address
    ipv4: IPv4Address | Literal["dynamic"] | None = None
    prefix: IPv6Network | None = None


class Node(msgspec.Struct, frozen=True):
    name: str
    port: Annotated[int, msgspec.Meta(ge=1, le=65535)] = 4191
    prefixes: tuple[IPv6Network, ...] = ()


class Limits(msgspec.Struct, frozen=True):
    low: int = 0
    high: int = 9

    def __post_init__(self) -> None:
        if self.low > self.high:
            raise ValueError("low is above high")


class Settings(msgspec.Struct, frozen=True):
    home: Home
    node: tuple[Node, ...] = ()
    limits: Limits = Limits()
    colour: Colour = Colour.RED
    mode: Literal["lan", "strict"] = "lan"
    key_file: Path = Path("/etc/keys")
    ratio: float = 0.5
    names: Annotated[list[str], msgspec.Meta(max_length=2)] = []
    weights: dict[str, int] = {}


GOOD = """
colour = "blue"
key_file = "/run/keys"
names = ["a", "b"]
ratio = 1
[home]
ipv6 = "2001:db8::1"
ipv4 = "dynamic"
prefix = "2001:db8::/32"
[weights]
eth0 = 3
[[node]]
name = "one"
[[node]]
name = "two"
port = 7
prefixes = ["2001:db8:1::/48", "2001:db8:2::/48"]
"""


def errors_of(text: str) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        decode_toml(text, "f.toml", Settings)
    return caught.value.errors


def mistakes_in(text: str) -> tuple[str, ...]:
    try:
        decode_toml(text, "f.toml", Settings)
    except ConfigError as error:
        return error.errors
    return ()


def with_home(text: str) -> str:
    """`text` after a first line that holds what is required."""
    return 'home = {ipv6 = "::1"}\n' + text


def test_a_right_text_becomes_typed_values() -> None:
    value = decode_toml(GOOD, "f.toml", Settings)
    assert value.home == Home(IPv6Address("2001:db8::1"), "dynamic", IPv6Network("2001:db8::/32"))
    assert value.node[1] == Node("two", 7, (IPv6Network("2001:db8:1::/48"), IPv6Network("2001:db8:2::/48")))
    assert (value.colour, value.key_file, value.names) == (Colour.BLUE, Path("/run/keys"), ["a", "b"])
    assert (value.ratio, value.weights) == (1.0, {"eth0": 3})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[home]\nipv7 = '::1'", ('f.toml:2: unknown key "ipv7" in [home] — did you mean "ipv6"?',)),
        ("[hom]\nipv6 = '::1'", ('f.toml:1: unknown key "hom" — did you mean "home"?',)),
        ("", ("f.toml:1: the table [home] is missing",)),
        ("[home]", ("f.toml:1: [home]: ipv6 is missing (an IPv6 address)",)),
        ("home = 3", ("f.toml:1: home = 3 is not a table",)),
        ("[home]\nipv6 = '10.0.0.300'", ('f.toml:2: home.ipv6 = "10.0.0.300" is not an IPv6 address',)),
        ("[home]\nipv6 = 'fe80::1%eth0'", ('f.toml:2: home.ipv6 = "fe80::1%eth0" is not an IPv6 address',)),
        ("[home]\nipv6 = 1", ("f.toml:2: home.ipv6 = 1 is not an IPv6 address",)),
        (
            with_home("[[node]]\nname='a'\n[[node]]\n\nname='b'\nport=0"),
            ("f.toml:7: node.port = 0 is not a whole number from 1 to 65535",),
        ),
        (with_home("[[node]]\nname='a'\n[[node]]\nport=1"), ("f.toml:4: [[node]]: name is missing (text)",)),
        (with_home("[limits]\nlow=5\nhigh=2"), ("f.toml:2: [limits]: low is above high",)),
        (with_home('colour="Blue"'), (
            'f.toml:2: colour = "Blue" is not one of "red", "blue" — did you mean "blue"?',
        )),
        (with_home('mode="lam"'), (
            'f.toml:2: mode = "lam" is not one of "lan", "strict" — did you mean "lan"?',
        )),
        (with_home("ratio=inf"), ("f.toml:2: ratio = inf is not a number",)),
        (with_home("ratio=true"), ("f.toml:2: ratio = true is not a number",)),
        (with_home('names=["a","b","c"]'), ("f.toml:2: names may have at most 2 entries",)),
        (with_home('names=["a",\n 5]'), ("f.toml:3: names = 5 is not text",)),
        (with_home("[weights]\na='x'"), ('f.toml:3: weights.a = "x" is not a whole number',)),
        (with_home("[limits]\nipv4='x'"), (
            'f.toml:3: unknown key "ipv4" in [limits] — it belongs in [home]',
        )),
        (with_home("[limits]\nzzz=1"), ('f.toml:3: unknown key "zzz" in [limits] — known: low, high',)),
        (with_home('key_file="a\\u0000b"'), ('f.toml:2: key_file = "a\\u0000b" is not a path',)),
        ("[home]\nipv6='::1'\nipv4='dinamic'", (
            'f.toml:3: home.ipv4 = "dinamic" is not an IPv4 address or "dynamic"',
        )),
        ("[home]\nipv6='::1'\nprefix='2001:db8::1/64'", (
            'f.toml:3: home.prefix = "2001:db8::1/64" has host bits set — did you mean "2001:db8::/64"?',
        )),
    ],
)
def test_each_mistake_names_line_key_and_remedy(text: str, expected: tuple[str, ...]) -> None:
    assert errors_of(text) == expected


def test_all_mistakes_are_told_in_the_order_of_the_file() -> None:
    text = "[home]\nipv6 = 5\nhoem = 1\n[limits]\nlow = 'x'\nhigh = 1.5\n[wheights]\n"
    assert [error.split(": ")[0] for error in errors_of(text)] == [f"f.toml:{n}" for n in (2, 3, 5, 6, 7)]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a = 1\n[home", 2),
        ("a = \n", 1),
        ("a = 1\na = 2", 2),
        ("x = " + "[" * 5000, 1),
        ("a = 1\nx = " + "9" * 5000, 1),
        ("a = '''never\nclosed", 2),
        ("d = 2026-13-45", 1),
    ],
)
def test_what_is_no_toml_is_one_error_with_a_line(text: str, line: int) -> None:
    (error,) = errors_of(text)
    assert error.startswith(f"f.toml:{line}: ")


def test_octets_that_are_no_text_are_an_error_with_their_line() -> None:
    with pytest.raises(ConfigError) as caught:
        decode_toml_bytes(b"a = 1\nb = '\xff'", "f.toml", Settings)
    assert caught.value.errors == ("f.toml:2: not UTF-8 text (octet 0xff)",)


def test_a_file_that_cannot_be_read_is_an_error_that_says_why(tmp_path: Path) -> None:
    for path, word in ((tmp_path / "none.toml", "No such file"), (tmp_path, "Is a directory")):
        with pytest.raises(ConfigError, match=word):
            read_settings(path, Settings)
    good = tmp_path / "good.toml"
    good.write_text("\ufeff" + GOOD)
    assert read_settings(good, Settings) == decode_toml(GOOD, "", Settings)


def test_three_hundred_typos_are_each_refused_with_a_line_or_harmless() -> None:
    random = Random(21)
    lines = GOOD.splitlines()
    for _ in range(300):
        number = random.choice([n for n, line in enumerate(lines) if line])
        line = list(lines[number])
        at = random.randrange(len(line))
        match random.randrange(4):
            case 0:
                del line[at]
            case 1:
                line[at] = random.choice(string.printable.strip())
            case 2:
                line.insert(at, random.choice(string.ascii_letters))
            case 3 if at + 1 < len(line):
                line[at], line[at + 1] = line[at + 1], line[at]
        text = "\n".join([*lines[:number], "".join(line), *lines[number + 1 :]])
        for mistake in mistakes_in(text):
            assert re.match(r"f\.toml:\d+: ", mistake), text


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=200))
def test_any_text_is_a_value_or_a_config_error(text: str) -> None:
    with pytest.raises(ConfigError):
        decode_toml(text, "f.toml", Settings)


@settings(max_examples=300, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(["home", "node", "limits", "names", "ratio", "mode", "weights", "key_file"]),
        st.recursive(
            st.sampled_from(["1", "true", "1.5", '"x"', "'''a\nb'''", "1979-05-27", '"::1"', "nan"]),
            lambda inner: st.one_of(
                st.lists(inner, max_size=3).map(lambda items: "[" + ",\n".join(items) + "]"),
                st.dictionaries(st.sampled_from(["ipv6", "name", "low", "port", "x"]), inner, max_size=2).map(
                    lambda table: "{" + ", ".join(f"{k} = {v}" for k, v in table.items()) + "}"
                ),
            ),
            max_leaves=6,
        ),
        max_size=4,
    )
)
def test_any_shape_is_a_value_or_config_errors_with_lines(table: dict[str, str]) -> None:
    text = "\n".join(f"{key} = {value}" for key, value in table.items())
    last = text.count("\n") + 1
    assert all(1 <= int(mistake.split(":")[1]) <= last for mistake in mistakes_in(text))


def test_lines_are_found_through_strings_comments_tables_and_arrays() -> None:
    text = (
        "# [not]\n"
        'a = "[x]\\" # no"  # yes\n'
        "b.c = '''\n[no]\nd = 1'''\n"
        'e = [1, # one\n  "two",\n  {f = 3, "g h" = [4]},\n]\r\n'
        "[t.'u v']\nw = 1979-05-27 07:32:00\n"
        "[[k]]\nn = 1\n[k.m]\no = '''''quoted'''''\n[[k]]\nn = 2\n[[k.p]]\nq = 1\n"
    )
    tomllib.loads(text)
    lines = key_lines(text)
    expected: dict[KeyPath, int] = {
        ("a",): 2,
        ("b", "c"): 3,
        ("e",): 6,
        ("e", 1): 7,
        ("e", 2, "g h"): 8,
        ("e", 2, "g h", 0): 8,
        ("t", "u v"): 10,
        ("t", "u v", "w"): 11,
        ("k", 0): 12,
        ("k", 0, "n"): 13,
        ("k", 0, "m", "o"): 15,
        ("k", 1): 16,
        ("k", 1, "n"): 17,
        ("k", 1, "p", 0, "q"): 19,
    }
    assert {path: lines.get(path) for path in expected} == expected
    assert ("not",) not in lines
    assert ("d",) not in lines
