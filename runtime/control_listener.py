"""The listening unix socket and who is at its other end.

Performs I/O. unix(7): SO_PEERCRED, SO_PEERGROUPS.
"""

from __future__ import annotations

import fcntl
import grp
import os
import socket
import stat
import struct
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from runtime.control import ControlError, ErrorKind

_SO_PEERGROUPS = 59
"""asm-generic/socket.h; the socket module does not name it."""
_UCRED = struct.Struct("@iII")
_MOST_GROUPS = 256
_MODE = 0o666
_BACKLOG = 64


@dataclass(frozen=True, slots=True)
class Peer:
    """Who connected, as the kernel says: process, user, groups (the primary one included)."""

    pid: int
    uid: int
    gids: frozenset[int]

    def is_in(self, group: str) -> bool:
        try:
            return grp.getgrnam(group).gr_gid in self.gids
        except (KeyError, OSError):
            return False


def listen(path: Path, daemon: str) -> tuple[socket.socket, int]:
    """A listening socket at `path` that anyone may connect to, and its inode.

    A socket left by a daemon that died is replaced; one that somebody listens on is not. Raises ControlError.
    """
    directory = -1
    try:
        _make_directory(path.parent)
        directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        fcntl.flock(directory, fcntl.LOCK_EX)  # two daemons starting at once take turns from here
        _remove_stale(path, daemon)
        return _bound(path)
    except OSError as error:
        message = f"cannot listen on {path}: {error.strerror or error}"
        raise ControlError(ErrorKind.FAILED, message, fix="is its directory writable?") from None
    finally:
        if directory >= 0:
            os.close(directory)


def unlink_own(path: Path, inode: int) -> None:
    """Remove the socket unless another daemon has put its own there."""
    with suppress(OSError):
        if path.stat(follow_symlinks=False).st_ino == inode:
            path.unlink()


def peer_of(connected: socket.socket) -> Peer:
    """The peer of a connected unix socket; nobody when the kernel does not say."""
    try:
        pid, uid, gid = _UCRED.unpack(
            connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
        )
    except OSError:
        return Peer(0, 0xFFFFFFFF, frozenset())
    try:
        packed = connected.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, 4 * _MOST_GROUPS)
    except OSError:  # more groups than fit, or a kernel before 4.13
        packed = b""
    return Peer(pid, uid, frozenset((gid, *(g for (g,) in struct.iter_unpack("@I", packed)))))


def _make_directory(directory: Path) -> None:
    if not directory.is_dir():
        directory.mkdir(parents=True)
        directory.chmod(0o755)  # whatever the umask: anyone may read the status


def _remove_stale(path: Path, daemon: str) -> None:
    try:
        mode = path.stat(follow_symlinks=False).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise ControlError(ErrorKind.REFUSED, f"{path} is in the way: it is no socket", fix=f"rm {path}")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            path.unlink(missing_ok=True)
            return
        except OSError:
            pass  # somebody listens, however slow
    raise ControlError(ErrorKind.REFUSED, f"another {daemon} already listens on {path}")


def _bound(path: Path) -> tuple[socket.socket, int]:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        sock.bind(str(path))
        path.chmod(_MODE)
        sock.listen(_BACKLOG)
        return sock, path.stat(follow_symlinks=False).st_ino
    except OSError:
        sock.close()
        raise
