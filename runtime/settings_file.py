"""A configuration file on disk -> a typed value.

Performs I/O.
"""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

import msgspec

from runtime.settings import ConfigError, decode_toml_bytes

T = TypeVar("T", bound=msgspec.Struct)

_LARGEST = 1 << 20


def read_settings(path: Path, type: type[T]) -> T:
    """Read the TOML file `path` into the Struct `type`; raises ConfigError also when it cannot be read."""
    try:
        with path.open("rb") as file:
            data = file.read(_LARGEST + 1)
    except OSError as error:
        raise ConfigError([f"{path}: cannot be read: {error.strerror}"]) from None
    if len(data) > _LARGEST:
        raise ConfigError([f"{path}: larger than {_LARGEST} octets, so it is no configuration"])
    return decode_toml_bytes(data, str(path), type)
