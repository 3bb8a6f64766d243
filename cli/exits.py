"""The exit codes of mnctl and hactl, in one place. The numbers are aligned with nmcli's.

Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum

from runtime.control import ErrorKind


class Exit(IntEnum):
    """What a script may rely on."""

    OK = 0
    ERROR = 1
    USAGE = 2
    TIMEOUT = 3
    NOT_BOUND = 4
    """`status`: the home addresses are not reachable now, or not well."""
    HANDOVER_FAILED = 5
    """`roam`: rolled back, the former path is still in use."""
    PERMISSION = 6
    CONFIG = 7
    NOT_RUNNING = 8
    NOT_FOUND = 10


EXIT_OF: Mapping[ErrorKind, Exit] = {
    ErrorKind.MALFORMED: Exit.ERROR,
    ErrorKind.INVALID_REQUEST: Exit.ERROR,
    ErrorKind.UNKNOWN_METHOD: Exit.ERROR,
    ErrorKind.INVALID_PARAMS: Exit.USAGE,
    ErrorKind.FAILED: Exit.ERROR,
    ErrorKind.PERMISSION: Exit.PERMISSION,
    ErrorKind.NOT_FOUND: Exit.NOT_FOUND,
    ErrorKind.REFUSED: Exit.ERROR,
    ErrorKind.TIMEOUT: Exit.TIMEOUT,
    ErrorKind.BUSY: Exit.ERROR,
    ErrorKind.NOT_RUNNING: Exit.NOT_RUNNING,
    ErrorKind.VERSION_SKEW: Exit.ERROR,
}
