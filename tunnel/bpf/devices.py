"""Which devices have a program of ours: the TUN device at its egress, physical links at their ingress.

Performs I/O. Everything here happens in one network namespace, that of the thread that calls.
"""

from __future__ import annotations

import socket
from collections.abc import Set

from tunnel.bpf.programs import Programs
from tunnel.bpf.system import Hook, Link
from tunnel.link_headers import link_header_of

_MOST = 64
"""Links of a host that has no particular one in mind."""


class Devices:
    """The links between our programs and devices."""

    def __init__(self, programs: Programs) -> None:
        self._programs = programs
        self._tun: Link | None = None
        self._links: dict[tuple[int, str], Link] = {}
        self.problems: dict[str, str] = {}
        """Interface -> why it has no program; what comes in there takes the slow path."""

    def use_tun(self, name: str) -> int:
        """Wrap what leaves by this device from now on; its index. OSError if it cannot be."""
        index = socket.if_nametoindex(name)
        link = Link(self._programs.egress, index, Hook.EGRESS)
        if self._tun is not None:
            self._tun.close()
        self._tun = link
        return index

    def hears(self, interface: str) -> bool:
        """Whether there is a program on this link as it is now. Any thread may ask."""
        try:
            return (socket.if_nametoindex(interface), interface) in self._links
        except OSError:
            return False

    def listen(self, interfaces: Set[str], tun: str) -> None:
        """Unwrap what comes in by these interfaces, and by no others; "" stands for all but `tun`."""
        wanted = {(index, name) for index, name in socket.if_nameindex() if name != tun}
        if "" not in interfaces:
            wanted = {one for one in wanted if one[1] in interfaces}
        self.problems.clear()
        for index, name in sorted(wanted - self._links.keys())[:_MOST]:
            header = link_header_of(name)
            if header is None:
                continue
            try:
                self._links[index, name] = Link(self._programs.ingress(header), index, Hook.INGRESS)
            except OSError as error:
                self.problems[name] = error.strerror or str(error)
        for gone in self._links.keys() - wanted:  # last, because the kernel takes its time for each
            self._links.pop(gone).close()

    def close(self) -> None:
        """Closing twice does nothing."""
        if self._tun is not None:
            self._tun.close()
        for link in self._links.values():
            link.close()
        self._tun = None
        self._links.clear()
