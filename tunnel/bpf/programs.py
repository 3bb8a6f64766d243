"""The programs of one end of the tunnel, loaded, and the maps by which one talks to them.

Performs I/O.
"""

from __future__ import annotations

import contextlib
import math
import struct
from collections.abc import Iterator

from tunnel.bpf import layout
from tunnel.bpf.bell import Bell
from tunnel.bpf.egress import egress_program
from tunnel.bpf.ingress import ingress_program
from tunnel.bpf.inspection import Side
from tunnel.bpf.layout import Descriptors
from tunnel.bpf.memory import Remembered, recall
from tunnel.bpf.routes import KernelRoutes
from tunnel.bpf.system import Map, MapFlag, MapType, Program
from tunnel.bpf.ways import Ways
from tunnel.endpoint import Role

_CAPACITY = {Role.MOBILE_NODE: 256, Role.HOME_AGENT: 1 << 16}
"""Home addresses, prefixes, and paths in use."""


class Programs:
    """OSError from the constructor if the kernel does not take them; nothing is left of the attempt then."""

    def __init__(self, role: Role, ways: Ways, mark: int, again: int, patience: float) -> None:
        with contextlib.ExitStack() as stack:
            self.routes = KernelRoutes(_CAPACITY[role], ways)
            stack.callback(self.routes.close)
            self.bell = Bell()
            stack.callback(self.bell.close)
            switches = _shared("mip_switches", layout.SWITCHES_SIZE, stack)
            self._switches = switches.memory(layout.SWITCHES_SIZE)
            stack.callback(self._switches.close)
            self._recent = _shared("mip_recent", layout.RECENT_SIZE, stack)
            self.maps = Descriptors(
                self.routes.homes.descriptor,
                self.routes.networks.descriptor,
                self.routes.lanes.descriptor,
                switches.descriptor,
                self._recent.descriptor,
                self.bell.descriptor,
            )
            sides = (Side.SOURCE, Side.DESTINATION)
            leaving, self._coming = sides if role is Role.MOBILE_NODE else reversed(sides)
            self.egress = Program("mip_egress", egress_program(self.maps, leaving, mark, again, patience))
            stack.callback(self.egress.close)
            self._ingress: dict[int, Program] = {}
            self._open = stack.pop_all()

    def ingress(self, link_header: int) -> Program:
        """The program for links with so many octets before the IP header, loaded for the first of them."""
        if link_header not in self._ingress:
            program = Program("mip_ingress", ingress_program(self.maps, self._coming, link_header))
            self._open.callback(program.close)
            self._ingress[link_header] = program
        return self._ingress[link_header]

    def switch(self, which: int, number: int) -> None:
        """Set one of the switches of `layout`."""
        struct.pack_into("=I", self._switches, which, number)

    def remembered(self, since: float, until: float = math.inf) -> Iterator[Remembered]:
        """What the egress program has sent between the two (seconds of CLOCK_BOOTTIME), oldest first."""
        memory = self._recent.memory(layout.RECENT_SIZE)
        try:
            with memoryview(memory) as seen:
                yield from recall(seen, since, until)
        finally:
            memory.close()

    def close(self) -> None:
        """Closing twice does nothing. A program that is linked to a device works on until that ends."""
        self._open.close()


def _shared(name: str, size: int, stack: contextlib.ExitStack) -> Map:
    """A map of one value that user space reads and writes as memory."""
    made = Map(MapType.ARRAY, name, 4, size, 1, MapFlag.MMAPABLE)
    stack.callback(made.close)
    return made
