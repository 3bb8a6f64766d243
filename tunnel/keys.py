"""The key file: TOML, readable by its owner only; what it holds decides how messages are authenticated.

Performs I/O. RFC 4877 (one ESP association a direction), RFC 4285 (one association for the authentication
option), RFC 8221 section 3 (why AES-GCM is refused for messages); docs/security.md: key-leak. Beside
either of them stands the key from which those of protected payload are derived.
"""

from __future__ import annotations

import os
import secrets
import stat
import tomllib
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import Any, TypeVar, assert_never

from tunnel.authentication import KEY_SIZE, AuthenticationAssociation, Keys
from tunnel.protection import PAYLOAD_KEY_SIZE, PayloadKey
from tunnel.security import FIRST_FREE_SPI, Encryption, Integrity, KeyPair, SecurityAssociation

__all__ = [
    "ACK_SECTION",
    "AUTHENTICATION_SECTION",
    "PAYLOAD_SECTION",
    "UPDATE_SECTION",
    "AuthenticationAssociation",
    "KeyFileError",
    "KeyPair",
    "Keys",
    "Method",
    "generate_keys",
    "load_keys",
    "load_payload_key",
    "needed_payload_key",
    "write_keys",
]

UPDATE_SECTION = "update"
ACK_SECTION = "ack"
AUTHENTICATION_SECTION = "authentication"
PAYLOAD_SECTION = "payload"

_EITHER = "either [update] and [ack], for ESP, or [authentication], for the authentication option"
_STATIC_KEYS = (
    "one nonce used twice under one key would give it away, and numbers can repeat under keys from a file",
    'encryption = "aes-cbc"',
)
_FIELDS = ("spi", "integrity", "integrity_key", "encryption", "encryption_key")
_AUTHENTICATION_FIELDS = ("spi", "key", "identifier")
_PAYLOAD_FIELDS = ("key",)
_MAX_SIZE = 65536
_HINT = f"each section holds {', '.join(_FIELDS)}"
_PAYLOAD_HINT = f'[payload] holds key = "{2 * PAYLOAD_KEY_SIZE} hexadecimal digits"'
_ChoiceT = TypeVar("_ChoiceT", bound=Enum)


class Method(Enum):
    """How Binding Updates and Binding Acknowledgements are authenticated."""

    ESP = "esp"
    AUTHENTICATION = "authentication"


class KeyFileError(Exception):
    """A key file that cannot be used: which file, why, and what to do about it. Never quotes a key."""

    def __init__(self, path: Path, why: str, fix: str) -> None:
        super().__init__(f"{path}: {why} ({fix})")
        self.path = path
        self.why = why
        self.fix = fix


def load_keys(path: Path | str) -> Keys:
    """Read a key file. KeyFileError when it is missing, readable by others, or not what it should be."""
    path = Path(path)
    document = _parse(path, _read_private(path))
    unknown = sorted(set(document) - {UPDATE_SECTION, ACK_SECTION, AUTHENTICATION_SECTION, PAYLOAD_SECTION})
    if unknown:
        raise KeyFileError(path, f"unknown section [{unknown[0]}]", f"keep {_EITHER}")
    for_esp = UPDATE_SECTION in document or ACK_SECTION in document
    if for_esp and AUTHENTICATION_SECTION in document:
        raise KeyFileError(path, "holds keys for two methods, but one is in force", f"keep {_EITHER}")
    if not for_esp and AUTHENTICATION_SECTION not in document:
        raise KeyFileError(path, "holds no keys", f"it needs {_EITHER}; see mnctl keygen --help")
    _payload_key(path, document)
    if not for_esp:
        return _authentication(path, document)
    pair = KeyPair(_association(path, document, UPDATE_SECTION), _association(path, document, ACK_SECTION))
    if pair.update.integrity_key == pair.ack.integrity_key:
        raise KeyFileError(path, "[update] and [ack] share a key", "give each direction its own")
    return pair


