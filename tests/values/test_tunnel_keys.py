"""Key files: private, complete, and refused with a sentence that helps and no key in it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tunnel.keys import (
    AuthenticationAssociation,
    KeyFileError,
    Method,
    generate_keys,
    load_keys,
    load_payload_key,
    needed_payload_key,
    write_keys,
)
from tunnel.protection import PayloadKey
from tunnel.replay import ReplayWindow
from tunnel.security import Encryption, Integrity, KeyPair, Opener, Sealer

KEY = "0123456789abcdef" * 4
GOOD = f"""
[update]
spi = 0x1001
integrity = "hmac-sha256-128"
integrity_key = "{KEY}"
encryption = "aes-cbc"
encryption_key = "{KEY}"

[ack]
spi = 0x1002
integrity = "hmac-sha1-96"
integrity_key = "{KEY[:40]}"
encryption = "null"
"""

OPTION = f"""
[authentication]
spi = 0x1003
key = "{"5a" * 16}"
"""


def written(path: Path, text: str, mode: int = 0o600) -> Path:
    path.write_text(text)
    path.chmod(mode)
    return path


def test_a_key_file_gives_one_association_a_direction(tmp_path: Path) -> None:
    pair = load_keys(written(tmp_path / "keys.toml", GOOD))
    assert isinstance(pair, KeyPair)
    assert (pair.update.spi, pair.update.integrity, pair.update.encryption) == (
        0x1001,
        Integrity.HMAC_SHA256_128,
        Encryption.AES_CBC,
    )
    assert (pair.ack.spi, pair.ack.integrity, pair.ack.encryption) == (
        0x1002,
        Integrity.HMAC_SHA1_96,
        Encryption.NULL,
    )
    assert pair.update.integrity_key == bytes.fromhex(KEY)


def test_a_key_file_may_hold_one_association_for_the_authentication_option_instead(tmp_path: Path) -> None:
    association = load_keys(written(tmp_path / "keys.toml", OPTION + 'identifier = "laptop@example.net"'))
    assert association == AuthenticationAssociation(0x1003, b"\x5a" * 16, "laptop@example.net")
    assert "5a" not in repr(association)
    assert "Z" not in repr(association)


def test_generated_keys_are_new_private_and_usable(tmp_path: Path) -> None:
    write_keys(tmp_path / "a.toml")
    write_keys(tmp_path / "b.toml")
    assert (tmp_path / "a.toml").stat().st_mode & 0o777 == 0o600
    a, b = load_keys(tmp_path / "a.toml"), load_keys(tmp_path / "b.toml")
    assert isinstance(a, KeyPair)
    assert isinstance(b, KeyPair)
    keys = [s.integrity_key for s in (a.update, a.ack, b.update, b.ack)]
    assert len(set(keys)) == 4
    sealed = Sealer(a.update).seal(135, b"hello")
    assert Opener(a.update, ReplayWindow()).open(sealed) == (135, b"hello")


def test_generated_keys_follow_the_given_randomness() -> None:
    assert generate_keys(lambda size: b"\x11" * size) == generate_keys(lambda size: b"\x11" * size)
    assert 'integrity_key = "' + "11" * 32 in generate_keys(lambda size: b"\x11" * size)


def test_generated_keys_for_the_authentication_option_are_usable(tmp_path: Path) -> None:
    write_keys(tmp_path / "a.toml", generate_keys(method=Method.AUTHENTICATION))
    write_keys(tmp_path / "b.toml", generate_keys(method=Method.AUTHENTICATION))
    a, b = load_keys(tmp_path / "a.toml"), load_keys(tmp_path / "b.toml")
    assert isinstance(a, AuthenticationAssociation)
    assert isinstance(b, AuthenticationAssociation)
    assert (a.spi, a.key) != (b.spi, b.key)


@pytest.mark.requirement("R135")
@pytest.mark.parametrize("method", list(Method))
def test_either_kind_of_file_holds_a_key_for_payload_as_well(tmp_path: Path, method: Method) -> None:
    for name in ("a", "b"):
        write_keys(tmp_path / name, generate_keys(method=method))
    a, b = needed_payload_key(tmp_path / "a"), load_payload_key(tmp_path / "b")
    assert a != b
    assert a.octets.hex() not in repr(a)


def test_the_key_for_payload_may_be_missing_until_it_is_needed(tmp_path: Path) -> None:
    path = written(tmp_path / "keys.toml", GOOD)
    assert load_payload_key(path) is None
    with pytest.raises(KeyFileError, match=r"no \[payload\] section, but .*mnctl keygen"):
        needed_payload_key(path)
    key = load_payload_key(written(tmp_path / "more.toml", f'{GOOD}\n[payload]\nkey = "{KEY}"\n'))
    assert key == PayloadKey(bytes.fromhex(KEY))


def test_an_existing_file_is_never_replaced(tmp_path: Path) -> None:
    path = written(tmp_path / "keys.toml", GOOD)
    with pytest.raises(KeyFileError, match="exists already"):
        write_keys(path)
    assert path.read_text() == GOOD


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o620, 0o601, 0o777])
def test_a_file_that_others_may_read_or_write_is_refused(tmp_path: Path, mode: int) -> None:
    path = written(tmp_path / "keys.toml", GOOD, mode)
    with pytest.raises(KeyFileError) as caught:
        load_keys(path)
    assert f"{mode:04o}" in caught.value.why
    assert caught.value.fix == f"chmod 600 {path}"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "holds no keys"),
        (OPTION + GOOD, "keys for two methods"),
        (GOOD + '[payload]\nkey = "00ff"\n', r"\[payload\] key must be 32 octets long, not 2"),
        (GOOD + '[payload]\nkey = "xx"\n', r"\[payload\] key is not hexadecimal"),
        (GOOD + f'[payload]\nkey = "{KEY}"\nspi = 5\n', r"unknown key 'spi' in \[payload\]"),
        ("payload = 5\n" + GOOD, r"\[payload\] is not a section"),
        (OPTION + GOOD.partition("[ack]")[2].join(("[ack]", "")), "keys for two methods"),
        (OPTION.replace("0x1003", "255"), r"\[authentication\] spi must be between 0x100"),
        (OPTION.replace("0x1003", '"3"'), r"\[authentication\] spi must be a number"),
        (OPTION.replace("5a", "", 1), r"\[authentication\] key must be 16 octets long, not 15"),
        (OPTION.replace("5a", "zz", 1), r"\[authentication\] key is not hexadecimal"),
        (OPTION.replace("key =", "kye ="), r"unknown key 'kye' in \[authentication\]"),
        (OPTION + "identifier = 3", r"\[authentication\] identifier must be text"),
        (OPTION + 'identifier = "a\\nb"', "identifier must be at most 253 printable"),
        (GOOD.replace("aes-cbc", "aes-gcm"), "AES-GCM is refused here: one nonce used twice"),
        (GOOD.partition("[ack]")[0], r"\[ack\] is missing"),
        ("update = 3", r"\[update\] is missing"),
        (GOOD + "\n[peer]\n", r"unknown section \[peer\]"),
        (GOOD.replace("spi = 0x1001", "spi = 0x1001\nsip = 3"), r"unknown key 'sip' in \[update\]"),
        (GOOD.replace("spi = 0x1001", 'spi = "0x1001"'), r"\[update\] spi must be a number"),
        (GOOD.replace("spi = 0x1001", "spi = true"), r"\[update\] spi must be a number"),
        (GOOD.replace("spi = 0x1001", "spi = 12"), r"\[update\] spi must be between"),
        (GOOD.replace("hmac-sha256-128", "md5"), r"\[update\] integrity is missing or unknown"),
        (GOOD.replace("aes-cbc", "rot13"), r"\[update\] encryption is missing or unknown"),
        (GOOD.replace(KEY, KEY[:-2]), "32 octets, not 31"),
        (GOOD.replace(KEY, KEY[:-1] + "g"), "integrity_key is not hexadecimal"),
        (GOOD.replace(f'"{KEY}"', "42"), "integrity_key is not hexadecimal"),
        (GOOD.replace("spi = 0x1001", "spi = "), "not TOML"),
        ("[" * 5000, "not TOML"),
        ("x = 1\n" * 20000, "too large"),
    ],
)
def test_a_mistake_is_named_without_quoting_a_key(tmp_path: Path, text: str, complaint: str) -> None:
    path = written(tmp_path / "keys.toml", text)
    with pytest.raises(KeyFileError, match=complaint) as caught:
        load_keys(path)
    assert KEY[:12] not in str(caught.value)
    assert str(path) in str(caught.value)


def test_one_key_for_both_directions_is_refused(tmp_path: Path) -> None:
    same = GOOD.replace("hmac-sha1-96", "hmac-sha256-128").replace(f'"{KEY[:40]}"', f'"{KEY}"')
    with pytest.raises(KeyFileError, match="share a key"):
        load_keys(written(tmp_path / "keys.toml", same))


def test_what_is_no_readable_text_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match="no such file"):
        load_keys(tmp_path / "missing.toml")
    with pytest.raises(KeyFileError, match="is not a file"):
        load_keys(tmp_path)
    os.mkfifo(tmp_path / "pipe", 0o600)
    with pytest.raises(KeyFileError, match="is not a file"):
        load_keys(tmp_path / "pipe")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "binary").chmod(0o600)
    with pytest.raises(KeyFileError, match="not text"):
        load_keys(tmp_path / "binary")
