"""Alterations: word from the kernel that somebody else may have changed what is ours there.

Performs I/O (netlink sockets). It says that, not what: whoever hears it compares (`KernelState.repair`).
Proxied neighbours come and go without a word, unless their link does.
"""

from __future__ import annotations

import contextlib
import socket

from tunnel.alteration_filter import accept_alterations, accept_generations
from tunnel.underlay_sockets import attach_filter

_NETLINK_ROUTE, _NETLINK_NETFILTER = 0, 12
# Bits of RTNLGRP_LINK, _IPV4_ROUTE, _IPV6_ROUTE, _IPV4_NETCONF, _IPV6_NETCONF; and of NFNLGRP_NFTABLES.
_ROUTE_GROUPS = sum(1 << group - 1 for group in (1, 7, 11, 24, 25))
_NFTABLES_GROUP = 1 << 7 - 1
_ENOUGH = 4096


class Alterations:
    """Of the network namespace of the thread that makes it. A host without nftables has none to alter."""

    def __init__(self, own_port: int) -> None:
        """`own_port`: the netlink port by which changes are our own."""
        self._sockets = [_listener(_NETLINK_ROUTE, _ROUTE_GROUPS, accept_alterations(own_port))]
        with contextlib.suppress(OSError):
            self._sockets.append(_listener(_NETLINK_NETFILTER, _NFTABLES_GROUP, accept_generations()))

    @property
    def descriptors(self) -> tuple[int, ...]:
        """Readable when there is word."""
        return tuple(listener.fileno() for listener in self._sockets)

    def heard(self) -> bool:
        """Whether there has been word since the last time; then it is forgotten."""
        heard = [_emptied(listener) for listener in self._sockets]
        return any(heard)

    def close(self) -> None:
        """Closing twice does nothing."""
        for listener in self._sockets:
            listener.close()


def _listener(protocol: int, groups: int, program: bytes) -> socket.socket:
    opened = socket.socket(
        socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, protocol
    )
    try:
        attach_filter(opened, program)
        opened.bind((0, groups))
    except OSError:
        opened.close()
        raise
    return opened


def _emptied(listener: socket.socket) -> bool:
    """ENOBUFS, more than there was room for, is word as well."""
    heard = False
    while True:
        try:
            listener.recv(_ENOUGH)
        except BlockingIOError:
            return heard
        except OSError:
            pass
        heard = True