def load_payload_key(path: Path | str) -> PayloadKey | None:
    """The key for protected payload, or None if the file has none. KeyFileError as of `load_keys`."""
    path = Path(path)
    return _payload_key(path, _parse(path, _read_private(path)))


def needed_payload_key(path: Path | str) -> PayloadKey:
    """The same where the configuration wants payload protected: KeyFileError if there is no key for it."""
    key = load_payload_key(path)
    if key is None:
        why = "has no [payload] section, but protect_payload = true"
        raise KeyFileError(Path(path), why, "write new keys with mnctl keygen, for both ends")
    return key


def _payload_key(path: Path, document: dict[str, Any]) -> PayloadKey | None:
    table = document.get(PAYLOAD_SECTION)
    if table is None:
        return None
    if not isinstance(table, dict):
        raise KeyFileError(path, "[payload] is not a section", _PAYLOAD_HINT)
    unknown = sorted(set(table) - set(_PAYLOAD_FIELDS))
    if unknown:
        raise KeyFileError(path, f"unknown key {unknown[0]!r} in [payload]", _PAYLOAD_HINT)
    try:
        return PayloadKey(_octets(path, table, PAYLOAD_SECTION, "key"))
    except ValueError as error:
        raise KeyFileError(path, f"[payload] {error}", _PAYLOAD_HINT) from None


def generate_keys(
    random_bytes: Callable[[int], bytes] = secrets.token_bytes, method: Method = Method.ESP
) -> str:
    """The text of a new key file; for ESP AES-256-CBC with HMAC-SHA-256-128 in both directions."""
    return "\n".join((_generate_for_messages(random_bytes, method), _generate_for_payload(random_bytes)))


def _generate_for_payload(random_bytes: Callable[[int], bytes]) -> str:
    return (
        f"[{PAYLOAD_SECTION}]  # those of protected payload are derived from it, anew for every start\n"
        f'key = "{random_bytes(PAYLOAD_KEY_SIZE).hex()}"\n'
    )


def _generate_for_messages(random_bytes: Callable[[int], bytes], method: Method) -> str:
    match method:
        case Method.ESP:
            return _generate_pair(random_bytes)
        case Method.AUTHENTICATION:
            return (
                f"[{AUTHENTICATION_SECTION}]  # the authentication option, in both directions\n"
                f"spi = {_generate_spi(random_bytes):#010x}\n"
                f'key = "{random_bytes(KEY_SIZE).hex()}"\n'
            )
        case _:
            assert_never(method)


def _generate_pair(random_bytes: Callable[[int], bytes]) -> str:
    parts = []
    for section, purpose in (
        (UPDATE_SECTION, "mobile node -> home agent"),
        (ACK_SECTION, "home agent -> mobile node"),
    ):
        parts.append(
            f"[{section}]  # {purpose}\n"
            f"spi = {_generate_spi(random_bytes):#010x}\n"
            f'integrity = "{Integrity.HMAC_SHA256_128.value}"\n'
            f'integrity_key = "{random_bytes(32).hex()}"\n'
            f'encryption = "{Encryption.AES_CBC.value}"\n'
            f'encryption_key = "{random_bytes(32).hex()}"\n'
        )
    return "\n".join(parts)


def _generate_spi(random_bytes: Callable[[int], bytes]) -> int:
    return int.from_bytes(random_bytes(4), "big") % (0xFFFFFFFF - FIRST_FREE_SPI) + FIRST_FREE_SPI


def write_keys(path: Path | str, text: str | None = None) -> None:
    """Write a new key file (mode 0600); `text` defaults to fresh keys. Never replaces an existing file."""
    path = Path(path)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        raise KeyFileError(path, "exists already", "choose another name or delete it first") from None
    except OSError as error:
        raise KeyFileError(path, f"cannot be created: {error.strerror}", "check the directory") from None
    with open(descriptor, "w", encoding="ascii") as file:
        file.write(generate_keys() if text is None else text)
        file.flush()
        os.fsync(descriptor)


def _read_private(path: Path) -> str:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        raise KeyFileError(path, "no such file", f"create it: mnctl keygen {path}") from None
    except OSError as error:
        raise KeyFileError(path, f"cannot be read: {error.strerror}", "check owner and mode") from None
    try:
        # Asked of the open file, so that nobody can swap it between the question and the read.
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode):
            raise KeyFileError(path, "is not a file", "give the path of a key file")
        if mode & 0o077:
            why = f"mode {stat.S_IMODE(mode):04o} lets others at the keys"
            raise KeyFileError(path, why, f"chmod 600 {path}")
        content = os.read(descriptor, _MAX_SIZE + 1)
    finally:
        os.close(descriptor)
    if len(content) > _MAX_SIZE:
        raise KeyFileError(path, "is too large for a key file", "give the path of a key file")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        raise KeyFileError(path, "is not text", "give the path of a key file") from None


def _parse(path: Path, text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        # The parser's message names a place, not the line's content, so no key can leak through it.
        raise KeyFileError(path, f"is not TOML: {error}", _HINT) from None


def _authentication(path: Path, document: dict[str, Any]) -> AuthenticationAssociation:
    section = AUTHENTICATION_SECTION
    table = _table(path, document, section, _AUTHENTICATION_FIELDS)
    identifier = table.get("identifier", "")
    if not isinstance(identifier, str):
        hint = 'for example identifier = "laptop@example.net", or leave it out'
        raise KeyFileError(path, f"[{section}] identifier must be text", hint)
    try:
        return AuthenticationAssociation(
            _spi(path, table, section), _octets(path, table, section, "key"), identifier
        )
    except ValueError as error:
        hint = f"[{section}] holds {', '.join(_AUTHENTICATION_FIELDS)}"
        raise KeyFileError(path, f"[{section}] {error}", hint) from None


def _table(path: Path, document: dict[str, Any], section: str, fields: tuple[str, ...]) -> dict[str, Any]:
    table = document.get(section)
    if not isinstance(table, dict):
        raise KeyFileError(path, f"section [{section}] is missing", f"it needs {_EITHER}")
    unknown = sorted(set(table) - set(fields))
    if unknown:
        raise KeyFileError(path, f"unknown key {unknown[0]!r} in [{section}]", f"known: {', '.join(fields)}")
    return table


def _spi(path: Path, table: dict[str, Any], section: str) -> int:
    spi = table.get("spi")
    if not isinstance(spi, int) or isinstance(spi, bool):
        raise KeyFileError(path, f"[{section}] spi must be a number", "for example spi = 0x1001")
    return spi


def _association(path: Path, document: dict[str, Any], section: str) -> SecurityAssociation:
    table = _table(path, document, section, _FIELDS)
    spi = _spi(path, table, section)
    if "gcm" in str(table.get("encryption")).lower():
        why, fix = _STATIC_KEYS
        raise KeyFileError(path, f"[{section}] encryption: AES-GCM is refused here: {why}", fix)
    try:
        return SecurityAssociation(
            spi,
            _choice(path, table, section, "integrity", Integrity),
            _octets(path, table, section, "integrity_key"),
            _choice(path, table, section, "encryption", Encryption),
            _octets(path, table, section, "encryption_key"),
        )
    except ValueError as error:
        raise KeyFileError(path, f"[{section}] {error}", _HINT) from None


def _choice(path: Path, table: dict[str, Any], section: str, name: str, choices: type[_ChoiceT]) -> _ChoiceT:
    for choice in choices:
        if choice.value == table.get(name):
            return choice
    names = " or ".join(f'"{choice.value}"' for choice in choices)
    raise KeyFileError(path, f"[{section}] {name} is missing or unknown", f"{name} = {names}")


def _octets(path: Path, table: dict[str, Any], section: str, name: str) -> bytes:
    value = table.get(name, "")
    try:
        return bytes.fromhex(value)
    except (TypeError, ValueError):
        raise KeyFileError(path, f"[{section}] {name} is not hexadecimal", "two digits an octet") from None
